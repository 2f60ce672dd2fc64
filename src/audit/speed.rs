//! Integer kernels of ONNX Runtime that measured no faster than its float kernels.

use super::view::View;
use crate::ir::{DType, Node};
use crate::plan::slower_in_integers;

/// Returns why the node's integer kernel is no faster than the float one, where that was measured.
pub(super) fn slow_in_integers(view: &View, node: &Node) -> Option<String> {
    let kept = |text: String| format!("{text}; --exclude keeps it float, which is faster next to other float layers");
    let weight = node.is("Conv").then(|| view.operand(node.input(1)?)).flatten();
    let zeros = weight.as_ref().and_then(|w| w.zero_point.as_ref()).and_then(|t| t.to_i64().ok());
    let plain = weight.is_none_or(|w| w.stored == DType::I8) && zeros.is_none_or(|z| z.iter().all(|&z| z == 0));
    if !plain {
        return Some("weights other than int8 with zero point 0 take a slower kernel; use --symmetric".to_owned());
    }
    slower_in_integers(view.graph, node).map(|slow| kept(slow.to_string()))
}
