//! A graph taken through the stages of the pipeline, with what each of them made.

use dfq_onnx::emit::{PACKED_OPSET, PER_CHANNEL_OPSET, emit};
use dfq_onnx::ir::Graph;
use dfq_onnx::plan::{Plan, Policy, plan};
use dfq_onnx::recipes::{self, Solution, Teacher};
use dfq_onnx::stats::{guess_input, read_batch_norms};
use dfq_onnx::{onnx, passes, shape};

use super::ort;

/// What the stages made.
pub struct Quantized {
    /// The folded float graph.
    pub student: Graph,
    /// Grids and where they are.
    pub plan: Plan,
    /// Scales and integers.
    pub solution: Solution,
    /// The Q/DQ graph.
    pub emitted: Graph,
}

/// Returns `graph` quantized by the recipe `nearest`.
pub fn quantized(graph: &Graph, policy: &Policy) -> dfq_onnx::Result<Quantized> {
    quantized_by(graph, policy, "nearest")
}

/// Returns `graph` quantized by a recipe.
pub fn quantized_by(graph: &Graph, policy: &Policy, recipe: &str) -> dfq_onnx::Result<Quantized> {
    let mut student = graph.clone();
    passes::normalise(&mut student, ort())?;
    let norms = read_batch_norms(&student);
    let input = guess_input(&student, &norms);
    passes::fold(&mut student)?;
    let packs = policy.target.packs_weights() && policy.weight_bits <= 4;
    onnx::upgrade(&mut student, if packs { PACKED_OPSET } else { PER_CHANNEL_OPSET })?;
    shape::infer(&mut student)?;
    let plan = plan(&student, policy)?;
    let teacher = Teacher { norms: &norms, input: &input, engine: ort(), seed: 3 };
    let solution = (recipes::find(recipe)?.run)(&mut student, &plan, &teacher)?;
    let emitted = emit(&student, &plan, &solution)?;
    Ok(Quantized { student, plan, solution, emitted })
}
