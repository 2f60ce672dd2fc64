//! Where the tests find models: the project's fixtures, and larger ones beside the checkout where they lie.

pub mod qdq_net;

pub mod build;
pub mod net;
pub mod nets;
pub mod program;
pub mod quantized;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dfq_onnx::ir::{Graph, Tensor, ValueId};
use dfq_onnx::runtime::{Device, OrtEngine, Places, locate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// Returns the path of a file in `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Returns the fixture models and, where `../shared/data` exists, the development models; says what is skipped.
pub fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut models = Vec::new();
    for folder in [root.join("fixtures"), root.join("../shared/data")] {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: no {}", folder.display());
            continue;
        };
        let paths = entries.filter_map(|e| Some(e.ok()?.path()));
        models.extend(paths.filter(|p| p.extension().is_some_and(|e| e == "onnx")));
    }
    models.sort();
    models
}

/// Returns ONNX Runtime on the CPU, found or fetched as by the program itself, once per process.
pub fn ort() -> &'static OrtEngine {
    static ENGINE: OnceLock<OrtEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let found = locate(&Places::of_this_process(None), false).unwrap();
        OrtEngine::open(&found.path, Device::Cpu).unwrap()
    })
}

/// Returns one standard-normal tensor per input of `graph`; dimensions that are not numbers become `batch`.
pub fn random_inputs(graph: &Graph, batch: usize, seed: u64) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let input = |id: ValueId| {
        let shape = graph.value(id).shape.as_ref().expect("models declare the ranks of their inputs");
        let shape: Vec<usize> = shape.iter().map(|d| d.known().unwrap_or(batch)).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.sample(StandardNormal)).collect();
        Tensor::from_f32(&shape, &values)
    };
    graph.fed_inputs().into_iter().map(input).collect()
}

/// Returns `|found - expected| / |expected|` in the 2-norm, infinite where shapes differ or a value is not finite.
pub fn relative_rms(found: &Tensor, expected: &Tensor) -> f64 {
    if found.shape() != expected.shape() {
        return f64::INFINITY;
    }
    let (found, expected) = (found.to_f32().unwrap(), expected.to_f32().unwrap());
    let square = |v: f32| f64::from(v) * f64::from(v);
    let error: f64 = found.iter().zip(&expected).map(|(f, e)| square(f - e)).sum();
    let scale: f64 = expected.iter().map(|&e| square(e)).sum();
    let ratio = (error / scale).sqrt();
    if error == 0.0 {
        0.0
    } else if ratio.is_finite() {
        ratio
    } else {
        f64::INFINITY
    }
}
