//! The kinds of a model's outputs, and the tensors that are compared between runtimes in place of some outputs.

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Uses, ValueId, is_dequantize, is_quantize};

/// Operators with discontinuous results: a tie may fall either way between runtimes, and later values do not measure
/// how far they differ.
const DECIDING: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Ceil",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "Less",
    "LessOrEqual",
    "NonMaxSuppression",
    "NonZero",
    "Round",
    "Sign",
    "TopK",
    "Unique",
];

/// Operators whose output size depends on the contents of an input.
const OF_VARIABLE_SIZE: &[&str] = &["Compress", "NonMaxSuppression", "NonZero", "Unique"];

/// Operators with weights: before them, values are bit-equal in every runtime.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul", "GRU", "LSTM", "RNN"];

/// Operators that produce class scores, and operators that pass them on.
const SCORING: &[&str] = &[
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "Gemm",
    "GlobalAveragePool",
    "LogSoftmax",
    "MatMul",
    "Mul",
    "ReduceMean",
    "Sigmoid",
    "Softmax",
    "Sub",
];
const PASS_THROUGH: &[&str] = &["Cast", "Clip", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"];

/// Returns for each output of `graph` the tensors to compare end to end: the float tensors that decide an output of
/// labels or of selected boxes, the input of a trailing Softmax or LogSoftmax, else the output itself.
///
/// The exponential makes large relative errors of small ones, and a quantized probability has few steps where it is
/// small; the scores before it carry the same decision on an even scale.
pub fn compared_tensors(graph: &Graph) -> Vec<(ValueId, DType)> {
    let uses = graph.uses();
    let scores = |(id, dtype): (ValueId, DType)| match before_softmax(graph, &uses, id) {
        Some(scores) => (scores, graph.value(scores).dtype.unwrap_or(DType::F32)),
        None => (id, dtype),
    };
    without_repeats(settled_tensors(graph).into_iter().map(scores))
}

/// Returns for each output of `graph` the float tensors that decide it where it is decided (see [`DECIDING`]), else the
/// output itself.
pub fn settled_tensors(graph: &Graph) -> Vec<(ValueId, DType)> {
    let uses = graph.uses();
    let decisions = Decisions::of(graph);
    let tensors = graph.outputs.iter().flat_map(|&output| {
        let deciding = if decisions.decided[output.index()] { decisions.before(graph, &uses, output) } else { vec![] };
        if deciding.is_empty() { vec![output] } else { deciding }
    });
    without_repeats(tensors.map(|id| (id, graph.value(id).dtype.unwrap_or(DType::F32))))
}

/// Returns `graph` with the tensors of these names as its only outputs, of these types where it states none.
///
/// # Errors
/// [`Error::Plan`] for a name that the graph does not have.
pub fn answering(graph: &Graph, tensors: &[(String, DType)]) -> Result<Graph> {
    let mut tapped = graph.clone();
    tapped.outputs.clear();
    for (name, dtype) in tensors {
        let id = graph.find(name).ok_or_else(|| Error::Plan(format!("the student lost its tensor \"{name}\"")))?;
        tapped.value_mut(id).dtype.get_or_insert(*dtype);
        tapped.outputs.push(id);
    }
    Ok(tapped)
}

fn without_repeats(tensors: impl Iterator<Item = (ValueId, DType)>) -> Vec<(ValueId, DType)> {
    let mut kept: Vec<(ValueId, DType)> = Vec::new();
    for tensor in tensors {
        if !kept.contains(&tensor) {
            kept.push(tensor);
        }
    }
    kept
}

fn before_softmax(graph: &Graph, uses: &Uses, output: ValueId) -> Option<ValueId> {
    let mut at = output;
    loop {
        let node = &graph.nodes[uses.producer(at)?];
        let input = node.input(0)?;
        if node.is("Softmax") || node.is("LogSoftmax") {
            return Some(input);
        }
        if !(is_quantize(node) || is_dequantize(node) || node.is("Identity") || node.is("Cast")) {
            return None;
        }
        at = input;
    }
}

/// The values that depend on weights, and those of them that depend on a decision.
struct Decisions {
    weighted: Vec<bool>,
    decided: Vec<bool>,
}

impl Decisions {
    fn of(graph: &Graph) -> Self {
        let values = graph.value_ids().count();
        let (mut weighted, mut decided) = (vec![false; values], vec![false; values]);
        for node in graph.nodes.iter().filter(|n| !n.is("Shape") && !n.is("Size")) {
            let any = |flags: &[bool]| node.inputs.iter().flatten().any(|id| flags[id.index()]);
            let behind = WEIGHTED.iter().any(|op| node.is(op)) || is_quantize(node) || any(&weighted);
            let follows = any(&decided) || any(&weighted) && decides(node);
            for id in node.outputs.iter().flatten() {
                (weighted[id.index()], decided[id.index()]) = (behind, follows);
            }
        }
        Self { weighted, decided }
    }

    /// Returns the inputs of the first decisions on all paths to `output`.
    fn before(&self, graph: &Graph, uses: &Uses, output: ValueId) -> Vec<ValueId> {
        let (mut waiting, mut seen, mut found) = (vec![output], vec![false; self.decided.len()], Vec::new());
        while let Some(id) = waiting.pop() {
            if std::mem::replace(&mut seen[id.index()], true) || !self.decided[id.index()] {
                continue;
            }
            let Some(node) = uses.producer(id).map(|i| &graph.nodes[i]) else { continue };
            let inputs = || node.inputs.iter().flatten().copied();
            if decides(node) && !inputs().any(|id| self.decided[id.index()]) {
                found.extend(inputs().filter(|id| self.weighted[id.index()]));
            }
            waiting.extend(inputs());
        }
        found.sort_unstable();
        found
    }
}

fn decides(node: &Node) -> bool {
    let to_integers = || {
        let to = i32::try_from(node.attrs.int("to", 0)).ok().and_then(DType::from_code);
        node.is("Cast") && to.is_some_and(|dtype| !dtype.is_float())
    };
    DECIDING.iter().any(|op| node.is(op)) || to_integers()
}

/// Returns for every value whether it depends on a decision (see [`DECIDING`]) without a quantizer in between.
pub fn decided_since_quantizers(graph: &Graph) -> Vec<bool> {
    let values = graph.value_ids().count();
    let (mut of_contents, mut decided) = (vec![false; values], vec![false; values]);
    graph.fed_inputs().iter().for_each(|id| of_contents[id.index()] = true);
    for node in graph.nodes.iter().filter(|n| !n.is("Shape") && !n.is("Size")) {
        let any = |flags: &[bool]| node.inputs.iter().flatten().any(|id| flags[id.index()]);
        let contents = any(&of_contents);
        let follows = !is_dequantize(node) && (any(&decided) || contents && decides(node));
        for id in node.outputs.iter().flatten() {
            (of_contents[id.index()], decided[id.index()]) = (contents, follows);
        }
    }
    decided
}

/// Returns whether the size of `output` depends on the contents of an input.
pub fn is_of_variable_size(graph: &Graph, output: ValueId) -> bool {
    let mut variable = vec![false; graph.value_ids().count()];
    for node in &graph.nodes {
        let makes = OF_VARIABLE_SIZE.iter().any(|op| node.is(op));
        if makes || node.inputs.iter().flatten().any(|id| variable[id.index()]) {
            node.outputs.iter().flatten().for_each(|id| variable[id.index()] = true);
        }
    }
    variable[output.index()]
}

/// Returns whether `tensor` may hold class scores, judged by its producer; normalized embeddings, say, may not.
pub fn may_hold_scores(graph: &Graph, tensor: ValueId) -> bool {
    let uses = graph.uses();
    let mut at = tensor;
    loop {
        let Some(node) = uses.producer(at).map(|i| &graph.nodes[i]) else { return true };
        let handing_on = PASS_THROUGH.iter().any(|op| node.is(op)) || is_quantize(node) || is_dequantize(node);
        match node.input(0).filter(|_| handing_on) {
            Some(input) => at = input,
            None => return SCORING.iter().any(|op| node.is(op)) || !node.domain.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attrs;

    /// Operator, inputs and output.
    type Call<'a> = (&'a str, &'a [&'a str], &'a str);

    fn graph(nodes: &[Call], outputs: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for (op, inputs, output) in nodes {
            let inputs: Vec<ValueId> = inputs.iter().map(|name| graph.find_or_add(name)).collect();
            let output = graph.find_or_add(output);
            graph.nodes.push(Node::new(op, inputs, [output], Attrs::default()));
        }
        graph.outputs = outputs.iter().map(|name| graph.find(name).unwrap()).collect();
        graph
    }

    fn names(graph: &Graph, tensors: &[(ValueId, DType)]) -> Vec<String> {
        tensors.iter().map(|(id, _)| graph.name_of(*id).to_owned()).collect()
    }

    #[test]
    fn looks_through_a_trailing_softmax_and_quantizers_after_it_only() {
        let nodes: &[Call] = &[
            ("Relu", &["x"], "scores"),
            ("Softmax", &["scores"], "probs"),
            ("QuantizeLinear", &["probs", "scale"], "q"),
            ("DequantizeLinear", &["q", "scale"], "dq"),
            ("Relu", &["probs"], "other"),
        ];
        let graph = graph(nodes, &["dq", "other", "x"]);
        assert_eq!(names(&graph, &compared_tensors(&graph)), ["scores", "other", "x"]);
    }

    #[test]
    fn what_is_decided_is_compared_before_the_first_decision_behind_weights() {
        let cases: &[(&str, &[Call], &[&str])] = &[
            ("labels", &[("Gemm", &["x", "w"], "s"), ("ArgMax", &["s"], "y")], &["s"]),
            (
                "boxes that are left",
                &[
                    ("Conv", &["x", "w"], "boxes"),
                    ("Conv", &["x", "v"], "scores"),
                    ("NonMaxSuppression", &["boxes", "scores", "most"], "kept"),
                    ("Gather", &["boxes", "kept"], "y"),
                ],
                &["boxes", "scores"],
            ),
            (
                "a decision behind another",
                &[
                    ("Conv", &["x", "w"], "s"),
                    ("TopK", &["s"], "t"),
                    ("Conv", &["t", "v"], "u"),
                    ("ArgMax", &["u"], "y"),
                ],
                &["s"],
            ),
            ("a mask of the input", &[("Equal", &["x", "p"], "m"), ("Gemm", &["m", "w"], "y")], &["y"]),
            (
                "sizes",
                &[
                    ("Conv", &["x", "w"], "c"),
                    ("Shape", &["c"], "n"),
                    ("Floor", &["n"], "f"),
                    ("Reshape", &["c", "f"], "y"),
                ],
                &["y"],
            ),
        ];
        let mut failed = Vec::new();
        for (name, nodes, expected) in cases {
            let graph = graph(nodes, &["y"]);
            let found = names(&graph, &settled_tensors(&graph));
            if found != *expected {
                failed.push(format!("{name}: {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn decisions_reach_as_far_as_the_next_quantizer() {
        let nodes: &[Call] = &[
            ("Relu", &["x"], "r"),
            ("Hardmax", &["r"], "h"),
            ("Mul", &["h", "r"], "m"),
            ("QuantizeLinear", &["m", "s"], "q"),
            ("DequantizeLinear", &["q", "s"], "d"),
            ("Shape", &["r"], "n"),
            ("Floor", &["n"], "f"),
            ("Reshape", &["d", "f"], "y"),
        ];
        let mut graph = graph(nodes, &["y"]);
        graph.inputs.push(graph.find("x").unwrap());
        let decided = decided_since_quantizers(&graph);
        let found: Vec<&str> = graph.value_ids().filter(|id| decided[id.index()]).map(|id| graph.name_of(id)).collect();
        assert_eq!(found, ["h", "m", "q"]);
    }

    #[test]
    fn scores_are_told_from_other_vectors_by_what_makes_them() {
        for (op, expected) in [("Gemm", true), ("Softmax", true), ("Div", false), ("Tanh", false), ("Concat", false)] {
            let graph = graph(&[(op, &["x"], "s"), ("Reshape", &["s"], "y")], &["y"]);
            assert_eq!(may_hold_scores(&graph, graph.outputs[0]), expected, "{op}");
        }
    }
}
