"""How time grows with the number of nodes: chains of operators, the tool's wall time and how much of it the runtimes take.

    cargo build --release
    python benches/nodes.py target/release/dfq-onnx            # 1,000 to 60,000 nodes; minutes
    python benches/nodes.py target/release/dfq-onnx --nodes 1000 2000 --kinds convolutions

Needs numpy, onnx and onnxruntime, whose library the tool uses as well. `load` is the time that ONNX Runtime takes to make
one session of the float chain by default; the tool makes several sessions of the float model, and of the quantized one,
which has up to three times its nodes. `runtimes` is the time of a command that passes inside ONNX Runtime and tract (loads
and runs, as the tool logs them), `ratio` the whole over it. The tool has one thread, so that nothing is counted twice.
`own per node` is the time outside the runtimes for each node against that of the row before: 1 where it grows linearly.
"""

import argparse
import os
import re
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


def library():
    """Returns the library of the Python package onnxruntime."""
    return str(next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")))


def seconds_of_program(command, limit):
    """Returns how long a command takes, infinity where it is not done in `limit` seconds, and how long the runtimes in it."""
    logged = {**os.environ, "DFQ_ONNX_LOG": "dfq_onnx::runtime::timed=trace", "NO_COLOR": "1"}
    command = [*command, "--threads", "1", "--ort-lib", library()]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, env=logged, text=True)
    except subprocess.TimeoutExpired:
        return float("inf"), float("nan")
    taken = time.perf_counter() - started
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return taken, sum(map(float, re.findall(r"seconds=([0-9.e-]+)", done.stderr)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000, 20000, 60000])
    arguments.add_argument("--kinds", nargs="+", default=["relu", "convolutions"], choices=["relu", "convolutions"])
    arguments.add_argument("--limit", type=float, default=900, help="seconds of one command")
    given = arguments.parse_args()
    print("| chain | nodes | load s | command | s | runtimes s | ratio | own per node |\n|---|---|---|---|---|---|---|---|")
    for kind in given.kinds:
        before = {}
        for nodes in given.nodes:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "chain.onnx")
                onnx.save(chain(nodes, kind), path)
                load = seconds_of(lambda: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
                quantized = str(Path(folder) / "q.onnx")
                for name, *rest in (["inspect"], ["quantize", "--effort", "fast", "-o", quantized]):
                    taken, inside = seconds_of_program([given.program, name, path, *rest], given.limit)
                    own = (taken - inside) / nodes
                    growth = f"{own / before[name]:.2f}" if name in before else ""
                    before[name] = own
                    figures = f"{taken:.2f} | {inside:.2f} | {taken / inside:.2f} | {growth}"
                    print(f"| {kind} | {nodes} | {load:.2f} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
