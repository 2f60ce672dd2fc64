//! The least-squares refit of one weight.

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use crate::calibrate::{Means, Sample, Seen, column_blocks, column_means, patches};
use crate::error::Result;
use crate::ir::{Node, Tensor};
use crate::layers::Rows;
use crate::parallel;
use crate::quant::Metric;

/// Rows of inputs at least and at most, and values of all rows together.
const ROWS: [usize; 2] = [1024, 4096];
const VALUES: usize = 8 << 20;
/// What is added to the variance of each column, as a fraction of the mean variance: calibration inputs differ from real
/// ones. From 0.2 to 1 measured about the same.
const RIDGE: f32 = 0.5;
/// The least and the largest gain of an output that is made up for.
const GAIN: [f32; 2] = [0.5, 2.0];

/// The inputs of a layer in the float network and in the quantized one, for each of its groups.
pub(super) struct LayerInputs {
    groups: Vec<GroupInputs>,
    /// Rows to take of each chunk of samples.
    rows: usize,
}

/// Rows of input values of one group, at the same places in both networks.
#[derive(Clone, Default)]
struct GroupInputs {
    float: Vec<f32>,
    quantized: Vec<f32>,
}

impl LayerInputs {
    /// Returns no inputs yet, of samples that come in `chunks`.
    pub fn new(rows: &Rows, chunks: usize) -> Self {
        let limit = (VALUES / (rows.width() * rows.group).max(1)).clamp(ROWS[0], ROWS[1]);
        Self { groups: vec![GroupInputs::default(); rows.group], rows: limit.div_ceil(chunks.max(1)) }
    }

    /// Returns the inputs with those of a further chunk of samples; `None` for operators whose patches are not
    /// supported.
    ///
    /// # Errors
    /// For tensors of other types than floats.
    pub fn with(mut self, node: &Node, rows: &Rows, [float, quantized]: &[Tensor; 2]) -> Result<Option<Self>> {
        let sample =
            |tensor: &Tensor| -> Result<_> { Ok(Sample { values: tensor.to_f32()?, shape: tensor.shape().to_vec() }) };
        let (float, quantized) = (sample(float)?, sample(quantized)?);
        for (group, inputs) in self.groups.iter_mut().enumerate() {
            let rows_of = |sample| patches(node, rows, sample, group, self.rows);
            let (Some(float), Some(quantized)) = (rows_of(&float), rows_of(&quantized)) else { return Ok(None) };
            inputs.float.extend(float);
            inputs.quantized.extend(quantized);
        }
        Ok(Some(self))
    }

    /// Returns the means of each group.
    pub fn means(&self, rows: &Rows) -> Vec<Means> {
        let means = |values: &[f32]| column_means(values, rows.width());
        self.groups.iter().map(|inputs| Means::of_both(means(&inputs.float), means(&inputs.quantized))).collect()
    }

    /// Returns `rows` refitted such that the layer's outputs on the quantized inputs, up to their means, come close to
    /// those of `rows` on the float inputs; and the statistics of the quantized inputs for rounding.
    pub fn refit(&self, rows: &Rows, threads: usize) -> (Rows, Vec<Seen>) {
        let of_group = rows.outputs / rows.group * rows.width();
        let groups = rows.values.chunks(of_group).zip(&self.groups);
        let refit = |(weight, inputs): (&[f32], &GroupInputs)| {
            Group { weight: matrix(weight, rows.width()), taps: rows.taps, inputs }.refit(threads)
        };
        let (values, seen): (Vec<Vec<f32>>, Vec<Seen>) = groups.map(refit).unzip();
        let mut refitted = rows.clone();
        refitted.values = values.concat();
        (refitted, seen)
    }
}

/// One group of a layer.
struct Group<'a> {
    /// `[outputs, width]`.
    weight: ArrayView2<'a, f32>,
    taps: usize,
    inputs: &'a GroupInputs,
}

impl Group<'_> {
    fn refit(&self, threads: usize) -> (Vec<f32>, Seen) {
        let (outputs, width) = self.weight.dim();
        let (before, float) = centered(&self.inputs.float, width);
        let (behind, quantized) = centered(&self.inputs.quantized, width);
        let wanted = float.dot(&self.weight.t());
        let mut refitted = self.weight.to_owned();
        // What the outputs on the quantized inputs lack.
        let mut lack = &wanted - &quantized.dot(&self.weight.t());
        let mut blocks = Vec::new();
        for range in column_blocks(width, self.taps) {
            let columns = quantized.slice(s![.., range.clone()]);
            let metric = metric(columns.t().dot(&columns));
            if let Some(metric) = &metric {
                let products = lack.t().dot(&columns);
                let rows = parallel::map(threads, products.outer_iter(), |row| metric.solve(&row.to_vec()));
                let change = Array2::from_shape_vec((outputs, range.len()), rows.concat()).expect("a row an output");
                lack -= &columns.dot(&change.t());
                let mut block = refitted.slice_mut(s![.., range.clone()]);
                block += &change;
            }
            blocks.push((range, metric));
        }
        restore_gains(&mut refitted, &wanted, &lack);
        (refitted.into_iter().collect(), Seen { means: Means::of_both(before, behind), blocks })
    }
}

/// Scales each row so that its output has the gain of the wanted one: least squares on noisy inputs shrinks outputs, and
/// over many layers the shrinkage adds up.
fn restore_gains(rows: &mut Array2<f32>, wanted: &Array2<f32>, lack: &Array2<f32>) {
    for (output, mut row) in rows.outer_iter_mut().enumerate() {
        let (wanted, lack) = (wanted.column(output), lack.column(output));
        let power = wanted.dot(&wanted);
        if power > 0.0 {
            row /= (1.0 - wanted.dot(&lack) / power).clamp(GAIN[0], GAIN[1]);
        }
    }
}

fn matrix(values: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / width, width), values).expect("rows have their width")
}

/// Returns the means of columns, and the rows less them.
fn centered(values: &[f32], width: usize) -> (Vec<f32>, Array2<f32>) {
    let means = column_means(values, width);
    let centered = &matrix(values, width) - &ArrayView1::from(&means);
    (means, centered)
}

fn metric(mut gram: Array2<f32>) -> Option<Metric> {
    let n = gram.nrows();
    let ridge = RIDGE * gram.diag().sum() / n as f32;
    gram.diag_mut().mapv_inplace(|variance| variance + ridge);
    Metric::new(n, gram.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Graph;

    /// The quantized input is the float input with its channels mixed by an invertible matrix: the refit undoes it up to
    /// the ridge, and the gain of each output is that of the float layer.
    #[test]
    fn a_refit_makes_up_for_errors_that_depend_linearly_on_the_inputs() {
        let mut graph = Graph::default();
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        let w = graph.add_constant("w", Tensor::from_f32(&[2, 3], &[1.0, -2.0, 0.5, 0.25, 1.0, 2.0]));
        let node = Node::new("Gemm", [x, w], [y], [("transB", crate::ir::Attr::Int(1))]);
        let rows = Rows::read(&graph, &node).unwrap().unwrap();
        let value = |i: usize| ((i * 7919 + i * i * 131) % 1009) as f32 / 500.0 - 1.0;
        let float: Vec<f32> = (0..3 * 400).map(value).collect();
        let mix = |row: &[f32]| [row[0] + 0.3 * row[1] + 1.0, row[1] - 0.2 * row[2], 0.8 * row[2]];
        let quantized: Vec<f32> = float.chunks(3).flat_map(mix).collect();
        let tensor = |values: &[f32]| Tensor::from_f32(&[400, 3], values);
        let inputs = LayerInputs::new(&rows, 1).with(&node, &rows, &[tensor(&float), tensor(&quantized)]);
        let inputs = inputs.unwrap().unwrap();
        let (refitted, seen) = inputs.refit(&rows, 1);
        let (_, a) = centered(&float, 3);
        let (_, b) = centered(&quantized, 3);
        let wanted = a.dot(&matrix(&rows.values, 3).t());
        let error = |weight: &[f32]| (&b.dot(&matrix(weight, 3).t()) - &wanted).mapv(|e| e * e).sum();
        let (before, after) = (error(&rows.values), error(&refitted.values));
        assert!(after < 0.5 * before, "{before} {after}");
        let found = b.dot(&matrix(&refitted.values, 3).t());
        for output in 0..2 {
            let (wanted, found) = (wanted.column(output), found.column(output));
            let gain = wanted.dot(&found) / wanted.dot(&wanted);
            assert!((gain - 1.0).abs() < 1e-3, "{gain}");
        }
        assert_eq!(seen[0].means.before, inputs.means(&rows)[0].before);
        assert!((seen[0].means.behind[0] - seen[0].means.before[0] - 1.0).abs() < 0.1);
    }
}
