//! The running statistics of BatchNormalization nodes.

use serde::Serialize;

use crate::ir::{Graph, Node};

/// The statistics of one BatchNormalization, per channel, kept with the tensors that they describe.
#[derive(Clone, Debug, Serialize)]
pub struct BatchNorm {
    /// The normalized tensor's name; `mean` and `variance` describe it.
    pub input: String,
    /// The result's name; `beta` and [`BatchNorm::std`] describe it. Folding keeps this tensor.
    pub output: String,
    /// Running mean of the input.
    pub mean: Vec<f32>,
    /// Running variance of the input (not the standard deviation).
    pub variance: Vec<f32>,
    /// Scale; see [`BatchNorm::std`].
    pub gamma: Vec<f32>,
    /// Shift: the mean of the output.
    pub beta: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl BatchNorm {
    /// Returns `s` and `t` of the node as the map `y = s·x + t`, per channel.
    pub fn affine(&self) -> (Vec<f64>, Vec<f64>) {
        let epsilon = f64::from(self.epsilon);
        let scale: Vec<f64> = self
            .gamma
            .iter()
            .zip(&self.variance)
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt())
            .collect();
        let shift = self.beta.iter().zip(&self.mean).zip(&scale).map(|((&b, &m), s)| f64::from(b) - s * f64::from(m));
        let shift = shift.collect();
        (scale, shift)
    }

    /// Returns the standard deviation of the result per channel: `|gamma|·sqrt(var / (var + epsilon))`.
    ///
    /// Dead channels have a tiny variance with an ordinary gamma.
    pub fn std(&self) -> Vec<f64> {
        let epsilon = f64::from(self.epsilon);
        let channel = |(&gamma, &variance): (&f32, &f32)| {
            let variance = f64::from(variance).max(0.0);
            let share = variance / (variance + epsilon);
            f64::from(gamma).abs() * if share.is_finite() { share.sqrt() } else { 1.0 }
        };
        self.gamma.iter().zip(&self.variance).map(channel).collect()
    }
}

/// Returns the statistics of `node` where it is a BatchNormalization in inference mode with constant parameters.
pub fn batch_norm_of(graph: &Graph, node: &Node) -> Option<BatchNorm> {
    let inference = node.attrs.int("training_mode", 0) == 0 && node.attrs.int("spatial", 1) == 1;
    if !node.is("BatchNormalization") || !inference || node.outputs.iter().flatten().count() != 1 {
        return None;
    }
    let parameter = |i: usize| graph.constant_of(node.input(i)?)?.to_f32().ok();
    let norm = BatchNorm {
        input: graph.name_of(node.input(0)?).to_owned(),
        output: graph.name_of(node.output(0)?).to_owned(),
        gamma: parameter(1)?,
        beta: parameter(2)?,
        mean: parameter(3)?,
        variance: parameter(4)?,
        epsilon: node.attrs.float("epsilon", 1e-5),
    };
    let channels = norm.gamma.len();
    let equal = [&norm.beta, &norm.mean, &norm.variance].iter().all(|p| p.len() == channels);
    equal.then_some(norm)
}

/// Returns the statistics of every BatchNormalization, in graph order.
pub fn read_batch_norms(graph: &Graph) -> Vec<BatchNorm> {
    graph.nodes.iter().filter_map(|node| batch_norm_of(graph, node)).collect()
}
