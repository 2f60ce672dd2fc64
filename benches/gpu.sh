#!/usr/bin/env bash
# Everything that only a GPU can show, in one run: doctor, losses and times of training steps with and without CUDA
# graphs, a whole run of `quantize`, refusals, and PyTorch on the same card. SKIPPED where there is no GPU.
#
#   benches/gpu.sh LIBRARY_FOLDER [DFQ_ONNX [STEPS]]
#
# LIBRARY_FOLDER holds the libonnxruntime of the Python package onnxruntime-gpu (onnxruntime/capi in it); DFQ_ONNX and
# STEPS are the binaries of the program and of `cargo bench --bench steps`, built where they are not given. The last line
# is PASSED, or the script ends early with an exit code other than 0.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "SKIPPED: $1"
  exit 0
}

title() {
  printf '\n== %s\n' "$1"
}

# Runs a command, keeps what it says on stderr, and fails where steps were not recorded as CUDA graphs.
with_graphs() {
  local code=0
  "$@" 2> "$work/stderr" || code=$?
  cat "$work/stderr" >&2
  if [[ $code -ne 0 ]]; then
    echo "FAILED: exit code $code"
    exit "$code"
  fi
  if grep -q "without CUDA graphs" "$work/stderr"; then
    echo "FAILED: steps were not recorded as CUDA graphs"
    exit 1
  fi
}

command -v nvidia-smi > /dev/null || skip "no nvidia-smi, so no NVIDIA GPU"
gpus="$(nvidia-smi -L 2> /dev/null || true)"
[[ "$gpus" == *GPU* ]] || skip "nvidia-smi lists no GPU"

if [[ $# -lt 1 || $# -gt 3 ]]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0"
  exit 2
fi
folder="$(cd "$1" && pwd)"
library="$(find "$folder" -maxdepth 1 -name 'libonnxruntime.so*' | sort | tail -n 1)"
[[ -n "$library" ]] || { echo "no libonnxruntime.so in $folder"; exit 2; }
export ORT_DYLIB_PATH="$library"
# Where pip puts CUDA and cuDNN: beside the package of the library.
for near in "$folder"/../../nvidia/*/lib "$folder"/../../tensorrt_libs; do
  if [[ -d "$near" ]]; then
    LD_LIBRARY_PATH="$(cd "$near" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  fi
done
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
program="${2:-}"
if [[ -z "$program" ]]; then
  cargo build --release --locked
  program="${CARGO_TARGET_DIR:-target}/release/dfq-onnx"
fi
steps="${3:-}"
if [[ -z "$steps" ]]; then
  steps="$(cargo bench --locked --bench steps --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')"
fi
model="../shared/data/resnet20_cifar10.onnx"
[[ -f "$model" ]] || model="fixtures/digits_resnet8.onnx"
name="$(basename "$model" .onnx)"

title "the card"
nvidia-smi

title "doctor"
"$program" doctor | tee "$work/doctor"
grep -q "device cuda:0 can be used" "$work/doctor" || { echo "FAILED: CUDA cannot be used"; exit 1; }

# At these rates no step moves a value across a tie of rounding: what parts then is the arithmetic.
title "losses at tiny learning rates: float32 on the GPU with CUDA graphs against standard operators on the CPU"
with_graphs "$steps" "$model" --batch 64 --steps 40 --rates 1e-8 1e-7 --device cuda --threads 4 --within 1e-3 \
  --engine ort-standard,device-float32

title "the same steps with and without CUDA graphs"
with_graphs "$steps" "$model" --batch 64 --steps 300 --rates 1e-8 1e-7 --device cuda --within 1e-3 \
  --engine device-regular,device --folder "$work/steps"

title "times at ordinary rates: with CUDA graphs, without, and without TF32"
with_graphs "$steps" "$model" --batch 64 --steps 300 --device cuda --engine device,device-regular,device-float32

title "quantize --recipe lsq --device cuda"
with_graphs "$program" quantize fixtures/digits_resnet8.onnx -o "$work/lsq.onnx" --recipe lsq --bits 4 --steps 200 \
  --device cuda --run-folder "$work/run"

title "the same run taken up on the CPU from its last checkpoint"
code=0
"$program" quantize fixtures/digits_resnet8.onnx -o "$work/resumed.onnx" --recipe lsq --bits 4 --steps 200 \
  --device cpu --resume "$work/run" > /dev/null || code=$?
# A check that a processor without VNNI misses is none of the GPU's.
[[ $code -eq 0 || $code -eq 4 ]] || { echo "FAILED: exit code $code"; exit 1; }
echo "went on"

title "a GPU that is not there"
code=0
"$program" quantize fixtures/digits_resnet8.onnx -o "$work/none.onnx" --device cuda:99 || code=$?
[[ $code -eq 5 ]] || { echo "FAILED: exit code $code, expected 5"; exit 1; }

title "PyTorch eager on the same card"
python3 benches/steps.py "$work/steps/$name" --device cuda --steps 300

printf '\nPASSED\n'
