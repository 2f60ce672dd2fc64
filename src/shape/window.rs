//! Windows of convolutions and pools over axes of known sizes.

use super::{Call, Fact, apply};
use crate::ir::{Attr, Attrs, DType, Node};

/// The window of a convolution or pool, one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWindow {
    /// Sizes of the kernel.
    pub kernel: Vec<i64>,
    /// Distance between windows.
    pub strides: Vec<i64>,
    /// Distance between elements of the kernel.
    pub dilations: Vec<i64>,
    /// Padding before each axis.
    pub before: Vec<i64>,
    /// Padding after each axis.
    pub after: Vec<i64>,
    /// The part of `after` that windows reach; negative where they end before the input does.
    pub behind: Vec<i64>,
}

impl ConvWindow {
    /// Returns the window of a convolution or pool from spatial sizes `large` to `small`, or of a transposed
    /// convolution from `small` to `large`.
    ///
    /// # Errors
    /// For the attribute `output_shape`.
    pub fn read(attrs: &Attrs, kernel: &[usize], large: &[usize], small: &[usize]) -> Result<Self, &'static str> {
        let rank = kernel.len();
        let listed = |name: &str, default: i64| attrs.ints(name).map_or(vec![default; rank], <[i64]>::to_vec);
        let [kernel, large, small] = [kernel, large, small].map(numbers);
        let (strides, dilations) = (listed("strides", 1), listed("dilations", 1));
        let span = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
        let reach = |i: usize| (small[i] - 1) * strides[i] + span(i);
        let total = |i: usize| (reach(i) - large[i]).max(0);
        let of_axis = |i: usize, before: i64| (before, total(i) - before);
        let pads: Vec<(i64, i64)> = match attrs.string("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" => (0..rank).map(|i| of_axis(i, total(i) / 2)).collect(),
            "SAME_LOWER" => (0..rank).map(|i| of_axis(i, total(i) - total(i) / 2)).collect(),
            "VALID" => vec![(0, 0); rank],
            _ if attrs.ints("output_shape").is_some() => {
                return Err("output_shape: write its padding as numbers");
            }
            _ => attrs
                .ints("pads")
                .map_or(vec![(0, 0); rank], |pads| (0..rank).map(|i| (pads[i], pads[i + rank])).collect()),
        };
        let (before, after): (Vec<i64>, Vec<i64>) = pads.into_iter().unzip();
        let behind = (0..rank).map(|i| reach(i) - large[i] - before[i]).collect();
        Ok(Self { kernel, strides, dilations, before, after, behind })
    }

    /// Returns the window of a Conv or ConvTranspose on an input of shape `x` with a weight of shape `w`, and the
    /// spatial sizes of its output; `None` where they do not fit, or with `output_shape`.
    pub fn of_layer(node: &Node, x: &[usize], w: &[usize]) -> Option<(Self, Vec<usize>)> {
        let facts = [x, w].map(|shape| Fact::of_shape(DType::F32, shape));
        let inputs = [Some(&facts[0]), Some(&facts[1])];
        // Their shapes are the same in every operator set.
        let (op_type, attrs) = (node.op_type.as_str(), &node.attrs);
        let call = Call { place: &node.name, op_type, attrs, inputs: &inputs, outputs: 1, opset: 1 };
        let out = apply(&call).ok()?.first()?.static_shape()?[2..].to_vec();
        let (large, small) = if node.is("ConvTranspose") { (&out[..], &x[2..]) } else { (&x[2..], &out[..]) };
        Some((Self::read(attrs, &w[2..], large, small).ok()?, out))
    }

    /// Returns the number of spatial axes.
    pub fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Returns whether windows cover the input once, without overlap.
    pub fn is_blocks(&self) -> bool {
        let apart = self.strides == self.kernel && self.dilations.iter().all(|&n| n == 1);
        apart && self.before.iter().chain(&self.behind).all(|&n| n == 0)
    }

    /// Returns the attributes of a convolution with this window; its padding is never negative.
    pub fn attributes(&self, group: i64) -> Attrs {
        let pads = self.before.iter().chain(&self.behind).map(|&n| n.max(0)).collect();
        Attrs::from([
            ("strides", Attr::Ints(self.strides.clone())),
            ("dilations", Attr::Ints(self.dilations.clone())),
            ("pads", Attr::Ints(pads)),
            ("group", Attr::Int(group)),
        ])
    }

    /// Returns the attributes of the transposed convolution back to the input; elements that no window reaches become
    /// zeros.
    pub fn transposed(&self, group: i64) -> Attrs {
        let mut attrs = self.attributes(group);
        attrs.set("output_padding", Attr::Ints(self.behind.iter().map(|&n| (-n).max(0)).collect()));
        attrs
    }
}

/// Returns whether a convolution or pool pads its input.
pub fn is_padded(node: &Node) -> bool {
    let explicit = node.ints("pads").is_some_and(|pads| pads.iter().any(|&pad| pad != 0));
    explicit || !matches!(node.attrs.string("auto_pad").unwrap_or("NOTSET"), "NOTSET" | "VALID")
}

fn numbers(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect()
}
