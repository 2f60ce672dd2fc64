//! Lowers our own operators on channels and positions to CPU kernels, in blocked layout where values are blocked.

use super::ort_cpu::kernel;
use super::standard;
use super::{Lowered, Results, Value};
use crate::expr::own::{CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS, SELECT, SELECT_GRADIENT};
use crate::expr::{Expr, index};
use crate::ir::{Attr, Attrs, DType};
use crate::shape::Fact;

/// Tensors `[N, C, …]` in one layout.
struct Ordered<'b> {
    tensors: Vec<Expr<'b>>,
    channels: usize,
    /// Channels of a block, 1 in plain layout.
    block: usize,
}

impl<'b> Ordered<'b> {
    /// Returns the inputs `numbers` in blocked layout if one of them is blocked and the others can be; `None` for
    /// tensors without pixels or in half precision, which have no kernels.
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
    fn fact(&self) -> Fact {
        Fact::of_shape(DType::F32, &self.tensors[0].shape())
    }

    /// Returns a result in this layout.
    fn value(&self, made: Expr<'b>) -> Value<'b> {
        if self.block > 1 { Value::of_blocks(made, self.channels) } else { made.into() }
    }
}

pub(super) fn channel_moments<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(x) = Ordered::of(call, &[0])? else { return standard::channel_moments(call) };
    let fact = Fact::of_shape(DType::F32, &[x.channels]);
    let inputs = [Some(x.tensors[0])];
    let made = call.builder.foreign(kernel(CHANNEL_MOMENTS, x.attrs()), &inputs, vec![fact.clone(), fact]);
    Ok(Some(made.into_iter().map(Value::from).collect()))
}

pub(super) fn channel_affine<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(x) = Ordered::of(call, &[0])? else { return standard::channel_affine(call) };
    let inputs = [Some(x.tensors[0]), Some(call.x(1)?), Some(call.x(2)?)];
    let made = call.builder.foreign(kernel(CHANNEL_AFFINE, x.attrs()), &inputs, vec![x.fact()]);
    Ok(Some(vec![x.value(made[0])]))
}

pub(super) fn channel_affine_gradient<'b>(call: &Lowered<'_, 'b>) -> Results<'b> {
    let Some(both) = Ordered::of(call, &[0, 2])? else { return standard::channel_affine_gradient(call) };
    let inputs = [Some(both.tensors[0]), Some(call.x(1)?), Some(both.tensors[1])];
    let of_channels = Fact::of_shape(DType::F32, &[both.channels]);
    let facts = vec![both.fact(), of_channels.clone(), of_channels];
    let made = call.builder.foreign(kernel(CHANNEL_AFFINE_GRADIENT, both.attrs()), &inputs, facts);
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

fn moved<'b>(
    call: &Lowered<'_, 'b>,
    images: &Ordered<'b>,
    op_type: &str,
    mut attrs: Attrs,
) -> crate::Result<Value<'b>> {
    attrs.set("block", Attr::Int(index(images.block)));
    let mut shape = images.tensors[0].shape();
    shape[2..].copy_from_slice(&call.shapes[0][2..]);
    let inputs = [Some(images.tensors[0]), Some(call.x(1)?), Some(call.x(2)?)];
    let fact = Fact::of_shape(DType::F32, &shape);
    Ok(images.value(call.builder.foreign(kernel(op_type, attrs), &inputs, vec![fact])[0]))
}
