//! Checks a Q/DQ file of any tool for patterns that a target's runtime refuses, computes wrongly or runs slowly.
//! Nothing is run. A rule is one function and one row of a table.

mod format;
mod onnx_runtime;
mod openvino;
mod tensorrt;
mod tract;
mod view;

use serde::Serialize;

use crate::ir::{Graph, Node};
use crate::plan::Target;
use view::View;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The runtime refuses the file or computes something else.
    Error,
    /// It runs, in floating point or slower than it could.
    Warning,
}

/// One rule.
pub struct Rule {
    /// Its name in findings.
    pub id: &'static str,
    /// The targets that it applies to.
    pub targets: &'static [Target],
    /// The severity of its findings.
    pub severity: Severity,
    check: Check,
}

type Check = fn(&View, &mut Findings);

/// Returns a rule whose violation makes the runtime refuse the file or compute wrong results.
const fn error(id: &'static str, targets: &'static [Target], check: Check) -> Rule {
    Rule { id, targets, severity: Severity::Error, check }
}

/// Returns a rule whose violation makes the file slow.
const fn warning(id: &'static str, targets: &'static [Target], check: Check) -> Rule {
    Rule { id, targets, severity: Severity::Warning, check }
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// [`Rule::id`].
    pub rule: &'static str,
    /// [`Rule::severity`].
    pub severity: Severity,
    /// The node.
    pub place: String,
    /// The problem and its fix.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(f, "{severity}[{}]: {}: {}", self.rule, self.place, self.message)
    }
}

/// The findings of one rule.
struct Findings {
    rule: &'static str,
    severity: Severity,
    found: Vec<Finding>,
}

impl Findings {
    fn push(&mut self, view: &View, node: &Node, message: impl Into<String>) {
        let (rule, severity) = (self.rule, self.severity);
        self.found.push(Finding { rule, severity, place: view.graph.describe(node), message: message.into() });
    }
}

/// Returns every rule.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [format::RULES, onnx_runtime::RULES, tract::RULES, openvino::RULES, tensorrt::RULES].into_iter().flatten()
}

/// Returns the violations of the rules of `target` in `graph`, errors first. Inferred shapes make more of them visible.
pub fn lint(graph: &Graph, target: Target) -> Vec<Finding> {
    let view = View::of(graph, target);
    let mut found = Vec::new();
    for rule in rules().filter(|rule| rule.targets.contains(&target)) {
        let mut findings = Findings { rule: rule.id, severity: rule.severity, found: Vec::new() };
        (rule.check)(&view, &mut findings);
        found.append(&mut findings.found);
    }
    found.sort_by_key(|finding| finding.severity);
    found
}
