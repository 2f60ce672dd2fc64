"""Runs quantized files in OpenVINO and ONNX Runtime on the same random inputs and prints how far apart they are.

    python benches/openvino_agreement.py FILE.onnx ...

The last column counts the layers of each precision in the graph that OpenVINO's CPU plugin runs. Where a package is
missing it says SKIPPED and ends well.
"""

import collections
import pathlib
import sys

try:
    import numpy as np
    import onnxruntime
    import openvino
except ImportError as missing:
    print(f"SKIPPED: {missing}")
    sys.exit(0)

BATCH = 16
LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


def random_input(session):
    port = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else BATCH for size in port.shape]
    rng = np.random.default_rng(0)
    # Networks on raw pixels would see nothing but noise around 0 otherwise.
    raw = "mlperf" in session._model_path
    values = rng.uniform(0, 255, shape) if raw else rng.standard_normal(shape)
    return port.name, values.astype(np.float32)


def precisions(compiled):
    count = collections.Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) in LAYERS:
            count[info["runtimePrecision"].astype(str)] += 1
    return ", ".join(f"{n} {precision}" for precision, n in sorted(count.items()))


def compare(core, path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, x = random_input(session)
    expected = session.run(None, {name: x})
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = list(compiled(x).values())
    largest = max(float(np.abs(a - b).max()) for a, b in zip(expected, found))
    relative = max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(expected, found))
    same = np.mean(expected[0].reshape(len(x), -1).argmax(1) == found[0].reshape(len(x), -1).argmax(1))
    return f"{largest:12.3e} {relative:12.3e} {same:8.1%}   {precisions(compiled)}"


def main(paths):
    core = openvino.Core()
    print(f"{'file':44} {'largest':>12} {'relative RMS':>12} {'top-1':>8}   layers ({openvino.__version__})")
    for path in paths:
        print(f"{pathlib.Path(path).name:44} {compare(core, path)}")


if __name__ == "__main__":
    main(sys.argv[1:])
