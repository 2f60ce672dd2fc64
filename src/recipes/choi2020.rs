//! Adversarial distillation (Choi et al. 2020): generators maximize the distance between the students and the float
//! network while matching its batch-normalization statistics; all students learn from all generators. The first student
//! is the result.
//!
//! Differs from the paper: students start from `fast`, the others with their weights rounded up or down at random; their
//! scales are trained (Esser et al. 2020), and Adam updates weights in units of scales. Batch normalization stays folded.

use super::starts::students;
use super::{Recipe, Stage, TrainingBudget, fast};
use crate::error::Result;
use crate::expr::Expr;
use crate::lab::{GamePlan, Lab, TeacherOutputs};
use crate::solution::Solved;
use crate::train::losses::{batch_entropy, gaussian_divergence, instance_entropy};
use crate::train::{LearningRate, Optimiser, PhaseSpec, StageReport, Turn};

const NAME: &str = "choi2020";
const SUMMARY: &str = "distills on images of generators that maximize the distance between students and float network";
/// Separates the random numbers of this stage from those of others.
const CHANCE: u64 = 0x6368_6f69;
/// The weight of the prior against the distance.
const ALPHA: f32 = 0.01;
/// The learning rates of students, in units of their scales, and of generators.
const LEARNING_RATE: f64 = 0.003;
const GENERATOR_RATE: f64 = 1e-3;
/// Steps of the students per step of the generators, and rounds per warm-up step.
const STUDENT_STEPS: u64 = 10;
const WARM_UP: u64 = 2;

/// Returns the loss `L_ψ = L_BN + L_inst - L_batch`, as far as the network has statistics (summed over channels, as in the
/// paper) and class scores.
fn prior<'b>(seen: &TeacherOutputs<'_, 'b>) -> Expr<'b> {
    let statistics = seen.statistics(|found, of| gaussian_divergence(found, of) * of.mean.len() as f32);
    let logits = seen.logits().ok();
    logits.map_or(statistics, |logits| statistics + instance_entropy(logits) + batch_entropy(logits))
}

pub(super) const RECIPE: Recipe = Recipe {
    name: NAME,
    summary: SUMMARY,
    citation: "Choi et al. 2020; starts from fast, steps after Esser et al. 2020 (LSQ)",
    stages: &[&STAGE],
    budget: TrainingBudget { steps: 1000, ..TrainingBudget::NONE },
    ..fast::RECIPE
};

pub(super) const STAGE: Stage = Stage { counts_players: true, ..Stage::of(NAME, SUMMARY, choi2020) };

fn choi2020(budget: &TrainingBudget, solved: &mut Solved, lab: &mut Lab) -> Result<StageReport> {
    let rounds = lab.steps(budget.steps).div_ceil(STUDENT_STEPS);
    let learning_rate = lab.learning_rate(LEARNING_RATE);
    let rate = LearningRate::cosine(learning_rate, rounds * STUDENT_STEPS);
    let (warm_rate, slowing) = (LearningRate::constant(GENERATOR_RATE), LearningRate::cosine(GENERATOR_RATE, rounds));
    let (teacher, generators, students) = (lab.teacher()?, lab.generators()?, students(solved, lab)?);
    let share = 1.0 / students.len() as f32;

    let warm_up = PhaseSpec::new("warm-up", |scope| {
        for generator in &generators {
            let seen = teacher.forward(scope, generator.images(scope))?;
            scope.descend(generator, prior(&seen) * ALPHA, Optimiser::ADAM_OF_GENERATORS, warm_rate.clone());
        }
        Ok(())
    });
    let make = PhaseSpec::new("generators", |scope| {
        for generator in &generators {
            let seen = teacher.forward(scope, generator.images(scope))?;
            let mut loss = prior(&seen) * ALPHA;
            scope.watch(loss);
            for student in &students {
                let answers = student.forward(scope, &seen.inputs)?;
                loss = loss - answers.adversarial_distance(&seen, 1.0)? * share;
            }
            scope.descend(generator, loss, Optimiser::ADAM_OF_GENERATORS, slowing.clone());
        }
        Ok(())
    });
    let learn = PhaseSpec::new("students", |scope| {
        let seen = generators.iter().map(|generator| teacher.forward(scope, generator.images(scope).detached()));
        let seen = seen.collect::<Result<Vec<_>>>()?;
        for student in &students {
            let mut loss = scope.builder().scalar(0.0);
            for seen in &seen {
                loss = loss + student.forward(scope, &seen.inputs)?.distance(seen, 1.0)?;
            }
            scope.descend(student, loss, Optimiser::ADAM, rate.clone());
        }
        Ok(())
    });

    let plan = GamePlan {
        name: NAME,
        phases: vec![warm_up, make, learn],
        turns: vec![Turn::of(0, 0).after(rounds.div_ceil(WARM_UP)), Turn::of(1, 1), Turn::of(2, STUDENT_STEPS)],
        rounds,
        learning_rate,
        stage: CHANCE,
        ..GamePlan::default()
    };
    lab.train(&plan, &students, solved)
}
