//! The fusion audit as text.

use std::fmt::Write;

use super::table::{numbers, table};
use crate::audit::{Audit, NodeAudit, Reason, Runs};
use crate::plan::Plan;

/// Returns the audit as a line and a table of what does not run in integers, the most work first; at most `rows`.
pub fn render_audit(audit: &Audit, rows: usize) -> String {
    let mut out = format!("{} on {} ({})", audit.coverage, audit.kernels, audit.basis);
    let mut rest: Vec<&NodeAudit> =
        audit.nodes.iter().filter(|n| matches!(n.runs, Runs::Float | Runs::NotKnown)).collect();
    rest.sort_by_key(|node| std::cmp::Reverse(node.macs.unwrap_or(0)));
    if !rest.is_empty() {
        let mut listed = table(&["not in integers", "op", "MMAC", ""]);
        for node in rest.iter().take(rows) {
            #[allow(clippy::cast_precision_loss)]
            let mega = node.macs.map_or("-".to_owned(), |n| format!("{:.2}", n as f64 / 1e6));
            let mut row = numbers(&node.name, [node.op_type.clone(), mega]);
            let text = comfy_table::Cell::new(node.text.as_deref().unwrap_or_default());
            row.push(text.set_alignment(comfy_table::CellAlignment::Left));
            listed.add_row(row);
        }
        let _ = write!(out, "\n\n{listed}");
        if rest.len() > rows {
            let _ = write!(out, "\nand {} more; `dfq-onnx audit` and the JSON report list all", rest.len() - rows);
        }
    }
    let slow: Vec<(&str, &str)> =
        audit.nodes.iter().filter_map(|n| Some((n.name.as_str(), n.slow.as_deref()?))).collect();
    for (why, names) in grouped(&slow) {
        let _ = write!(out, "\nin integers, but no faster: {}: {why}", names.join(", "));
    }
    out
}

/// Returns the audit with the plan's own words where it left a layer float.
pub fn with_plan(mut audit: Audit, plan: &Plan) -> Audit {
    for node in audit.nodes.iter_mut().filter(|node| node.reason == Some(Reason::NotQuantized)) {
        let planned = plan.float.iter().find(|float| float.is_layer && float.name == node.name);
        node.text = planned.map(|float| float.reason.clone()).or(node.text.take());
    }
    audit
}

/// Groups names by what is said of them, in the order of their first.
fn grouped<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, why) in pairs {
        match groups.iter_mut().find(|group| group.0 == *why) {
            Some(group) => group.1.push(name),
            None => groups.push((why, vec![name])),
        }
    }
    groups
}
