"""How well the verdict without labels orders quantized models by what they really lose.

    python benches/verdict.py DFQ_ONNX [--models NAME ...] [--recipes fast nearest] [--seeds 0] [--json FILE]

Quantizes every development model (../shared/data and fixtures; a missing one is SKIPPED) at six precisions, counts right
answers on labeled images before and after, and asks `verify` for its verdict on synthetic inputs alone. Prints for each case
the drop of top-1 in points, the figure in dB and the verdict; then the share of pairs of cases more than 3 points apart
that the figure puts into the right order, how verdicts and drops go together, and the same with limits that were fitted
without the network they are used on. --json keeps all cases, and takes up those that are there.
"""

import argparse
import collections
import itertools
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA, FIXTURES = ROOT.parent / "shared" / "data", ROOT / "fixtures"
CIFAR, IMAGENET, DIGITS = DATA / "cifar10_test_first5000.npz", DATA / "imagenet_sample334_224.npz", FIXTURES / "digits_test.npz"
IMAGENET_SCALE = ["--mean", ".485,.456,.406", "--std", ".229,.224,.225"]
CIFAR_SCALE = ["--mean", ".4914,.4822,.4465", "--std"]
MODELS = {
    "digits_resnet8": (FIXTURES, DIGITS, ["--mean", "0.3", "--std", "0.34"]),
    "digits_mobilenet": (FIXTURES, DIGITS, ["--mean", "0.3", "--std", "0.34"]),
    "burn_mnist": (DATA, DATA / "mnist_test.npz", ["--mean", ".1307", "--std", ".3081"]),
    "mlperf_resnet8_cifar10": (DATA, CIFAR, ["--scale", "1"]),
    "resnet20_cifar10": (DATA, CIFAR, IMAGENET_SCALE),
    "resnet20_cifar10_folded": (DATA, CIFAR, IMAGENET_SCALE),
    "resnet32_cifar10": (DATA, CIFAR, IMAGENET_SCALE),
    "dwstiny_cifar10": (DATA, CIFAR, [*CIFAR_SCALE, ".2470,.2435,.2616"]),
    "cifar_base": (DATA, CIFAR, [*CIFAR_SCALE, ".2023,.1994,.2010"]),
    "mobilenetv1_025_224": (DATA, IMAGENET, ["--mean", ".5", "--std", ".5"]),
    "efficientnet_lite0_224": (DATA, IMAGENET, ["--mean", ".5", "--std", ".5"]),
}
PRECISIONS = {
    "w8a8": ["--bits", "8"],
    "w6a6": ["--bits", "6"],
    "w4a8": ["--precision", "w4a8"],
    "w4a4": ["--bits", "4"],
    "w4a4 all": ["--bits", "4", "--all-layers"],
    "w3a3 all": ["--bits", "3", "--all-layers"],
}
# How far a limit keeps from the cases that it was fitted to, in dB.
MARGIN = 0.5


def measured(program, model, precision, recipe, seed):
    """Returns exit code, drop in points, figure in dB and verdict of one case."""
    folder, images, scale = MODELS[model]
    path = folder / f"{model}.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "out.onnx"
        flags = [*PRECISIONS[precision], "--recipe", recipe, "--seed", str(seed), "--threads", "1", *scale]
        command = [program, "quantize", path, "-o", out, "--eval", images, *flags]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if not out.exists():
            return {"code": ran.returncode, "said": ran.stderr.strip().splitlines()[-1:]}
        found = json.loads(out.with_suffix(".report.json").read_text())["evaluation"]
        drop = 100 * (found["float_correct"] - found["quantized_correct"]) / found["images"]
        judge = [program, "verify", path, out, "--format", "json", "--threads", "1", "--seed", str(seed), *scale]
        ran = subprocess.run(list(map(str, judge)), capture_output=True, text=True)
        judged = json.loads(ran.stdout)
        figures = [output["centered_sqnr_db"] for output in judged["verdict_outputs"]]
        return {"code": ran.returncode, "drop": drop, "figure": min(figures), "verdict": judged["verdict"]}


def ordered(cases):
    """Returns the share of pairs more than 3 points apart that the figure orders as the drop does, and their number."""
    pairs = [(a, b) for a, b in itertools.combinations(cases, 2) if abs(a["drop"] - b["drop"]) > 3]
    right = sum((a["figure"] > b["figure"]) == (a["drop"] < b["drop"]) for a, b in pairs)
    return right / max(len(pairs), 1), len(pairs)


def confusion(cases, verdict):
    """Returns how many cases of each verdict lose below 1, 1 to 10 and more than 10 points."""
    loss = lambda drop: "below 1" if drop < 1 else "1 to 10" if drop <= 10 else "above 10"
    return dict(collections.Counter((verdict(case), loss(case["drop"])) for case in cases))


def fitted_without(cases):
    """Returns the verdict on a case by limits that were fitted on the other networks."""

    def verdict(case):
        others = [other for other in cases if other["model"] != case["model"]]
        broken = min((other["figure"] for other in others if other["drop"] < 1), default=0) - MARGIN
        good = max((other["figure"] for other in others if other["drop"] > 2), default=0) + MARGIN
        return "broken" if case["figure"] < broken else "good" if case["figure"] >= good else "doubtful"

    return verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--precisions", nargs="*", default=list(PRECISIONS))
    parser.add_argument("--recipes", nargs="*", default=["fast", "nearest"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    axes = (options.models, options.recipes, options.precisions, options.seeds)
    for model, recipe, precision, seed in itertools.product(*axes):
        folder, images, _ = MODELS[model]
        if not (folder / f"{model}.onnx").exists() or not images.exists():
            print(f"{model}: SKIPPED, the model or its images are missing")
            continue
        name = f"{model}, {recipe}, {precision}, seed {seed}"
        if name not in known:
            known[name] = {"model": model, **measured(options.program, model, precision, recipe, seed)}
            if options.json:
                options.json.write_text(json.dumps(known, indent=1))
        case = known[name]
        if "drop" in case:
            print(f"{name}: drop {case['drop']:.2f}, {case['figure']:.1f} dB, {case['verdict']}, exit {case['code']}", flush=True)
        else:
            print(f"{name}: NOT WRITTEN, exit {case['code']}: {case['said']}", flush=True)
    cases = [case for case in known.values() if "drop" in case]
    share, pairs = ordered(cases)
    print(f"{len(cases)} cases, {100 * share:.1f} % of {pairs} pairs in the right order")
    print("verdicts:", confusion(cases, lambda case: case["verdict"]))
    print("limits fitted on other networks:", confusion(cases, fitted_without(cases)))


main()
