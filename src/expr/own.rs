//! Our own operators. They exist in graphs under construction, where gradient rules and lowerings match them; a
//! [`super::Lowering`] replaces them with operators that runtimes support.

use crate::ir::{Attrs, Node};
use crate::shape::{Call, Fact};

/// The domain of these operators.
pub const OWN_DOMAIN: &str = "dfq-onnx";

/// `y = x` without a gradient.
pub const STOP_GRADIENT: &str = "StopGradient";

/// `y = s · round(clip(x / s, lo, hi))` of `x` and the scales `s` (`[1]`, or one per index of `axis`). Attributes: `lo`
/// and `hi`, one or as many as scales; `axis`, -1 for none.
pub const FAKE_QUANTIZE: &str = "FakeQuantize";

/// The gradients of `x` and `s` in [`FAKE_QUANTIZE`], of `x`, `s` and the gradient of `y`; the same attributes.
pub const FAKE_QUANTIZE_GRADIENT: &str = "FakeQuantizeGradient";

/// The gradient `[M, C/group, kernel_shape…]` of a convolution's weight, from its input `[N, C, …]` and the gradient of
/// its output `[N, M, …]`. Attributes: those of Conv, with `pads` cut to the part that windows reach, at least 0.
pub const CONV_WEIGHT_GRADIENT: &str = "ConvWeightGradient";

/// The mean and the biased variance `[C]` of each channel of `x: [N, C, …]`.
pub const CHANNEL_MOMENTS: &str = "ChannelMoments";

/// `y = a·x + b` of `x: [N, C, …]` with `a` and `b` per channel, `[C]`.
pub const CHANNEL_AFFINE: &str = "ChannelAffine";

/// The gradients of `x`, `a` and `b` in [`CHANNEL_AFFINE`], of `x`, `a` and the gradient of `y`.
pub const CHANNEL_AFFINE_GRADIENT: &str = "ChannelAffineGradient";

/// `y[n, c, i, j] = x[n, c, rows[i], columns[j]]`, the indices int64 from 0 to the size of the axis, exclusive.
pub const SELECT: &str = "Select";

/// The gradient of `x` in [`SELECT`], of the gradient of `y`, the rows and the columns. Attributes: `height` and
/// `width` of x.
pub const SELECT_GRADIENT: &str = "SelectGradient";

/// Returns a node of our own domain, its inputs and outputs still empty.
pub(super) fn own(op_type: &str, attrs: impl Into<Attrs>) -> Node {
    of_domain(OWN_DOMAIN, op_type, attrs)
}

/// Returns a node of any domain, its inputs and outputs still empty.
pub(super) fn of_domain(domain: &str, op_type: &str, attrs: impl Into<Attrs>) -> Node {
    Node { op_type: op_type.to_owned(), domain: domain.to_owned(), attrs: attrs.into(), ..Node::default() }
}

/// Returns the facts of the results of one of our own operators; empty where its inputs do not fit.
pub(super) fn facts(call: &Call) -> Vec<Fact> {
    let input = |i: usize| call.inputs.get(i).copied().flatten().cloned();
    let found = match call.op_type {
        STOP_GRADIENT => input(0).map(|x| vec![x]),
        FAKE_QUANTIZE => input(0).map(|x| vec![without_contents(x)]),
        FAKE_QUANTIZE_GRADIENT => input(0).zip(input(1)).map(|(x, s)| vec![without_contents(x), without_contents(s)]),
        CONV_WEIGHT_GRADIENT => weight(call).map(|fact| vec![fact]),
        CHANNEL_MOMENTS => per_channel(call).map(|(_, of_channels)| vec![of_channels.clone(), of_channels]),
        CHANNEL_AFFINE => per_channel(call).filter(|(_, one)| fit(call, one, &[1, 2])).map(|(x, _)| vec![x]),
        CHANNEL_AFFINE_GRADIENT => {
            let facts = per_channel(call).filter(|(_, one)| fit(call, one, &[1]));
            facts.map(|(x, of_channels)| vec![x, of_channels.clone(), of_channels])
        }
        SELECT => selected(call).map(|fact| vec![fact]),
        SELECT_GRADIENT => scattered(call).map(|fact| vec![fact]),
        _ => None,
    };
    found.unwrap_or_default()
}

fn without_contents(fact: Fact) -> Fact {
    Fact { dtype: fact.dtype, shape: fact.shape, ..Fact::default() }
}

fn weight(call: &Call) -> Option<Fact> {
    let (x, dy) = (call.inputs.first().copied()??, call.inputs.get(1).copied()??);
    let (x_shape, dy_shape) = (x.static_shape()?, dy.static_shape()?);
    let group = usize::try_from(call.attrs.int("group", 1)).ok().filter(|&group| group > 0)?;
    let mut shape = vec![*dy_shape.get(1)?, x_shape.get(1)? / group];
    for &size in call.attrs.ints("kernel_shape")? {
        shape.push(usize::try_from(size).ok()?);
    }
    Some(Fact::of_shape(x.dtype?, &shape))
}

/// Returns the fact of the first input, and that of a tensor with one element per channel of it.
fn per_channel(call: &Call) -> Option<(Fact, Fact)> {
    let x = call.inputs.first().copied()??;
    let shape = x.static_shape()?;
    Some((Fact::of_shape(x.dtype?, &shape), Fact::of_shape(x.dtype?, &[*shape.get(1)?])))
}

/// Returns whether the inputs `numbers` have the shape of `of_channels`, one element per channel.
fn fit(call: &Call, of_channels: &Fact, numbers: &[usize]) -> bool {
    let shape = |i: usize| call.inputs.get(i).copied().flatten().and_then(Fact::static_shape);
    numbers.iter().all(|&i| shape(i) == of_channels.static_shape())
}

fn selected(call: &Call) -> Option<Fact> {
    let input = |i: usize| call.inputs.get(i).copied().flatten();
    let [n, c, ..] = <[usize; 4]>::try_from(input(0)?.static_shape()?).ok()?;
    let [h] = <[usize; 1]>::try_from(input(1)?.static_shape()?).ok()?;
    let [w] = <[usize; 1]>::try_from(input(2)?.static_shape()?).ok()?;
    Some(Fact::of_shape(input(0)?.dtype?, &[n, c, h, w]))
}

fn scattered(call: &Call) -> Option<Fact> {
    let dy = call.inputs.first().copied()??;
    let [n, c, ..] = <[usize; 4]>::try_from(dy.static_shape()?).ok()?;
    let size = |name: &str| usize::try_from(call.attrs.int(name, -1)).ok();
    Some(Fact::of_shape(dy.dtype?, &[n, c, size("height")?, size("width")?]))
}
