//! Trains a class-conditional generator and the student in turns (Xu et al. 2020, GDFQ). The generator learns images that
//! the float network assigns to the given classes and that match its batch-normalization statistics; the student is
//! distilled on them.
//!
//! Differs from the paper: the student starts from `fast`, its scales are trained (Esser et al. 2020) in place of ranges
//! of minima and maxima, and Adam updates it in units of its scales. The generator has as many channels as the network's
//! size allows, and biases and first and last layers follow the plan.

use super::{Recipe, Stage, TrainingBudget, fast};
use crate::error::Result;
use crate::lab::{GamePlan, Lab};
use crate::solution::Solved;
use crate::train::losses::{Distance, cross_entropy, moment_distance};
use crate::train::{LearningRate, Optimiser, PhaseSpec, StageReport, Turn};

const NAME: &str = "gdfq";
const SUMMARY: &str = "distills on images of a class-conditional generator that is trained in turns with the student";
/// Separates the random numbers of this stage from those of others.
const CHANCE: u64 = 0x6764_6671;
/// The weight of batch-normalization statistics in the generator's loss.
const STATISTICS: f32 = 0.1;
/// The learning rates of the student, in units of its scales, and of the generator.
const LEARNING_RATE: f64 = 0.003;
const GENERATOR_RATE: f64 = 1e-3;
/// The temperature of distillation; the paper averages the divergence over classes too.
const TEMPERATURE: f32 = 20.0;
/// One warm-up step of the generator for this many rounds.
const WARM_UP: u64 = 10;

pub(super) const RECIPE: Recipe = Recipe {
    name: NAME,
    summary: SUMMARY,
    citation: "Xu et al. 2020 (GDFQ); starts from fast, steps after Esser et al. 2020 (LSQ)",
    stages: &[&STAGE],
    budget: TrainingBudget { steps: 1000, ..TrainingBudget::NONE },
    ..fast::RECIPE
};

pub(super) const STAGE: Stage = Stage::of(NAME, SUMMARY, gdfq);

fn gdfq(budget: &TrainingBudget, solved: &mut Solved, lab: &mut Lab) -> Result<StageReport> {
    let teacher = lab.teacher()?;
    let classes = teacher.classes()? as f32;
    let student = lab.student("student", solved)?;
    let generator = lab.generator("generator", 0, true)?;
    let (rounds, learning_rate) = (lab.steps(budget.steps), lab.learning_rate(LEARNING_RATE));
    let rate = LearningRate::cosine(learning_rate, rounds);

    let make = PhaseSpec::new("generator", |scope| {
        let images = generator.images(scope);
        let seen = teacher.forward(scope, images)?;
        let off = |found, expected: &_| moment_distance(found, expected, Distance::Deviations, [0.0; 2]);
        let (answers, statistics) = (cross_entropy(seen.logits()?, images.labels()?), seen.statistics(off));
        scope.term("statistics", statistics);
        let (loss, rate) = (answers + statistics * STATISTICS, LearningRate::constant(GENERATOR_RATE));
        scope.descend(&generator, loss, Optimiser::ADAM_OF_GENERATORS, rate);
        Ok(())
    });
    let learn = PhaseSpec::new("student", |scope| {
        let images = generator.images(scope).detached();
        let seen = teacher.forward(scope, images)?;
        let answers = student.forward(scope, &seen.inputs)?;
        let apart = answers.distance(&seen, TEMPERATURE)? / classes;
        scope.term("distillation", apart);
        let loss = cross_entropy(answers.logits(&seen)?, images.labels()?) + apart;
        scope.descend(&student, loss, Optimiser::ADAM, rate.clone());
        Ok(())
    });

    let plan = GamePlan {
        name: NAME,
        phases: vec![make, learn],
        turns: vec![Turn::of(0, 1).after(rounds.div_ceil(WARM_UP)), Turn::of(1, 1)],
        rounds,
        learning_rate,
        stage: CHANCE,
        ..GamePlan::default()
    };
    lab.train(&plan, std::slice::from_ref(&student), solved)
}
