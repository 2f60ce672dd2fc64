//! A step whose numbers are known: two numbers that descend into a bowl.

use std::path::Path;
use std::time::Duration;

use dfq_onnx::expr::Builder;
use dfq_onnx::ir::{DType, Tensor};
use dfq_onnx::runtime::Engine;
use dfq_onnx::train::{
    Checkpoints, FitOptions, Identity, LearningRate, Optimiser, PlayOptions, Player, Schedule, StepParts,
    TrainedVector, TrainingStep, training_step,
};

/// Losses are read after every fourth step.
pub const READ: u64 = 4;

/// The step from `start` down `near + small`: the squared distance of `w` from what is fed, and a tenth of its square. At
/// a learning rate `r` a step multiplies the distance from the bottom, at 10 for a feed of 11, by `1 - 2.2 r`.
pub fn step(engine: &dyn Engine, start: [f32; 2]) -> TrainingStep {
    step_by(engine, start, Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 })
}

/// The same by another optimiser.
pub fn step_by(engine: &dyn Engine, start: [f32; 2], optimiser: Optimiser) -> TrainingStep {
    let mut vector = TrainedVector::default();
    vector.add("w", &[2], &start, &[1.0, 1.0]).unwrap();
    let builder = Builder::new("bowl");
    let (w, x) = (builder.input("w", DType::F32, &[2]), builder.input("x", DType::F32, &[2]));
    let (near, small) = (((w - x) * (w - x)).sum(&[], false), (w * w).sum(&[], false) * 0.1);
    let (loss, terms) = (near + small, [("near", near), ("small", small)]);
    let players = [Player { loss, vectors: &[(w, &vector)], optimiser }];
    let losses = usize::try_from(READ).unwrap();
    training_step(&StepParts { losses, ..StepParts::of(&players, loss, &terms) }, &engine.lowering()).unwrap()
}

/// Returns what a step is fed.
pub fn feed(x: f32) -> Vec<Tensor> {
    vec![Tensor::from_f32(&[2], &[x; 2])]
}

/// Returns a course of `steps` steps.
pub fn course(steps: u64, rate: f64, schedule: Schedule, checkpoints: Option<Checkpoints>) -> FitOptions {
    let play = PlayOptions { stage: "bowl".to_owned(), checkpoints, until: None };
    FitOptions { steps, rate: LearningRate::new(rate, schedule), play }
}

/// Returns checkpoints in `folder`, as often as there can be any.
pub fn checkpoints(folder: &Path, resume: bool) -> Checkpoints {
    let none = String::new;
    let run = Identity { stage: "bowl".to_owned(), seed: 0, model: none(), settings: none() };
    Checkpoints { path: folder.join("bowl.safetensors"), run, resume, interval: Duration::ZERO }
}
