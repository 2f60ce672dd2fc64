//! Operators that make tensors from attributes or shapes, and changes of the element type.

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{Attr, DType, Dim, Shape, Tensor};
use crate::shape::dims::product;
use crate::shape::fact::of_rank;
use crate::shape::{CONTENTS_MAX, Call, Fact, Item};

/// Returns the tensor of a Constant node, `None` for strings and sparse values.
pub fn constant_value(attrs: &crate::ir::Attrs) -> Option<Tensor> {
    attrs.iter().find_map(|(name, value)| match (name, value) {
        ("value", Attr::Tensor(tensor)) => Some(tensor.clone()),
        ("value_int", Attr::Int(v)) => Some(Tensor::from_i64(&[], &[*v])),
        ("value_ints", Attr::Ints(v)) => Some(Tensor::from_i64(&[v.len()], v)),
        ("value_float", Attr::Float(v)) => Some(Tensor::from_f32(&[], &[*v])),
        ("value_floats", Attr::Floats(v)) => Some(Tensor::from_f32(&[v.len()], v)),
        _ => None,
    })
}

/// Constant of any numeric kind.
pub fn constant(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![constant_value(call.attrs).map_or(Fact::default(), |t| Fact::of_tensor(&t))])
}

/// ConstantOfShape: float zeros where no value is given.
pub fn constant_of_shape(call: &Call) -> Result<Vec<Fact>> {
    let value = match call.attrs.get("value") {
        Some(Attr::Tensor(tensor)) => tensor.clone(),
        _ => Tensor::from_f32(&[1], &[0.0]),
    };
    let shape: Option<Shape> = match (call.items(0), call.shape(0).map(Vec::as_slice)) {
        (Some(items), _) => Some(items.iter().map(Item::dim).collect()),
        (None, Some([n])) => n.known().and_then(of_rank),
        _ => None,
    };
    let fact = Fact::new(Some(value.dtype()), shape);
    let contents = || {
        let shape = fact.static_shape()?;
        let fits = crate::ir::element_count(&shape)? <= CONTENTS_MAX;
        let item = Item::Int(*value.to_i64().ok()?.first()?);
        fits.then(|| ArrayD::from_elem(IxDyn(&shape), item))
    };
    let contents = contents();
    Ok(vec![fact.with_contents(contents)])
}

/// Shape, from `start` to `end` from operator set 15 on.
pub fn shape(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![Fact::new(Some(DType::I64), Some(vec![Dim::Unknown]))]) };
    let rank = i64::try_from(x.len()).unwrap_or(i64::MAX);
    let bound = |name: &str, default: i64| {
        let v = call.attrs.int(name, default);
        let front = if v < 0 { v.saturating_add(rank) } else { v };
        usize::try_from(front.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let items: Vec<Item> = x[start.min(end)..end].iter().map(Item::from).collect();
    Ok(vec![Fact::of_contents(Some(DType::I64), ndarray::arr1(&items).into_dyn())])
}

/// Size: the number of elements.
pub fn size(call: &Call) -> Result<Vec<Fact>> {
    let item = match call.shape(0) {
        Some(x) => Item::from(&product(call, x)?),
        None => Item::Unknown,
    };
    Ok(vec![Fact::of_contents(Some(DType::I64), ndarray::arr0(item).into_dyn())])
}

/// Range from `start` to before `limit`.
pub fn range(call: &Call) -> Result<Vec<Fact>> {
    let unknown = Fact::new(call.dtype(0), Some(vec![Dim::Unknown]));
    let int = |i: usize| call.items(i).filter(|v| v.len() == 1).and_then(|v| v[0].int());
    if let (Some(start), Some(limit), Some(delta)) = (int(0), int(1), int(2)) {
        if delta == 0 {
            return Err(call.error("a delta of 0"));
        }
        let reach = i128::from(limit) - i128::from(start);
        let count = (reach / i128::from(delta)) + i128::from(reach % i128::from(delta) != 0);
        let Ok(count) = usize::try_from(count.max(0)) else { return Ok(vec![unknown]) };
        // Rounding up needs reach and delta of one sign.
        let count = if (reach > 0) == (delta > 0) { count } else { 0 };
        let fact = call.shaped(Some(vec![Dim::Known(count)]));
        if count > CONTENTS_MAX {
            return Ok(vec![fact]);
        }
        let items: Vec<Item> = (0i64..).take(count).map(|i| Item::Int(start + i * delta)).collect();
        return Ok(vec![fact.with_contents(Some(ndarray::arr1(&items).into_dyn()))]);
    }
    let float = |i: usize| call.input(i)?.floats()?.first().copied().map(f64::from);
    if let (Some(start), Some(limit), Some(delta)) = (float(0), float(1), float(2)) {
        let count = ((limit - start) / delta).ceil().max(0.0);
        if count.is_finite() {
            // A float beyond the range of the integer becomes its largest value.
            let n = Some(count as usize);
            return Ok(vec![call.shaped(Some(vec![crate::shape::dims::size(call, n)?]))]);
        }
    }
    Ok(vec![unknown])
}

/// EyeLike: the shape of the input, `dtype` where it is given.
pub fn eye_like(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![Fact::new(code(call, "dtype")?.or(call.dtype(0)), call.shape(0).cloned())])
}

/// Cast: integers stay known where they are cast to int32 or int64.
pub fn cast(call: &Call) -> Result<Vec<Fact>> {
    let to = code(call, "to")?;
    let keeps = matches!(to, Some(DType::I32 | DType::I64));
    let contents = call.input(0).and_then(|f| f.contents.clone()).filter(|_| keeps);
    Ok(vec![Fact::new(to, call.shape(0).cloned()).with_contents(contents)])
}

/// CastLike: the element type of input 1.
pub fn cast_like(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![Fact::new(call.dtype(1), call.shape(0).cloned())])
}

/// Returns the element type that attribute `name` names, `None` where it is absent or 0.
pub fn code(call: &Call, name: &str) -> Result<Option<DType>> {
    match call.attrs.int(name, 0) {
        0 => Ok(None),
        code => match i32::try_from(code).ok().and_then(DType::from_code) {
            Some(dtype) => Ok(Some(dtype)),
            None => Err(call.error(format!("attribute \"{name}\": element type {code} is not handled"))),
        },
    }
}
