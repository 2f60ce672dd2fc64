//! The whole of `quantize`, stage by stage.

mod check;
mod clock;
mod config;
mod describe;
mod gate;
mod handed_over;
mod inputs;
mod open_axes;
mod prepare;
mod scale;
mod sizes;
mod solve;

pub use check::{checkers, failed_name, readable};
pub use config::{Config, Ranges, Thresholds};
pub use gate::{coverage_gate, lint_check};
pub use inputs::make_inputs;

use check::{Checks, foretold, published_name, reference};
use clock::Clock;
use describe::describe;
use prepare::{load, prepare, samples};
use sizes::as_written;
use solve::{Work, find};

use std::path::PathBuf;

use crate::emit::emit;
use crate::error::Result;
use crate::files::Staged;
use crate::observe::Observer;
use crate::onnx::{self, Draft};
use crate::passes;
use crate::plan::total_macs;
use crate::report::{self, Ranking, Report, SCHEMA_VERSION};
use crate::runtime::{Engines, machine::lacks_vnni};
use crate::sensitivity::{Labelled, rank};

/// Runs the pipeline and reports progress to `observer`.
///
/// [`Report::verification`] has the results of the checks. A model that fails a hard check is not written
/// ([`Report::output`] is none).
///
/// # Errors
/// Models that cannot be read or quantized, engines that fail, files that cannot be written; no model is written then.
pub fn quantize(config: &Config, engines: &Engines, observer: &mut dyn Observer) -> Result<Report> {
    let mut clock = Clock::new(observer);

    clock.stage("load")?;
    let loaded = load(config, engines)?;

    clock.stage("normalise")?;
    let mut prepared = prepare(&loaded, config, engines)?;

    if !config.stages.is_empty() {
        let left_out = foretold(&loaded.original, &prepared.input, config, engines);
        left_out.iter().for_each(|left_out| clock.observer().note(&left_out.to_string()));
    }

    let found = find(&mut prepared, config, engines, &mut clock)?;

    clock.stage("emit")?;
    let mut quantized = emit(&found.solved.float, &found.solved.plan, &found.solved.solution)?;
    prepared.batch.map(|batch| passes::fix_batch(&mut quantized, batch)).transpose()?;
    let written = as_written(&quantized, prepared.declared.as_ref(), loaded.aside.as_ref())?;
    let (samples, macs) = (samples(&found.solved.float, config), total_macs(&found.solved.float));
    let (mut report, handed) = describe(config, engines, &loaded, prepared, found, &quantized)?;

    let (reference, unrunnable) = reference(&loaded.original, engines)?;
    report.warnings.extend(unrunnable);
    // The checks need the memory of the float model from here on.
    onnx::release_pages();
    let (float, quantized, handed) = (&*reference, &quantized, handed.as_ref());
    let checks = Checks { config, engines, float, quantized, handed, samples, macs };

    let mut draft = None;
    if let Some(output) = &config.output {
        clock.stage("verify")?;
        let file = Draft::write(&written, output, config.external_data)?;
        report.bytes.quantized = file.saved.bytes;
        let found = checks.verify(&written, &file.saved, &report)?;
        report.warnings.extend(report::left_out_warnings(&found.left_out));
        report.warnings.extend(report::saturation_warnings(&report.plan, &found.saturation, lacks_vnni()));
        draft = published_name(output, &found, config.keep_failed).map(|name| (file, name));
        report.verification = Some(found);
    }

    if loaded.images.is_some() {
        clock.stage("evaluate")?;
        report.evaluation = checks.compare(loaded.images.as_ref())?;
    }

    if config.output.is_none() {
        report.warnings.retain(|warning| !warning.is_of_results());
    }

    if report.verification.is_some() {
        clock.stage("judge")?;
        report.judgement = Some(checks.judge(&report)?);
    }

    clock.stage("write")?;
    report.output = draft.as_ref().map(|(_, name)| name.clone());
    report.seconds = clock.finish();
    loaded.watched.check()?;
    publish(&report, draft, config)?;
    Ok(report)
}

/// Publishes model and report, once both are on disk.
fn publish(report: &Report, draft: Option<(Draft, PathBuf)>, config: &Config) -> Result<()> {
    let report = config.report.as_ref().map(|path| report::stage(report, path)).transpose()?;
    draft.map(|(draft, name)| draft.publish(&name)).transpose()?;
    report.map_or(Ok(()), Staged::publish)
}

/// Ranks the layers of the model by their sensitivity to quantization and reports progress to `observer`; writes
/// nothing.
///
/// # Errors
/// As [`quantize`].
pub fn rank_layers(config: &Config, engines: &Engines, observer: &mut dyn Observer) -> Result<Ranking> {
    let mut clock = Clock::new(observer);

    clock.stage("load")?;
    let loaded = load(config, engines)?;

    clock.stage("normalise")?;
    let prepared = prepare(&loaded, config, engines)?;

    clock.stage(config.recipe.name)?;
    for warning in &prepared.warnings {
        clock.observer().note(&format!("warning: {warning}"));
    }
    let work = Work::new(&prepared, config, engines);
    let solved = work.solve(&prepared.policy(config))?;

    clock.stage("sensitivity")?;
    let labelled = config.evaluation.as_ref().zip(loaded.images.as_ref());
    let labelled = labelled.map(|((_, preprocess), data)| Labelled { data, preprocess });
    let sensitivity = rank(&solved, &work.float_answers(None)?, labelled)?;
    loaded.watched.check()?;
    Ok(Ranking {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        recipe: config.recipe.name,
        seed: config.seed,
        engine: engines.main().name(),
        input: prepared.input,
        sensitivity,
        flags: Vec::new(),
        seconds: clock.finish(),
    })
}
