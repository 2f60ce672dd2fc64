//! From the float model to the prepared float network, and from that to grids and integers.

use std::collections::BTreeMap;

use super::Config;
use super::check::checkers;
use super::scale::{check_evaluation, of_pixels};
use super::sizes::{Fixed, at_fixed_sizes, fix_sizes, with_inputs_of};
use crate::data::Dataset;
use crate::digest::Watched;
use crate::error::{Error, Result};
use crate::infer_by_running::infer_by_running;
use crate::ir::Graph;
use crate::passes::{Aside, DeclaredShapes, FrozenAxis};
use crate::plan::{Policy, total_macs};
use crate::report::Warning;
use crate::runtime::Engines;
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, KnownInput, TensorStatistics, guess_input, guessed, known_inputs,
    place_statistics, read_batch_norms, read_statistics,
};
use crate::train::{Claim, RunFolder};
use crate::verify::limits::default_samples;
use crate::{onnx, passes, shape};

/// The contents of the files, before any computation.
pub(super) struct Loaded {
    /// The original float model, without operators that the engines here do not support.
    pub original: Graph,
    /// The operators that the engines here do not support.
    pub aside: Option<Aside>,
    /// Statistics from a separate file.
    statistics: BTreeMap<String, TensorStatistics>,
    /// Labeled images.
    pub images: Option<Dataset>,
    /// All that is read.
    pub watched: Watched,
    /// Keeps other runs out of the folder of checkpoints.
    _claim: Option<Claim>,
}

/// The prepared float network, and the statistics of its file before batch normalization was folded.
pub(super) struct Prepared {
    pub float: Graph,
    /// The float network with constants folded at the sizes that are fixed for planning, where any are.
    at_sizes: Option<Graph>,
    pub norms: Vec<BatchNorm>,
    /// The number of batch normalizations in the model.
    pub batch_norms: usize,
    /// The number of tensors with statistics from a separate file.
    pub given: usize,
    pub input: InputStatistics,
    /// The known statistics of each input.
    pub inputs: Vec<KnownInput>,
    /// The declared shapes of inputs and outputs in the file, where those of the float network are fixed.
    pub declared: Option<DeclaredShapes>,
    /// The model's fixed batch size, where that of the float network is free.
    pub batch: Option<usize>,
    /// Axes that are fixed although the file leaves them open.
    pub frozen: Vec<FrozenAxis>,
    pub passes: Vec<(&'static str, usize)>,
    /// Warnings about the files that were handed over.
    pub warnings: Vec<Warning>,
}

/// Returns the model and its files, after checking that the checkpoint folder is unused or resumed.
pub(super) fn load(config: &Config, engines: &Engines) -> Result<Loaded> {
    let is_dry = config.output.is_none();
    let claim = |folder: &RunFolder| match is_dry {
        true => folder.refuse_used().map(|()| None),
        false => folder.claim().map(Some),
    };
    let claim = config.training.folder.as_ref().map(claim).transpose()?.flatten();
    let watched = Watched::new(config.files());
    let mut original = onnx::load(&config.model)?;
    passes::set_inputs(&mut original, &config.set_inputs)?;
    let of_model = |error: Error| error.in_model(&config.model);
    passes::refuse_unloadable(&original, checkers(engines).ort).map_err(of_model)?;
    let aside = passes::set_aside(&mut original, engines.main()).map_err(of_model)?;
    Ok(Loaded {
        aside,
        original,
        statistics: config.statistics.as_deref().map(read_statistics).transpose()?.unwrap_or_default(),
        images: config.evaluation.as_ref().map(|(file, _)| Dataset::read_labelled(file)).transpose()?,
        watched,
        _claim: claim,
    })
}

/// Returns the float network: normalized, with batch normalization read and folded, at the opset of the target.
pub(super) fn prepare(loaded: &Loaded, config: &Config, engines: &Engines) -> Result<Prepared> {
    let of_model = |error: Error| error.in_model(&config.model);
    let (mut float, frozen, mut passes) = normalised(loaded, config, engines).map_err(of_model)?;
    let mut norms = read_batch_norms(&float);
    let before_folding = float.clone();
    passes.extend(passes::fold(&mut float).map_err(of_model)?);
    raise_opset(&mut float, config.policy.target.choices().opset).map_err(of_model)?;
    // Last: the passes before must not treat sizes that the file leaves open as constants.
    let Fixed { declared, batch } = fix_sizes(&mut float, &loaded.original, config)?;
    let mut guess = guess_input(&with_inputs_of(before_folding, &float), &norms);
    let place = config.statistics.as_ref().map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&float, &loaded.statistics, &place)?;
    if guess.source == InputSource::Assumed {
        guess = guess_input(&float, &given);
    }
    let warnings = check_evaluation(loaded, config, &float, &guess)?.into_iter().collect();
    let given_input = of_pixels(loaded, config, &float)?.or_else(|| config.input.clone());
    let input = given_input.filter(|_| guess.source != InputSource::Bytes).unwrap_or(guess);
    input.check_channels(&float)?;
    infer_by_running(&mut float, &input, engines.main(), config.seed)?;
    let (batch_norms, given_count) = (norms.len(), given.len());
    norms.retain(|norm| given.iter().all(|g| g.output != norm.output));
    norms.extend(given);
    let inputs = known_inputs(&float, &input);
    let at_sizes = declared.is_some().then(|| at_fixed_sizes(&float, engines)).transpose()?;
    Ok(Prepared {
        float,
        at_sizes,
        norms,
        batch_norms,
        given: given_count,
        input,
        inputs,
        declared,
        batch,
        frozen,
        passes,
        warnings,
    })
}

/// The graph, its fixed axes, and the passes with their numbers of changes.
type Normalised = (Graph, Vec<FrozenAxis>, Vec<(&'static str, usize)>);

/// Returns the normalized float model without exporter artifacts, ready to be quantized.
fn normalised(loaded: &Loaded, config: &Config, engines: &Engines) -> Result<Normalised> {
    let mut float = loaded.original.clone();
    passes::declare_ranks(&mut float, &config.input_shapes)?;
    let mut passes = passes::normalise(&mut float, engines.main())?;
    let frozen = passes::freeze_axes(&mut float, &config.input_shapes, engines.main())?;
    if !frozen.is_empty() {
        passes.extend(passes::normalise(&mut float, engines.main())?);
    }
    passes::validate(&float)?;
    Ok((float, frozen, passes))
}

impl Prepared {
    /// Returns the float network for training: with constants where the file has chains of Shape, Gather and Concat.
    pub fn at_fixed_sizes(&self) -> &Graph {
        self.at_sizes.as_ref().unwrap_or(&self.float)
    }

    /// Returns the quantization policy, which depends on the ranges that rest on a guess.
    pub fn policy(&self, config: &Config) -> Policy {
        let guessed = guessed(&self.float, &self.norms, &self.inputs);
        Policy { float_activations: config.activations.float(&guessed), ..config.policy.clone() }
    }
}

/// Returns the number of samples of the checks.
pub(super) fn samples(float: &Graph, config: &Config) -> usize {
    config.samples.unwrap_or_else(|| default_samples(total_macs(float)))
}

fn raise_opset(float: &mut Graph, opset: i64) -> Result<()> {
    onnx::upgrade(float, opset)?;
    shape::infer(float)
}
