//! Operators of our own. They exist while a graph is built, so that gradients and lowerings see what is meant; a
//! [`super::Lowering`] puts operators that runtimes know in their place.

use crate::ir::{Attrs, Node};
use crate::shape::{Call, Fact};

/// The domain of these operators.
pub const OWN_DOMAIN: &str = "dfq-onnx";

/// `y = x`, which gradients do not pass.
pub const STOP_GRADIENT: &str = "StopGradient";

/// `y = s · round(clip(x / s, lo, hi))` of `x` and the steps `s` (`[1]`, or one per index of `axis`). Attributes: `lo` and
/// `hi`, one or as many as steps; `axis`, -1 for none.
pub const FAKE_QUANTIZE: &str = "FakeQuantize";

/// The gradients of `x` and `s` in [`FAKE_QUANTIZE`], of `x`, `s` and the gradient of `y`; the same attributes.
pub const FAKE_QUANTIZE_GRADIENT: &str = "FakeQuantizeGradient";

/// The gradient `[M, C/group, kernel_shape…]` of the weight in a convolution, of its input `[N, C, …]` and the gradient of
/// its output `[N, M, …]`. Attributes: those of Conv with `pads` as far as windows reach and not below 0.
pub const CONV_WEIGHT_GRADIENT: &str = "ConvWeightGradient";

/// Returns an operator of ours.
pub(super) fn own(op_type: &str, attrs: impl Into<Attrs>) -> Node {
    Node { op_type: op_type.to_owned(), domain: OWN_DOMAIN.to_owned(), attrs: attrs.into(), ..Node::default() }
}

/// Returns what is known of the results of an operator of ours; nothing where its inputs do not fit.
pub(super) fn facts(call: &Call) -> Vec<Fact> {
    let input = |i: usize| call.inputs.get(i).copied().flatten().cloned();
    let found = match call.op_type {
        STOP_GRADIENT => input(0).map(|x| vec![x]),
        FAKE_QUANTIZE => input(0).map(|x| vec![without_contents(x)]),
        FAKE_QUANTIZE_GRADIENT => input(0).zip(input(1)).map(|(x, s)| vec![without_contents(x), without_contents(s)]),
        CONV_WEIGHT_GRADIENT => weight(call).map(|fact| vec![fact]),
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
