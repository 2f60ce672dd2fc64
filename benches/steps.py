"""Trains the vectors of our training steps in PyTorch too and compares the losses step by step.

    python benches/steps.py FOLDER... [--threads N] [--steps N]      # needs torch, onnx, safetensors, numpy

A folder holds one model as the bench `steps` writes it: `loss.onnx` (student, teacher and loss), `step.onnx` (the
training step made of it), `state.safetensors` (the start), `batches.safetensors`, and `run.json` (optimiser, learning
rates, and the losses that our engines gave). PyTorch differentiates `loss.onnx` with its own autograd and steps with
torch.optim; where onnxruntime is installed it runs `step.onnx` once more, which also gives the gradients of the first
step. Exit code 1 when a loss is further than LIMIT from PyTorch's or a graph fails ONNX's own checks; the rest is
information. A missing package: SKIPPED.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

try:
    import onnx
    import torch
    from safetensors.torch import load_file

    from onnx_in_torch import Network
except ImportError as missing:
    print(f"SKIPPED: {missing}")
    sys.exit(0)

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

LIMIT = 0.01


class Folder:
    """What the bench wrote for one model."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.about = json.loads((self.path / "run.json").read_text())
        self.state = load_file(self.path / "state.safetensors")
        self.batches = load_file(self.path / "batches.safetensors")

    def feed(self, name, step):
        """Returns what input `name` is fed in `step` (from 0); the batches come again when they are used up."""
        count = sum(key.rpartition(".")[0] == name for key in self.batches)
        if count == 0:
            raise KeyError(f"batches.safetensors holds nothing for the input {name!r}")
        return self.batches[f"{name}.{step % count}"]

    def rates(self, name, step):
        """Returns what feed `{vector}.rates` is in `step`: learning rate and bias corrections of Adam."""
        settings, rate = self.about["optimiser"], self.about["learning_rates"][name.removesuffix(".rates")]
        first, second = (1 - settings[beta] ** (step + 1) for beta in ("beta1", "beta2"))
        decay = settings["weight_decay"] if settings.get("decoupled", True) else 0
        return torch.tensor([rate / first, second**0.5, *([rate * decay] if decay else [])])


def train(folder, steps):
    """Returns the loss before each step, the gradients of the first, and the median of the milliseconds a step."""
    network = Network(folder.path / "loss.onnx")
    settings, rates = folder.about["optimiser"], folder.about["learning_rates"]
    vectors = {name: folder.state[name].clone().requires_grad_() for name in rates}
    kind = torch.optim.AdamW if settings.get("decoupled", True) else torch.optim.Adam
    optimiser = kind(
        [{"params": [vector], "lr": rates[name]} for name, vector in vectors.items()],
        betas=(settings["beta1"], settings["beta2"]), eps=settings["epsilon"], weight_decay=settings["weight_decay"],
    )
    losses, times, gradients = [], [], {}
    for step in range(steps):
        feeds = {name: folder.feed(name, step) for name in network.inputs if name not in vectors}
        start = time.perf_counter()
        optimiser.zero_grad()
        loss = network.run({**feeds, **vectors})[0].sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        times.append(1e3 * (time.perf_counter() - start))
        gradients = gradients or {name: vector.grad.clone() for name, vector in vectors.items()}
    # The first steps warm up.
    return losses, gradients, statistics.median(times[steps // 4:])


def replay(folder, steps, threads):
    """Returns the same of `step.onnx` in Python's ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder.path / "step.onnx", options, ["CPUExecutionProvider"])
    inputs = [port.name for port in session.get_inputs()]
    count = len(session.get_outputs())
    values = [folder.state[name].numpy() for name in inputs[:count]]
    losses, times, gradients = [], [], {}
    for step in range(steps):
        feeds = [(folder.rates if name.endswith(".rates") else folder.feed)(name, step) for name in inputs[count:]]
        start = time.perf_counter()
        values = session.run(None, dict(zip(inputs, values + [feed.numpy() for feed in feeds])))
        times.append(1e3 * (time.perf_counter() - start))
        state = dict(zip(inputs, values))
        losses.append(float(state["losses"].reshape(-1)[-1]))
        if step == 0:
            # The first moment starts at zero.
            share = 1 - folder.about["optimiser"]["beta1"]
            moments = {name: state.get(f"{name}.m") for name in folder.about["learning_rates"]}
            gradients = {name: torch.from_numpy(m) / share for name, m in moments.items() if m is not None}
    return losses, gradients, statistics.median(times[steps // 4:])


def check(path):
    """Prints whether a graph passes ONNX's own checks, and returns that."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True).graph
    except Exception as error:
        print(f"{path.name}: FAILS ONNX's checks: {error}")
        return False
    known = {v.name: v.type.tensor_type for v in [*graph.input, *graph.value_info, *graph.output]}
    made = [name for node in graph.node for name in node.output if name]
    static = [n for n in made if n in known and all(d.HasField("dim_value") for d in known[n].shape.dim)]
    print(f"{path.name}: passes onnx.checker and strict shape inference; {len(graph.node)} nodes, "
          f"{len(static)} of {len(made)} results of static shape")
    return True


def compare_losses(columns, expected):
    """Prints the table of losses, and returns whether all are within the limit."""
    print(f"{'step':>4}" + "".join(f"{name:>28}" for name in [*columns, f"PyTorch {torch.__version__}"]))
    for step, row in enumerate(zip(*columns.values(), expected), 1):
        print(f"{step:4}" + "".join(f"{loss:28.7g}" for loss in row))
    good = True
    for name, losses in columns.items():
        off = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(losses, expected)]
        # Written so that a loss that is not a number misses.
        passes = all(one <= LIMIT for one in off)
        good &= passes
        print(f"{name}: {'passes' if passes else 'MISSES'}, at most {max(off):.2e} from PyTorch (limit {LIMIT})")
    return good


def compare(path, steps, threads):
    """Prints all about one folder, and returns whether it passes."""
    folder = Folder(path)
    about = folder.about
    steps = min(steps, *(len(losses) for losses in about["losses"].values()))
    settings = ", ".join(f"{name} {about[name]}" for name in ("batch", "optimiser", "learning_rates"))
    print(f"\n{about['model']}: {settings}")
    good = [check(folder.path / name) for name in ("loss.onnx", "step.onnx")]
    expected, gradients, milliseconds = train(folder, steps)
    columns = {name: losses[:steps] for name, losses in about["losses"].items()}
    times = {**about.get("milliseconds", {}), "PyTorch eager": milliseconds}
    if onnxruntime:
        label = f"Python's {onnxruntime.__version__}"
        columns[label], found, times[label] = replay(folder, steps, threads)
        for name, gradient in found.items():
            off = (gradient - gradients[name]).norm() / gradients[name].norm()
            print(f"gradient of {name} in the first step: {off:.2e} from PyTorch's (relative norm)")
    good.append(compare_losses(columns, expected))
    print(f"milliseconds a step, {threads} threads: " + ", ".join(f"{name} {ms:.1f}" for name, ms in times.items()))
    return all(good)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime here (default 1)")
    parser.add_argument("--steps", type=int, default=20, help="how many steps are compared (default 20)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    good = [compare(path, arguments.steps, arguments.threads) for path in arguments.folders]
    print(f"\n{sum(good)} of {len(good)} models pass")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
