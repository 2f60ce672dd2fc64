//! What a layer multiplies its weight with: rows of input values in the order of [`Rows`], taken at positions spread
//! over samples and space.

use super::rows::Rows;
use crate::ir::Node;
use crate::sample::Sample;

/// Returns up to `limit` input rows of one group, `[rows, width]`; `None` for an operator or attributes that are not
/// covered (ConvTranspose, `auto_pad`).
pub fn patches(node: &Node, rows: &Rows, input: &Sample, group: usize, limit: usize) -> Option<Vec<f32>> {
    if !node.is("Conv") {
        return matrix(node, rows, input, limit);
    }
    let window = Window::of(node, rows, input)?;
    let channels = *input.shape.get(1)?;
    let plane: usize = window.size.iter().product();
    let offsets = window.tap_offsets();
    let mut out = Vec::new();
    for position in spread(input.shape.first()? * window.outputs(), limit) {
        let (sample, at) = (position / window.outputs(), position % window.outputs());
        let corner = window.corner(at);
        let taps: Vec<Option<usize>> = offsets.iter().map(|offset| window.locate(&corner, offset)).collect();
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

/// Returns up to `limit` of `0..count`, spread so that no period of rows or columns shows.
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

/// The geometry of a convolution over any number of spatial axes.
struct Window {
    size: Vec<usize>,
    out: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<usize>,
}

impl Window {
    fn of(node: &Node, rows: &Rows, input: &Sample) -> Option<Self> {
        if !matches!(node.attrs.string("auto_pad").unwrap_or("NOTSET"), "NOTSET" | "VALID") {
            return None;
        }
        let size = input.shape.get(2..)?.to_vec();
        let kernel = rows.shape().get(2..)?.to_vec();
        let axes = size.len();
        let list = |name: &str, default: usize, n: usize| -> Option<Vec<usize>> {
            let values = match node.ints(name) {
                Some(values) => values.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<_>>>()?,
                None => vec![default; n],
            };
            (values.len() == n).then_some(values)
        };
        let (strides, dilations) = (list("strides", 1, axes)?, list("dilations", 1, axes)?);
        let pads = list("pads", 0, 2 * axes)?;
        let out = (0..axes)
            .map(|a| {
                let reach = dilations[a] * (kernel.get(a)?.checked_sub(1)?) + 1;
                let padded = size[a] + pads[a] + pads[axes + a];
                Some(padded.checked_sub(reach)? / strides.get(a).filter(|&&s| s > 0)? + 1)
            })
            .collect::<Option<Vec<_>>>()?;
        let fits = kernel.len() == axes && input.shape.get(1) == Some(&rows.input_channels());
        fits.then(|| Self { size, out, kernel, strides, dilations, before: pads[..axes].to_vec() })
    }

    fn outputs(&self) -> usize {
        self.out.iter().product()
    }

    /// Returns the padded coordinates of the first tap at output position `at`.
    fn corner(&self, at: usize) -> Vec<usize> {
        unravel(at, &self.out).iter().zip(&self.strides).map(|(o, s)| o * s).collect()
    }

    fn tap_offsets(&self) -> Vec<Vec<usize>> {
        let taps = self.kernel.iter().product();
        let offset = |tap| unravel(tap, &self.kernel).iter().zip(&self.dilations).map(|(k, d)| k * d).collect();
        (0..taps).map(offset).collect()
    }

    /// Returns where a tap lies in the plane, `None` in the padding.
    fn locate(&self, corner: &[usize], offset: &[usize]) -> Option<usize> {
        let mut index = 0;
        for axis in 0..self.size.len() {
            let at = (corner[axis] + offset[axis]).checked_sub(self.before[axis]).filter(|&p| p < self.size[axis])?;
            index = index * self.size[axis] + at;
        }
        Some(index)
    }
}

fn unravel(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut at = vec![0; dims.len()];
    for (a, &d) in at.iter_mut().zip(dims).rev() {
        (*a, index) = (index % d, index / d);
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

    /// A 2x2 kernel with stride 2, dilation 2 and one row of padding above, over a 3x4 plane numbered from 1.
    #[test]
    fn a_patch_holds_what_the_kernel_covers_and_zeros_in_the_padding() {
        let mut graph = Graph::default();
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        let w = graph.add_constant("w", Tensor::from_f32(&[1, 1, 2, 2], &[0.0; 4]));
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let attrs = [("strides", ints(&[2, 1])), ("dilations", ints(&[2, 2])), ("pads", ints(&[1, 0, 0, 0]))];
        let node = Node::new("Conv", [x, w], [y], attrs);
        let rows = Rows::read(&graph, &node).unwrap().unwrap();
        let input = Sample { values: (1u8..=12).map(f32::from).collect(), shape: vec![1, 1, 3, 4] };
        let found = patches(&node, &rows, &input, 0, 100).unwrap();
        assert_eq!(found, [0.0, 0.0, 5.0, 7.0, 0.0, 0.0, 6.0, 8.0]);
    }
}
