"""Single convolutions in ONNX Runtime's CPU kernels: float against integer, one thread, run in turn, medians.

    python benches/kernels.py [RUNS]        # needs onnx, onnxruntime, numpy

Kernel times come from the profiler, so layout changes around a kernel are not in them; they are listed apart. What the
limits of `src/plan/few_channels.rs` rest on.
"""

import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

NUMBERS = np.random.default_rng(0)
# Weight and activation types; QLinearConv takes int8 activations with int8 weights alone.
FORMS = {"u8s8": (np.uint8, np.int8), "u8u8": (np.uint8, np.uint8), "s8s8": (np.int8, np.int8)}


def model(layer, form):
    """Returns a Conv with Relu in float, or one between Q/DQ pairs."""
    inputs, outputs, size, kernel, stride, group = layer
    weight = NUMBERS.standard_normal((outputs, inputs // group, kernel, kernel)).astype(np.float32)
    call = dict(kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[stride] * 2, group=group)
    if form is None:
        constants = {"w": weight, "b": np.zeros(outputs, np.float32)}
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **call), helper.make_node("Relu", ["c"], ["y"])]
        dtype = TensorProto.FLOAT
    else:
        activation, stored = FORMS[form]
        scale = (np.abs(weight).reshape(outputs, -1).max(1) / 127).astype(np.float32)
        zero = np.full(outputs, 0 if stored == np.int8 else 128, stored)
        integers = np.round(weight / scale[:, None, None, None]).astype(np.int32) + int(zero[0])
        lowest = activation(0) if activation == np.uint8 else activation(-128)
        constants = {
            "sx": np.float32(0.02), "zx": activation(100), "sy": np.float32(0.02), "zy": lowest,
            "w": integers.astype(stored), "sw": scale, "zw": zero,
            "b": np.zeros(outputs, np.int32), "sb": scale * np.float32(0.02),
        }
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xf"]),
            helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wf"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "sb"], ["bf"], axis=0),
            helper.make_node("Conv", ["xf", "wf", "bf"], ["c"], **call),
            helper.make_node("QuantizeLinear", ["c", "sy", "zy"], ["y"]),
        ]
        dtype = TensorProto.UINT8 if activation == np.uint8 else TensorProto.INT8
    x = helper.make_tensor_value_info("x", dtype, [1, inputs, size, size])
    y = helper.make_tensor_value_info("y", dtype, None)
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "layer", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def session(made, folder, number):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = os.path.join(folder, f"profile{number}")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    opened = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = opened.get_inputs()[0]
    values = NUMBERS.integers(0, 100, fed.shape)
    dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}.get(fed.type, np.int8)
    return opened, {fed.name: values.astype(dtype)}


def times(layer, runs, folder):
    """Returns microseconds per operator, for float and for each form."""
    opened = [session(model(layer, form), folder, i) for i, form in enumerate([None, *FORMS])]
    for _ in range(runs):
        for run, fed in opened:
            run.run(None, fed)
    found = []
    for run, _ in opened:
        path = run.end_profiling()
        with open(path) as file:
            events = json.load(file)
        os.remove(path)
        spent = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                spent.setdefault(event["args"]["op_name"], []).append(event["dur"])
        found.append({op: float(np.median(values)) for op, values in spent.items()})
    return found


def layers():
    for outputs in (8, 16, 32, 64):
        yield "first", (3, outputs, 224, 3, 2, 1)
    for kernel in (5, 7):
        for outputs in (16, 32, 64):
            yield "first", (3, outputs, 224, kernel, 2, 1)
    for outputs in (8, 16, 32, 64):
        yield "first", (3, outputs, 32, 3, 1, 1)
    yield "first", (1, 32, 28, 3, 1, 1)
    yield "first", (4, 16, 224, 3, 2, 1)
    for size in (112, 56, 28, 14):
        for channels in (8, 16, 24, 32, 64, 128, 256, 512):
            if channels * size * size <= 64 * 112 * 112:
                yield "depthwise", (channels, channels, size, 3, 1, channels)
    for size in (112, 56, 28):
        for channels in (16, 32, 64, 128):
            yield "depthwise", (channels, channels, size, 3, 2, channels)
    for channels in (40, 72, 120, 200):
        yield "depthwise", (channels, channels, 28, 3, 1, channels)
    for inputs, outputs, size in ((8, 16, 112), (16, 32, 56), (32, 64, 56), (64, 128, 28), (128, 256, 14), (256, 512, 7)):
        yield "pointwise", (inputs, outputs, size, 1, 1, 1)
    for inputs, outputs, size in ((8, 8, 32), (10, 20, 32), (16, 16, 32), (32, 32, 16), (64, 64, 8), (64, 64, 56)):
        yield "dense", (inputs, outputs, size, 3, 1, 1)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}; microseconds, and speed against float")
    with tempfile.TemporaryDirectory() as folder:
        for kind, layer in layers():
            inputs, outputs, size, kernel, stride, group = layer
            conv = [next(t for op, t in form.items() if "Conv" in op) for form in times(layer, runs, folder)]
            row = f"{kind:9} {inputs:4} -> {outputs:4} @ {size:3}, {kernel}x{kernel}, stride {stride}, float {conv[0]:7.1f}"
            print(row, *(f"{name} {t:7.1f} ({conv[0] / t:4.2f}x)" for name, t in zip(FORMS, conv[1:])), flush=True)


if __name__ == "__main__":
    main()
