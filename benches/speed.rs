//! Share computed in integers, and speed over float, of every model at w8a8 for `ort-cpu`: `cargo bench --bench speed
//! [-- RUNS]`. One thread, models run in turn, medians of the ratios.

#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Models that are measured; those beside the checkout may be absent.
const MODELS: &[&str] = &[
    "fixtures/digits_resnet8.onnx",
    "fixtures/digits_mobilenet.onnx",
    "../shared/data/mlperf_resnet8_cifar10.onnx",
    "../shared/data/resnet20_cifar10_clean.onnx",
    "../shared/data/resnet20_cifar10.onnx",
    "../shared/data/resnet20_cifar10_folded.onnx",
    "../shared/data/resnet32_cifar10.onnx",
    "../shared/data/dwstiny_cifar10.onnx",
    "../shared/data/cifar_base.onnx",
    "../shared/data/burn_mnist.onnx",
    "../shared/data/mobilenetv1_025_224.onnx",
];

fn main() -> Result<()> {
    // Cargo itself adds `--bench`.
    let runs = std::env::args().skip(1).find_map(|a| a.parse::<u32>().ok()).unwrap_or(300);
    let folder = tempfile::Builder::new().prefix("dfq-onnx-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!("{:<26} {:>9} {:>7} {:>9} {:>9} {:>7}", "model", "integers", "layers", "float ms", "w8a8 ms", "speed");
    for model in MODELS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
        if let Err(error) = measure(&path, folder.path(), runs) {
            println!("{:<26} FAILED: {error}", name(&path));
        }
    }
    Ok(())
}

fn measure(model: &Path, folder: &Path, runs: u32) -> Result<()> {
    let name = name(model);
    if !model.exists() {
        println!("{name:<26} SKIPPED: no {}", model.display());
        return Ok(());
    }
    let quantized: PathBuf = folder.join("quantized.onnx");
    program(
        &["quantize", "--effort", "fast", "--target", "ort-cpu", "--samples", "8"],
        &[model, "-o".as_ref(), &quantized],
    )?;
    let audit = program(&["audit", "--format", "json"], &[&quantized])?;
    let times = program(&["bench", "--format", "json", "--runs", &runs.to_string()], &[model, &quantized])?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let milliseconds = |i: usize| number(&times["models"][i]["milliseconds_median"]);
    let layers = format!("{}/{}", audit["coverage"]["integer_layers"], audit["coverage"]["layers"]);
    println!(
        "{name:<26} {:>7.1} % {layers:>7} {:>9.3} {:>9.3} {:>6.2}x",
        100.0 * number(&audit["share"]),
        milliseconds(0),
        milliseconds(1),
        number(&times["models"][1]["speedup"])
    );
    Ok(())
}

fn name(model: &Path) -> String {
    model.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns what the program printed, as JSON where it is.
fn program(words: &[&str], paths: &[&Path]) -> Result<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_dfq-onnx")).args(words).args(paths).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}
