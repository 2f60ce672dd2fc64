//! The operands of a layer's weight: rows of input values in the order of [`Rows`], at positions spread over samples
//! and space.

use super::Sample;
use crate::expr::index;
use crate::ir::Node;
use crate::layers::Rows;
use crate::shape::ConvWindow;

/// Returns up to `limit` input rows of one group, `[rows, width]`; `None` for unsupported operators or attributes (a
/// ConvTranspose with `auto_pad` or `output_shape`).
pub fn patches(node: &Node, rows: &Rows, input: &Sample, group: usize, limit: usize) -> Option<Vec<f32>> {
    if !node.is("Conv") && !node.is("ConvTranspose") {
        return matrix(node, rows, input, limit);
    }
    let window = PatchWindow::of(node, rows, input)?;
    let channels = *input.shape.get(1)?;
    let plane: usize = window.size.iter().product();
    let offsets = window.tap_offsets(&rows.shape()[2..]);
    let mut out = Vec::new();
    for position in spread(input.shape.first()? * window.outputs(), limit) {
        let (sample, at) = (position / window.outputs(), position % window.outputs());
        let at = unravel(at, &window.out);
        let taps: Vec<Option<usize>> = offsets.iter().map(|offset| window.locate(&at, offset)).collect();
        for channel in 0..rows.inputs {
            let start = (sample * channels + group * rows.inputs + channel) * plane;
            out.extend(taps.iter().map(|tap| tap.map_or(0.0, |at| input.values[start + at])));
        }
    }
    Some(out)
}

fn matrix(node: &Node, rows: &Rows, input: &Sample, limit: usize) -> Option<Vec<f32>> {
    let width = rows.width();
    let fits = (node.is("Gemm") || node.is("MatMul")) && input.shape.last() == Some(&width) && rows.group == 1;
    let count = input.values.len() / width.max(1);
    let row = |at: usize| input.values[at * width..(at + 1) * width].iter().copied();
    fits.then(|| spread(count, limit).into_iter().flat_map(row).collect())
}

/// Returns up to `limit` of `0..count`, spread without aligning to the period of rows or columns.
fn spread(count: usize, limit: usize) -> Vec<usize> {
    if count <= limit {
        return (0..count).collect();
    }
    // The golden section of the range, made coprime to it.
    let coprime = |a: usize| {
        let (mut a, mut b) = (a, count);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let step = (count / 1000 * 618 + count % 1000 * 618 / 1000..count).find(|&s| s > 0 && coprime(s)).unwrap_or(1);
    let mut at = 0;
    (0..limit)
        .map(|_| {
            at = (at + step) % count;
            at
        })
        .collect()
}

/// The positions of a convolution or transposed convolution over any number of spatial axes.
struct PatchWindow {
    size: Vec<usize>,
    out: Vec<usize>,
    window: ConvWindow,
    transposed: bool,
}

impl PatchWindow {
    fn of(node: &Node, rows: &Rows, input: &Sample) -> Option<Self> {
        let transposed = node.is("ConvTranspose");
        let auto_pad = node.attrs.string("auto_pad").unwrap_or("NOTSET");
        if transposed && !matches!(auto_pad, "NOTSET" | "VALID") {
            return None;
        }
        let (window, out) = ConvWindow::of_layer(node, &input.shape, rows.shape())?;
        Some(Self { size: input.shape[2..].to_vec(), out, window, transposed })
    }

    fn outputs(&self) -> usize {
        self.out.iter().product()
    }

    fn tap_offsets(&self, kernel: &[usize]) -> Vec<Vec<i64>> {
        let offset = |tap| unravel(tap, kernel).iter().zip(&self.window.dilations).map(|(k, d)| k * d).collect();
        (0..kernel.iter().product()).map(offset).collect()
    }

    /// Returns the position of a kernel tap in the plane for the output position `at`; `None` in the padding, and
    /// between the strides of a transposed convolution.
    fn locate(&self, at: &[i64], offset: &[i64]) -> Option<usize> {
        let mut index = 0;
        for axis in 0..self.size.len() {
            let (stride, before) = (self.window.strides[axis], self.window.before[axis]);
            let place = match self.transposed {
                true => Some(at[axis] + before - offset[axis]).filter(|p| p % stride == 0)? / stride,
                false => at[axis] * stride + offset[axis] - before,
            };
            let place = usize::try_from(place).ok().filter(|&place| place < self.size[axis])?;
            index = index * self.size[axis] + place;
        }
        Some(index)
    }
}

fn unravel(mut position: usize, dims: &[usize]) -> Vec<i64> {
    let mut at = vec![0; dims.len()];
    for (a, &d) in at.iter_mut().zip(dims).rev() {
        (*a, position) = (index(position % d), position / d);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attr, Graph, Tensor};

    #[test]
    fn positions_are_all_different_and_within_the_count() {
        for (count, limit) in [(5, 9), (4096, 64), (1000, 999), (7, 3)] {
            let mut found = spread(count, limit);
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count.min(limit), "{count} {limit}");
            assert!(found.iter().all(|&p| p < count));
        }
    }

    /// Returns the patches of one channel for a kernel with one weight per tap.
    fn found(op: &str, kernel: &[usize], attrs: &[(&'static str, Attr)], plane: &[usize]) -> Vec<f32> {
        let mut graph = Graph::default();
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        let shape: Vec<usize> = [1, 1].iter().chain(kernel).copied().collect();
        let w = graph.add_constant("w", Tensor::from_f32(&shape, &vec![0.0; shape.iter().product()]));
        let mut node = Node::new(op, [x, w], [y], []);
        attrs.iter().for_each(|(name, attr)| node.set(name, attr.clone()));
        let rows = Rows::read(&graph, &node).unwrap().unwrap();
        let values = (1u8..).map(f32::from).take(plane.iter().product()).collect();
        let input = Sample { values, shape: [1, 1].iter().chain(plane).copied().collect() };
        patches(&node, &rows, &input, 0, 100).unwrap()
    }

    /// Expected values computed by hand on planes numbered from 1.
    #[test]
    fn a_patch_holds_what_the_kernel_covers_and_zeros_in_the_padding() {
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let same = |which: &str| ("auto_pad", Attr::String(which.as_bytes().to_vec()));
        let two = ("strides", ints(&[2]));
        let cases = [
            (
                "stride 2, dilation 2 and one row of padding above",
                found(
                    "Conv",
                    &[2, 2],
                    &[("strides", ints(&[2, 1])), ("dilations", ints(&[2, 2])), ("pads", ints(&[1, 0, 0, 0]))],
                    &[3, 4],
                ),
                vec![0.0, 0.0, 5.0, 7.0, 0.0, 0.0, 6.0, 8.0],
            ),
            (
                "the odd zero behind",
                found("Conv", &[3], &[same("SAME_UPPER"), two.clone()], &[4]),
                vec![1., 2., 3., 3., 4., 0.],
            ),
            (
                "the odd zero before",
                found("Conv", &[3], &[same("SAME_LOWER"), two.clone()], &[4]),
                vec![0., 1., 2., 2., 3., 4.],
            ),
            // Outputs of a transposed convolution: w0·1, w1·1, w2·1 + w0·2, w1·2, w2·2.
            (
                "transposed, stride 2",
                found("ConvTranspose", &[3], std::slice::from_ref(&two), &[2]),
                vec![1., 0., 0., 0., 1., 0., 2., 0., 1., 0., 2., 0., 0., 0., 2.],
            ),
            (
                "transposed with a padding of 1 and one result more",
                found("ConvTranspose", &[3], &[two, ("pads", ints(&[1, 1])), ("output_padding", ints(&[1]))], &[2]),
                vec![0., 1., 0., 2., 0., 1., 0., 2., 0., 0., 0., 2.],
            ),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
