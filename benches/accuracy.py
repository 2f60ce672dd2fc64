"""What `quantize` costs in accuracy: drops of top-1 over seeds, after each stage, with time and memory.

    python benches/accuracy.py DFQ_ONNX MODEL [--seeds 0 1 2] [--eval FILE] [--divergence] [-- FLAGS...]    # needs Linux

FLAGS go to `dfq-onnx quantize` (--bits 4 --all-layers, say). Prints for each seed the drop of the last state (never the
best of several) in points on the labeled images of --eval (../shared/data/cifar10_test_first5000.npz), what held-out
inputs say of each stage, wall time and peak memory; then mean and worst drop. A missing model or image file: SKIPPED.

Top-1 of a few thousand images moves by a few tenths of a point between states that are as good. --divergence adds a
finer measure, for choosing between settings: the mean KL divergence of the class probabilities from the float model's on
the same images (uint8, channels last; needs numpy and onnxruntime).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time


def run(program, model, images, seed, flags, measures):
    """Returns the report, seconds and peak megabytes of one run, and the divergence where it is measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.onnx"
        command = [program, "quantize", model, "-o", out, "--seed", str(seed), "--eval", images, *flags]
        started = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        told = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(told)
        found = divergence(model, out, images, flags) if measures else None
        return json.loads(out.with_suffix(".report.json").read_text()), seconds, usage.ru_maxrss / 1e3, found


def divergence(model, quantized, images, flags):
    """Returns the mean KL divergence from the float model, and its standard error, in nats."""
    import numpy as np
    import onnxruntime

    def numbers(flag, default):
        return np.array(flags[flags.index(flag) + 1].split(","), np.float32) if flag in flags else np.float32(default)

    x = np.load(images)["images"].astype(np.float32) / 255
    x = ((x - numbers("--mean", 0)) / numbers("--std", 1)).transpose(0, 3, 1, 2).copy()

    def logarithms(path):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        z = np.concatenate([session.run(None, {name: x[i : i + 100]})[0] for i in range(0, len(x), 100)])
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    p, q = logarithms(model), logarithms(quantized)
    each = (np.exp(p) * (p - q)).sum(1)
    return each.mean(), each.std() / len(each) ** 0.5


def stages(report):
    """Returns a line on what held-out inputs say of each stage."""
    lines = []
    for stage in report["training"]:
        held_out = stage["held_out"]
        if held_out is None:
            continue
        before, after = held_out["distance"]
        agreed = "" if held_out["agreement"] is None else ", {:.1%} -> {:.1%}".format(*held_out["agreement"])
        lines.append(f"{stage['stage']} {before:.4f} -> {after:.4f}{agreed}{'' if held_out['is_kept'] else ' (not kept)'}")
    return "; ".join(lines)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--eval", type=pathlib.Path, default=pathlib.Path("../shared/data/cifar10_test_first5000.npz"))
    parser.add_argument("--divergence", action="store_true")
    arguments, flags = parser.parse_known_args()
    flags = [flag for flag in flags if flag != "--"]
    if missing := [path for path in (arguments.model, arguments.eval) if not path.exists()]:
        print(f"SKIPPED: {missing[0]} is missing")
        return
    drops = []
    for seed in arguments.seeds:
        measured = run(arguments.program, arguments.model, arguments.eval, seed, flags, arguments.divergence)
        report, seconds, megabytes, apart = measured
        counts = report["evaluation"]
        of = 100 / counts["images"]
        floats, quantized, agreeing = (of * counts[key] for key in ("float_correct", "quantized_correct", "agreeing"))
        drops.append(floats - quantized)
        print(
            f"{arguments.model.stem} {' '.join(flags)} seed {seed}: {floats:.2f} -> {quantized:.2f}, drop {drops[-1]:.2f}, "
            f"agreement {agreeing:.1f} %, {seconds:.0f} s, {megabytes:.0f} MB"
            f"{'' if apart is None else ', divergence {:.4f} (standard error {:.4f})'.format(*apart)}; {stages(report)}",
            flush=True,
        )
    print(f"mean drop {sum(drops) / len(drops):.2f}, worst {max(drops):.2f}")


if __name__ == "__main__":
    main()
