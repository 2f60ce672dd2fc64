//! `synth`: generates synthetic inputs for a model, without quantizing it.

use super::Config;
use super::clock::Clock;
use super::prepare::{load, prepare};
use super::solve::Work;
use crate::error::Result;
use crate::observe::Observer;
use crate::report::{self, SCHEMA_VERSION, SynthesisDocument};
use crate::runtime::Engines;
use crate::synthesis::SyntheticImages;

/// Generates inputs for the model; writes nothing but checkpoints. A dry run ([`Config::output`] is none) generates
/// none.
///
/// # Errors
/// Models that cannot be read or give nothing to synthesize from; engines that fail; checkpoints of another run.
pub fn make_inputs(
    config: &Config,
    engines: &Engines,
    observer: &mut dyn Observer,
) -> Result<(SyntheticImages, SynthesisDocument)> {
    let mut clock = Clock::new(observer);

    clock.stage("load")?;
    let loaded = load(config, engines)?;

    clock.stage("normalise")?;
    let prepared = prepare(&loaded, config, engines)?;

    clock.stage("synthesise")?;
    let made = Work::new(&prepared, config, engines).synthesis(clock.observer())?;
    loaded.watched.check()?;

    let document = SynthesisDocument {
        schema_version: SCHEMA_VERSION,
        tool: report::tool(),
        model: config.model.clone(),
        output: None,
        sheet: None,
        curves: None,
        seed: config.seed,
        device: engines.device().to_string(),
        engine: engines.main().name(),
        warnings: report::synthesis_warnings(&made.report, &prepared.input),
        input: prepared.input,
        synthesis: made.report.clone(),
        seconds: clock.finish(),
    };
    Ok((made, document))
}
