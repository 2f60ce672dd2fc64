//! Reductions along axes, ArgMax and TopK.

use crate::error::Result;
use crate::ir::{DType, Dim, Shape};
use crate::shape::{Axes, Call, Fact};

/// Reduce*: axes by attribute, or by input from operator set 18 on (ReduceSum: 13).
pub fn reduce(call: &Call) -> Result<Vec<Fact>> {
    let since = if call.op_type == "ReduceSum" { 13 } else { 18 };
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let keep = call.attrs.int("keepdims", 1) == 1;
    let axes = match call.axes("axes", 1, since) {
        Axes::Unknown if keep => return Ok(vec![call.shaped(Some(vec![Dim::Unknown; x.len()]))]),
        Axes::Unknown => return Ok(vec![call.shaped(None)]),
        Axes::Given(axes) if !axes.is_empty() => {
            axes.iter().map(|&a| call.axis(a, x.len())).collect::<Result<Vec<_>>>()?
        }
        _ if call.attrs.int("noop_with_empty_axes", 0) == 1 => Vec::new(),
        _ => (0..x.len()).collect(),
    };
    Ok(vec![call.shaped(Some(reduced(x, &axes, keep)))])
}

/// ArgMax and ArgMin: positions along one axis.
pub fn arg(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![Fact::new(Some(DType::I64), None)]) };
    let axis = call.axis(call.attrs.int("axis", 0), x.len())?;
    let shape = reduced(x, &[axis], call.attrs.int("keepdims", 1) == 1);
    Ok(vec![Fact::new(Some(DType::I64), Some(shape))])
}

/// TopK: values and positions; `k` by attribute before operator set 10.
pub fn top_k(call: &Call) -> Result<Vec<Fact>> {
    let mut shape = call.shape(0).cloned();
    if let Some(x) = &mut shape {
        let axis = call.axis(call.attrs.int("axis", -1), x.len())?;
        let k = match call.axes("k", 1, 10) {
            Axes::Given(k) => k.first().and_then(|&k| usize::try_from(k).ok()),
            _ => usize::try_from(call.attrs.int("k", -1)).ok(),
        };
        if let (Some(k), Some(n)) = (k, x[axis].known())
            && k > n
        {
            return Err(call.error(format!("k is {k}, axis {axis} has {n} elements")));
        }
        x[axis] = k.map_or(Dim::Unknown, Dim::Known);
    }
    Ok(vec![call.shaped(shape.clone()), Fact::new(Some(DType::I64), shape)])
}

fn reduced(x: &Shape, axes: &[usize], keep: bool) -> Shape {
    let one = |(i, d): (usize, &Dim)| match axes.contains(&i) {
        false => Some(d.clone()),
        true => keep.then_some(Dim::Known(1)),
    };
    x.iter().enumerate().filter_map(one).collect()
}
