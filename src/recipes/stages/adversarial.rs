//! The whole network learns from images that a generator makes to find where it is far from the float one, beside those
//! that were made before (Choi et al. 2020).

use super::StageReport;
use super::distil::{distillation, trained};
use crate::error::Result;
use crate::recipes::training::{Planned, Rival, Training};
use crate::recipes::{Effort, Solved};
use crate::synthesis::Adversary;
use crate::train::{Schedule, fitting_batch};

const NAME: &str = "adversarial";
/// Fresh images of a step, and as many stored ones.
const BATCH: usize = 32;
/// In quantization steps.
const LEARNING_RATE: f64 = 0.005;
/// Keeps the numbers that are drawn here apart from those of other stages.
const CHANCE: u64 = 0x7269_7661_6c73;

pub(super) fn adversarial(effort: &Effort, solved: &mut Solved, training: &mut Training) -> Result<StageReport> {
    let mut report = StageReport::new(NAME, training.samples());
    let Some(Rival { making, maker }) = training.rival.clone() else { return Ok(report) };
    let distillation = distillation(solved)?;
    let settings = training.run.settings;
    let lowering = training.teacher.engine.lowering();
    let game = |batch| Adversary::new(making.clone(), &distillation, &maker, batch);
    let build = |batch| game(batch)?.step(batch, &lowering);
    let (step, batch) = fitting_batch(distillation.teacher(), settings, BATCH, &build)?;
    training.save_graph(NAME, |lowering| game(batch)?.step(batch, lowering))?;
    let steps = settings.steps.unwrap_or(effort.adversarial_steps);
    let planned = Planned {
        name: NAME.to_owned(),
        batch,
        steps,
        learning_rate: settings.learning_rate.unwrap_or(LEARNING_RATE),
        schedule: Schedule::Cosine { steps, floor: 0.0, warmup: 0 },
        until: training.until(1),
    };
    let (game, seed, mut deal) = (game(batch)?, training.teacher.seed, training.dealer(batch)?);
    let mut feed = |step| Ok([game.feeds((seed, CHANCE, step)), deal(step)?].concat());
    let key = format!("{:?}", distillation.objective);
    let (state, descent) = training.descend(&planned, &step, (solved, &key), &mut feed)?;
    if descent.steps > 0 {
        solved.settle(trained(&distillation, &step, &state, training.teacher.engine)?)?;
    }
    report.blocked.clone_from(&distillation.targets().blocked);
    report.descents.push(descent);
    Ok(report)
}
