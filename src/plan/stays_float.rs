//! Reasons for a layer to stay in floating point: excluded by the user, unsupported, or faster on the target.

use super::layer_shape::LayerShape;
use super::policy::Pattern;
use super::{Cause, Policy};
use crate::ir::{DType, Graph, Node, ValueId};

/// Returns why `node`, a layer, stays float; `None` if it can be quantized.
pub(super) fn why_float(graph: &Graph, policy: &Policy, exclude: &[Pattern], node: &Node) -> Option<(Cause, String)> {
    let excluded = || Some((Cause::Choice, excluded(graph, policy, exclude, node)?));
    let unfit = || Some((Cause::Form, unfit(graph, node)?));
    excluded().or_else(unfit).or_else(|| {
        let shape = LayerShape::of(graph, node, node.input(0)?, node.input(1)?);
        let reason = policy.target.choices().keeps_float.iter().find_map(|rule| rule(&shape))?;
        Some((Cause::Speed, reason))
    })
}

/// Returns why the layer cannot be quantized.
fn unfit(graph: &Graph, node: &Node) -> Option<String> {
    let (Some(input), Some(weight)) = (node.input(0), node.input(1)) else {
        return Some("an input is missing".to_owned());
    };
    if !is_float(graph, input) {
        return Some(format!("its input is {}", not_float32(graph, input)));
    }
    match graph.constant_of(weight) {
        Some(tensor) if tensor.dtype() != DType::F32 => return Some(format!("its weight is {}", tensor.dtype())),
        Some(tensor) if tensor.is_empty() => return Some("its weight is empty".to_owned()),
        None if !node.is("MatMul") => return Some("its weight is computed at run time".to_owned()),
        None if !is_float(graph, weight) => {
            return Some(format!("its second operand is {}", not_float32(graph, weight)));
        }
        _ => {}
    }
    let attrs = &node.attrs;
    let plain = attrs.float("alpha", 1.0) == 1.0 && attrs.float("beta", 1.0) == 1.0 && attrs.int("transA", 0) == 0;
    (node.is("Gemm") && !plain).then(|| "Gemm with alpha, beta or transA has no integer form".to_owned())
}

/// Returns how the user excluded `node`, if so.
pub(super) fn excluded(graph: &Graph, policy: &Policy, exclude: &[Pattern], node: &Node) -> Option<String> {
    if let Some(pattern) = exclude.iter().find(|p| p.matches(graph, node)) {
        return Some(format!("excluded by name \"{}\"", pattern.typed));
    }
    policy.exclude_ops.contains(&node.op_type).then(|| "excluded by operator".to_owned())
}

/// Returns whether a value is a float32 tensor that is computed at run time.
pub(super) fn is_float(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.constant.is_none() && value.dtype == Some(DType::F32)
}

fn not_float32(graph: &Graph, id: ValueId) -> String {
    match graph.value(id) {
        value if value.constant.is_some() => "a constant".to_owned(),
        value => match value.dtype {
            Some(dtype) if dtype.is_float() => format!("{dtype}; convert the model to float32 first"),
            Some(dtype) => format!("{dtype}, only float32 is quantized"),
            None => "of unknown type".to_owned(),
        },
    }
}
