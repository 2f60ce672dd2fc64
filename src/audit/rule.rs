//! What a rule is: an operator family, and a judgement of one node of it.

use serde::Serialize;

use super::Reason;
use super::view::View;
use crate::ir::Node;

/// How a node is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// On the integers.
    Integer,
    /// Not at all: the quantizer behind it or the kernel before it does the same.
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

/// Returns what the row for the node's operator says; `otherwise` where there is none.
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
