"""Times the steps of the bench `steps` against the same steps in PyTorch, each in its best forms, in turn.

    python benches/turns.py FOLDER... [--threads N] [--turns N] [--no-compile]   # needs torch, onnx, safetensors, numpy

A folder holds one model as `cargo bench --bench steps -- --kind KIND --folder FOLDER` leaves it. Ours steps in a
process of its own, in ONNX Runtime as the program writes steps for it. Each turn takes STEPS steps of every form; times
are medians, and ratios the median over turns of the medians in each. What is fixed (the teacher) takes no part in
gradients in any form. First losses are compared with that of the first form in PyTorch; exit code 1 when one of a
generator is off. Those of a student part in the first step, by ties of rounding: `steps.py` tells whether they are
right. A missing package, or a form that fails: SKIPPED.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

try:
    import torch
    from safetensors.torch import load_file

    from generator import Generator, by_means, var_mean
    from programs import Program
except ImportError as missing:
    print(f"SKIPPED: {missing}")
    sys.exit(0)

STEPS = 3
# Between turns: threads that wait for work spin for a while.
PAUSE = 0.05
# How far a first loss of a generator may be off.
LIMIT = 1e-3


class Ours:
    """The process that steps in ONNX Runtime."""

    def __init__(self, path, about, threads):
        command = [about["binary"], "--child", "ort", "--folder", path, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = f"ours ({self.process.stdout.readline().strip()})"

    def step(self):
        """Returns loss and milliseconds of the next step."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        loss, milliseconds = self.process.stdout.readline().split()
        return float(loss), float(milliseconds)

    def end(self):
        self.process.kill()
        self.process.wait()


class Theirs:
    """A form of the step in PyTorch. `loss` takes the vectors and what is fed, both by name."""

    def __init__(self, name, about, state, loss, feeds):
        self.name, self.loss, self.feeds, self.at = name, loss, feeds, 0
        rates, settings = about["learning_rates"], about["optimiser"]
        self.vectors = {vector: state[vector].clone().requires_grad_() for vector in rates}
        groups = [{"params": [vector], "lr": rates[name]} for name, vector in self.vectors.items()]
        betas = settings["beta1"], settings["beta2"]
        self.optimiser = torch.optim.Adam(groups, betas=betas, eps=settings["epsilon"], fused=True)

    def step(self):
        """Returns loss and milliseconds of the next step."""
        feeds = self.feeds[self.at % len(self.feeds)]
        self.at += 1
        start = time.perf_counter()
        self.optimiser.zero_grad()
        loss = self.loss(self.vectors, feeds)
        loss.backward()
        self.optimiser.step()
        loss = loss.item()
        return loss, 1e3 * (time.perf_counter() - start)

    def end(self):
        pass


def fed(batches, names):
    count = sum(key.rpartition(".")[0] == names[0] for key in batches)
    return [{name: batches[f"{name}.{i}"] for name in names} for i in range(count)]


def in_channels_last(feeds):
    def last(x):
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    return [{name: last(value) for name, value in each.items()} for each in feeds]


def compiled(loss):
    return torch.compile(loss, dynamic=False, fullgraph=True)


def student_forms(path, batches, names):
    """Returns name, loss and feeds of each form of a student's step."""
    composed, fused = Program(path / "loss.onnx"), Program(path / "loss.onnx")
    count = fused.fuse_fake_quantizers()
    feeds = fed(batches, [name for name in composed.inputs if name not in names])

    def loss(program):
        return lambda vectors, feeds: program.run({**vectors, **feeds})[0].sum()

    yield "eager", loss(composed), feeds
    yield f"eager, {count} fused quantizers", loss(fused), feeds
    yield f"eager, {count} fused, channels last", loss(fused), in_channels_last(feeds)
    yield "compile", compiled(loss(composed)), feeds
    yield "compile, channels last", compiled(loss(composed)), in_channels_last(feeds)


def generator_forms(path, batches, about):
    """Returns name, loss and feeds of each form of a generator's step."""
    feeds = fed(batches, about["feeds"][:-1])
    for last in (False, True):
        layout = ", channels last" if last else ""
        yield f"eager{layout}", Generator(path, about, last, var_mean).loss, feeds
        yield f"eager, moments by means{layout}", Generator(path, about, last, by_means).loss, feeds
        yield f"compile{layout}", compiled(Generator(path, about, last, var_mean).loss), feeds


def started(path, about, arguments):
    """Returns the forms that make a first step, and the losses of those."""
    state, batches = (load_file(path / f"{name}.safetensors") for name in ("state", "batches"))
    if about.get("generator"):
        forms = generator_forms(path, batches, about["generator"])
    else:
        forms = student_forms(path, batches, list(about["learning_rates"]))
    ours = Ours(path, about, arguments.threads)
    runs, losses = [ours], [ours.step()[0]]
    for name, loss, feeds in forms:
        if name.startswith("compile") and arguments.no_compile:
            continue
        start = time.perf_counter()
        try:
            run = Theirs(name, about, state, loss, feeds)
            losses.append(run.step()[0])
            runs.append(run)
        except Exception as error:
            print(f"{name}: SKIPPED: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            continue
        if name.startswith("compile"):
            print(f"{name}: first step after {time.perf_counter() - start:.0f} s")
    return runs, losses


def compare(path, arguments):
    """Prints the table of one folder, and returns whether first losses agree."""
    about = json.loads((path / "run.json").read_text())
    runs, losses = started(path, about, arguments)
    medians = [[] for _ in runs]
    for turn in range(arguments.turns + 1):
        for run, each in zip(runs, medians):
            time.sleep(PAUSE)
            taken = statistics.median(run.step()[1] for _ in range(STEPS))
            # The first turn warms up.
            each.extend([taken] if turn else [])
    for run in runs:
        run.end()
    kind = "generator" if about.get("generator") else "student"
    print(f"{about['model']}, {kind}, batch {about['batch']}, threads {arguments.threads}, PyTorch {torch.__version__}")
    print(f"  {'':<36}{'ms a step':>10}{'of ours':>10}{'spread':>16}{'first loss':>16}{'off by':>10}")
    good = True
    for run, each, loss in zip(runs, medians, losses):
        ratios = sorted(theirs / ours for theirs, ours in zip(each, medians[0]))
        off = abs(loss - losses[min(1, len(losses) - 1)]) / abs(loss)
        good &= off <= LIMIT or kind == "student"
        spread = f"{ratios[len(ratios) // 4]:.2f}..{ratios[-1 - len(ratios) // 4]:.2f}"
        print(f"  {run.name:<36}{statistics.median(each):10.1f}{statistics.median(ratios):9.2f}x{spread:>16}"
              f"{loss:16.7g}{off:10.1e}")
    for kind in ("eager", "compile"):
        best = [statistics.median(theirs / ours for theirs, ours in zip(each, medians[0]))
                for run, each in zip(runs, medians) if run.name.startswith(kind)]
        if best:
            print(f"  best {kind}: {min(best):.2f} times as long as ours")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and of ONNX Runtime (default 1)")
    parser.add_argument("--turns", type=int, default=10, help=f"of {STEPS} steps each (default 10)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    good = [compare(path, arguments) for path in arguments.folders]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
