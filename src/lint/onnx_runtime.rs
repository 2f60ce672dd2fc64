//! Rules of ONNX Runtime's CPU kernels, and of nodes that stay in floating point there and in OpenVINO, which come from
//! the tables of the audit.

use super::view::{View, is_packed};
use super::{Findings, Rule, error, warning};
use crate::audit::{Reason, float_nodes};
use crate::plan::Target::{OpenVino, OrtCpu, Portable, TensorRt};

pub(super) const RULES: &[Rule] = &[
    error("packed-activations", &[OrtCpu, Portable, TensorRt], packed_activations),
    warning("runs-in-float", &[OrtCpu, OpenVino, Portable], runs_in_float),
];

fn packed_activations(view: &View, findings: &mut Findings) {
    for node in view.quantizers().filter(|node| is_packed(view.integers(node))) {
        let message = "activations in a type below 8 bits are refused or computed wrongly beside MaxPool, ReduceMax and \
                       Clip; quantize to 8 bits and limit the integers with Clip";
        findings.push(view, node, message);
    }
}

fn runs_in_float(view: &View, findings: &mut Findings) {
    for (node, reason) in float_nodes(view.graph, view.target) {
        // What is float as a whole was left so, and what a rule of its own tells is told once.
        let told = matches!(
            reason,
            Reason::NotQuantized
                | Reason::GraphOutput { .. }
                | Reason::NoIntegerKernel { .. }
                | Reason::NotKnown { .. }
                | Reason::BiasGrid { .. }
        );
        if !told {
            findings.push(view, node, format!("it runs in float: {reason}"));
        }
    }
}
