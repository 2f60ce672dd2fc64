//! Folds values that do not depend on graph inputs, by shape inference and by running them once.

use std::collections::HashSet;

use super::lift_constants::make_constant;
use crate::error::Result;
use crate::ir::{DType, Dim, Graph, Node, Tensor, ValueId};
use crate::runtime::{Engine, Optimisation, SessionOptions};
use crate::shape::{self, Fact, Item};

/// The most bytes by which a folded result may exceed its constants, so that the file does not grow by unpacking. A
/// weight may have as many elements as its constants, whatever their type, since it is stored as integers in the end.
const GROWTH: usize = 1 << 20;

/// Operators that are not functions of their inputs, or must stay in the file.
const KEPT: &[&str] = &[
    "Bernoulli",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Multinomial",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Operators whose inputs but the first are weights.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"];

/// Returns the number of nodes removed or simplified.
///
/// Matched, until nothing changes: integers that follow from shapes; a Reshape target of numbers and of sizes that the
/// input has in the same place; nodes with constant inputs only, all run in one session of `engine`. Refused: nodes
/// that make a graph output, random operators, other domains, Q/DQ but for a DequantizeLinear that a weight is made by,
/// results of unknown size or more than 1 MiB larger than what they are made from; a weight may be larger where it has
/// no more elements. Before -> after: `s = Shape(x: [N, 64, 1, 1]); n = Gather(s, 0); t = Concat(n, [-1]); y =
/// Reshape(x, t)` -> `y = Reshape(x, [0, -1])`.
///
/// # Errors
/// Those of [`shape::infer`]; [`crate::Error::Runtime`] when `engine` cannot run the constant part.
pub fn fold_constants(graph: &mut Graph, engine: &dyn Engine) -> Result<usize> {
    let mut changes = 0;
    loop {
        let facts = shape::facts(graph)?;
        let mut found = fix_reshapes(graph, &facts);
        found += fold_contents(graph, &facts)?;
        graph.sweep();
        found += fold_by_running(graph, engine)?;
        graph.sweep();
        if found == 0 {
            return Ok(changes);
        }
        changes += found;
    }
}

fn fix_reshapes(graph: &mut Graph, facts: &[Fact]) -> usize {
    let mut fixed = 0;
    for i in 0..graph.nodes.len() {
        let Some((target, name)) = fixed_target(graph, &graph.nodes[i], facts) else { continue };
        let id = graph.add_constant(&name, Tensor::from_i64(&[target.len()], &target));
        graph.nodes[i].inputs[1] = Some(id);
        fixed += 1;
    }
    fixed
}

/// Returns the target of a Reshape as numbers, if possible, and a name for it.
fn fixed_target(graph: &Graph, node: &Node, facts: &[Fact]) -> Option<(Vec<i64>, String)> {
    let (x, target, y) = (node.input(0)?, node.input(1)?, node.output(0)?);
    if !node.is("Reshape") || node.attrs.int("allowzero", 0) != 0 || graph.constant_of(target).is_some() {
        return None;
    }
    let items = facts[target.index()].items()?;
    let x = facts[x.index()].shape.as_ref();
    let same = |i: usize, name: &str| matches!(x?.get(i)?, Dim::Symbol(n) if n == name).then_some(0);
    let one = |(i, item): (usize, &Item)| match item {
        Item::Int(v) => Some(*v),
        Item::Symbol(name) => same(i, name),
        Item::Unknown => None,
    };
    let mut numbers: Vec<Option<i64>> = items.iter().enumerate().map(one).collect();
    // One size that is not known may be left to follow from the others.
    if let [free] = numbers.iter().enumerate().filter(|(_, n)| n.is_none()).map(|(i, _)| i).collect::<Vec<_>>()[..]
        && !numbers.contains(&Some(-1))
    {
        numbers[free] = Some(-1);
    }
    Some((numbers.into_iter().collect::<Option<_>>()?, format!("{}_target", graph.name_of(y))))
}

fn makes_output(graph: &Graph, node: &Node) -> bool {
    node.outputs.iter().flatten().any(|id| graph.outputs.contains(id))
}

fn may_fold(graph: &Graph, node: &Node, into_weight: bool) -> bool {
    let kept = KEPT.contains(&node.op_type.as_str()) && !(into_weight && node.is("DequantizeLinear"));
    node.domain.is_empty() && !kept && !makes_output(graph, node)
}

/// Returns for each value whether it is a parameter of a layer or normalization, or a parameter is computed from it.
fn weight_sources(graph: &Graph) -> Vec<bool> {
    let mut sources = vec![false; graph.value_ids().count()];
    for node in graph.nodes.iter().rev() {
        let makes_source = node.outputs.iter().flatten().any(|id| sources[id.index()]);
        let data = if makes_source { 0 } else { 1 };
        if makes_source || WEIGHTED.iter().any(|op| node.is(op)) {
            node.inputs.iter().skip(data).flatten().for_each(|id| sources[id.index()] = true);
        }
    }
    sources
}

fn fold_contents(graph: &mut Graph, facts: &[Fact]) -> Result<usize> {
    let mut known = Vec::new();
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let tensors: Option<Vec<(ValueId, Tensor)>> =
            node.outputs.iter().flatten().map(|id| Some((*id, tensor_of(&facts[id.index()])?))).collect();
        let tensors = tensors.filter(|t| may_fold(graph, node, false) && !t.is_empty());
        kept.push(tensors.is_none());
        known.extend(tensors.into_iter().flatten());
    }
    Ok(replace(graph, &kept, known))
}

fn tensor_of(fact: &Fact) -> Option<Tensor> {
    let (shape, ints) = (fact.static_shape()?, fact.ints()?);
    match fact.dtype? {
        DType::I64 => Some(Tensor::from_i64(&shape, &ints)),
        dtype => {
            let ints: Option<Vec<i32>> = ints.into_iter().map(|v| i32::try_from(v).ok()).collect();
            Tensor::from_ints(dtype, &shape, &ints?).ok()
        }
    }
}

fn replace(graph: &mut Graph, kept: &[bool], known: Vec<(ValueId, Tensor)>) -> usize {
    let folded = graph.retain_nodes(|node| kept[node]);
    for (id, tensor) in known {
        make_constant(graph, id, tensor);
    }
    folded
}

fn fold_by_running(graph: &mut Graph, engine: &dyn Engine) -> Result<usize> {
    let facts = shape::facts(graph)?;
    let kept = depends_on_inputs(graph, &facts);
    if kept.iter().all(|k| *k) {
        return Ok(0);
    }
    let mut constant_part = graph.clone();
    constant_part.inputs.clear();
    constant_part.retain_nodes(|node| !kept[node]);
    let made: Vec<ValueId> = constant_part.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
    let readers = graph.nodes.iter().zip(&kept).filter(|(_, kept)| **kept);
    let read: HashSet<ValueId> = readers.flat_map(|(node, _)| node.inputs.iter().flatten().copied()).collect();
    constant_part.outputs = made.into_iter().filter(|id| read.contains(id)).collect();
    for id in constant_part.value_ids() {
        let value = constant_part.value_mut(id);
        (value.dtype, value.shape) = (facts[id.index()].dtype, None);
        value.declared = false;
    }
    constant_part.sweep();
    let options = SessionOptions { optimisation: Optimisation::None, ..SessionOptions::default() };
    let results = engine.load(&constant_part, &options)?.run(&[])?;
    Ok(replace(graph, &kept, constant_part.outputs.iter().copied().zip(results).collect()))
}

/// Returns for each node whether it stays: an input is not constant, or it must not be folded.
fn depends_on_inputs(graph: &Graph, facts: &[Fact]) -> Vec<bool> {
    let mut constant = vec![false; facts.len()];
    for id in graph.value_ids() {
        constant[id.index()] = graph.constant_of(id).is_some();
    }
    let sources = weight_sources(graph);
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let into_weight = node.outputs.iter().flatten().any(|id| sources[id.index()]);
        let folds = may_fold(graph, node, into_weight)
            && node.inputs.iter().flatten().all(|id| constant[id.index()])
            && node.inputs.iter().flatten().next().is_some()
            && (stays_small(node, facts) || into_weight && has_no_more_elements(node, facts));
        kept.push(!folds);
        for id in node.outputs.iter().flatten() {
            constant[id.index()] = folds;
        }
    }
    kept
}

fn stays_small(node: &Node, facts: &[Fact]) -> bool {
    let bytes = |fact: &Fact| fact.dtype?.byte_len(elements(fact)?);
    match (total(&node.inputs, facts, bytes), total(&node.outputs, facts, bytes)) {
        (Some(from), Some(to)) => to <= from.saturating_add(GROWTH),
        _ => false,
    }
}

fn has_no_more_elements(node: &Node, facts: &[Fact]) -> bool {
    match (total(&node.inputs, facts, elements), total(&node.outputs, facts, elements)) {
        (Some(from), Some(to)) => to <= from,
        _ => false,
    }
}

fn elements(fact: &Fact) -> Option<usize> {
    crate::ir::element_count(&fact.static_shape()?)
}

fn total(ids: &[Option<ValueId>], facts: &[Fact], size: impl Fn(&Fact) -> Option<usize>) -> Option<usize> {
    ids.iter().flatten().try_fold(0usize, |total, id| total.checked_add(size(&facts[id.index()])?))
}
