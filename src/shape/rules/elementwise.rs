//! Elementwise operators, with broadcasting of several inputs.

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{DType, Shape};
use crate::shape::dims::broadcast;
use crate::shape::{Call, Contents, Fact, Item};

/// Output as input 0.
pub fn unary(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![call.same()])
}

/// The value itself.
pub fn identity(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![call.input(0).cloned().unwrap_or_default()])
}

/// Booleans in the shape of input 0.
pub fn unary_bool(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![Fact::new(Some(DType::Bool), call.shape(0).cloned())])
}

/// Output and mask; the mask has the input's element type before operator set 10.
pub fn dropout(call: &Call) -> Result<Vec<Fact>> {
    let mask = if call.opset < 10 { call.dtype(0) } else { Some(DType::Bool) };
    Ok(vec![call.same(), Fact::new(mask, call.shape(0).cloned())])
}

/// Add, Sub, Mul, Div, Pow and the like: all inputs broadcast, element type of input 0.
pub fn arithmetic(call: &Call) -> Result<Vec<Fact>> {
    let fact = call.shaped(all(call, 0)?);
    let contents = combined(call, &fact);
    Ok(vec![fact.with_contents(contents)])
}

/// Comparisons and logic: inputs broadcast, booleans out.
pub fn comparison(call: &Call) -> Result<Vec<Fact>> {
    let fact = Fact::new(Some(DType::Bool), all(call, 0)?);
    let contents = combined(call, &fact);
    Ok(vec![fact.with_contents(contents)])
}

/// PRelu: the slope broadcasts to the input, never the other way round.
pub fn prelu(call: &Call) -> Result<Vec<Fact>> {
    all(call, 0)?;
    Ok(vec![call.same()])
}

/// Where: condition and both branches broadcast.
pub fn where_(call: &Call) -> Result<Vec<Fact>> {
    let fact = Fact::new(call.dtype(1).or(call.dtype(2)), all(call, 0)?);
    let contents = || {
        let shape = fact.followed_shape()?;
        let [c, x, y] = [spread(call, 0, &shape)?, spread(call, 1, &shape)?, spread(call, 2, &shape)?];
        let one = |((c, x), y): ((&Item, &Item), &Item)| match c.int() {
            Some(0) => y.clone(),
            Some(_) => x.clone(),
            None => Item::Unknown,
        };
        let items = c.iter().zip(x.iter()).zip(y.iter()).map(one).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), items).ok()
    };
    let contents = contents();
    Ok(vec![fact.with_contents(contents)])
}

fn all(call: &Call, from: usize) -> Result<Option<Shape>> {
    // Before operator set 7 input 0 decides, and the others fit it by the attributes `axis` and `broadcast`.
    if call.opset < 7 && from == 0 {
        return Ok(call.shape(0).cloned());
    }
    let mut shape = Shape::new();
    for i in from..call.inputs.len() {
        match call.shape(i) {
            Some(next) => shape = broadcast(call, &shape, next)?,
            None => return Ok(None),
        }
    }
    Ok(Some(shape))
}

fn spread(call: &Call, i: usize, shape: &[usize]) -> Option<Contents> {
    Some(call.input(i)?.contents.as_ref()?.broadcast(IxDyn(shape))?.to_owned())
}

fn combined(call: &Call, fact: &Fact) -> Option<Contents> {
    let shape = fact.followed_shape()?;
    let [a, b] = [spread(call, 0, &shape)?, spread(call, 1, &shape)?];
    let items = a.iter().zip(b.iter()).map(|(a, b)| item(call.op_type, a, b)).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), items).ok()
}

fn item(op_type: &str, a: &Item, b: &Item) -> Item {
    let number = |value: Option<i64>| value.map_or(Item::Unknown, Item::Int);
    match (op_type, a, b) {
        ("Add", Item::Int(a), Item::Int(b)) => number(a.checked_add(*b)),
        ("Sub", Item::Int(a), Item::Int(b)) => number(a.checked_sub(*b)),
        ("Mul", Item::Int(a), Item::Int(b)) => number(a.checked_mul(*b)),
        // Truncates toward zero, as ONNX Runtime's Div of integers does.
        ("Div", Item::Int(a), Item::Int(b)) => number(a.checked_div(*b)),
        ("Equal", Item::Int(a), Item::Int(b)) => Item::Int(i64::from(a == b)),
        ("Equal", Item::Symbol(_), Item::Int(..0)) | ("Equal", Item::Int(..0), Item::Symbol(_)) => Item::Int(0),
        ("Add", other, Item::Int(0)) | ("Add", Item::Int(0), other) => other.clone(),
        ("Sub", other, Item::Int(0)) => other.clone(),
        ("Sub", Item::Symbol(a), Item::Symbol(b)) if a == b => Item::Int(0),
        ("Mul", other, Item::Int(1)) | ("Mul", Item::Int(1), other) | ("Div", other, Item::Int(1)) => other.clone(),
        _ => Item::Unknown,
    }
}
