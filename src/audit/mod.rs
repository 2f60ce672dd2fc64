//! Fusion audit: predicts which nodes of a Q/DQ graph, ours or another tool's, a runtime computes in integers, and
//! gives the reason for each node that it does not. Nothing is run.

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

/// The audit of one node.
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

/// The audit of every node that computes on quantized or floating-point data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// The runtime whose rules were applied.
    pub kernels: Kernels,
    /// The source of the rules.
    pub basis: &'static str,
    /// [`Coverage::share`].
    pub share: Option<f64>,
    /// The share of the graph that is computed in integers.
    pub coverage: Coverage,
    /// The nodes in graph order; quantizers and nodes that only compute shapes or indices are left out.
    pub nodes: Vec<NodeAudit>,
}

/// Returns the audit of `graph` for the runtime of `target`.
///
/// # Errors
/// [`crate::Error::Shape`] naming the node whose inputs cannot go together.
pub fn audit(graph: &Graph, target: Target) -> Result<Audit> {
    audit_for(graph, Kernels::of(target))
}

/// Returns the audit of `graph` for the kernels of one runtime.
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

/// Returns the nodes of `graph` that the runtime of `target` does not compute in integers, with the reasons. The shapes
/// of `graph` must be inferred.
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
