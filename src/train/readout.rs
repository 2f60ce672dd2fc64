//! Converts trained vectors back to grids, integers and biases.

use super::Student;
use super::fake_quantize::fake_quantize;
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr};
use crate::ir::{DType, Graph, Tensor};
use crate::quant::{Grid, QuantizedTensor, round_to_nearest};
use crate::runtime::{Engine, SessionOptions};
use crate::solution::{Biases, Solution};

/// The result of training.
#[derive(Clone, Debug)]
pub struct TrainedParameters {
    /// The grids of the plan's activations.
    pub activations: Vec<Grid>,
    /// The plan's weights.
    pub weights: Vec<QuantizedTensor>,
    /// The biases that were trained.
    pub biases: Biases,
}

impl TrainedParameters {
    /// Returns the values of `solution`, before any training.
    pub fn of(solution: &Solution) -> Self {
        let Solution { activations, weights, .. } = solution;
        Self { activations: activations.clone(), weights: weights.clone(), biases: Biases::new() }
    }
}

/// Returns the grids, integers and biases of `student` for `weights: [n]` and `scales: [m]`, computed by `engine` as in
/// the student's forward pass.
///
/// # Errors
/// When the engine fails, or [`Error::Runtime`] naming a scale that is not a positive number.
pub fn read_out(student: &Student, engine: &dyn Engine, [weights, scales]: &[Tensor; 2]) -> Result<TrainedParameters> {
    let session = engine.load(&readout(student)?, &SessionOptions::default());
    let made = session?.run(&[weights.clone(), scales.clone()])?;
    let scales = student.scales.layout.tensors(&made[0])?;
    let grid = |index: usize, grid: &Grid| -> Result<Grid> {
        let (name, scale) = &scales[index];
        Ok(Grid { scale: positive(name, scale.to_f32()?)?, ..grid.clone() })
    };
    let activations = student.grids.iter().enumerate().map(|(i, g)| grid(i, g)).collect::<Result<Vec<_>>>()?;
    let weight = |(i, weight): (usize, &QuantizedTensor)| -> Result<QuantizedTensor> {
        let grid = grid(activations.len() + i, &weight.grid)?;
        // The values are fake-quantized, so their quotients by the scale are integers up to rounding error.
        Ok(round_to_nearest(grid, &weight.shape, &made[1 + i].to_f32()?))
    };
    let quantized = student.quantized.iter().enumerate().map(weight).collect::<Result<_>>()?;
    let biases = student.biases_of(&student.weights.layout.tensors(weights)?)?;
    Ok(TrainedParameters { activations, weights: quantized, biases })
}

/// Returns the trained `scale` of a tensor.
///
/// # Errors
/// [`Error::Diverged`] for a scale that is not a positive number.
pub(super) fn positive(name: &str, scale: Vec<f32>) -> Result<Vec<f32>> {
    match scale.iter().find(|scale| !scale.is_normal()) {
        None => Ok(scale),
        Some(scale) => Err(Error::Diverged(format!("the scale of \"{name}\" became {scale}; lower the learning rate"))),
    }
}

/// Returns the graph that computes all scales and the fake-quantized weights.
fn readout(student: &Student) -> Result<Graph> {
    let builder = Builder::new("readout");
    let weights = builder.input("weights", DType::F32, &[student.weights.layout.len()]);
    let trained = builder.input("scales", DType::F32, &[student.scales.layout.len()]).exp();
    let (weights, scales) = (student.weights.layout.split(weights), student.scales.layout.split(trained));
    let mut outputs = vec![("trained_scales".to_owned(), trained)];
    for (index, trained) in student.trained_weights().into_iter().enumerate() {
        let made = fake_quantize(weights[trained], scales[student.grids.len() + index], &student.quantized[index].grid);
        outputs.push((format!("weight_{index}"), made));
    }
    let outputs: Vec<(&str, Expr)> = outputs.iter().map(|(name, e)| (name.as_str(), *e)).collect();
    builder.finish(&outputs)
}
