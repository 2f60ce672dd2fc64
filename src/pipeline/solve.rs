//! From the prepared float network to grids and integers: given or synthesized inputs, the choice of bits, the recipe,
//! its training, and whether its result is kept.

use std::time::Instant;

use super::Config;
use super::check::readable;
use super::clock::Clock;
use super::config::Ranges;
use super::handed_over::HandedOver;
use super::prepare::{Prepared, samples};
use super::sizes::solved_at_fixed_sizes;
use crate::calibrate::CalibrationContext;
use crate::emit::emit;
use crate::error::Result;
use crate::ir::Tensor;
use crate::lab::{Lab, LabInputs, Supply};
use crate::observe::{Observer, Silent};
use crate::plan::{Policy, total_macs};
use crate::recipes;
use crate::runtime::{Engines, refuse_states};
use crate::sensitivity::{AutoBits, Reference, Sensitivity, choose_bits, rank};
use crate::solution::Solved;
use crate::stats::{InputSource, InputStatistics, known_inputs};
use crate::synthesis::{SynthesisContext, SynthesisReport, SyntheticImages, synthesise};
use crate::train::{HeldOut, Run, Settings, StageReport, share_of};
use crate::verdict::{self, Judgement, Verdict};

/// Why nothing is trained where the program decides: results trained on dead leaves alone passed every check without labels
/// and lost twice as many of them (`benches/README.md`, "At 224 pixels without training").
const NO_IMAGES: &str = "there was no time to synthesize images for it, and training on dead leaves alone does harm; give \
                         more --max-minutes, or inputs of your own (--data FILE)";

/// The solution and the reports of its stages.
pub(super) struct Found {
    pub solved: Solved,
    /// The chosen bits of each weight, if requested.
    pub auto_bits: Option<AutoBits>,
    /// The ranking of layers, if requested.
    pub sensitivity: Option<Sensitivity>,
    /// The inputs that were handed over, if any.
    pub handed: Option<HandedOver>,
    /// The report of image synthesis, if any.
    pub synthesis: Option<SynthesisReport>,
    /// The report of each training stage.
    pub training: Vec<StageReport>,
    /// The comparison of the result trained on synthesized images with the recipe's solution without them.
    pub against_start: Option<HeldOut>,
    /// The reason why nothing was trained, where training was intended.
    pub untrained: Option<String>,
    /// The figures of the result without training that made training unnecessary.
    pub sufficient: Option<String>,
}

/// The inputs of a recipe.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub prepared: &'a Prepared,
    pub config: &'a Config,
    pub engines: &'a Engines,
    /// Inputs that were handed over or synthesized.
    pub images: Option<&'a [Tensor]>,
    /// Synthesized images, where they had enough steps.
    pub made: Option<&'a SyntheticImages>,
}

/// Finds grids and integers for the prepared network.
///
/// # Errors
/// When files cannot be read, the network cannot be quantized or trained as requested, or an engine fails.
pub(super) fn find(prepared: &mut Prepared, config: &Config, engines: &Engines, clock: &mut Clock) -> Result<Found> {
    let handed = handed_over(prepared, config)?;
    let prepared = &*prepared;
    let mut work = Work { prepared, config, engines, images: None, made: None };
    let (mut start, mut sufficient) = (None, None);
    if config.decides_on_training() {
        work.images = handed.as_ref().map(|handed| &handed.seen[..]);
        let (solved, judged) = work.without_training(handed.as_ref(), clock)?;
        start = Some(solved);
        sufficient = (judged.verdict == Verdict::Good).then_some(judged.reason);
        if sufficient.is_none() {
            clock.observer().note(&training_note(config));
        }
    }
    let (mut made, mut untrained) = (None, None);
    if sufficient.is_none() && handed.is_none() && (config.ranges == Ranges::Synthetic || config.recipe.wants_images) {
        clock.stage("synthesise")?;
        made = config.unless_untrainable(work.synthesis(clock.observer()), &mut untrained)?;
    }
    work.made = made.as_ref().filter(|made| made.report.is_of_use());
    let images = handed.as_ref().map(|handed| &handed.seen[..]).or(work.made.map(|made| &made.inputs[..]));
    work.images = images.filter(|inputs| !inputs.is_empty());
    if config.trains_where_needed && config.output.is_some() && made.is_some() && work.images.is_none() {
        untrained = Some(NO_IMAGES.to_owned());
    }

    let mut answers = None;
    if config.auto_bits.is_some() || config.sensitivity {
        clock.stage("float answers")?;
        answers = Some(work.float_answers(handed.as_ref())?);
    }
    let (mut policy, mut auto_bits) = (prepared.policy(config), None);
    if let (Some(request), Some(answers)) = (&config.auto_bits, &answers) {
        clock.stage("auto-bits")?;
        let (chosen, with_them) = choose_bits(&policy, request, &|policy| work.solve(policy), answers)?;
        (policy, auto_bits) = (with_them, Some(chosen));
    }

    let is_trained = !config.stages.is_empty() && sufficient.is_none() && untrained.is_none();
    let mut solved = match start.filter(|_| !is_trained) {
        Some(start) => start,
        None => {
            clock.stage(config.recipe.name)?;
            if is_trained || config.output.is_none() { work.solve(&policy)? } else { work.refitted(&policy)? }
        }
    };

    let (mut training, mut against_start) = (Vec::new(), None);
    if is_trained {
        clock.stage("train")?;
        let mut trained = solved.clone();
        let found = work.train(&mut trained, clock.observer());
        if let Some(stages) = config.unless_untrainable(found, &mut untrained)? {
            (solved, training) = (trained, stages);
            if work.made.is_some() && config.output.is_some() {
                against_start = Some(work.keep_nearer(&mut solved, &policy)?);
            }
        }
    }

    let mut sensitivity = None;
    if let Some(answers) = answers.filter(|_| config.sensitivity) {
        clock.stage("sensitivity")?;
        sensitivity = Some(rank(&solved, &answers, None)?);
    }
    let synthesis = made.map(|made| made.report);
    Ok(Found { solved, auto_bits, sensitivity, handed, synthesis, training, against_start, untrained, sufficient })
}

/// Returns the note that training begins, and its end.
fn training_note(config: &Config) -> String {
    let minutes = |end: Instant| end.saturating_duration_since(Instant::now()).as_secs_f64() / 60.0;
    let limit = config.training.deadline.map(minutes);
    let limit = limit.map_or(String::new(), |minutes| format!(" for at most {minutes:.0} minutes (--max-minutes)"));
    format!("the result without training is not good: training{limit}")
}

/// Reads the inputs that the user handed over, if any; their statistics replace the assumed ones.
fn handed_over(prepared: &mut Prepared, config: &Config) -> Result<Option<HandedOver>> {
    let Some((path, preprocess)) = &config.data else { return Ok(None) };
    let Prepared { float, input, batch, .. } = prepared;
    let handed = HandedOver::read(path, float, preprocess, input, *batch)?;
    if input.source.is_guess()
        && let Some(of_data) = InputStatistics::of_data(float, &handed.seen)?
    {
        *input = of_data;
    }
    prepared.inputs = known_inputs(&prepared.float, &prepared.input);
    for known in &mut prepared.inputs {
        known.source = if known.source.is_guess() { InputSource::Data } else { known.source };
        known.is_guess = false;
    }
    Ok(Some(handed))
}

impl<'a> Work<'a> {
    /// Returns work on a network without images.
    pub fn new(prepared: &'a Prepared, config: &'a Config, engines: &'a Engines) -> Self {
        Self { prepared, config, engines, images: None, made: None }
    }

    /// Generates synthetic inputs for the network.
    pub fn synthesis(&self, observer: &mut dyn Observer) -> Result<SyntheticImages> {
        let Self { config, prepared, .. } = self;
        let Prepared { norms, input, .. } = prepared;
        refuse_states(&prepared.float)?;
        let source = SynthesisContext { float: prepared.at_fixed_sizes(), norms, input, threads: self.engines.threads };
        // Half of the time where stages are trained, whose batches may be too small for statistics.
        let is_trained = !config.stages.is_empty();
        let deadline = share_of(config.training.deadline, if is_trained { 2 } else { 1 });
        let batch = config.training.batch.filter(|_| !is_trained);
        let settings = Settings { deadline, batch, ..config.training.clone() };
        synthesise(&source, &config.synthesis, &self.run(&settings), observer)
    }

    /// Plans for `policy` and runs the recipe, on images for the network, if there are any.
    pub fn solve(&self, policy: &Policy) -> Result<Solved> {
        let context = self.context();
        let candidates = recipes::prepare(self.config.recipe, &self.prepared.float, policy, &context);
        (self.config.recipe.run)(&candidates.map_err(|error| error.in_model(&self.config.model))?, &context)
    }

    /// Returns the solution without synthesized images and training, and the verdict on it. What is not known of the
    /// model's inputs does not count: training would not make it known.
    fn without_training(&self, handed: Option<&HandedOver>, clock: &mut Clock) -> Result<(Solved, Judgement)> {
        let policy = self.prepared.policy(self.config);
        clock.stage("fast")?;
        let solved = self.refitted(&policy)?;
        clock.stage("judge")?;
        let Solved { float, plan, solution, .. } = &solved;
        let quantized = emit(float, plan, solution)?;
        let inputs = match handed {
            Some(handed) => verdict::Inputs::of_data(handed.held_out.clone()),
            None => {
                let (input, macs) = (&self.prepared.input, total_macs(float));
                verdict::Inputs::synthetic(float, macs, input, self.config.seed, self.engines.threads)?
            }
        };
        let judged = verdict::judge(float, &*readable(&quantized, self.engines)?, self.engines.main(), &inputs)?;
        Ok((solved, judged))
    }

    /// Returns the recipe's solution for `policy`, its layers refitted in turn where the recipe does that.
    fn refitted(&self, policy: &Policy) -> Result<Solved> {
        let solved = self.solve(policy)?;
        if self.config.recipe.refits { recipes::sequential(solved, &self.context()) } else { Ok(solved) }
    }

    /// Trains the recipe's solution, on images if there are any; a dry run makes no step. `observer` receives the
    /// progress.
    fn train(&self, solved: &mut Solved, observer: &mut dyn Observer) -> Result<Vec<StageReport>> {
        refuse_states(&self.prepared.float)?;
        let mut fixed = solved_at_fixed_sizes(solved, self.prepared, self.engines)?;
        let budget = &self.config.recipe.budget;
        let reports = recipes::train(&self.config.stages, budget, &mut fixed, &mut self.lab(observer))?;
        solved.solution = fixed.solution;
        Ok(reports)
    }

    /// Replaces the `trained` solution by the recipe's solution without images where training on images did not come
    /// closer to the float network; returns the comparison of both.
    fn keep_nearer(&self, trained: &mut Solved, policy: &Policy) -> Result<HeldOut> {
        let start = Work { images: None, ..*self }.refitted(policy)?;
        let at_sizes = |solved: &Solved| solved_at_fixed_sizes(solved, self.prepared, self.engines);
        let mut found = recipes::against(&at_sizes(&start)?, &at_sizes(trained)?, &self.lab(&mut Silent))?;
        found.is_kept |= self.config.training.keeps_all;
        if !found.is_kept {
            *trained = start;
        }
        Ok(found)
    }

    /// Returns the outputs of the float network on held-out inputs that were handed over, else on synthetic ones.
    pub fn float_answers(&self, handed: Option<&HandedOver>) -> Result<Reference<'a>> {
        let Prepared { float, input, .. } = self.prepared;
        let samples = samples(float, self.config);
        let inputs = match handed {
            Some(handed) => handed.first_held_out(samples)?,
            None => input.synthetic(float, samples, self.config.seed, self.engines.threads)?,
        };
        Reference::new(self.engines.main(), float, &inputs)
    }

    fn lab<'b>(&'b self, observer: &'b mut dyn Observer) -> Lab<'b> {
        let planned = self.made.filter(|made| made.inputs.is_empty());
        let planned = planned.map(|made| Supply::Planned(made.report.options.images));
        let images = self.images.map(|images| Supply::Ready(images.to_vec())).or(planned);
        let trained_generator = self.made.and_then(|made| made.trained_generator.clone());
        let (float, run) = (self.prepared.at_fixed_sizes(), self.run(&self.config.training));
        Lab::new(float, self.context(), LabInputs { images, trained_generator }, run, observer)
    }

    fn run<'b>(&'b self, settings: &'b Settings) -> Run<'b> {
        let Config { model, seed, output, .. } = self.config;
        Run::new(model, *seed, settings, self.engines.main(), output.is_none())
    }

    fn context(&self) -> CalibrationContext<'a> {
        let (Prepared { norms, input, .. }, images) = (self.prepared, self.images);
        let (seed, threads) = (self.config.seed, self.engines.threads);
        CalibrationContext { norms, input, images, engine: self.engines.main(), seed, threads }
    }
}
