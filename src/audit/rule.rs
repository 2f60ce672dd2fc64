//! Rules: how a runtime computes the nodes of one operator family.

use serde::Serialize;

use super::Reason;
use super::view::View;
use crate::ir::Node;

/// How a node is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// In integers.
    Integer,
    /// Not at all: the quantizer after it or the kernel before it absorbs it.
    Absorbed,
    /// In floating point.
    Float,
    /// Nothing is known about this operator in this runtime.
    NotKnown,
}

/// Returns how a node is computed, or why not in integers.
pub(super) type Judge = fn(&View, &Node) -> Result<Runs, Reason>;

/// One row of a runtime's table: operators and the rule for them.
pub struct Row {
    /// The operators.
    pub ops: &'static [&'static str],
    pub(super) judge: Judge,
}

/// Returns the result of the rule for the node's operator; `otherwise` where there is none.
pub(super) fn judge_by(
    table: &[Row],
    view: &View,
    node: &Node,
    otherwise: fn(String) -> Reason,
) -> Result<Runs, Reason> {
    match table.iter().find(|row| row.ops.iter().any(|op| node.is(op))) {
        Some(row) => (row.judge)(view, node),
        None => Err(otherwise(node.op_type.clone())),
    }
}
