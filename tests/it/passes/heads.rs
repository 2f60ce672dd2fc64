//! Convs that cover their input become Gemms.

use super::{Case, failures, small};
use dfq_onnx::ir::Attr;
use dfq_onnx::{passes, shape};

#[test]
fn a_flattened_conv_over_all_of_its_input_becomes_a_gemm() {
    let head = |kernel: usize, attrs: Vec<(&'static str, Attr)>| {
        let mut graph = small(13, |g| {
            g.weights("w", &[5, 4, kernel, kernel]);
            g.weights("b", &[5]);
            g.node("Conv", "x w b", "c", []);
            g.node("Flatten", "c", "y", []);
        });
        attrs.into_iter().for_each(|(name, value)| graph.nodes[0].set(name, value));
        shape::infer(&mut graph).unwrap();
        graph
    };
    let cases: Vec<Case> = vec![
        (
            "kernel as large as the input",
            head(6, vec![]),
            Some(&["%x_flat = Flatten(%x) axis=1", "%y = Gemm(%x_flat, float32[5, 144], float32[5]) transB=1"]),
        ),
        ("kernel smaller than the input", head(5, vec![]), None),
        ("padding", head(6, vec![("pads", Attr::Ints(vec![0, 0, 1, 0]))]), None),
    ];
    let failed = failures(passes::conv_to_gemm, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}
