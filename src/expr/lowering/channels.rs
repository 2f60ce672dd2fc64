//! Operators of ours on channels and positions by kernels on the CPU, in blocks where values are in blocks.

use super::ort_cpu::KERNELS;
use super::standard;
use super::{Lowered, Results, Value};
use crate::expr::own::{CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, SELECT, SELECT_GRADIENT};
use crate::expr::{Expr, index};
use crate::ir::{Attr, Attrs, DType};

/// Tensors `[N, C, …]` in one order.
struct Ordered<'b> {
    tensors: Vec<Expr<'b>>,
    channels: usize,
    /// Channels that lie side by side, 1 where they are plain.
    block: usize,
}

impl<'b> Ordered<'b> {
    /// Returns the inputs `numbers` in blocks where one of them is and the others can be; nothing for tensors without
    /// pixels or in half precision, for which there are no kernels.
    fn of(call: &Lowered<'_, 'b>, numbers: &[usize]) -> crate::Result<Option<Self>> {
        let values = numbers.iter().map(|&i| call.value(i)).collect::<crate::Result<Vec<_>>>()?;
        let in_blocks = values.iter().any(|x| x.is_blocked()) && values.iter().all(|x| x.can_be_blocked());
        let block = if in_blocks { call.block } else { 1 };
        let order = |x: &&Value<'b>| if in_blocks { x.blocked(block) } else { x.plain() };
        let channels = values[0].shape().get(1).copied().unwrap_or(0);
        let tensors: Vec<Expr> = values.iter().map(order).collect();
        let fits = tensors.iter().all(|x| x.dtype() == DType::F32 && x.rank() > 2);
        Ok(fits.then_some(Self { tensors, channels, block }))
    }

    fn attrs(&self) -> Attrs {
        Attrs::from([("channels", Attr::Int(index(self.channels))), ("block", Attr::Int(index(self.block)))])
    }

    /// Returns the first tensor's type and shape.
    fn fact(&self) -> (DType, Vec<usize>) {
        (DType::F32, self.tensors[0].shape())
    }

    /// Returns what was made in this order.
    fn value(&self, made: Expr<'b>) -> Value<'b> {
        if self.block > 1 { Value::of_blocks(made, self.channels) } else { made.into() }
    }
}

pub(super) fn channel_moments<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(x) = Ordered::of(call, &[0])? else { return standard::channel_moments(call) };
    let fact = (DType::F32, vec![x.channels]);
    let inputs = [Some(x.tensors[0])];
    let made = call.builder.foreign_results((KERNELS, CHANNEL_MOMENTS), &inputs, x.attrs(), &[fact.clone(), fact]);
    Ok(Some(made.into_iter().map(Value::from).collect()))
}

pub(super) fn channel_affine<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(x) = Ordered::of(call, &[0])? else { return standard::channel_affine(call) };
    let inputs = [Some(x.tensors[0]), Some(call.x(1)?), Some(call.x(2)?)];
    let made = call.builder.foreign_results((KERNELS, CHANNEL_AFFINE), &inputs, x.attrs(), &[x.fact()]);
    Ok(Some(vec![x.value(made[0])]))
}

pub(super) fn channel_affine_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(both) = Ordered::of(call, &[0, 2])? else { return standard::channel_affine_gradient(call) };
    let inputs = [Some(both.tensors[0]), Some(call.x(1)?), Some(both.tensors[1])];
    let of_channels = (DType::F32, vec![both.channels]);
    let facts = [both.fact(), of_channels.clone(), of_channels];
    let made = call.builder.foreign_results((KERNELS, CHANNEL_AFFINE_GRADIENT), &inputs, both.attrs(), &facts);
    Ok(Some(vec![both.value(made[0]), made[1].into(), made[2].into()]))
}

pub(super) fn select<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(x) = Ordered::of(call, &[0])? else { return standard::select(call) };
    Ok(Some(vec![moved(call, &x, SELECT, Attrs::default())?]))
}

pub(super) fn select_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(dy) = Ordered::of(call, &[0])? else { return standard::select_gradient(call) };
    Ok(Some(vec![moved(call, &dy, SELECT_GRADIENT, call.attrs().clone())?]))
}

fn moved<'b>(call: &Lowered<'_, 'b>, images: &Ordered<'b>, kernel: &str, mut attrs: Attrs) -> crate::Result<Value<'b>> {
    attrs.set("block", Attr::Int(index(images.block)));
    let mut shape = images.tensors[0].shape();
    shape[2..].copy_from_slice(&call.shapes[0][2..]);
    let inputs = [Some(images.tensors[0]), Some(call.x(1)?), Some(call.x(2)?)];
    Ok(images.value(call.builder.foreign((KERNELS, kernel), &inputs, attrs, (DType::F32, &shape))))
}
