//! `synth`: generates synthetic inputs for a model, without quantizing it.

use super::Config;
use super::clock::Clock;
use super::prepare::{load, prepare};
use super::solve::Work;
use crate::error::Result;
use crate::observe::Observer;
use crate::report::SynthesisDocument;
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

    let runs = (engines.main().name(), engines.device().to_string());
    let about = (config.model.clone(), config.seed);
    let document = SynthesisDocument::new(about, runs, prepared.input.clone(), made.report.clone(), clock.finish());
    Ok((made, document))
}
