//! Lowers convolutions and their gradients on the CPU: to ONNX Runtime's blocked convolutions, and to our own kernel
//! for the weight gradient.

use super::blocked::{self, Form, Value};
use super::ort_cpu::kernel;
use super::{Lowered, Results, standard};
use crate::expr::own::{CONV_WEIGHT_GRADIENT, SELECT_GRADIENT};
use crate::expr::{Expr, index};
use crate::ir::{Attr, Attrs, DType};
use crate::shape::{ConvWindow, Fact};

/// Lowers a convolution with a gradient; ONNX Runtime optimizes the others itself.
pub(super) fn conv<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (x, w) = (call.value(0)?, call.x(1)?);
    let shape = x.shape();
    let group = call.attrs().int("group", 1);
    let stays = w.dtype() != DType::F32 || is_constant(w) && !is_passed_back(call);
    let (Ok([filters, ..]), false) = (<[usize; 4]>::try_from(w.shape()), stays) else { return Ok(None) };
    let Some(form) = form(shape[1], filters, group, call.block) else { return Ok(None) };
    let window = ConvWindow::read(call.attrs(), &w.shape()[2..], &shape[2..], &call.shapes[0][2..]);
    let Ok(window) = window else { return Ok(None) };
    let up = filters.next_multiple_of(call.block);
    let bias = call.optional(2).map(|bias| bias.pad(&[0], &[index(up - filters)]));
    let attrs = window.attributes(blocked_groups(form, group, up));
    let (x, w) = (x.in_order_of(form, call.block), blocked::weight(w, form, call.block));
    Ok(Some(vec![blocked::convolution(x, w, bias, attrs, &call.shapes[0])]))
}

/// Returns whether the graph also has the input gradient of a convolution with the same weight.
fn is_passed_back(call: &Lowered) -> bool {
    call.graph.nodes.iter().any(|node| node.is("ConvTranspose") && node.input(1) == call.node.input(1))
}

/// Lowers the input gradient of a convolution to a convolution with the rotated weight: with stride 1, or with 1x1
/// kernels, whose result is then spread to the strided positions.
pub(super) fn conv_transpose<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (x, w) = (call.value(0)?, call.x(1)?);
    let (x_shape, y_shape) = (x.shape(), &call.shapes[0]);
    let group = call.attrs().int("group", 1);
    let is_plain = call.optional(2).is_none() && w.rank() == 4 && w.dtype() == DType::F32;
    let window = || ConvWindow::read(call.attrs(), &w.shape()[2..], &y_shape[2..], &x_shape[2..]).ok();
    let Some(window) = is_plain.then(window).flatten() else { return Ok(None) };
    let (close, shape) = match without_strides(&window) {
        Some(close) => (close, [&y_shape[..2], &x_shape[2..]].concat()),
        None => (window.clone(), y_shape.clone()),
    };
    let Some(turned) = turned(&close) else { return Ok(None) };
    let Some(form) = form(x_shape[1], y_shape[1], group, call.block) else { return Ok(None) };
    let w = match form {
        Form::Depthwise => around(w),
        Form::Dense | Form::Narrow => around(w).transpose(&[1, 0, 2, 3]),
        Form::Grouped => return Ok(None),
    };
    let attrs = turned.attributes(blocked_groups(form, group, y_shape[1].next_multiple_of(call.block)));
    let (x, w) = (x.in_order_of(form, call.block), blocked::weight(w, form, call.block));
    let made = blocked::convolution(x, w, None, attrs, &shape);
    Ok(Some(vec![if shape == *y_shape { made } else { spaced(call, &made, &window.strides) }]))
}

/// Returns a strided 1x1 window without padding as a window of stride 1; `None` for other windows.
fn without_strides(window: &ConvWindow) -> Option<ConvWindow> {
    let is_strided = window.strides.iter().any(|&stride| stride != 1);
    let sees_one = window.kernel.iter().all(|&size| size == 1) && window.before.iter().all(|&pad| pad == 0);
    let one = || vec![1; window.rank()];
    let fits = is_strided && sees_one && window.behind.iter().all(|&pad| pad <= 0);
    fits.then(|| ConvWindow { strides: one(), dilations: one(), behind: vec![0; window.rank()], ..window.clone() })
}

/// Returns `x` with zeros between and after its pixels, in the shape of the call's result.
fn spaced<'b>(call: &Lowered<'_, 'b>, x: &Value<'b>, strides: &[i64]) -> Value<'b> {
    let (x, channels) = (x.blocked(call.block), x.shape()[1]);
    let [n, up, h, w] = x.dims();
    let (height, width) = (call.shapes[0][2], call.shapes[0][3]);
    let places =
        |size: usize, stride: i64| call.builder.ints(&(0..index(size)).map(|i| i * stride).collect::<Vec<_>>());
    let inputs = [x, places(h, strides[0]), places(w, strides[1])].map(Some);
    let sizes = [("height", height), ("width", width), ("block", call.block)];
    let attrs = Attrs::from(sizes.map(|(name, size)| (name, Attr::Int(index(size)))));
    let fact = Fact::of_shape(DType::F32, &[n, up, height, width]);
    let made = call.builder.foreign(kernel(SELECT_GRADIENT, attrs), &inputs, vec![fact]);
    Value::of_blocks(made[0], channels)
}

/// Returns the window of the convolution that computes the input gradient for `window`; `None` with strides.
fn turned(window: &ConvWindow) -> Option<ConvWindow> {
    if window.strides.iter().any(|&stride| stride != 1) {
        return None;
    }
    let span = |i: usize| (window.kernel[i] - 1) * window.dilations[i];
    let pads = |given: &[i64]| -> Vec<i64> { given.iter().enumerate().map(|(i, pad)| span(i) - pad).collect() };
    let (before, behind) = (pads(&window.before), pads(&window.behind));
    let fits = before.iter().chain(&behind).all(|&pad| pad >= 0);
    fits.then(|| ConvWindow { before, behind, ..window.clone() })
}

/// Returns a kernel rotated by 180 degrees.
fn around(w: Expr<'_>) -> Expr<'_> {
    if w.shape()[2..].iter().all(|&size| size == 1) {
        return w;
    }
    let b = w.builder();
    let [starts, ends, axes, steps] =
        [[-1, -1], [i64::MIN + 1, i64::MIN + 1], [2, 3], [-1, -1]].map(|values| b.ints(&values));
    b.apply("Slice", &[w, starts, ends, axes, steps], [])
}

fn form(channels: usize, filters: usize, group: i64, block: usize) -> Option<Form> {
    Form::of(channels, filters, usize::try_from(group).ok()?, block)
}

/// Returns the number of groups; blocked depthwise kernels count padding channels as groups too.
fn blocked_groups(form: Form, group: i64, up: usize) -> i64 {
    if form == Form::Depthwise { index(up) } else { group }
}

fn is_constant(e: Expr) -> bool {
    e.builder().graph().constant_of(e.id()).is_some()
}

pub(super) fn weight_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let (x, dy) = (call.value(0)?, call.value(1)?);
    let (x_shape, dy_shape) = (x.shape(), dy.shape());
    let group = call.attrs().int("group", 1);
    if x_shape.len() != 4 {
        return standard::conv_weight_gradient(call);
    }
    let form = form(x_shape[1], dy_shape[1], group, call.block);
    let (x_blocked, dy_blocked) = (form.is_some_and(|form| form != Form::Narrow), form.is_some());
    let order = |value: &Value<'b>, blocked| if blocked { value.blocked(call.block) } else { value.plain() };
    let mut attrs = call.attrs().clone();
    for (name, number) in [("channels", x_shape[1]), ("filters", dy_shape[1]), ("block", call.block)] {
        attrs.set(name, Attr::Int(index(number)));
    }
    attrs.set("x_blocked", Attr::Int(i64::from(x_blocked)));
    attrs.set("dy_blocked", Attr::Int(i64::from(dy_blocked)));
    let inputs = [order(x, x_blocked), order(dy, dy_blocked)].map(Some);
    let fact = Fact::of_shape(inputs[0].map_or(DType::F32, Expr::dtype), &call.shapes[0]);
    Ok(Some(vec![call.builder.foreign(kernel(CONV_WEIGHT_GRADIENT, attrs), &inputs, vec![fact])[0].into()]))
}
