//! Static checks of a file: the share that is computed in integers, and the rules of its target.

use crate::audit::Audit;
use crate::ir::Graph;
use crate::lint::{Severity, lint};
use crate::plan::Target;
use crate::verify::Check;

/// Returns the check that the share computed in integers reaches `limit`, 0 to 1; a graph without layers fails it.
pub fn coverage_gate(audit: &Audit, limit: f64) -> Check {
    let measured = audit.share;
    let share = |value: f64| format!("{:.1} %", 100.0 * value);
    Check {
        name: "share computed in integers".to_owned(),
        engine: audit.kernels.to_string(),
        measured,
        limit: Some(limit),
        passed: measured.is_some_and(|value| value >= limit),
        message: match measured {
            Some(value) => format!("{} of at least {}; `dfq-onnx audit` tells why", share(value), share(limit)),
            None => "the model has no layers".to_owned(),
        },
    }
}

/// Returns the check that `quantized` breaks no rule of `target` that would make the runtime refuse the file or compute
/// something else.
pub fn lint_check(quantized: &Graph, target: Target) -> Check {
    let mut errors = lint(quantized, target);
    errors.retain(|finding| finding.severity == Severity::Error);
    Check {
        name: "lint".to_owned(),
        engine: format!("rules of {}", target.name()),
        measured: Some(errors.len() as f64),
        limit: Some(0.0),
        passed: errors.is_empty(),
        message: errors.first().map_or(String::new(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Node, Tensor};

    #[test]
    fn a_file_that_a_target_refuses_fails_its_check_and_no_other() {
        let mut graph = Graph::default();
        let x = graph.add_value("x");
        let scale = graph.add_constant("scale", Tensor::from_f32(&[], &[0.5]));
        let zero = graph.add_constant("zero", Tensor::from_ints(DType::U8, &[], &[3]).unwrap());
        let [q, y] = ["q", "y"].map(|name| graph.add_value(name));
        graph.nodes.push(Node::new("QuantizeLinear", [x, scale, zero], [q], []));
        graph.nodes.push(Node::new("DequantizeLinear", [q, scale, zero], [y], []));
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        graph.set_opset(21);
        let failed: Vec<&str> =
            Target::ALL.into_iter().filter(|&target| !lint_check(&graph, target).passed).map(Target::name).collect();
        assert_eq!(failed, ["tensorrt"]);
        let message = lint_check(&graph, Target::TensorRt).message;
        assert!(message.contains("uint8 is refused"), "{message}");
    }
}
