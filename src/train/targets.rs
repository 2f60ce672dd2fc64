//! The tensors on which a student is trained to match its teacher.

use crate::autodiff::{Reach, has_rule};
use crate::ir::{DType, Graph, ValueId};
use crate::outputs::{compared_tensors, may_hold_scores};
use crate::plan::is_layer;

/// A tensor that the student is trained to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The tensor's name, equal in the float network and the student.
    pub tensor: String,
    /// Whether it holds logits, `[N, classes]` or `[N, classes, 1, 1]`.
    pub is_logits: bool,
}

/// The training targets of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The tensors.
    pub tensors: Vec<Target>,
    /// Operators without gradient: their inputs are targets instead, and layers behind them keep their weights.
    pub blocked: Vec<String>,
}

/// Returns the training targets of `graph`: the logits before a trailing Softmax or before a decision such as ArgMax,
/// else the outputs themselves, in float32 where a Cast changes their type. Where an operator without gradient rule
/// lies between such a tensor and the layers, that operator's inputs are the targets.
pub fn targets(graph: &Graph) -> Targets {
    let reach = Reach::of(graph, &[], is_layer);
    let (mut found, mut blocked) = (Vec::new(), Vec::new());
    for (tensor, _) in compared_tensors(graph) {
        before(graph, &reach, tensor, &mut found, &mut blocked);
    }
    let mut tensors: Vec<ValueId> = Vec::new();
    for tensor in found.into_iter().map(|id| before_casts(graph, id)) {
        let is_float = graph.value(tensor).dtype.is_none_or(|dtype| dtype.is_float());
        if is_float && !tensors.contains(&tensor) {
            tensors.push(tensor);
        }
    }
    blocked.sort_unstable();
    blocked.dedup();
    let blocked = blocked.into_iter().map(|node: usize| graph.describe(&graph.nodes[node]));
    let tensors = tensors.into_iter().map(|id| target(graph, id));
    Targets { tensors: tensors.collect(), blocked: blocked.collect() }
}

fn target(graph: &Graph, tensor: ValueId) -> Target {
    let shape = graph.value(tensor).shape.as_deref().unwrap_or_default();
    let (sizes, behind) = shape.split_at(shape.len().min(2));
    let classes = sizes.get(1).and_then(|dim| dim.known()).unwrap_or(0);
    let is_vector = matches!(behind.len(), 0 | 2) && behind.iter().all(|dim| dim.known() == Some(1));
    Target {
        tensor: graph.name_of(tensor).to_owned(),
        is_logits: classes > 1 && is_vector && may_hold_scores(graph, tensor),
    }
}

fn before_casts(graph: &Graph, tensor: ValueId) -> ValueId {
    let mut at = tensor;
    while graph.value(at).dtype != Some(DType::F32)
        && let Some(cast) = graph.maker(graph.name_of(at)).filter(|node| node.is("Cast"))
        && let Some(input) = cast.input(0).filter(|&id| graph.value(id).dtype.is_some_and(DType::is_float))
    {
        at = input;
    }
    at
}

/// Adds the last tensors on all paths to `tensor` that gradients reach, and the indices of the operators behind them.
fn before(graph: &Graph, reach: &Reach, tensor: ValueId, found: &mut Vec<ValueId>, blocked: &mut Vec<usize>) {
    let uses = graph.uses();
    let (mut waiting, mut seen) = (vec![tensor], vec![false; graph.value_ids().count()]);
    while let Some(id) = waiting.pop() {
        if std::mem::replace(&mut seen[id.index()], true) || !reach.follows(id) {
            continue;
        }
        let Some(place) = uses.producer(id).filter(|_| !reach.passes(id)) else {
            found.push(id);
            continue;
        };
        if !has_rule(&graph.nodes[place]) {
            blocked.push(place);
        }
        waiting.extend(graph.nodes[place].inputs.iter().flatten().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Dim, Node};

    /// Operator, inputs and output.
    type Call<'a> = (&'a str, &'a [&'a str], &'a str);

    /// Name, nodes, shapes, targets and the blocked operators.
    type Case<'a> = (&'a str, &'a [Call<'a>], &'a [(&'a str, &'a [usize])], &'a [(&'a str, bool)], &'a [&'a str]);

    fn found(nodes: &[Call], shapes: &[(&str, &[usize])]) -> (Vec<(String, bool)>, Vec<String>) {
        let mut graph = Graph::default();
        for (op, inputs, output) in nodes {
            let inputs: Vec<ValueId> = inputs.iter().map(|name| graph.find_or_add(name)).collect();
            let output = graph.find_or_add(output);
            graph.nodes.push(Node::new(op, inputs, [output], []));
        }
        for (name, shape) in shapes {
            let id = graph.find_or_add(name);
            graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
            graph.value_mut(id).dtype = Some(DType::F32);
        }
        graph.outputs = vec![graph.find("y").unwrap()];
        let Targets { tensors, blocked } = targets(&graph);
        (tensors.into_iter().map(|t| (t.tensor, t.is_logits)).collect(), blocked)
    }

    #[test]
    fn training_is_for_the_last_tensors_that_gradients_reach() {
        let cases: &[Case] = &[
            ("logits", &[("Gemm", &["x", "w"], "s"), ("Softmax", &["s"], "y")], &[("s", &[2, 5])], &[("s", true)], &[]),
            ("a map", &[("Conv", &["x", "w"], "y")], &[("y", &[2, 5, 4, 4])], &[("y", false)], &[]),
            ("labels", &[("Gemm", &["x", "w"], "s"), ("ArgMax", &["s"], "y")], &[("s", &[2, 5])], &[("s", true)], &[]),
            (
                "an operator without a rule",
                &[("Conv", &["x", "w"], "a"), ("Mod", &["a", "n"], "b"), ("Gemm", &["b", "v"], "y")],
                &[("a", &[2, 5, 4, 4])],
                &[("a", false)],
                &["node producing \"b\" (Mod)"],
            ),
            (
                "a way around it",
                &[
                    ("Conv", &["x", "w"], "a"),
                    ("Mod", &["a", "n"], "b"),
                    ("Conv", &["x", "v"], "c"),
                    ("Add", &["b", "c"], "y"),
                ],
                &[],
                &[("a", false), ("c", false)],
                &["node producing \"b\" (Mod)"],
            ),
            ("before all layers", &[("Mod", &["x", "n"], "a"), ("Conv", &["a", "w"], "y")], &[], &[("y", false)], &[]),
        ];
        let mut failed = Vec::new();
        for (name, nodes, shapes, tensors, blocked) in cases {
            let (found, between) = found(nodes, shapes);
            let expected: Vec<(String, bool)> =
                tensors.iter().map(|&(name, logits)| (name.to_owned(), logits)).collect();
            if found != expected || between != *blocked {
                failed.push(format!("{name}: {found:?} {between:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
