//! Operators that join, split or pick elements along axes.

use ndarray::{Axis, IxDyn};

use crate::error::Result;
use crate::ir::{DType, Dim, Shape};
use crate::shape::dims::{sum, unify};
use crate::shape::{Axes, Call, Contents, Fact, Item};

/// Concat along `axis`; all other sizes are equal.
pub fn concat(call: &Call) -> Result<Vec<Fact>> {
    let shapes: Option<Vec<&Shape>> = (0..call.inputs.len()).map(|i| call.shape(i)).collect();
    let Some(shapes) = shapes.filter(|s| !s.is_empty()) else { return Ok(vec![call.shaped(None)]) };
    let mut y = shapes[0].clone();
    let axis = call.axis(call.attrs.int("axis", 1), y.len())?;
    for (i, x) in shapes.iter().enumerate().skip(1) {
        if x.len() != y.len() {
            return Err(call.error(format!("input {i}: expected rank {}, found {}", y.len(), x.len())));
        }
        for (a, dim) in x.iter().enumerate() {
            y[a] = match a == axis {
                true => sum(call, &y[a], dim)?,
                false => unify(call, &format!("size {a} of input {i}"), &y[a], dim)?,
            };
        }
    }
    let contents: Option<Vec<&Contents>> =
        (0..call.inputs.len()).map(|i| call.input(i).and_then(|f| f.contents.as_ref())).collect();
    let joined = contents.and_then(|parts| {
        let views: Vec<_> = parts.iter().map(|c| c.view()).collect();
        ndarray::concatenate(Axis(axis), &views).ok()
    });
    Ok(vec![call.shaped(Some(y)).with_contents(joined)])
}

/// Split: lengths by attribute or, from operator set 13 on, by input; else equal parts.
pub fn split(call: &Call) -> Result<Vec<Fact>> {
    let count = call.outputs.max(1);
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None); count]) };
    let axis = call.axis(call.attrs.int("axis", 0), x.len())?;
    let lengths: Vec<Dim> = match (call.axes("split", 1, 13), x[axis].known()) {
        (Axes::Given(lengths), n) => {
            let total: i64 = lengths.iter().fold(0, |sum, l| sum.saturating_add(*l));
            if lengths.len() != count || n.is_some_and(|n| i64::try_from(n) != Ok(total)) {
                return Err(
                    call.error(format!("{count} outputs of lengths {lengths:?} from axis {axis} of size {}", x[axis]))
                );
            }
            lengths.iter().map(|l| Item::Int(*l).dim()).collect()
        }
        (Axes::Absent, Some(n)) => {
            let part = n.div_ceil(count);
            if call.opset < 18 && n % count != 0 {
                return Err(call.error(format!("axis {axis} of size {n} has no {count} equal parts")));
            }
            (0..count).map(|i| Dim::Known(part.min(n.saturating_sub(i * part)))).collect()
        }
        _ => vec![Dim::Unknown; count],
    };
    let one = |length: Dim| {
        let mut shape = x.clone();
        shape[axis] = length;
        call.shaped(Some(shape))
    };
    Ok(lengths.into_iter().map(one).collect())
}

/// Gather: indices replace `axis`.
pub fn gather(call: &Call) -> Result<Vec<Fact>> {
    let (Some(x), Some(indices)) = (call.shape(0), call.shape(1)) else { return Ok(vec![call.shaped(None)]) };
    let axis = call.axis(call.attrs.int("axis", 0), x.len())?;
    let mut y = x[..axis].to_vec();
    y.extend(indices.iter().cloned());
    y.extend_from_slice(&x[axis + 1..]);
    let fact = call.shaped(Some(y));
    let contents = || {
        let shape = fact.followed_shape()?;
        let contents = call.input(0)?.contents.as_ref()?;
        let n = i64::try_from(contents.shape()[axis]).ok()?;
        let position = |&i: &i64| {
            let front = if i < 0 { i.checked_add(n)? } else { i };
            usize::try_from(front).ok().filter(|_| front < n)
        };
        let positions: Option<Vec<usize>> = call.input(1)?.ints()?.iter().map(position).collect();
        let picked = contents.select(Axis(axis), &positions?);
        picked.to_shape(IxDyn(&shape)).ok().map(|c| c.to_owned())
    };
    let contents = contents();
    Ok(vec![fact.with_contents(contents)])
}

/// GatherElements: the shape of the indices.
pub fn gather_elements(call: &Call) -> Result<Vec<Fact>> {
    same_rank(call)?;
    Ok(vec![call.shaped(call.shape(1).cloned())])
}

/// ScatterElements: the shape of the data.
pub fn scatter_elements(call: &Call) -> Result<Vec<Fact>> {
    same_rank(call)?;
    Ok(vec![call.same()])
}

fn same_rank(call: &Call) -> Result<()> {
    match (call.shape(0), call.shape(1)) {
        (Some(x), Some(i)) if x.len() != i.len() => {
            Err(call.error(format!("indices of rank {} for data of rank {}, expected equal ranks", i.len(), x.len())))
        }
        _ => Ok(()),
    }
}

/// GatherND: the last axis of the indices addresses axes of the data from `batch_dims` on.
pub fn gather_nd(call: &Call) -> Result<Vec<Fact>> {
    let (Some(x), Some([outer @ .., depth])) = (call.shape(0), call.shape(1).map(Vec::as_slice)) else {
        return Ok(vec![call.shaped(None)]);
    };
    let batch = usize::try_from(call.attrs.int("batch_dims", 0)).unwrap_or(0);
    let Some(depth) = depth.known() else { return Ok(vec![call.shaped(None)]) };
    let addressed = batch.saturating_add(depth);
    if addressed > x.len() {
        return Err(call.error(format!("indices address {addressed} axes of data of rank {}", x.len())));
    }
    let mut y = outer.to_vec();
    y.extend_from_slice(&x[addressed..]);
    Ok(vec![call.shaped(Some(y))])
}

/// NonZero: `[rank, unknown]`.
pub fn non_zero(call: &Call) -> Result<Vec<Fact>> {
    let rank = call.shape(0).map_or(Dim::Unknown, |x| Dim::Known(x.len()));
    Ok(vec![Fact::new(Some(DType::I64), Some(vec![rank, Dim::Unknown]))])
}

/// OneHot: an axis of size `depth` more than the indices have; element type of the values.
pub fn one_hot(call: &Call) -> Result<Vec<Fact>> {
    let mut shape = call.shape(0).cloned();
    if let Some(y) = &mut shape {
        let axis = call.axis(call.attrs.int("axis", -1), y.len() + 1)?;
        let depth = call.items(1).filter(|d| d.len() == 1).map_or(Dim::Unknown, |d| d[0].dim());
        y.insert(axis, depth);
    }
    Ok(vec![Fact::new(call.dtype(2), shape)])
}
