//! Fusion audit: which nodes of a Q/DQ graph, ours or another tool's, a runtime computes in integers, and why not where
//! it does not. Predicted from the graph alone; nothing is run.

mod coverage;
mod kernels;
mod onnx_runtime;
mod openvino;
mod reason;
mod rule;
mod speed;
mod tensorrt;
mod view;

use serde::Serialize;

pub use coverage::Coverage;
pub use kernels::Kernels;
pub use onnx_runtime::BIAS_SCALE_TOLERANCE;
pub use reason::Reason;
pub use rule::{Row, Runs};

use crate::error::Result;
use crate::ir::{Graph, Node};
use crate::plan::{Target, macs};
use crate::shape;
use view::View;

/// What becomes of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeAudit {
    /// The node's name, or its first output's where it has none.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// Its first output.
    pub output: String,
    /// Multiply-accumulates of one sample, for layers whose shapes are known.
    pub macs: Option<u64>,
    /// How it is computed.
    pub runs: Runs,
    /// Why it is not computed in integers; none where it is.
    pub reason: Option<Reason>,
    /// The reason in words, with what to do.
    pub text: Option<String>,
    /// Why its integer kernel is no faster than the float one, where that was measured.
    pub slow: Option<String>,
}

/// What becomes of every node that computes on quantized or floating-point data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Whose rules were applied.
    pub kernels: Kernels,
    /// What the rules rest on.
    pub basis: &'static str,
    /// [`Coverage::share`].
    pub share: Option<f64>,
    /// How much is computed in integers.
    pub coverage: Coverage,
    /// The nodes in graph order; quantizers and nodes that only compute shapes or indices are left out.
    pub nodes: Vec<NodeAudit>,
}

/// Returns what the runtime behind `target` makes of `graph`.
///
/// # Errors
/// [`crate::Error::Shape`] naming the node whose inputs cannot go together.
pub fn audit(graph: &Graph, target: Target) -> Result<Audit> {
    audit_for(graph, Kernels::of(target))
}

/// Returns what a runtime's kernels make of `graph`.
///
/// # Errors
/// As [`audit`].
pub fn audit_for(graph: &Graph, kernels: Kernels) -> Result<Audit> {
    let mut graph = graph.clone();
    shape::infer(&mut graph)?;
    let view = View::new(&graph);
    let nodes: Vec<NodeAudit> =
        graph.nodes.iter().filter(|node| view.computes(node)).map(|node| describe(&view, node, kernels)).collect();
    let coverage = Coverage::of(&nodes);
    Ok(Audit { kernels, basis: kernels.basis(), share: coverage.share(), coverage, nodes })
}

/// Returns the nodes of `graph`, whose shapes are inferred as far as they can be, that the runtime behind `target` does
/// not compute in integers, and why not.
pub fn float_nodes(graph: &Graph, target: Target) -> Vec<(&Node, Reason)> {
    let (view, kernels) = (View::new(graph), Kernels::of(target));
    let computing = graph.nodes.iter().filter(|node| view.computes(node));
    computing.filter_map(|node| Some((node, kernels.judge(&view, node).err()?))).collect()
}

fn describe(view: &View, node: &Node, kernels: Kernels) -> NodeAudit {
    let graph = view.graph;
    let (runs, reason) = match kernels.judge(view, node) {
        Ok(runs) => (runs, None),
        Err(Reason::NotKnown { op }) => (Runs::NotKnown, Some(Reason::NotKnown { op })),
        Err(reason) => (Runs::Float, Some(reason)),
    };
    NodeAudit {
        name: graph.label(node).to_owned(),
        op_type: node.op_type.clone(),
        output: node.output(0).map_or("", |id| graph.name_of(id)).to_owned(),
        macs: macs(graph, node),
        slow: (runs == Runs::Integer && kernels == Kernels::OnnxRuntimeCpu)
            .then(|| speed::slow_in_integers(view, node))
            .flatten(),
        text: reason.as_ref().map(ToString::to_string),
        runs,
        reason,
    }
}
