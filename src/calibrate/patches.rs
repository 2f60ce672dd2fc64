//! The operands of a layer's weight: rows of input values in the order of [`Rows`], at positions spread over samples
//! and space.

use super::Sample;
use crate::ir::Node;
use crate::layers::Rows;

/// Returns up to `limit` input rows of one group, `[rows, width]`; `None` for unsupported operators or attributes (a
/// ConvTranspose with `auto_pad` or `output_shape`).
pub fn patches(node: &Node, rows: &Rows, input: &Sample, group: usize, limit: usize) -> Option<Vec<f32>> {
    if !node.is("Conv") && !node.is("ConvTranspose") {
        return matrix(node, rows, input, limit);
    }
    let window = Window::of(node, rows, input)?;
    let channels = *input.shape.get(1)?;
    let plane: usize = window.size.iter().product();
    let offsets = window.tap_offsets();
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

/// The geometry of a convolution or transposed convolution, over any number of spatial axes.
struct Window {
    size: Vec<usize>,
    out: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    before: Vec<usize>,
    transposed: bool,
}

impl Window {
    fn of(node: &Node, rows: &Rows, input: &Sample) -> Option<Self> {
        let size = input.shape.get(2..)?.to_vec();
        let (kernel, axes) = (rows.shape()[2..].to_vec(), size.len());
        let list = |name: &str, default: usize, n: usize| -> Option<Vec<usize>> {
            let values = match node.ints(name) {
                Some(values) => values.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<_>>>()?,
                None => vec![default; n],
            };
            (values.len() == n).then_some(values)
        };
        let (strides, dilations) = (list("strides", 1, axes)?, list("dilations", 1, axes)?);
        if kernel.len() != axes || strides.contains(&0) || input.shape.get(1) != Some(&rows.input_channels()) {
            return None;
        }
        let reach = |a: usize| Some(dilations[a] * kernel[a].checked_sub(1)? + 1);
        let transposed = node.is("ConvTranspose");
        let pads = match node.attrs.string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => list("pads", 0, 2 * axes)?,
            "VALID" => vec![0; 2 * axes],
            lower_or_upper if !transposed => {
                let total = |a: usize| {
                    let steps = size[a].div_ceil(strides[a]).checked_sub(1)?;
                    Some((steps * strides[a] + reach(a)?).saturating_sub(size[a]))
                };
                let total = (0..axes).map(total).collect::<Option<Vec<_>>>()?;
                let before = |&t: &usize| if lower_or_upper == "SAME_LOWER" { t.div_ceil(2) } else { t / 2 };
                total.iter().map(before).chain(total.iter().map(|t| t - before(t))).collect()
            }
            _ => return None,
        };
        let more = list("output_padding", 0, axes)?;
        if transposed && node.ints("output_shape").is_some() {
            return None;
        }
        let out = |a: usize| {
            let padding = pads[a] + pads[axes + a];
            match transposed {
                true => (strides[a] * size[a].checked_sub(1)? + reach(a)? + more[a]).checked_sub(padding),
                false => Some((size[a] + padding).checked_sub(reach(a)?)? / strides[a] + 1),
            }
        };
        let out = (0..axes).map(out).collect::<Option<Vec<_>>>()?;
        Some(Self { size, out, kernel, strides, dilations, before: pads[..axes].to_vec(), transposed })
    }

    fn outputs(&self) -> usize {
        self.out.iter().product()
    }

    fn tap_offsets(&self) -> Vec<Vec<usize>> {
        let taps = self.kernel.iter().product();
        let offset = |tap| unravel(tap, &self.kernel).iter().zip(&self.dilations).map(|(k, d)| k * d).collect();
        (0..taps).map(offset).collect()
    }

    /// Returns the position of a kernel tap in the plane for the output position `at`; `None` in the padding, and
    /// between the strides of a transposed convolution.
    fn locate(&self, at: &[usize], offset: &[usize]) -> Option<usize> {
        let mut index = 0;
        for axis in 0..self.size.len() {
            let (stride, before) = (self.strides[axis], self.before[axis]);
            let place = match self.transposed {
                true => (at[axis] + before).checked_sub(offset[axis]).filter(|p| p.is_multiple_of(stride))? / stride,
                false => (at[axis] * stride + offset[axis]).checked_sub(before)?,
            };
            index = index * self.size[axis] + Some(place).filter(|&p| p < self.size[axis])?;
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
