//! Which tensor goes onto which grid, on small graphs.

mod emitted;
mod float_activations;
mod float_paths;
mod kinds;
mod shortcuts;

use dfq_onnx::ir::{Attr, Graph, Tensor};
use dfq_onnx::plan::{LayerBits, Plan, Policy, Target, plan, plan_with_split_residuals};
use dfq_onnx::shape;

use crate::support::build::Build;
use crate::support::net::{layer, pads, with_dynamic_batch};
use crate::support::quantized::quantized;

/// Returns a plan as lines: grids with role, bits and tensors (those with a Q/DQ pair marked), weights, float layers.
fn lines(plan: &Plan) -> Vec<String> {
    let grid = |a: &dfq_onnx::plan::Activation| {
        let mark = |name: &String| if a.quantized.contains(name) { format!("{name}*") } else { name.clone() };
        let tensors: Vec<String> = a.tensors.iter().map(mark).collect();
        format!("{:?} {}: {}", a.role, a.scheme.bits, tensors.join(" "))
    };
    let weight = |w: &dfq_onnx::plan::Weight| format!("{} {} {:?}", w.tensor, w.scheme.bits, w.scheme.axis);
    let float = |f: &dfq_onnx::plan::Float| format!("float {}: {}", f.name, f.reason);
    let mut lines: Vec<String> = plan.activations.iter().map(grid).collect();
    lines.extend(plan.weights.iter().map(weight));
    lines.extend(plan.float.iter().map(float));
    lines
}

/// Name, graph, policy and the lines of the plan.
type Case = (&'static str, Graph, Policy, &'static [&'static str]);

fn failures(cases: Vec<Case>) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, mut graph, policy, expected) in cases {
        shape::infer(&mut graph).unwrap();
        let plan = plan_with_split_residuals(&mut graph, &policy);
        let found = plan.map_or_else(|e| vec![e.to_string()], |plan| lines(&plan));
        if found != expected {
            failed.push(format!("{name}: {found:#?}"));
        }
    }
    failed
}

fn bits(weight_bits: u32, activation_bits: u32) -> Policy {
    Policy { weight_bits, activation_bits, ..Policy::default() }
}

fn small(build: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 4, 8, 8]);
    build(&mut g);
    g.outputs("y")
}

fn conv(g: &mut Build, x: &str, y: &str) {
    layer(g, "Conv", x, y, &[4, 4, 3, 3], 4, pads(1));
}

/// Three convolutions with activations between them.
fn chain() -> Graph {
    small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Relu", "c2", "r2", []);
        conv(g, "r2", "y");
    })
}

#[test]
fn bits_follow_place_and_policy() {
    let mut scaled = small(|g| {
        g.node("Relu", "x", "a", []);
        conv(g, "a", "y");
    });
    scaled.outputs.push(scaled.find("a").unwrap());
    let cases: Vec<Case> = vec![
        (
            "first and last layer at 8",
            chain(),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: r2*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "all layers",
            chain(),
            Policy { all_layers: true, ..bits(3, 4) },
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 4: r2*",
                "c1_w 3 Some(0)",
                "c2_w 3 Some(0)",
                "y_w 3 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "bits of one layer",
            chain(),
            Policy { layer_bits: vec![("c2".to_owned(), LayerBits::both(6))], ..bits(4, 4) },
            &[
                "Image 8: x*",
                "LayerInput 6: r1*",
                "LayerInput 8: r2*",
                "c1_w 8 Some(0)",
                "c2_w 6 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "bits of the first layer leave the image alone",
            chain(),
            Policy { layer_bits: vec![("c1".to_owned(), LayerBits::both(2))], per_channel: false, ..bits(4, 4) },
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: r2*",
                "c1_w 2 None",
                "c2_w 4 None",
                "y_w 8 None",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "what elementwise operators make of the image, also a graph output",
            scaled,
            bits(4, 4),
            &["Image 8: a*", "y_w 8 Some(0)", "float y: graph outputs stay float"],
        ),
        (
            "outputs for integer kernels",
            chain(),
            Policy { target: Target::OrtCpu, ..bits(4, 4) },
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: r2*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
    ];
    let failed = failures(cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn excluded_layers_stay_float_with_their_reason() {
    let exclude = |pattern: &str| Policy { exclude: vec![pattern.to_owned()], ..bits(4, 4) };
    let mut failed = Vec::new();
    for (name, policy, expected) in [
        ("name", exclude("c2"), "float c2: excluded by name \"c2\""),
        ("pattern", exclude("c[2-9]"), "float c2: excluded by name \"c[2-9]\""),
        ("pattern that matches a part", exclude("c"), "\"c\" matches no node"),
        ("unknown name", exclude("c7"), "\"c7\" matches no node"),
        ("operator", Policy { exclude_ops: vec!["Conv".to_owned()], ..bits(4, 4) }, "no layer of the model can be"),
    ] {
        let mut graph = chain();
        shape::infer(&mut graph).unwrap();
        let found = plan(&graph, &policy).map_or_else(|e| vec![e.to_string()], |plan| lines(&plan));
        let float = found.iter().any(|line| line.starts_with(expected));
        if !float || found.iter().any(|line| line.starts_with("c2_w") || line.contains(" r1*")) {
            failed.push(format!("{name}: {found:#?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn residual_sums_and_grid_preserving_operators_share_grids() {
    let ints = |g: &mut Build, name: &str, values: &[i64]| g.constant(name, Tensor::from_i64(&[values.len()], values));
    let carrier = small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Add", "c2 r1", "s", []);
        g.node("Relu", "s", "r2", []);
        conv(g, "r2", "y");
    });
    let option_a = small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        layer(g, "Conv", "r1", "c2", &[8, 4, 3, 3], 8, [("pads", vec![1; 4].into()), ("strides", vec![2, 2].into())]);
        for (name, values) in [("from", [0, 0]), ("to", [99, 99]), ("axes", [2, 3]), ("steps", [2, 2])] {
            ints(g, name, &values);
        }
        ints(g, "p", &[0, 2, 0, 0, 0, 2, 0, 0]);
        g.node("Slice", "r1 from to axes steps", "half", []);
        g.node("Pad", "half p", "wide", []);
        g.node("Add", "c2 wide", "s", []);
        g.node("Relu", "s", "r2", []);
        layer(g, "Conv", "r2", "y", &[4, 8, 1, 1], 0, []);
    });
    let shared = || Policy { shared_shortcuts: true, ..bits(4, 4) };
    let united = small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Relu", "c2", "r2", []);
        let two = || Attr::Ints(vec![2, 2]);
        g.node("MaxPool", "r1", "p1", [("kernel_shape", two()), ("strides", two())]);
        g.node("MaxPool", "r2", "p2", [("kernel_shape", two()), ("strides", two())]);
        g.node("Concat", "p1 p2", "j", [("axis", 1.into())]);
        ints(g, "target", &[0, 8, 2, 8]);
        g.node("Reshape", "j target", "v", []);
        g.node("Transpose", "v", "t", [("perm", vec![0, 1, 3, 2].into())]);
        layer(g, "Conv", "t", "d", &[4, 8, 1, 1], 0, []);
        g.node("Relu", "d", "e", []);
        conv(g, "e", "y");
    });
    let pooled = small(|g| {
        conv(g, "x", "c1");
        g.node("Relu", "c1", "r1", []);
        conv(g, "r1", "c2");
        g.node("Relu", "c2", "r2", []);
        g.node("GlobalAveragePool", "r2", "m", []);
        g.node("Flatten", "m", "f", []);
        layer(g, "Gemm", "f", "y", &[3, 4], 3, [("transB", 1.into())]);
    });
    let cases: Vec<Case> = vec![
        (
            "a carrier",
            carrier.clone(),
            shared(),
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "Carrier 8: c2*",
                "LayerInput 8: r2*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "a shortcut past a layer of fewer bits",
            carrier,
            bits(4, 4),
            &[
                "Image 8: x*",
                "Carrier 8: r1*",
                "Carrier 8: c2*",
                "LayerInput 8: r2*",
                "LayerInput 4: r1_narrowed*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "Slice and Pad in a shortcut",
            option_a.clone(),
            shared(),
            &[
                "Image 8: x*",
                "LayerInput 4: r1* half wide",
                "Carrier 8: c2*",
                "LayerInput 8: r2*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "Slice and Pad in a shortcut past a layer of fewer bits",
            option_a,
            bits(4, 4),
            &[
                "Image 8: x*",
                "Carrier 8: r1* half wide",
                "Carrier 8: c2*",
                "LayerInput 8: r2*",
                "LayerInput 4: r1_narrowed*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "MaxPool, Concat, Reshape, Transpose",
            united.clone(),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: r1* r2* p1 p2 j v t",
                "LayerInput 8: e*",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "d_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "a pooled input of the last layer",
            pooled.clone(),
            bits(4, 4),
            &[
                "Image 8: x*",
                "LayerInput 4: r1*",
                "LayerInput 8: m* f",
                "c1_w 8 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 8 Some(0)",
                "float c2: read by Relu in floating point",
                "float r2: read by GlobalAveragePool in floating point",
                "float y: graph outputs stay float",
            ],
        ),
        (
            "the same with its own bits",
            pooled,
            Policy { all_layers: true, ..bits(4, 5) },
            &[
                "Image 8: x*",
                "LayerInput 5: r1*",
                "LayerInput 5: m* f",
                "c1_w 4 Some(0)",
                "c2_w 4 Some(0)",
                "y_w 4 Some(0)",
                "float c2: read by Relu in floating point",
                "float r2: read by GlobalAveragePool in floating point",
                "float y: graph outputs stay float",
            ],
        ),
    ];
    let failed = failures(cases);
    assert!(failed.is_empty(), "{failed:#?}");
    for target in [Target::Onnx, Target::OrtCpu] {
        let emitted = quantized(&with_dynamic_batch(united.clone()), &Policy { target, ..bits(8, 4) }).unwrap().emitted;
        let scale = |name: &str| {
            let q = emitted.nodes.iter().find(|n| n.is("QuantizeLinear") && n.input(0) == emitted.find(name)).unwrap();
            q.input(1)
        };
        assert_eq!(scale("r1"), scale("r2"), "one grid is one initializer");
    }
}
