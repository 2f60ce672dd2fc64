//! The report of a run, before any checks.

use super::Config;
use super::handed_over::HandedOver;
use super::prepare::{Loaded, Prepared};
use super::solve::Found;
use crate::audit::audit;
use crate::error::Result;
use crate::ir::Graph;
use crate::onnx;
use crate::recipes::RECIPES;
use crate::report::{self, Bytes, Data, Report, SCHEMA_VERSION, Warning};
use crate::runtime::Engines;
use crate::sensitivity::AutoBits;
use crate::solution::Solved;
use crate::stats::read_batch_norms;

/// Returns the report of the plan and the solution, with warnings, and the inputs that were handed over.
pub(super) fn describe(
    config: &Config,
    engines: &Engines,
    loaded: &Loaded,
    prepared: Prepared,
    found: Found,
    quantized: &Graph,
) -> Result<(Report, Option<HandedOver>)> {
    let warnings = warnings(config, engines, loaded, &prepared, &found);
    let Prepared { batch_norms, given, input, inputs, passes, .. } = prepared;
    let Found { solved, auto_bits, sensitivity, handed, synthesis, training, against_start, sufficient, .. } = found;
    let Solved { float, plan, solution, .. } = solved;
    let layers = report::layer_costs(&float, &plan, &solution)?;
    let report = Report {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        output: None,
        recipe: if sufficient.is_some() { RECIPES[0].name } else { config.recipe.name },
        sufficient,
        seed: config.seed,
        device: engines.device().to_string(),
        engines: engines.names(),
        batch_norms,
        statistics_given: given,
        batch_norms_folded: batch_norms - read_batch_norms(&float).len(),
        passes,
        ranges: report::ranges(&plan, &solution),
        container: report::container(&config.policy, &plan, &solution),
        auto_bits: auto_bits.map(|chosen| AutoBits { stored: report::stored_bits(&layers), ..chosen }),
        layers,
        steps: solution.steps.clone(),
        audit: report::with_plan(audit(quantized, plan.target)?, &plan),
        bytes: Bytes { float: onnx::stored_bytes(&config.model)?, quantized: 0 },
        warnings,
        input,
        inputs,
        plan,
        data: config.data.as_ref().zip(handed.as_ref()).map(|((path, _), handed)| Data::of(path, handed.counts)),
        synthesis,
        training,
        against_start,
        sensitivity,
        verification: None,
        evaluation: None,
        judgement: None,
        seconds: Vec::new(),
    };
    Ok((report, handed))
}

fn warnings(config: &Config, engines: &Engines, loaded: &Loaded, prepared: &Prepared, found: &Found) -> Vec<Warning> {
    let (Solved { float, plan, solution, .. }, original) = (&found.solved, &loaded.original);
    let mut warnings = Vec::new();
    warnings.extend(prepared.norms.is_empty().then_some(Warning::NoStatistics));
    warnings.extend(prepared.warnings.iter().cloned());
    warnings.extend(report::warnings(plan, solution, &prepared.inputs, &prepared.input));
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
    warnings.extend(loaded.aside.as_ref().map(report::aside_warning));
    warnings.extend(report::training_warnings(&found.training, config.output.is_none()));
    warnings.extend(found.synthesis.as_ref().and_then(report::images_warning));
    let is_trained = found.sufficient.is_some() || !config.stages.is_empty() && found.untrained.is_none();
    warnings.extend(report::few_bits(plan, is_trained));
    warnings.extend(found.untrained.clone().map(|reason| Warning::NotTrained { reason }));
    warnings.extend(found.against_start.as_ref().filter(|found| !found.is_kept).map(|_| Warning::StartKept));
    warnings
}
