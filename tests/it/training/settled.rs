//! What follows from trained vectors.

use std::path::Path;

use dfq_onnx::ir::Tensor;
use dfq_onnx::observe::Silent;
use dfq_onnx::plan::Policy;
use dfq_onnx::recipes::{Solved, Teacher, Training};
use dfq_onnx::runtime::Engine;
use dfq_onnx::stats::InputStatistics;
use dfq_onnx::train::{Run, Settings, Student};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::support::quantized::Quantized;

/// Returns `policy` with other bits.
pub fn at(bits: (u32, u32), policy: Policy) -> Policy {
    Policy { weight_bits: bits.0, activation_bits: bits.1, ..policy }
}

/// Returns what follows from trained vectors.
pub fn settled(
    made: &Quantized,
    student: &Student,
    vectors: &[Tensor; 2],
    engine: &dyn Engine,
) -> dfq_onnx::Result<Solved> {
    let Quantized { student: float, plan, solution, .. } = made;
    let mut solved = Solved { student: float.clone(), plan: plan.clone(), solution: solution.clone() };
    let (input, settings) = (InputStatistics::assumed(), Settings::default());
    let teacher = Teacher { norms: &[], input: &input, images: None, engine, seed: 0, threads: 1 };
    let model = Path::new("");
    let run = Run { model, seed: 0, settings: &settings, engine, dry_run: false };
    let training = Training { float, teacher, images: None, run, observer: &mut Silent };
    training.settle(&mut solved, student, vectors)?;
    Ok(solved)
}

/// Returns the vectors after a walk as training may take it.
pub fn moved([weights, scales]: &[Tensor; 2], seed: u64) -> [Tensor; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut walk = |vector: &Tensor, step: &dyn Fn(f32) -> f32| {
        let values: Vec<f32> = vector.to_f32().unwrap();
        let values: Vec<f32> = values.into_iter().map(|v| v + step(v) * rng.sample::<f32, _>(StandardNormal)).collect();
        Tensor::from_f32(vector.shape(), &values)
    };
    [walk(weights, &|w| 0.2 * w.abs()), walk(scales, &|_| 0.1)]
}
