//! Compares the shipped file with the checked model: integer by integer, scale by scale.

use std::path::Path;

use crate::error::Result;
use crate::ir::{Graph, Node, Tensor};
use crate::onnx;

use super::shadow::widen_initializers;

/// The comparison of a file with its intended graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Integers compared.
    pub integers: usize,
    /// Floating-point values compared, bit by bit.
    pub floats: usize,
    /// The differences, one line per tensor or node.
    pub differences: Vec<String>,
}

/// Returns the comparison of the file at `path`, read again, with `intended`: its 2-bit and 4-bit integers are unpacked
/// and compared with those of the checked copy, everything else bit by bit, and all nodes are compared.
///
/// # Errors
/// When the file cannot be read as a model.
pub fn decode_shipped(path: &Path, intended: &Graph) -> Result<Decoded> {
    let shipped = onnx::load(path)?;
    if intended.nodes.iter().all(|node| node.bodies().next().is_none()) {
        return compare_initializers(&shipped, intended);
    }
    // Values of bodies get their names in the file.
    compare_initializers(&shipped, &onnx::decode(onnx::encode(intended)?.into())?)
}

/// Returns the comparison of `shipped` with `intended`; see [`decode_shipped`].
///
/// # Errors
/// When an initializer contradicts its own size.
pub fn compare_initializers(shipped: &Graph, intended: &Graph) -> Result<Decoded> {
    let mut decoded = Decoded::default();
    let wide = widen_initializers(shipped)?;
    for id in intended.value_ids() {
        let Some(expected) = intended.constant_of(id) else { continue };
        let name = intended.name_of(id);
        let stored = shipped.find(name).and_then(|id| shipped.constant_of(id));
        match (stored, wide.find(name).and_then(|id| wide.constant_of(id))) {
            (Some(stored), _) if stored.dtype() != expected.dtype() => {
                let (found, expected) = (stored.dtype(), expected.dtype());
                decoded.differences.push(format!("\"{name}\": {found} in the file, expected {expected}"));
            }
            (_, Some(found)) => compare(&mut decoded, name, expected, found),
            _ => decoded.differences.push(format!("initializer \"{name}\" is missing in the file")),
        }
    }
    let names = |graph: &Graph, node: &Node| -> Vec<Option<String>> {
        let ids = node.inputs.iter().chain(&node.outputs);
        ids.map(|id| id.map(|id| graph.name_of(id).to_owned())).collect()
    };
    if shipped.nodes.len() != intended.nodes.len() {
        let (found, expected) = (shipped.nodes.len(), intended.nodes.len());
        decoded.differences.push(format!("the file has {found} nodes, expected {expected}"));
    }
    for (found, expected) in shipped.nodes.iter().zip(&intended.nodes) {
        let same = found.op_type == expected.op_type
            && found.domain == expected.domain
            && names(shipped, found) == names(intended, expected)
            && found.attrs.iter().eq(expected.attrs.iter());
        if !same {
            decoded.differences.push(format!("{} differs in the file", intended.describe(expected)));
        }
    }
    Ok(decoded)
}

fn compare(decoded: &mut Decoded, name: &str, expected: &Tensor, found: &Tensor) {
    if expected.shape() != found.shape() {
        let message = format!("\"{name}\": shape {:?} in the file, expected {:?}", found.shape(), expected.shape());
        return decoded.differences.push(message);
    }
    if let (Ok(expected), Ok(found)) = (expected.to_i64(), found.to_i64()) {
        decoded.integers += found.len();
        let differing = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
        if let Some(first) = expected.iter().zip(&found).position(|(a, b)| a != b) {
            decoded.differences.push(format!(
                "\"{name}\": {differing} of {} integers differ, first at {first}: {} in the file, expected {}",
                found.len(),
                found[first],
                expected[first]
            ));
        }
        return;
    }
    decoded.floats += found.len();
    if expected.bytes() != found.bytes() {
        let values = |t: &Tensor| t.to_f32().unwrap_or_default();
        let (a, b) = (values(expected), values(found));
        let at = a.iter().zip(&b).position(|(a, b)| a.to_bits() != b.to_bits()).unwrap_or(0);
        decoded.differences.push(format!(
            "\"{name}\": values differ, first at {at}: {:?} in the file, expected {:?}",
            b.get(at),
            a.get(at)
        ));
    }
}
