"""Trains the vectors of our training steps in PyTorch too and compares the losses step by step.

    python benches/steps.py FOLDER... [--threads N] [--steps N] [--spread]    # needs torch, onnx, safetensors, numpy
    python benches/steps.py FOLDER... --device cuda [--steps N]               # times alone, on a GPU

A folder holds one model as the bench `steps` writes it: `loss.onnx` (student, teacher and loss), `step.onnx` (the
training step made of it), `state.safetensors` (the start), `batches.safetensors`, and `run.json` (optimiser, learning
rates, and the losses that our engines gave). PyTorch differentiates `loss.onnx` with its own autograd and steps with
torch.optim. Exit code 1 when a loss is further than LIMIT from PyTorch's or a graph fails ONNX's own checks; times are
information. A missing package: SKIPPED.

Rounding makes such runs chaotic: the last bit of one activation moves a whole quantization step, and 20 steps later the
losses of PyTorch itself, started one rounding apart, may differ by far more than LIMIT. That spread is measured and
printed; with --spread a run also passes that stays within it. Where onnxruntime is installed `step.onnx` runs here too
and PyTorch takes every single step from the state that `step.onnx` has before it, where nothing adds up. Steps whose
values both round alike have to agree within LIMIT in loss, and in gradients in the median, and always where they clip
alike too; there has to be one. In others the first values that are rounded or clipped differently have to be ties: in
the middle between two steps of the grid, or at its edge (where the cap of a ReLU6 lies before the first step).
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
ROUNDING = 2**-24
# How far from the middle between two steps, in steps, a value is that one rounding in float32 may move across.
TIE = 1e-4
# Runs of PyTorch that are started one rounding apart.
DRAWS = 3


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
        return self.batches[f"{name}.{step % count}"] if count else self.rates(name, step)

    def rates(self, name, step):
        """Returns what the feed `{vector}.rates` is in `step`: learning rate and bias corrections of Adam."""
        vector = name.removesuffix(".rates")
        if vector not in self.about["learning_rates"]:
            raise KeyError(f"batches.safetensors holds nothing for the input {name!r}")
        settings, rate = self.about["optimiser"], self.about["learning_rates"][vector]
        first, second = (1 - settings[beta] ** (step + 1) for beta in ("beta1", "beta2"))
        decay = settings["weight_decay"] if settings.get("decoupled", True) else 0
        return torch.tensor([rate / first, second**0.5, *([rate * decay] if decay else [])])

    def moments(self, name, state):
        """Returns both moments of a vector, which come after one another in the state."""
        return [state[key] for key in state if key.startswith(f"{name}.")]


def adam(folder, vectors):
    settings, rates = folder.about["optimiser"], folder.about["learning_rates"]
    kind = torch.optim.AdamW if settings.get("decoupled", True) else torch.optim.Adam
    return kind(
        [{"params": [vector], "lr": rates[name]} for name, vector in vectors.items()],
        betas=(settings["beta1"], settings["beta2"]), eps=settings["epsilon"], weight_decay=settings["weight_decay"],
    )


def take_step(folder, network, vectors, optimiser, step):
    """Returns the loss before the step that it takes."""
    device = next(iter(vectors.values())).device
    feeds = {name: folder.feed(name, step).to(device) for name in network.inputs if name not in vectors}
    optimiser.zero_grad()
    loss = network.run({**feeds, **vectors})[0].sum()
    loss.backward()
    optimiser.step()
    return loss.item()


def train(folder, steps, draw=None, device="cpu"):
    """Returns the loss before each step and the median of the milliseconds a step; with `draw` from a start that is one
    rounding apart."""
    network, chance = Network(folder.path / "loss.onnx", device), torch.Generator().manual_seed(draw or 0)
    vectors = {name: folder.state[name].to(device, copy=True) for name in folder.about["learning_rates"]}
    if draw is not None:
        vectors = {name: v * (1 + ROUNDING * torch.randn(v.shape, generator=chance)) for name, v in vectors.items()}
    optimiser = adam(folder, {name: vector.requires_grad_() for name, vector in vectors.items()})
    losses, times = [], []
    for step in range(steps):
        start = time.perf_counter()
        losses.append(take_step(folder, network, vectors, optimiser, step))
        times.append(1e3 * (time.perf_counter() - start))
    # The first steps warm up.
    return losses, statistics.median(times[steps // 4:])


def single_step(folder, network, state, step):
    """Returns PyTorch's loss in `state`, and by vector its gradient and what its step makes of the vector."""
    vectors = {name: state[name].clone().requires_grad_() for name in folder.about["learning_rates"]}
    optimiser = adam(folder, vectors)
    for name, vector in vectors.items():
        first, second = folder.moments(name, state)
        kept = {"step": torch.tensor(float(step)), "exp_avg": first.clone(), "exp_avg_sq": second.clone()}
        optimiser.state[vector] = kept
    loss = take_step(folder, network, vectors, optimiser, step)
    return loss, {name: (vector.grad, vector.detach()) for name, vector in vectors.items()}


class Decisions:
    """All values that the loss rounds or clips, in ONNX Runtime and in PyTorch."""

    def __init__(self, path, options):
        model = onnx.load(path)
        self.nodes = [node for node in model.graph.node if node.op_type in ("Round", "Clip")]
        names = list(dict.fromkeys(name for node in self.nodes for name in (node.input[0], node.output[0])))
        # What is fed is no result.
        made = {name for node in model.graph.node for name in node.output}
        self.nodes = [node for node in self.nodes if node.input[0] in made]
        self.names = [name for name in names if name in made]
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in self.names)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.network = Network(path)
        self.network.outputs = self.names

    def first_differences(self, feeds):
        """Returns, for Round and for Clip, the first result that is decided differently, for how many values, and the
        largest distance of them from a tie; None where all are decided alike."""
        fed = {name: feeds[name] for name in self.network.inputs}
        ours = dict(zip(self.names, self.session.run(None, {name: value.numpy() for name, value in fed.items()})))
        with torch.no_grad():
            theirs = {name: value.numpy() for name, value in zip(self.names, self.network.run(fed))}
        found = {"Round": None, "Clip": None}
        for node in self.nodes:
            pairs = [(values[node.input[0]], values[node.output[0]]) for values in (ours, theirs)]
            if node.op_type == "Round":
                others = pairs[0][1] != pairs[1][1]
                away = [abs(abs(x - x.round()) - 0.5) for x, _ in pairs[1:]]
            else:
                others = (pairs[0][0] == pairs[0][1]) != (pairs[1][0] == pairs[1][1])
                away = [abs(x - y) for x, y in pairs]
            if others.any() and not found[node.op_type]:
                found[node.op_type] = node.output[0], int(others.sum()), max(float(each[others].max()) for each in away)
        return found


def follow(folder, steps, threads):
    """Prints how far single steps of `step.onnx` are from PyTorch's, and returns its losses, milliseconds a step, and
    whether all that differs follows from ties."""
    network, beta = Network(folder.path / "loss.onnx"), folder.about["optimiser"]["beta1"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder.path / "step.onnx", options, ["CPUExecutionProvider"])
    inputs, count = [port.name for port in session.get_inputs()], len(session.get_outputs())
    state = {name: folder.state[name] for name in inputs[:count]}
    decisions = Decisions(folder.path / "loss.onnx", options)
    losses, times, off, flips = [], [], [], []
    for step in range(steps):
        feeds = {**state, **{name: folder.feed(name, step) for name in inputs[count:]}}
        start = time.perf_counter()
        found = session.run(None, {name: value.numpy() for name, value in feeds.items()})
        times.append(1e3 * (time.perf_counter() - start))
        after = {name: torch.from_numpy(value) for name, value in zip(inputs, found)}
        losses.append(after["losses"].flatten()[-1].item())
        loss, expected = single_step(folder, network, state, step)
        off.append({"loss": distance(losses[-1], loss)})
        flips.append(decisions.first_differences(feeds))
        for name, (gradient, vector) in expected.items():
            ours = (folder.moments(name, after)[0] - beta * folder.moments(name, state)[0]) / (1 - beta)
            off[-1][f"gradient of {name}"] = ((ours - gradient).norm() / gradient.norm()).item()
            off[-1][f"update of {name}"] = ((after[name] - vector).norm() / (vector - state[name]).norm()).item()
        state = after
    return losses, statistics.median(times[steps // 4:]), judge(off, flips)


def judge(off, flips):
    """Prints the differences of single steps, and returns whether all that differs follows from ties."""
    rounded = [each for each, flip in zip(off, flips) if not flip["Round"]]
    alike = [each for each, flip in zip(off, flips) if not any(flip.values())]
    print(f"of {len(off)} single steps from the same state {len(rounded)} round as PyTorch does, {len(alike)} clip so")
    for title, rows in [("these", alike), ("all", off)]:
        for name in rows[0] if rows else []:
            each = [row[name] for row in rows]
            print(f"  relative difference, {title}: {name}: median {statistics.median(each):.1e}, most {max(each):.1e}")
    good = bool(rounded) and all(row["loss"] <= LIMIT for row in rounded)
    gradients = [name for name in off[0] if name.startswith("gradient")]
    good &= all(row[name] <= LIMIT for row in alike for name in gradients)
    # A single value that is clipped differently moves few gradients by much, and none in most steps.
    good &= bool(rounded) and all(statistics.median(row[name] for row in rounded) <= LIMIT for name in gradients)
    for step, flip in enumerate(flips, 1):
        # The first rounding that differs makes others clip differently.
        first = flip["Round"] or flip["Clip"]
        if first:
            name, values, away = first
            good &= away <= TIE
            print(f"  step {step}: {name!r} is the first to differ, in {values} value(s), "
                  f"{'ties' if away <= TIE else 'NO TIES'} (at most {away:.1e} from one)")
    return good


def distance(loss, expected):
    return abs(loss - expected) / max(abs(expected), 1e-12)


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


def compare_losses(columns, expected, limit):
    """Prints the table of losses, and returns whether all are within the limit."""
    print(f"{'step':>4}" + "".join(f"{name:>24}" for name in [*columns, f"PyTorch {torch.__version__}"]))
    for step, row in enumerate(zip(*columns.values(), expected), 1):
        print(f"{step:4}" + "".join(f"{loss:24.7g}" for loss in row))
    good = True
    for name, losses in columns.items():
        off = [distance(loss, one) for loss, one in zip(losses, expected)]
        # A loss that is not a number is within no limit.
        passes = all(one <= limit for one in off)
        good &= passes
        print(f"{name}: {'passes' if passes else 'MISSES'}, at most {max(off):.1e} from PyTorch (limit {limit:.1e})")
    return good


def compare(path, arguments):
    """Prints all about one folder, and returns whether it passes."""
    folder, threads = Folder(path), arguments.threads
    about = folder.about
    steps = min(arguments.steps, *(len(losses) for losses in about["losses"].values()))
    settings = ", ".join(f"{name} {about[name]}" for name in ("batch", "optimiser", "learning_rates"))
    print(f"\n{about['model']}: {settings}")
    good = [check(folder.path / name) for name in ("loss.onnx", "step.onnx")]
    expected, milliseconds = train(folder, steps)
    columns = {name: losses[:steps] for name, losses in about["losses"].items()}
    times = {**about.get("milliseconds", {}), "PyTorch eager": milliseconds}
    if onnxruntime:
        label = f"Python's {onnxruntime.__version__}"
        columns[label], times[label], close = follow(folder, steps, threads)
        good.append(close)
    spread = max(max(map(distance, train(folder, steps, draw)[0], expected)) for draw in range(DRAWS))
    good.append(compare_losses(columns, expected, max(LIMIT, spread) if arguments.spread else LIMIT))
    print(f"PyTorch itself, started one rounding apart {DRAWS} times: at most {spread:.1e}")
    print(f"milliseconds a step, threads: {threads}: " + ", ".join(f"{name} {ms:.1f}" for name, ms in times.items()))
    return all(good)


def time_on(device, path, steps):
    """Prints losses and times of PyTorch on a device beside those that the bench wrote, and returns True."""
    folder = Folder(path)
    about = folder.about
    steps = min(steps, *(len(losses) for losses in about["losses"].values()))
    print(f"\n{about['model']}: batch {about['batch']}, {torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    times = dict(about["milliseconds"])
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        losses, milliseconds = train(folder, steps, device=device)
        times[f"PyTorch eager, TF32 {'on' if tf32 else 'off'}"] = milliseconds
        for name, ours in about["losses"].items():
            off = max(map(distance, ours, losses))
            print(f"TF32 {'on' if tf32 else 'off'}: losses of {name} are at most {off:.1e} from PyTorch's (relative)")
    print("milliseconds a step: " + ", ".join(f"{name} {ms:.2f}" for name, ms in times.items()))
    return True


def passes(path, arguments):
    try:
        if arguments.device != "cpu":
            return time_on(arguments.device, path, arguments.steps)
        return compare(path, arguments)
    except (OSError, KeyError, RuntimeError) as error:
        print(f"{path}: {error}")
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime here (default 1)")
    parser.add_argument("--steps", type=int, default=20, help="how many steps are compared (default 20)")
    parser.add_argument("--device", default="cpu", help="of PyTorch: cpu, cuda or cuda:INDEX (default cpu)")
    parser.add_argument("--spread", action="store_true", help="pass what is within PyTorch's own spread too")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print(f"SKIPPED: PyTorch {torch.__version__} finds no GPU")
        sys.exit(0)
    torch.set_num_threads(arguments.threads)
    good = [passes(path, arguments) for path in arguments.folders]
    print(f"\n{sum(good)} of {len(good)} models pass")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
