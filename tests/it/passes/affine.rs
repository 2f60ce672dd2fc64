//! Folding of constants per channel into the layer before them.

use dfq_onnx::ir::{Attr, Dim, Graph, Tensor};
use dfq_onnx::passes::fold_affine;

use super::{Case, failures, small};
use crate::support::build::Build;
use crate::support::net::{layer, norm, normal};

/// A 3x3 Conv of 6 channels, with bias, and these nodes behind it: operator, shape of the constant, and whether that comes
/// first.
fn behind_conv(steps: &[(&str, &[usize], bool)]) -> Graph {
    small(13, |g| {
        layer(g, "Conv", "x", "c0", &[6, 4, 3, 3], 6, []);
        chain(g, "c0", steps);
    })
}

/// The nodes behind `x`, of which the last one makes `y`.
fn chain(g: &mut Build, x: &str, steps: &[(&str, &[usize], bool)]) {
    let mut x = x.to_owned();
    for (i, (op, shape, first)) in steps.iter().enumerate() {
        let (k, y) = (format!("k{i}"), if i + 1 == steps.len() { "y".to_owned() } else { format!("s{i}") });
        g.constant(&k, normal(shape, 1.0, 20 + i as u64));
        g.node(op, &if *first { format!("{k} {x}") } else { format!("{x} {k}") }, &y, []);
        x = y;
    }
}

/// A Gemm or MatMul of `x` and a weight of these shapes, and nodes behind it.
fn product(op: &str, x: &[usize], weight: &[usize], steps: &[(&str, &[usize], bool)]) -> Graph {
    let mut g = Build::at(13);
    g.input("x", x);
    g.constant("w", normal(weight, 1.0, 1));
    g.node(op, "x w", "c0", []);
    chain(&mut g, "c0", steps);
    let mut graph = g.outputs("y");
    dfq_onnx::shape::infer(&mut graph).unwrap();
    graph
}

const CONV: &[&str] = &["%y = Conv(%x, float32[6, 4, 3, 3], float32[6])"];

#[test]
fn constants_by_channel_fold_into_the_layer_before_them() {
    let conv = |name: &'static str, steps: &[(&str, &[usize], bool)]| (name, behind_conv(steps), Some(CONV));
    let without_bias = small(13, |g| {
        layer(g, "Conv", "x", "c0", &[6, 4, 3, 3], 0, []);
        chain(g, "c0", &[("Add", &[6, 1, 1], false)]);
    });
    let transposed = small(13, |g| {
        layer(
            g,
            "ConvTranspose",
            "x",
            "c0",
            &[4, 3, 2, 2],
            0,
            [("group", Attr::Int(2)), ("strides", vec![2, 2].into())],
        );
        chain(g, "c0", &[("Mul", &[1, 6, 1, 1], false), ("Add", &[6, 1, 1], true)]);
    });
    let mut whole = behind_conv(&[("Add", &[1, 6, 4, 4], false)]);
    set(&mut whole, "k0", Tensor::from_f32(&[1, 6, 4, 4], &(0..96).map(|i| (i / 16) as f32).collect::<Vec<_>>()));
    declare(&mut whole, "c0", &[2, 6, 4, 4]);
    let mut behind_norm = small(13, |g| {
        norm(g, "x", "n", 4);
        chain(g, "n", &[("Mul", &[4, 1, 1], false), ("Add", &[1, 4, 1, 1], false)]);
    });
    declare(&mut behind_norm, "n", &[2, 4, 6, 6]);
    let before_norm = small(13, |g| {
        layer(g, "Conv", "x", "c", &[6, 4, 3, 3], 0, []);
        g.constant("k", normal(&[6, 1, 1], 1.0, 3));
        g.node("Add", "c k", "a", []);
        norm(g, "a", "y", 6);
    });
    let cases: Vec<Case> = vec![
        conv("Add of [C, 1, 1]", &[("Add", &[6, 1, 1], false)]),
        conv("Add of [1, C, 1, 1], constant first", &[("Add", &[1, 6, 1, 1], true)]),
        conv("Add of a scalar", &[("Add", &[], false)]),
        conv("Sub", &[("Sub", &[6, 1, 1], false)]),
        conv("Sub from a constant", &[("Sub", &[6, 1, 1], true)]),
        conv("Mul", &[("Mul", &[6, 1, 1], false)]),
        conv("Div", &[("Div", &[6, 1, 1], false)]),
        conv(
            "a chain",
            &[
                ("Mul", &[6, 1, 1], true),
                ("Add", &[1], false),
                ("Sub", &[6, 1, 1], true),
                ("Div", &[1, 1, 1, 1], false),
            ],
        ),
        ("a Conv without bias", without_bias, Some(CONV)),
        (
            "a ConvTranspose with groups",
            transposed,
            Some(&["%y = ConvTranspose(%x, float32[4, 3, 2, 2], float32[6]) group=2 strides=[2, 2]"]),
        ),
        ("a constant that is the same all over a channel", whole, Some(CONV)),
        (
            "Gemm",
            product("Gemm", &[2, 4], &[4, 5], &[("Mul", &[5], false), ("Add", &[1, 5], true)]),
            Some(&["%y = Gemm(%x, float32[4, 5], float32[5])"]),
        ),
        (
            "MatMul of matrices",
            product("MatMul", &[2, 4], &[4, 5], &[("Add", &[5], false)]),
            Some(&["%y = Gemm(%x, float32[4, 5], float32[5])"]),
        ),
        (
            "MatMul of more axes keeps what is added",
            product(
                "MatMul",
                &[2, 3, 4],
                &[4, 5],
                &[("Add", &[5], false), ("Mul", &[1, 1, 5], false), ("Sub", &[], false)],
            ),
            Some(&["%c0 = MatMul(%x, float32[4, 5])", "%y = Add(%c0, float32[5])"]),
        ),
        (
            "MatMul of more axes, scaled alone",
            product("MatMul", &[2, 3, 4], &[4, 5], &[("Mul", &[5], false)]),
            Some(&["%y = MatMul(%x, float32[4, 5])"]),
        ),
        (
            "BatchNormalization before them",
            behind_norm,
            Some(&["%y = BatchNormalization(%x, float32[4], float32[4], float32[4], float32[4])"]),
        ),
        (
            "BatchNormalization behind them",
            before_norm,
            Some(&[
                "%a = Conv(%x, float32[6, 4, 3, 3], float32[6])",
                "%y = BatchNormalization(%a, float32[6], float32[6], float32[6], float32[6])",
            ]),
        ),
    ];
    let failed = failures(fold_affine, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn constants_stay_where_folding_would_change_a_result() {
    let mut output = behind_conv(&[("Add", &[6, 1, 1], false)]);
    output.outputs.push(output.find("c0").unwrap());
    let read_twice = small(13, |g| {
        layer(g, "Conv", "x", "c", &[6, 4, 3, 3], 0, []);
        g.constant("k", normal(&[6, 1, 1], 1.0, 3));
        g.node("Add", "c k", "a", []);
        g.node("Mul", "a c", "y", []);
    });
    let both = small(13, |g| {
        layer(g, "Conv", "x", "c", &[6, 4, 3, 3], 0, []);
        g.node("Add", "c c", "y", []);
    });
    let mut zero = behind_conv(&[("Div", &[6, 1, 1], false)]);
    set(&mut zero, "k0", Tensor::from_f32(&[6, 1, 1], &[1.0, 0.0, 1.0, 1.0, 1.0, 1.0]));
    let mut one_channel = small(13, |g| {
        layer(g, "Conv", "x", "c0", &[1, 4, 3, 3], 0, []);
        chain(g, "c0", &[("Add", &[5, 1, 1], false)]);
    });
    declare(&mut one_channel, "c0", &[2, 1, 4, 4]);
    let mut differing = behind_conv(&[("Add", &[1, 6, 4, 4], false)]);
    declare(&mut differing, "c0", &[2, 6, 4, 4]);
    let cases: Vec<Case> = vec![
        ("along the last axis", behind_conv(&[("Add", &[4], false)]), None),
        ("a value that the constant is divided by", behind_conv(&[("Div", &[6, 1, 1], true)]), None),
        ("another number of axes", behind_conv(&[("Add", &[1, 1, 6, 1, 1], false)]), None),
        ("more samples", behind_conv(&[("Add", &[2, 6, 1, 1], false)]), None),
        ("one channel made several", one_channel, None),
        ("other values within a channel", differing, None),
        ("a result that is a graph output", output, None),
        ("a result that something else reads", read_twice, None),
        ("both operands", both, None),
        (
            "one bias behind a product of more axes",
            product("MatMul", &[2, 3, 4], &[4, 5], &[("Add", &[5], true)]),
            None,
        ),
        (
            "an axis that is not that of channels",
            product("MatMul", &[2, 5, 4], &[4, 5], &[("Mul", &[5, 1], true)]),
            None,
        ),
    ];
    let failed = failures(fold_affine, cases);
    assert!(failed.is_empty(), "{failed:#?}");
    let before = dfq_onnx::ir::text(&zero);
    assert_eq!(fold_affine(&mut zero).unwrap(), 0, "a division by zero");
    assert_eq!(dfq_onnx::ir::text(&zero), before);
}

#[test]
fn a_weight_that_two_layers_share_is_scaled_for_one_of_them() {
    let graph = small(13, |g| {
        layer(g, "Conv", "x", "c", &[4, 4, 1, 1], 0, []);
        g.constant("k", normal(&[4, 1, 1], 1.0, 3));
        g.node("Mul", "c k", "m", []);
        g.node("Conv", "m c_w", "y", []);
    });
    let expected: &[&str] = &["%m = Conv(%x, float32[4, 4, 1, 1], float32[4])", "%y = Conv(%m, float32[4, 4, 1, 1])"];
    let failed = failures(fold_affine, vec![("a shared weight", graph, Some(expected))]);
    assert!(failed.is_empty(), "{failed:#?}");
}

fn set(graph: &mut Graph, name: &str, tensor: Tensor) {
    let id = graph.find(name).unwrap();
    graph.value_mut(id).constant = Some(tensor);
}

fn declare(graph: &mut Graph, name: &str, shape: &[usize]) {
    let id = graph.find(name).unwrap();
    graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
}
