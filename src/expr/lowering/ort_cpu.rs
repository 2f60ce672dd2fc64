//! Lowering for ONNX Runtime on the CPU: its blocked convolutions where gradients are needed, and our own kernels where
//! it has no fast ones (see `runtime::kernels`). Values stay blocked between operators that work in either layout.

use super::Value;
use super::{Lowered, Lowering, Results, channels, convolution, standard};
use crate::expr::Expr;
use crate::expr::own::{
    self, CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE,
    FAKE_QUANTIZE_GRADIENT, OWN_DOMAIN, SELECT, SELECT_GRADIENT, STOP_GRADIENT,
};
use crate::ir::{Attr, Attrs, DType, Node};
use crate::shape::Fact;

/// The domain of our own kernels, version 1.
pub const KERNELS: &str = "dfq-onnx.cpu";

/// `y = x` where a condition of the same shape holds, 0 elsewhere; one of those kernels.
pub const KEEP_WHERE: &str = "KeepWhere";

/// Returns a node of [`KERNELS`], its inputs and outputs still empty.
pub(super) fn kernel(op_type: &str, attrs: impl Into<Attrs>) -> Node {
    own::of_domain(KERNELS, op_type, attrs)
}

/// Returns the lowering for blocks of `block` channels: 16 with AVX-512, 8 with AVX2.
pub const fn ort_cpu(block: usize) -> Lowering {
    Lowering {
        rules: &[
            (OWN_DOMAIN, STOP_GRADIENT, standard::stop_gradient),
            (OWN_DOMAIN, FAKE_QUANTIZE, fake_quantize),
            (OWN_DOMAIN, FAKE_QUANTIZE_GRADIENT, fake_quantize_gradient),
            (OWN_DOMAIN, CONV_WEIGHT_GRADIENT, convolution::weight_gradient),
            (OWN_DOMAIN, CHANNEL_MOMENTS, channels::channel_moments),
            (OWN_DOMAIN, CHANNEL_AFFINE, channels::channel_affine),
            (OWN_DOMAIN, CHANNEL_AFFINE_GRADIENT, channels::channel_affine_gradient),
            (OWN_DOMAIN, SELECT, channels::select),
            (OWN_DOMAIN, SELECT_GRADIENT, channels::select_gradient),
            ("", "Conv", convolution::conv),
            ("", "ConvTranspose", convolution::conv_transpose),
            ("", "ReduceSum", sum),
            ("", "Add", elementwise),
            ("", "Sub", elementwise),
            ("", "Mul", elementwise),
            ("", "Identity", elementwise),
            ("", "Relu", elementwise),
            ("", "LeakyRelu", elementwise),
            ("", "Clip", clip),
            ("", "Greater", compare),
            ("", "Less", compare),
            ("", "Equal", compare),
            ("", "Where", choose),
        ],
        block,
    }
}

/// Returns the attributes of fake-quantize kernels; `None` where bounds differ between channels, which have no kernel.
fn levels(call: &Lowered) -> Option<Attrs> {
    let one = |name: &str| match call.attrs().floats(name) {
        Some(&[only]) => Some(Attr::Float(only)),
        _ => None,
    };
    let axis = call.attrs().int("axis", -1);
    Some(Attrs::from([("lo", one("lo")?), ("hi", one("hi")?), ("axis", Attr::Int(axis))]))
}

fn fake_quantize<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(levels) = levels(call) else { return standard::fake_quantize(call) };
    let (x, scale) = (call.value(0)?, call.x(1)?);
    let in_blocks = x.is_blocked() && call.attrs().int("axis", -1) < 0;
    let given = if in_blocks { x.blocked(call.block) } else { x.plain() };
    let fact = Fact::of_shape(given.dtype(), &given.shape());
    let made = call.builder.foreign(kernel(FAKE_QUANTIZE, levels), &[Some(given), Some(scale)], vec![fact])[0];
    Ok(Some(vec![if in_blocks { Value::of_blocks(made, x.shape()[1]) } else { made.into() }]))
}

fn fake_quantize_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(levels) = levels(call) else { return standard::fake_quantize_gradient(call) };
    let (x, scale, dy) = (call.value(0)?, call.x(1)?, call.value(2)?);
    let in_blocks = x.is_blocked() && dy.is_blocked() && call.attrs().int("axis", -1) < 0;
    let order = |value: &Value<'b>| if in_blocks { value.blocked(call.block) } else { value.plain() };
    let (given, dy) = (order(x), order(dy));
    let facts = [given, scale].map(|e| Fact::of_shape(e.dtype(), &e.shape())).to_vec();
    let inputs = [Some(given), Some(scale), Some(dy)];
    let made = call.builder.foreign(kernel(FAKE_QUANTIZE_GRADIENT, levels), &inputs, facts);
    let dx = if in_blocks { Value::of_blocks(made[0], x.shape()[1]) } else { made[0].into() };
    Ok(Some(vec![dx, made[1].into()]))
}

/// Sums over all axes but the channels, in blocked layout.
fn sum<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let x = call.value(0)?;
    let axes = call.optional(1).and_then(Expr::constant_ints);
    if !x.is_blocked() || axes.as_deref() != Some(&[0, 2, 3]) {
        return Ok(None);
    }
    let blocked = x.blocked(call.block);
    let [n, up, h, w] = blocked.dims();
    let apart = blocked.reshape(&[n, up / call.block, h, w, call.block]);
    let sums = apart.sum(&[0, 2, 3], false).reshape(&[up]).slice(0, 0..x.shape()[1]);
    Ok(Some(vec![sums.reshape(&call.shapes[0]).into()]))
}

/// Elementwise operators that keep the zeros of the channel padding.
fn elementwise<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let numbers = call.inputs.iter().flatten().filter(|value| value.is_number()).count();
    let keeps_zeros = numbers == 0 || call.node.is("Mul");
    if keeps_zeros { in_blocks(call) } else { Ok(None) }
}

fn clip<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let bound = |i: usize| call.optional(i).map(Expr::constant_floats);
    let spans_zero = bound(1).is_none_or(|lo| lo.is_some_and(|lo| lo.iter().all(|&lo| lo <= 0.0)))
        && bound(2).is_none_or(|hi| hi.is_some_and(|hi| hi.iter().all(|&hi| hi >= 0.0)));
    if spans_zero { in_blocks(call) } else { Ok(None) }
}

/// Compares in both layouts, since booleans cannot be reordered; an unused result is removed later. Results in the
/// channel padding do not matter: both choices are zero there.
fn compare<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(blocked) = in_blocks(call)? else { return Ok(None) };
    let plain: Vec<Option<Expr>> = call.inputs.iter().map(|value| value.as_ref().map(Value::plain)).collect();
    let plain = call.again(&plain);
    Ok(Some(vec![Value::of_both(plain, blocked[0].blocked(call.block))]))
}

fn choose<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let is_zero =
        |value: &Value| value.plain().constant_floats().is_some_and(|values| values.iter().all(|&v| v == 0.0));
    let fits = |i: usize| call.value(i).is_ok_and(|value| !value.is_number() || is_zero(value));
    match (fits(1), fits(2)) {
        (true, true) if call.value(2)?.is_number() => keep_where(call),
        (true, true) => in_blocks(call),
        _ => Ok(None),
    }
}

/// Keeps elements where a condition holds and writes zeros elsewhere, as in the gradients of Relu and Clip.
fn keep_where<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let both = [call.value(0)?, call.value(1)?];
    let blocked = both.iter().any(|value| value.is_blocked()) && both.iter().all(|value| value.can_be_blocked());
    let given = both.map(|value| if blocked { value.blocked(call.block) } else { value.plain() });
    if both.iter().any(|value| value.shape() != call.shapes[0]) || given[1].dtype() != DType::F32 {
        return in_blocks(call);
    }
    let fact = Fact::of_shape(DType::F32, &given[1].shape());
    let made = call.builder.foreign(kernel(KEEP_WHERE, Attrs::default()), &given.map(Some), vec![fact])[0];
    Ok(Some(vec![if blocked { Value::of_blocks(made, call.shapes[0][1]) } else { made.into() }]))
}

/// Returns the same call in blocked layout if an input is blocked and the others can be.
fn in_blocks<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let inputs: Vec<&Value> = call.inputs.iter().flatten().collect();
    let shape = &call.shapes[0];
    let fits = inputs.iter().all(|value| value.is_number() || value.can_be_blocked() && value.shape() == *shape);
    if shape.len() != 4 || !fits || !inputs.iter().any(|value| value.is_blocked()) {
        return Ok(None);
    }
    let order = |value: &Option<Value<'b>>| {
        let value = value.as_ref()?;
        Some(if value.is_number() { value.plain() } else { value.blocked(call.block) })
    };
    let given: Vec<Option<Expr>> = call.inputs.iter().map(order).collect();
    Ok(Some(vec![Value::of_blocks(call.again(&given), shape[1])]))
}
