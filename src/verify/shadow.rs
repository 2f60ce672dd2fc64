//! The copy of a model for tract: the same integers in 8-bit containers, without patterns that tract folds wrongly.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Tensor, is_dequantize, is_quantize};

/// Operators whose results tract computes from the dequantized values, whatever follows them.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Returns `graph` with INT4, UINT4, INT2 and UINT2 initializers (zero points too) re-stored as INT8 and UINT8, with
/// explicit zero points wherever the output type of QuantizeLinear is stated by an attribute alone, which tract
/// ignores, and with a Max that changes no value behind DequantizeLinear, which tract folds nothing across.
///
/// # Errors
/// [`Error::Unsupported`] for blocked scales and 16-bit integers, and for activations in a type below 8 bits: there a
/// wider type would also saturate elsewhere.
pub fn shadow(graph: &Graph) -> Result<Graph> {
    let mut copy = widen_initializers(graph)?;
    for i in 0..copy.nodes.len() {
        let node = &copy.nodes[i];
        if is_quantize(node) || is_dequantize(node) {
            refuse_unreadable(graph, &graph.nodes[i])?;
        }
        if is_quantize(node) && node.input(2).is_none() {
            state_zero_point(&mut copy, i)?;
        }
    }
    keep_apart(&mut copy);
    Ok(copy)
}

/// Puts a Max with the lowest number between every DequantizeLinear of activations and the operators without weights
/// that read it.
///
/// tract 0.23.9 makes one table of 256 entries of DequantizeLinear, operators that keep every axis, and QuantizeLinear.
/// For operators that look at more than one element (Softmax and what is made of it, RMSNormalization) it is wrong; for
/// all others, computing the same without a table gives the same.
fn keep_apart(copy: &mut Graph) {
    let uses = copy.uses();
    let is_weighted = |node: &Node| WEIGHTED.iter().any(|op| node.is(op));
    let plain = |id| uses.consumers(id).iter().any(|&i| !is_weighted(&copy.nodes[i]));
    let read = |node: &Node| {
        let computed = is_dequantize(node) && node.input(0).is_some_and(|id| uses.producer(id).is_some());
        node.output(0).filter(|&y| computed && plain(y))
    };
    let found: Vec<_> = copy.nodes.iter().enumerate().filter_map(|(i, node)| Some((i, read(node)?))).collect();
    if found.is_empty() {
        return;
    }
    let lowest = copy.add_constant("lowest", Tensor::from_f32(&[], &[f32::NEG_INFINITY]));
    let (mut apart, mut behind) = (HashMap::new(), HashMap::new());
    for (i, y) in found {
        let own = copy.add_value(&format!("{}_apart", copy.name_of(y)));
        (copy.value_mut(own).dtype, copy.value_mut(own).shape) = (copy.value(y).dtype, copy.value(y).shape.clone());
        apart.insert(y, own);
        behind.insert(i, Node::new("Max", [y, lowest], [own], []));
    }
    for input in copy.nodes.iter_mut().filter(|node| !is_weighted(node)).flat_map(|n| n.inputs.iter_mut()).flatten() {
        *input = apart.get(input).copied().unwrap_or(*input);
    }
    let nodes = std::mem::take(&mut copy.nodes).into_iter().enumerate();
    copy.nodes = nodes.flat_map(|(i, node)| std::iter::once(node).chain(behind.remove(&i))).collect();
}

/// Returns `graph` with its 2-bit and 4-bit initializers in 8-bit containers, and nothing else changed.
///
/// # Errors
/// When an initializer contradicts its own size.
pub fn widen_initializers(graph: &Graph) -> Result<Graph> {
    let mut copy = graph.clone();
    for id in copy.value_ids() {
        let value = copy.value_mut(id);
        value.dtype = value.dtype.map(|dtype| container(dtype).unwrap_or(dtype));
        if let Some(tensor) = &value.constant
            && let Some(wide) = container(tensor.dtype())
        {
            value.constant = Some(widen(tensor, wide)?);
        }
    }
    Ok(copy)
}

fn container(dtype: DType) -> Option<DType> {
    match dtype {
        DType::I4 | DType::I2 => Some(DType::I8),
        DType::U4 | DType::U2 => Some(DType::U8),
        _ => None,
    }
}

/// Takes the integers apart without the routine that packed them: that one is under test too.
fn widen(tensor: &Tensor, wide: DType) -> Result<Tensor> {
    let bits = tensor.dtype().bits();
    let per_byte = 8 / bits;
    let sign = if wide == DType::I8 { 1u8 << (bits - 1) } else { 0 };
    let one = |i: usize| {
        let field = (tensor.bytes()[i / per_byte] >> (bits * (i % per_byte))) & ((1 << bits) - 1);
        (field ^ sign).wrapping_sub(sign)
    };
    let bytes: Vec<u8> = (0..tensor.len()).map(one).collect();
    Tensor::new(wide, tensor.shape().to_vec(), bytes.into())
}

fn refuse_unreadable(graph: &Graph, node: &Node) -> Result<()> {
    let scale = node.input(1).and_then(|id| graph.constant_of(id));
    if node.attrs.int("block_size", 0) != 0 || scale.is_some_and(|s| s.shape().len() > 1) {
        return Err(Error::unsupported(
            graph.describe(node),
            "tract does not support blocked scales (block_size), so it cannot check the model; quantize per \
             channel or per tensor",
        ));
    }
    let zero_point = node.input(2).and_then(|id| graph.value(id).dtype);
    let stated = i32::try_from(node.attrs.int("output_dtype", 0)).ok().and_then(DType::from_code);
    if zero_point.or(stated).is_some_and(|dtype| dtype.bits() == 16) {
        return Err(Error::unsupported(
            graph.describe(node),
            "tract does not support 16-bit integers, so it cannot check the model; quantize to 8 bits or fewer",
        ));
    }
    if is_quantize(node) && zero_point.or(stated).is_some_and(|dtype| dtype.bits() < 8) {
        return Err(Error::unsupported(
            graph.describe(node),
            "tract does not support activations in a type below 8 bits; emit uint8 followed by an integer Clip",
        ));
    }
    Ok(())
}

fn state_zero_point(copy: &mut Graph, at: usize) -> Result<()> {
    let node = &copy.nodes[at];
    let Some(dtype) = i32::try_from(node.attrs.int("output_dtype", 0)).ok().and_then(DType::from_code) else {
        return Ok(());
    };
    let scale = node
        .input(1)
        .and_then(|id| copy.constant_of(id))
        .ok_or_else(|| Error::unsupported(copy.describe(node), "tract does not support scales computed at run time"))?;
    let zeros = Tensor::from_ints(dtype, scale.shape(), &vec![0; scale.len()])?;
    let id = copy.add_constant("zero_point_stated", zeros);
    copy.nodes[at].inputs.resize(3, None);
    copy.nodes[at].inputs[2] = Some(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_keeps_every_integer() {
        let mut failed = Vec::new();
        for dtype in [DType::I4, DType::U4, DType::I2, DType::U2] {
            let (lo, hi) = dtype.int_range().unwrap();
            let mut values: Vec<i32> = (lo..=hi).map(|v| i32::try_from(v).unwrap()).collect();
            values.push(1);
            let tensor = Tensor::from_ints(dtype, &[values.len()], &values).unwrap();
            let wide = widen(&tensor, container(dtype).unwrap()).unwrap();
            if wide.to_i64().unwrap() != values.iter().map(|&v| i64::from(v)).collect::<Vec<_>>() {
                failed.push((dtype, wide));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
