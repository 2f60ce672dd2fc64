//! The report of a run, before any checks.

use super::Config;
use super::prepare::Prepared;
use crate::audit::audit;
use crate::error::Result;
use crate::ir::Graph;
use crate::onnx;
use crate::report::{self, Bytes, Report, SCHEMA_VERSION, Warning};
use crate::runtime::Engines;
use crate::solution::Solved;
use crate::stats::read_batch_norms;

/// Returns the report of the plan and the solution, with warnings.
pub(super) fn describe(
    config: &Config,
    engines: &Engines,
    (original, prepared): (&Graph, Prepared),
    (solved, quantized): (Solved, &Graph),
) -> Result<Report> {
    let warnings = warnings(engines, original, &prepared, &solved);
    let Prepared { batch_norms, given, input, inputs, passes, .. } = prepared;
    let Solved { float, plan, solution } = solved;
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        output: None,
        recipe: config.recipe.name,
        seed: config.seed,
        device: engines.device().to_string(),
        engines: engines.names(),
        batch_norms,
        statistics_given: given,
        batch_norms_folded: batch_norms - read_batch_norms(&float).len(),
        passes,
        ranges: report::ranges(&plan, &solution),
        layers: report::layer_costs(&float, &plan, &solution)?,
        container: report::container(&config.policy, &plan, &solution),
        steps: solution.steps.clone(),
        audit: report::with_plan(audit(quantized, plan.target)?, &plan),
        bytes: Bytes { float: onnx::stored_bytes(&config.model)?, quantized: 0 },
        warnings,
        input,
        inputs,
        plan,
        auto_bits: None,
        data: None,
        synthesis: None,
        training: Vec::new(),
        against_start: None,
        sensitivity: None,
        verification: None,
        evaluation: None,
        judgement: None,
        seconds: Vec::new(),
    })
}

fn warnings(engines: &Engines, original: &Graph, prepared: &Prepared, solved: &Solved) -> Vec<Warning> {
    let Solved { float, plan, solution } = solved;
    let mut warnings = Vec::new();
    warnings.extend(prepared.norms.is_empty().then_some(Warning::NoStatistics));
    warnings.extend(prepared.warnings.iter().cloned());
    warnings.extend(report::warnings(plan, solution, (&prepared.inputs, &prepared.input)));
    warnings.extend(report::float_copies(float, plan));
    warnings.extend(report::conversion(original));
    warnings.extend(report::frozen_warning(&prepared.frozen));
    warnings.extend(report::branch_warning(float));
    if float.opset() > original.opset() {
        warnings.push(Warning::OpsetRaised { from: original.opset(), to: float.opset() });
    }
    if engines.ort.is_none() {
        let reason = engines.warning.clone().unwrap_or_else(|| "--engine tract".to_owned());
        warnings.push(Warning::SingleRuntime { reason });
    }
    warnings
}
