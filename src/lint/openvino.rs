//! Rules of OpenVINO (seen in 2026.4).

use super::view::{View, is_blocked};
use super::{Findings, Rule, warning};
use crate::plan::Target::{OpenVino, Portable};

pub(super) const RULES: &[Rule] = &[
    warning("blocked-axis", &[OpenVino], blocked_axis),
    warning("affine-weight", &[OpenVino, Portable], affine_weight),
];

fn blocked_axis(view: &View, findings: &mut Findings) {
    for node in view.pairs().filter(|node| is_blocked(view, node) && node.attrs.int("axis", 1) != 0) {
        let message = "blocks along another axis than 0 were computed wrongly before OpenVINO 2026; block along axis 0";
        findings.push(view, node, message);
    }
}

fn affine_weight(view: &View, findings: &mut Findings) {
    for layer in view.layers() {
        let Some(weight) = layer.weight.filter(|weight| weight.stored.is_some()) else { continue };
        if view.has_zero_point_other_than_0(weight.dequantize) {
            let message = "its weight has a zero point other than 0, which keeps the layer in float in OpenVINO; \
                           quantize weights symmetrically";
            findings.push(view, layer.node, message);
        }
    }
}
