//! ONNX Runtime on the CPU: its blocked convolutions wherever gradients pass, and kernels of our own where it has
//! no good ones (see `runtime::kernels`). Values stay in blocks between operators that do not care about the order.

use super::Value;
use super::{Lowered, Lowering, Results, channels, convolution, standard};
use crate::expr::Expr;
use crate::expr::own::{
    CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE,
    FAKE_QUANTIZE_GRADIENT, OWN_DOMAIN, SELECT, SELECT_GRADIENT, STOP_GRADIENT,
};
use crate::ir::{Attr, Attrs, DType};

/// The domain of the kernels of our own, version 1.
pub const KERNELS: &str = "dfq-onnx.cpu";

/// `y = x` where a condition of the same shape holds, 0 elsewhere; one of those kernels.
pub const KEEP_WHERE: &str = "KeepWhere";

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

/// Returns the attributes of the kernels of fake-quantizers; none where bounds differ between channels, which is written
/// in standard operators.
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
    let fact = (given.dtype(), given.shape());
    let kernel = (KERNELS, FAKE_QUANTIZE);
    let made = call.builder.foreign(kernel, &[Some(given), Some(scale)], levels, (fact.0, &fact.1));
    Ok(Some(vec![if in_blocks { Value::of_blocks(made, x.shape()[1]) } else { made.into() }]))
}

fn fake_quantize_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(levels) = levels(call) else { return standard::fake_quantize_gradient(call) };
    let (x, scale, dy) = (call.value(0)?, call.x(1)?, call.value(2)?);
    let in_blocks = x.is_blocked() && dy.is_blocked() && call.attrs().int("axis", -1) < 0;
    let order = |value: &Value<'b>| if in_blocks { value.blocked(call.block) } else { value.plain() };
    let (given, dy) = (order(x), order(dy));
    let facts = [(given.dtype(), given.shape()), (scale.dtype(), scale.shape())];
    let inputs = [Some(given), Some(scale), Some(dy)];
    let made = call.builder.foreign_results((KERNELS, FAKE_QUANTIZE_GRADIENT), &inputs, levels, &facts);
    let dx = if in_blocks { Value::of_blocks(made[0], x.shape()[1]) } else { made[0].into() };
    Ok(Some(vec![dx, made[1].into()]))
}

/// Sums over everything but channels are made of blocks as they lie.
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

/// Operators on elements of which some are blocked and the others single numbers or of the same shape; zeros, which fill
/// up blocks, stay zeros.
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

/// What fills up blocks may compare either way, for what is chosen by it is zero on both sides. Truth values cannot be
/// reordered, so both orders are compared; the one that nobody reads goes away.
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

/// Zeros in place of what a condition does not hold for, as in the gradients of Relu and Clip.
fn keep_where<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let both = [call.value(0)?, call.value(1)?];
    let blocked = both.iter().any(|value| value.is_blocked()) && both.iter().all(|value| value.can_be_blocked());
    let given = both.map(|value| if blocked { value.blocked(call.block) } else { value.plain() });
    if both.iter().any(|value| value.shape() != call.shapes[0]) || given[1].dtype() != DType::F32 {
        return in_blocks(call);
    }
    let fact = (DType::F32, given[1].shape());
    let made = call.builder.foreign((KERNELS, KEEP_WHERE), &given.map(Some), Attrs::default(), (fact.0, &fact.1));
    Ok(Some(vec![if blocked { Value::of_blocks(made, call.shapes[0][1]) } else { made.into() }]))
}

/// Returns the same call on blocks, where an input is blocked and the others can be.
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
