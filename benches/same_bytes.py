"""Whether two builds of the program write the same files.

    python benches/same_bytes.py BASE [DFQ_ONNX] [--models NAME ...] [--recipes NAME ...] [--settings NAME ...]
                                 [--data FOLDER] [--json FILE]

Quantizes every development model (of fixtures and --data, by default ../shared/data; a missing one is SKIPPED) with each
recipe without training, at five settings, by both programs, and compares the SHA-256 of the models and of the reports
(without their seconds). Prints a row per case, and exits with 1 on a difference. --json stores the digests of BASE and reads
those that it holds; without DFQ_ONNX, nothing is compared.
"""

import argparse
import hashlib
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA, FIXTURES = ROOT.parent / "shared" / "data", ROOT / "fixtures"
IMAGENET_SCALE = ["--mean", ".485,.456,.406", "--std", ".229,.224,.225"]
DIGITS_SCALE = ["--mean", "0.3", "--std", "0.34"]
CIFAR_SCALE = ["--mean", ".4914,.4822,.4465", "--std"]
CENTERED_SCALE = ["--mean", ".5", "--std", ".5"]
MODELS = {
    "digits_resnet8": DIGITS_SCALE,
    "digits_mobilenet": DIGITS_SCALE,
    "burn_mnist": ["--mean", ".1307", "--std", ".3081"],
    "mlperf_resnet8_cifar10": ["--input-range", "0:255"],
    "resnet20_cifar10": IMAGENET_SCALE,
    "resnet20_cifar10_clean": IMAGENET_SCALE,
    "resnet20_cifar10_folded": IMAGENET_SCALE,
    "resnet32_cifar10": IMAGENET_SCALE,
    "dwstiny_cifar10": [*CIFAR_SCALE, ".2470,.2435,.2616"],
    "cifar_base": [*CIFAR_SCALE, ".2023,.1994,.2010"],
    "mobilenetv1_025_224": CENTERED_SCALE,
    "efficientnet_lite0_224": CENTERED_SCALE,
}
RECIPES = ["fast", "nearest", "squant", "dfq2019"]
SETTINGS = {
    "w8a8": ["--bits", "8"],
    "w4a4 all": ["--bits", "4", "--all-layers"],
    "w4a4 per tensor": ["--bits", "4", "--per-tensor"],
    "w4a4 affine": ["--bits", "4", "--affine"],
    "w4a8 ort-cpu": ["--precision", "w4a8", "--target", "ort-cpu"],
}
COMMON = ["--seed", "0", "--samples", "2", "--keep-failed"]
# What differs from run to run, and the program's own version.
OF_THE_RUN = ["seconds", "tool"]


def file_of(model, data):
    fixture = FIXTURES / f"{model}.onnx"
    return fixture if fixture.exists() else data / f"{model}.onnx"


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def digests(program, path, recipe, setting):
    """Returns the digests of the model and of the report, or what the program says instead."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        flags = ["--recipe", recipe, *SETTINGS[setting], *COMMON, *MODELS[path.stem]]
        # The same relative name in every run, since the report holds it.
        command = [program, "quantize", path, "-o", "out.onnx", *flags]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=scratch)
        written, report = sorted(scratch.glob("out*.onnx")), scratch / "out.report.json"
        if not written or not report.exists():
            return [f"exit {ran.returncode}", (ran.stderr.strip().splitlines() or [""])[-1]]
        found = json.loads(report.read_text())
        found = {key: value for key, value in found.items() if key not in OF_THE_RUN}
        content = json.dumps(found, sort_keys=True).encode()
        return [digest(written[0].read_bytes()), digest(content)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("program", nargs="?", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--recipes", nargs="*", default=RECIPES)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    compared, differing = 0, 0
    print("| model | recipe | setting | base: model, report | other: model, report | same |\n|---|---|---|---|---|---|")
    for model, recipe, setting in itertools.product(options.models, options.recipes, options.settings):
        path = file_of(model, options.data.resolve())
        if not path.exists():
            print(f"| {model} | {recipe} | {setting} | SKIPPED, the model is missing | | |")
            continue
        name = f"{model}, {recipe}, {setting}"
        if name not in known:
            known[name] = digests(options.base, path, recipe, setting)
            if options.json:
                options.json.write_text(json.dumps(known, indent=1))
        found = known[name] if options.program is None else digests(options.program, path, recipe, setting)
        same = found == known[name]
        compared, differing = compared + 1, differing + (not same)
        row = [model, recipe, setting, ", ".join(known[name]), ", ".join(found), "yes" if same else "NO"]
        print(f"| {' | '.join(row)} |", flush=True)
    print(f"{compared} cases, {differing} differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
