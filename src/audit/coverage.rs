//! How much of a graph is computed in integers.

use serde::Serialize;

use super::{NodeAudit, Runs};
use crate::plan::LAYERS;

/// Work and nodes that are computed in integers, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Multiply-accumulates per sample of layers computed in integers.
    pub integer_macs: u64,
    /// Multiply-accumulates per sample of all layers whose shapes are known.
    pub macs: u64,
    /// Layers (Conv, ConvTranspose, Gemm, MatMul) computed in integers.
    pub integer_layers: usize,
    /// All layers.
    pub layers: usize,
    /// Layers whose shapes are not known: no multiply-accumulates are counted for them.
    pub layers_of_unknown_work: usize,
    /// Nodes computed in integers or absorbed by one that is.
    pub integer_nodes: usize,
    /// All nodes that compute.
    pub nodes: usize,
}

impl Coverage {
    pub(super) fn of(nodes: &[NodeAudit]) -> Self {
        let mut coverage = Self { nodes: nodes.len(), ..Self::default() };
        for node in nodes {
            let integer = node.runs == Runs::Integer;
            coverage.integer_nodes += usize::from(integer || node.runs == Runs::Absorbed);
            if !LAYERS.contains(&node.op_type.as_str()) {
                continue;
            }
            coverage.layers += 1;
            coverage.integer_layers += usize::from(integer);
            match node.macs {
                Some(macs) => {
                    coverage.macs = coverage.macs.saturating_add(macs);
                    coverage.integer_macs = coverage.integer_macs.saturating_add(if integer { macs } else { 0 });
                }
                None => coverage.layers_of_unknown_work += 1,
            }
        }
        coverage
    }

    /// Returns the share of the work that is computed in integers, 0 to 1: of multiply-accumulates, or of layers where
    /// the work of one is not known; none without layers.
    pub fn share(&self) -> Option<f64> {
        match (self.layers_of_unknown_work, self.macs, self.layers) {
            (_, _, 0) => None,
            (0, 1.., _) => Some(self.integer_macs as f64 / self.macs as f64),
            _ => Some(self.integer_layers as f64 / self.layers as f64),
        }
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.share() {
            None => f.write_str("no layers"),
            Some(share) => {
                let of = if self.layers_of_unknown_work == 0 { "multiply-accumulates" } else { "layers" };
                write!(
                    f,
                    "{:.1} % of {of} in integers ({} of {} layers, {} of {} nodes)",
                    100.0 * share,
                    self.integer_layers,
                    self.layers,
                    self.integer_nodes,
                    self.nodes
                )
            }
        }
    }
}
