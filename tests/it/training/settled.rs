//! What follows from trained vectors.

use dfq_onnx::ir::Tensor;
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::Engine;
use dfq_onnx::solution::Solved;
use dfq_onnx::train::{Student, read_out};
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
    let Quantized { float, plan, solution, .. } = made;
    let mut solved = Solved { float: float.clone(), plan: plan.clone(), solution: solution.clone(), norms: Vec::new() };
    solved.apply_trained(read_out(student, engine, vectors)?)?;
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
