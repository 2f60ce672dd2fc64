//! The fusion audit as text.

use std::collections::HashMap;

use super::layout::{add_row, grouped, line, millions, paragraph, some_of, table};
use crate::audit::{Audit, NodeAudit, Reason, Runs};
use crate::plan::{Float, Plan};

/// Returns the audit as a line and a table of every node that does not run in integers, the most work first.
pub fn render_audit(audit: &Audit) -> String {
    let mut lines = vec![format!("{} on {} ({})", audit.coverage, audit.kernels, audit.basis)];
    let rest = not_in_integers(audit);
    if !rest.is_empty() {
        let mut listed = table(&["not in integers", "op"], &["MMAC", ""]);
        for column in listed.column_iter_mut().skip(3) {
            column.set_cell_alignment(comfy_table::CellAlignment::Left);
        }
        for node in rest {
            let text = node.text.clone().unwrap_or_default();
            add_row(&mut listed, [node.name.clone(), node.op_type.clone(), millions(node.macs), text]);
        }
        lines.push(format!("\n{}", listed.trim_fmt()));
    }
    lines.extend(
        slow(audit).map(|(why, names)| line(&format!("in integers, but no faster: {}: {why}", names.join(", ")))),
    );
    lines.join("\n")
}

/// Returns the audit as paragraphs: the share, and one for each reason that is not the plan's own.
pub(super) fn audit_lines(audit: &Audit, plan: &Plan) -> Vec<String> {
    let mut lines = vec![paragraph("coverage", &format!("{} on {} ({})", audit.coverage, audit.kernels, audit.basis))];
    let planned = float_layers(plan);
    let rest = not_in_integers(audit).into_iter().filter(|node| !planned.contains_key(node.name.as_str()));
    let rest: Vec<&NodeAudit> = rest.collect();
    let kinds = grouped(rest.iter().map(|node| (node.name.as_str(), kind(node.text.as_deref().unwrap_or_default()))));
    for (kind_of_reason, names) in kinds {
        let alike = |node: &&&NodeAudit| node.text.as_deref().is_some_and(|text| kind(text) == kind_of_reason);
        let nodes: Vec<&&NodeAudit> = rest.iter().filter(alike).collect();
        let macs = nodes.iter().filter_map(|node| node.macs).sum::<u64>();
        let work = if macs == 0 { String::new() } else { format!(" ({} MMAC)", millions(Some(macs))) };
        let text = nodes.first().and_then(|node| node.text.as_deref()).unwrap_or_default();
        lines.push(paragraph("", &format!("in float: {}{work}: {text}", some_of(&names))));
    }
    lines.extend(slow(audit).map(|(why, names)| paragraph("", &format!("no faster: {}: {why}", some_of(&names)))));
    lines
}

/// Returns the audit with the plan's own words where it left a layer float.
pub fn with_plan(mut audit: Audit, plan: &Plan) -> Audit {
    let planned = float_layers(plan);
    for node in audit.nodes.iter_mut().filter(|node| node.reason == Some(Reason::NotQuantized)) {
        let planned = planned.get(node.name.as_str());
        node.text = planned.map(|float| float.reason.clone()).or(node.text.take());
    }
    audit
}

/// Returns the layers that the plan leaves in floating point, by name; the first of a name.
fn float_layers(plan: &Plan) -> HashMap<&str, &Float> {
    let layers = plan.float.iter().rev().filter(|float| float.is_layer());
    layers.map(|float| (float.name.as_str(), float)).collect()
}

/// Returns the nodes that are computed in floating point or in an unknown way, those with the most work first.
fn not_in_integers(audit: &Audit) -> Vec<&NodeAudit> {
    let mut rest: Vec<&NodeAudit> =
        audit.nodes.iter().filter(|n| matches!(n.runs, Runs::Float | Runs::NotKnown)).collect();
    rest.sort_by_key(|node| std::cmp::Reverse(node.macs.unwrap_or(0)));
    rest
}

/// Returns the layers whose integer kernels are no faster, by reason.
fn slow(audit: &Audit) -> impl Iterator<Item = (&str, Vec<&str>)> {
    grouped(audit.nodes.iter().filter_map(|n| Some((n.name.as_str(), n.slow.as_deref()?)))).into_iter()
}

/// Returns a reason without the names in it, so that those of one kind are alike.
fn kind(text: &str) -> String {
    text.split('"').step_by(2).collect()
}
