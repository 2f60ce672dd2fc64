//! What residual sums add and layers read on fewer bits.

use dfq_onnx::plan::{LayerBits, Policy, Target, plan_with_split_residuals};
use dfq_onnx::shape;

use super::{bits, conv, small};
use crate::support::net::layer;

#[test]
fn layers_read_narrow_shortcuts_through_one_grid_of_their_own() {
    // c2 and c3 read r1, which the sum adds; p is joined of r1 and r2, and c4 reads it.
    let graph = || {
        small(|g| {
            conv(g, "x", "c1");
            g.node("Relu", "c1", "r1", []);
            conv(g, "r1", "c2");
            conv(g, "r1", "c3");
            g.node("Add", "c2 r1", "s", []);
            g.node("Relu", "c3", "r2", []);
            g.node("Concat", "r1 r2", "p", [("axis", 1.into())]);
            layer(g, "Conv", "p", "c4", &[4, 8, 1, 1], 0, []);
            g.node("Add", "c4 s", "t", []);
            conv(g, "t", "y");
        })
    };
    let own = |name: &str, bits| vec![(name.to_owned(), LayerBits { weight: None, input: Some(bits) })];
    let all = |activation_bits| Policy { all_layers: true, ..bits(4, activation_bits) };
    let at = |target| Policy { target, ..all(4) };
    // Of every layer: the tensor that it reads and its bits.
    let parted = ["c1 x 8", "c2 r1_narrowed 4", "c3 r1_narrowed 4", "c4 p_narrowed 4", "y t 4"];
    let shared = ["c1 x 8", "c2 r1 4", "c3 r1 4", "c4 p 4", "y t 4"];
    let bytes = ["c1 x 8", "c2 r1 8", "c3 r1 8", "c4 p 8", "y t 8"];
    let mixed = ["c1 x 8", "c2 r1 8", "c3 r1 8", "c4 p 8", "y t 4"];
    let cases = [
        ("fewer bits", all(4), parted, 2),
        ("shared", Policy { shared_shortcuts: true, ..all(4) }, shared, 0),
        ("bytes", all(8), bytes, 0),
        ("one of 8 bits among readers of 4", Policy { layer_bits: own("c3", 8), ..all(4) }, mixed, 0),
        ("ONNX Runtime", at(Target::OrtCpu), parted, 2),
        ("OpenVINO", at(Target::OpenVino), parted, 2),
        ("any runtime", at(Target::Portable), parted, 2),
    ];
    let mut failed = Vec::new();
    for (name, policy, expected, count) in cases {
        let mut graph = graph();
        shape::infer(&mut graph).unwrap();
        let before = graph.nodes.len();
        let plan = plan_with_split_residuals(&mut graph, &policy).unwrap();
        let found = graph.nodes.len() - before;
        let layers: Vec<String> = plan
            .layers
            .iter()
            .map(|layer| {
                let read = graph.nodes.iter().find(|n| n.output(0) == graph.find(&layer.output)).unwrap().input(0);
                let grid = &plan.activations[layer.input];
                format!("{} {} {}", layer.name, graph.name_of(read.unwrap()), grid.scheme.bits)
            })
            .collect();
        if found != count || layers != expected {
            failed.push(format!("{name}: {found} parted, {layers:?}"));
        }
        let mut sorted = graph.clone();
        sorted.sort().unwrap();
        if sorted.nodes != graph.nodes {
            failed.push(format!("{name}: nodes are out of order"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
