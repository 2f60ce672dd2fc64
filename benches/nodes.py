"""How time grows with the number of nodes: chains of operators, the tool's wall time beside what the runtimes take to load.

    cargo build --release
    python benches/nodes.py target/release/dfq-onnx            # 1,000 to 60,000 nodes; minutes
    python benches/nodes.py target/release/dfq-onnx --nodes 1000 2000 --kinds convolutions

Needs numpy, onnx and onnxruntime. `load` is the time that ONNX Runtime takes to make one session of the float chain by
default, `tract` what `dfq-onnx bench --engine tract` takes (one load and some runs); the tool makes several sessions of the
float model, and of the quantized one, which has up to three times its nodes. The last column is the time per node against
that of the row before: 1 where it grows linearly.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 4


def chain(nodes, kind):
    """Returns a model of `nodes` nodes in a row: Relu between two convolutions, or convolutions with a Relu each."""
    rng = np.random.default_rng(0)
    weights, calls, last = [], [], "x"

    def convolution(out, shape):
        weight = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{out}_w"))
        calls.append(helper.make_node("Conv", [last, f"{out}_w"], [out], name=out))
        return out

    last = convolution("first", (CHANNELS, 3, 3, 3))
    for i in range(nodes - 2):
        if kind == "convolutions" and i % 2:
            last = convolution(f"t{i}", (CHANNELS, CHANNELS, 1, 1))
        else:
            calls.append(helper.make_node("Relu", [last], [f"t{i}"], name=f"t{i}"))
            last = f"t{i}"
    convolution("y", (2, CHANNELS, 1, 1))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", [1, 3, 8, 8]), ("y", [1, 2, 6, 6]))]
    graph = helper.make_graph(calls, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds_of(work):
    """Returns how long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds_of_program(command, limit):
    """Returns how long a command takes, infinity where it is not done in `limit` seconds."""
    def run():
        done = subprocess.run(command, capture_output=True, timeout=limit)
        if done.returncode not in (0, 4):
            raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}")
    try:
        return seconds_of(run)
    except subprocess.TimeoutExpired:
        return float("inf")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--nodes", type=int, nargs="+", default=[1000, 2000, 5000, 20000, 60000])
    arguments.add_argument("--kinds", nargs="+", default=["relu", "convolutions"], choices=["relu", "convolutions"])
    arguments.add_argument("--limit", type=float, default=900, help="seconds of one command")
    given = arguments.parse_args()
    print("| chain | nodes | load s | tract s | inspect s | quantize s | per node |\n|---|---|---|---|---|---|---|")
    for kind in given.kinds:
        before = None
        for nodes in given.nodes:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "chain.onnx")
                onnx.save(chain(nodes, kind), path)
                load = seconds_of(lambda: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
                run = lambda *words: seconds_of_program([given.program, *words], given.limit)
                tract = run("bench", path, "--engine", "tract", "--runs", "1")
                inspect = run("inspect", path)
                quantize = run("quantize", path, "--effort", "fast", "-o", str(Path(folder) / "q.onnx"))
            growth = f"{quantize / nodes / before:.2f}" if before else ""
            before = quantize / nodes
            print(f"| {kind} | {nodes} | {load:.2f} | {tract:.2f} | {inspect:.2f} | {quantize:.2f} | {growth} |", flush=True)


if __name__ == "__main__":
    main()
