//! Work of a node in multiply-accumulates.

use crate::ir::{Graph, Node, ValueId};

/// Returns the multiply-accumulates of one sample (batch 1), for Conv, ConvTranspose, Gemm and MatMul with known shapes.
pub fn macs(graph: &Graph, node: &Node) -> Option<u64> {
    let known = |id: ValueId| -> Option<Vec<u64>> {
        let value = graph.value(id);
        let shape = match &value.constant {
            Some(tensor) => tensor.shape().iter().map(|&d| Some(d)).collect::<Vec<_>>(),
            None => value.shape.as_ref()?.iter().map(crate::ir::Dim::known).collect(),
        };
        let batch_free = |(axis, dim): (usize, Option<usize>)| match (axis, dim) {
            (_, Some(n)) => u64::try_from(n).ok(),
            (0, None) => Some(1),
            _ => None,
        };
        shape.into_iter().enumerate().map(batch_free).collect()
    };
    let (x, w, y) = (known(node.input(0)?)?, known(node.input(1)?)?, known(node.output(0)?)?);
    let product = |dims: &[u64]| dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    match node.op_type.as_str() {
        "Conv" => product(&w)?.checked_mul(product(y.get(2..)?)?),
        "ConvTranspose" => product(&w)?.checked_mul(product(x.get(2..)?)?),
        "Gemm" => product(&w),
        "MatMul" => product(y.get(1..)?)?.checked_mul(*x.last()?),
        _ => None,
    }
}

/// Returns the multiply-accumulates of all layers whose shapes are known, per sample.
pub fn total_macs(graph: &Graph) -> u64 {
    graph.nodes.iter().filter_map(|node| macs(graph, node)).fold(0, u64::saturating_add)
}
