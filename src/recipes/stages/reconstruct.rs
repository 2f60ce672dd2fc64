//! Block reconstruction: trains each block of the student to match the float network's block, by the rounding of its
//! weights (AdaRound; Nagel et al. 2020), the scales of its quantizers (LSQ; Esser et al. 2020) and its biases, while
//! some elements stay float at random (QDrop; Wei et al. 2022).

use std::ops::Range;

use super::blocks_of;
use crate::error::Result;
use crate::expr::STANDARD;
use crate::ir::{Graph, Tensor};
use crate::lab::{Lab, PreparedGame};
use crate::recipes::TrainingBudget;
use crate::runtime::Engine;
use crate::solution::Solved;
use crate::train::{
    Block, BlockData, BlockFeeds, Game, LearningRate, Move, RandomStream, Reconstruction, SettledParts, StageReport,
    Student, TrainedParameters, TrainingStep, chunk_of, fingerprint, fitting_batch, run_in_chunks, segment,
};

const NAME: &str = "reconstruct";
const BATCH: usize = 32;
/// How far a step moves biases and the ends of a grid, and a tenth of how far it moves a rounding variable.
const LEARNING_RATE: f64 = 0.01;
/// The most bytes for the data of a block.
const DATA_BYTES: usize = 1 << 30;
/// Separates the random numbers of this stage from those of others.
const CHANCE: u64 = 0x7265_636f_6e73_7472;

pub(super) fn reconstruct(budget: &TrainingBudget, solved: &mut Solved, lab: &mut Lab) -> Result<StageReport> {
    let float = solved.float.clone();
    let mut student = student_of(solved)?;
    let blocks = blocks_of(&float, &student);
    let fewest = lab.run.settings.batch.or(student.graph().fixed_batch()).unwrap_or(BATCH);
    let samples = samples_within(student.graph(), &blocks, fewest..lab.samples());
    let mut report = lab.report(NAME, samples);
    let mut streams = None;
    if let Some(first) = blocks.first().filter(|_| !lab.run.dry_run) {
        streams = Some(Streams::at(&first.input, &float, &student, samples, lab)?);
    }
    let mut settled = SettledParts::default();
    for (number, block) in blocks.iter().enumerate() {
        let reconstruction = Reconstruction::new(&student, block, &settled)?;
        settled = reconstruction.settles(&settled);
        let data = streams.as_ref().map(|s| s.data(block, &float, lab.context.engine)).transpose()?;
        if reconstruction.layers() > 0 {
            let steps = lab.steps(budget.block_steps);
            let (step, batch) = step_of(&reconstruction, number, lab)?;
            let learning_rate = lab.learning_rate(LEARNING_RATE);
            let name = name_of(number);
            let prepared = PreparedGame {
                name: &name,
                game: Game::of_step(&step, LearningRate::cosine(learning_rate, steps), steps),
                batch,
                learning_rate,
                until: lab.until(blocks.len() - number),
                key: fingerprint(&(block, samples)),
            };
            let stream = RandomStream::new(lab.context.seed, CHANCE ^ u64::try_from(number).unwrap_or(0));
            let masks = reconstruction.masked(batch)?;
            let feeds = |data: &BlockData| BlockFeeds::new(data, batch, masks, steps, stream);
            let feeds = data.as_ref().map(feeds);
            let mut feed = |made: Move| feeds.as_ref().map_or(Ok(Vec::new()), |feeds| feeds.batch(made.number));
            let (played, descent) = lab.play_prepared(&prepared, solved, &mut feed)?;
            if descent.steps > 0 {
                let mut trained = TrainedParameters::of(&solved.solution);
                reconstruction.read_out(&played.state, &mut trained)?;
                solved.apply_trained(trained)?;
                student = student_of(solved)?;
            }
            report.descents.push(descent);
        }
        if let (Some(streams), Some(data)) = (&mut streams, data) {
            streams.pass(block, &student, data.target, lab.context.engine)?;
        }
    }
    Ok(report)
}

/// Returns the name of the game of a block.
fn name_of(number: usize) -> String {
    format!("{NAME}-{}", number + 1)
}

fn student_of(solved: &Solved) -> Result<Student> {
    Student::new(&solved.float, &solved.plan, &solved.solution)
}

fn step_of(reconstruction: &Reconstruction, number: usize, lab: &Lab) -> Result<(TrainingStep, usize)> {
    let lowering = lab.context.engine.lowering();
    let build = |batch| reconstruction.step(batch, &lowering);
    let usual = BATCH.min(lab.samples());
    let (step, batch) = fitting_batch(reconstruction.graph(), lab.run.settings, usual, &build)?;
    lab.check_batch(batch)?;
    lab.save_graph(&name_of(number), || reconstruction.step(batch, &STANDARD))?;
    Ok((step, batch))
}

/// Returns the number of samples for the data of every block: as many as fit in memory, within `range`; its end takes
/// precedence.
fn samples_within(graph: &Graph, blocks: &[Block], range: Range<usize>) -> usize {
    let size = |name: &str| graph.find(name).map_or(0, |id| graph.value(id).sample_len());
    // The block input counts twice: from the student and from the float network.
    let largest = blocks.iter().map(|block| 2 * size(&block.input) + size(&block.output)).max().unwrap_or(0);
    (DATA_BYTES / (4 * largest).max(1)).max(range.start).min(range.end)
}

/// The next block's input on all samples.
struct Streams {
    float: Tensor,
    quantized: Tensor,
}

impl Streams {
    /// Returns the tensor `input` on the first `samples` training inputs, in both networks.
    fn at(input: &str, float: &Graph, student: &Student, samples: usize, lab: &Lab) -> Result<Self> {
        let engine = lab.context.engine;
        let images = lab.images().seen()?.iter().map(|tensor| tensor.rows(0..samples)).collect::<Result<Vec<_>>>()?;
        let fed = float.fed_inputs();
        if let Some(place) = fed.iter().position(|&id| float.name_of(id) == input) {
            return Ok(Self { float: images[place].clone(), quantized: images[place].clone() });
        }
        let mut before = float.clone();
        before.cut(&[input]);
        let chunk = chunk_of(float, samples);
        let [weights, scales] = student.start();
        let quantized = student.part_graph(None, input, chunk)?;
        Ok(Self {
            float: run_in_chunks(engine, &before, &[], &images, chunk)?,
            quantized: run_in_chunks(engine, &quantized, &[weights, scales], &images, chunk)?,
        })
    }

    /// Returns the training data of a block.
    fn data(&self, block: &Block, float: &Graph, engine: &dyn Engine) -> Result<BlockData> {
        let (part, x) = (segment(float, block)?, std::slice::from_ref(&self.float));
        let target = run_in_chunks(engine, &part, &[], x, chunk_of(&part, self.float.shape()[0]))?;
        Ok(BlockData { quantized: self.quantized.clone(), float: self.float.clone(), target })
    }

    /// Advances to the end of a trained block, whose output in the float network is `target`.
    fn pass(&mut self, block: &Block, student: &Student, target: Tensor, engine: &dyn Engine) -> Result<()> {
        let chunk = chunk_of(student.graph(), self.quantized.shape()[0]);
        let [weights, scales] = student.start();
        let graph = student.part_graph(Some(&block.input), &block.output, chunk)?;
        let x = std::slice::from_ref(&self.quantized);
        self.quantized = run_in_chunks(engine, &graph, &[weights, scales], x, chunk)?;
        self.float = target;
        Ok(())
    }
}
