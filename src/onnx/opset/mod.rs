//! Opset upgrade: rewrites a graph of the default operator set to a newer version, operator by operator, never down.
//!
//! [`table`] lists the changes of each operator; a new adapter is one function and one row there.

mod attributes;
mod attributes_to_inputs;
mod history;
mod normalization;
mod resize;
mod site;
mod softmax;
mod table;

use crate::error::{Error, Result};
use crate::ir::{Graph, Node};
pub use history::{is_misspelt, misspelt, too_new};
use site::Site;
use table::{Adapter, NEVER_CHANGED, Row, TABLE};

/// The oldest opset that can be upgraded; before it, elementwise operators broadcast by attribute.
pub const OLDEST: i64 = 7;

/// The newest opset that can be upgraded to.
pub const NEWEST: i64 = 24;

/// The newest supported opset; models between [`NEWEST`] and this keep their opset.
pub const NEWEST_READ: i64 = 26;

/// The lowest file-format version of each opset: (first opset, version), as in the ONNX release table.
const FILE_FORMATS: &[(i64, i64)] =
    &[(7, 3), (9, 4), (10, 5), (11, 6), (12, 7), (15, 8), (19, 9), (21, 10), (23, 11), (24, 12)];

/// The first file-format version in which an initializer that is also an input is a default that a caller may replace.
const OVERRIDABLE_INITIALIZERS: i64 = 4;

/// The rewritten nodes of one operator at one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// The operator's name before the step.
    pub op: String,
    /// The opset before the step.
    pub from: i64,
    /// The opset at which the operator changed.
    pub to: i64,
    /// The number of rewritten nodes.
    pub count: usize,
}

/// Upgrades `graph` to opset `target` and returns the rewritten nodes; a target at or below the current opset changes
/// nothing. Bodies of control flow are upgraded with it. The file-format version is raised to the lowest one that
/// `target` allows. On failure `graph` is as before.
///
/// # Errors
/// [`Error::Unsupported`] when the opset is below [`OLDEST`] or above [`NEWEST_READ`], `target` is above [`NEWEST`], or
/// a node has no counterpart in the new opset; [`Error::Malformed`] when a node lacks what its operator requires.
pub fn upgrade(graph: &mut Graph, target: i64) -> Result<Vec<Upgraded>> {
    let source = graph.opset();
    match out_of_range(source) {
        Some(error) if target > source || source > NEWEST_READ => return Err(error),
        _ if target <= source => return Ok(Vec::new()),
        _ => {}
    }
    if target > NEWEST {
        return Err(Error::unsupported(
            "model",
            format!("opset {target} is newer than {NEWEST}, the newest one known"),
        ));
    }
    refuse_unknown_operators(graph, target)?;
    let mut newer = graph.clone();
    let mut report = Vec::new();
    for version in source + 1..=target {
        step(&mut newer, version, &mut report)?;
    }
    for body in newer.nodes.iter_mut().flat_map(Node::bodies_mut) {
        body.graph.set_opset(source);
        report.extend(upgrade(&mut body.graph, target)?);
    }
    newer.set_opset(target);
    raise_file_format(&mut newer, target);
    *graph = newer;
    Ok(report)
}

/// Returns the error for an unsupported opset.
pub fn out_of_range(opset: i64) -> Option<Error> {
    let message = match opset {
        ..OLDEST => format!(
            "opset {opset} is older than {OLDEST}; export the model again at opset {NEWEST}, or convert it with \
             onnx.version_converter.convert_version"
        ),
        OLDEST..=NEWEST_READ => return None,
        _ => format!(
            "opset {opset} is newer than {NEWEST_READ}, the newest one known; export the model again at opset {NEWEST} or \
             below"
        ),
    };
    Some(Error::unsupported("model", message))
}

/// Returns each operator that a step rewrites, with the opset of the step.
pub fn rewrites() -> impl Iterator<Item = (&'static str, i64)> {
    let rewrites = |row: &&Row| matches!(row.adapter, Adapter::Rewrite(_));
    TABLE.iter().filter(rewrites).flat_map(|row| row.versions.iter().map(|&version| (row.op, version)))
}

/// Returns whether the table has this operator of the default domain.
pub fn is_known(op: &str) -> bool {
    NEVER_CHANGED.contains(&op) || TABLE.iter().any(|row| row.op == op)
}

fn refuse_unknown_operators(graph: &Graph, target: i64) -> Result<()> {
    match graph.nodes.iter().find(|node| node.domain.is_empty() && !is_known(&node.op_type)) {
        Some(node) => Err(Error::unsupported(
            graph.describe(node),
            format!(
                "cannot upgrade this operator from opset {} to {target}; export the model again at opset {target}",
                graph.opset()
            ),
        )),
        None => Ok(()),
    }
}

fn step(graph: &mut Graph, version: i64, report: &mut Vec<Upgraded>) -> Result<()> {
    let rows: Vec<&Row> = TABLE.iter().filter(|row| row.versions.contains(&version)).collect();
    let mut placed: Vec<(usize, Vec<Node>, Vec<Node>)> = Vec::new();
    for index in 0..graph.nodes.len() {
        let row = rows.iter().find(|row| graph.nodes[index].is(row.op));
        if let Some(Row { adapter: Adapter::Refuse(reason), .. }) = row {
            return Err(Site::new(graph, index, version).refuse(reason));
        }
        let Some(Row { op, adapter: Adapter::Rewrite(rewrite), .. }) = row else { continue };
        let old = graph.nodes[index].clone();
        let mut site = Site::new(graph, index, version);
        rewrite(&mut site)?;
        let (before, after) = site.into_new_nodes();
        if old != graph.nodes[index] {
            count(report, op, version);
        }
        if !before.is_empty() || !after.is_empty() {
            placed.push((index, before, after));
        }
    }
    place(graph, placed);
    Ok(())
}

/// Inserts new nodes around their nodes; `placed` is in the order of the nodes.
fn place(graph: &mut Graph, placed: Vec<(usize, Vec<Node>, Vec<Node>)>) {
    let mut placed = placed.into_iter().peekable();
    for (i, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        let (before, after) = placed.next_if(|p| p.0 == i).map_or_else(Default::default, |p| (p.1, p.2));
        graph.nodes.extend(before);
        graph.nodes.push(node);
        graph.nodes.extend(after);
    }
}

fn count(report: &mut Vec<Upgraded>, op: &str, version: i64) {
    match report.iter_mut().find(|u| u.op == op && u.to == version) {
        Some(upgraded) => upgraded.count += 1,
        None => report.push(Upgraded { op: op.to_owned(), from: version - 1, to: version, count: 1 }),
    }
}

/// Formats below 4 list every initializer as an input; left there, a newer format would make each of them replaceable
/// and keep runtimes from folding it.
fn raise_file_format(graph: &mut Graph, opset: i64) {
    let lowest = FILE_FORMATS.iter().rev().find(|(first, _)| *first <= opset).map_or(0, |row| row.1);
    if graph.ir_version < OVERRIDABLE_INITIALIZERS && lowest >= OVERRIDABLE_INITIALIZERS {
        graph.inputs = graph.fed_inputs();
    }
    graph.ir_version = graph.ir_version.max(lowest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;

    fn graph(opset: i64, op: &str) -> Graph {
        let mut graph = Graph::default();
        graph.ir_version = 3;
        graph.set_opset(opset);
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        graph.inputs.push(x);
        graph.outputs.push(y);
        graph.nodes.push(Node::new(op, [x], [y], []));
        graph
    }

    #[test]
    fn never_downgrades() {
        let mut graph = graph(13, "Relu");
        assert_eq!(upgrade(&mut graph, 11).unwrap(), []);
        assert_eq!((graph.opset(), graph.ir_version), (13, 3));
    }

    #[test]
    fn refuses_opsets_out_of_range() {
        let message = upgrade(&mut graph(6, "Relu"), 13).unwrap_err().to_string();
        assert!(message.contains("opset 6 is older than 7"), "{message}");
        let message = upgrade(&mut graph(13, "Relu"), 25).unwrap_err().to_string();
        assert!(message.contains("opset 25 is newer than 24"), "{message}");
    }

    #[test]
    fn refuses_an_unknown_operator_by_name_and_leaves_the_graph() {
        let mut graph = graph(8, "SplitToSequence");
        let message = upgrade(&mut graph, 13).unwrap_err().to_string();
        assert!(message.contains("(SplitToSequence)") && message.contains("from opset 8 to 13"), "{message}");
        assert_eq!(graph.opset(), 8);
    }

    #[test]
    fn passes_operators_of_other_domains() {
        let mut graph = graph(8, "SplitToSequence");
        graph.nodes[0].domain = "com.example".to_owned();
        assert_eq!(upgrade(&mut graph, 13).unwrap(), []);
        assert_eq!(graph.opset(), 13);
    }

    #[test]
    fn raises_the_file_format_and_unlists_initializers_that_it_would_make_replaceable() {
        let mut failed = Vec::new();
        for (target, format) in [(8, 3), (9, 4), (13, 7), (18, 8), (20, 9), (21, 10), (24, 12)] {
            let mut graph = graph(7, "Relu");
            let w = graph.add_constant("w", Tensor::from_i64(&[1], &[1]));
            graph.inputs.push(w);
            upgrade(&mut graph, target).unwrap();
            let listed = graph.inputs.contains(&w);
            if graph.ir_version != format || listed == (format >= 4) {
                failed.push((target, graph.ir_version, listed));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
        let mut newer = graph(12, "Relu");
        newer.ir_version = 11;
        upgrade(&mut newer, 13).unwrap();
        assert_eq!(newer.ir_version, 11);
    }
}
