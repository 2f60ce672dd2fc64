//! Folding of BatchNormalization, layer by layer.

use dfq_onnx::ir::{Attr, DType, Dim, Graph, Tensor};
use dfq_onnx::passes::fold_batch_norm;

use super::{Case, failures, small};
use crate::support::build::Build;
use crate::support::net::{layer, norm, normal, pads};

fn after(op: &'static str, weight: &'static [usize], bias: usize, attrs: Vec<(&'static str, Attr)>) -> Graph {
    let group = attrs.iter().find(|(name, _)| *name == "group").map_or(1, |(_, v)| match v {
        Attr::Int(group) => usize::try_from(*group).unwrap(),
        _ => 1,
    });
    let channels = if op == "Conv" { weight[0] } else { weight[1] * group };
    let mut graph = small(13, |g| {
        layer(g, op, "x", "c", weight, bias, []);
        norm(g, "c", "y", channels);
    });
    attrs.into_iter().for_each(|(name, value)| graph.nodes[0].set(name, value));
    graph
}

fn before(op: &'static str, weight: &'static [usize], bias: usize, attrs: Vec<(&'static str, Attr)>) -> Graph {
    let mut graph = small(13, |g| {
        norm(g, "x", "n", 4);
        layer(g, op, "n", "y", weight, bias, []);
    });
    attrs.into_iter().for_each(|(name, value)| graph.nodes[1].set(name, value));
    graph
}

/// Gemm with these weights between `x: [2, 4]` and its normalisation, or behind it.
fn gemm(weight: &[usize], bias: &[usize], transposed: i64, norm_first: bool) -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 4]);
    let outputs = if transposed == 1 { weight[0] } else { weight[1] };
    g.constant("w", normal(weight, 1.0, 1));
    g.constant("b", normal(bias, 1.0, 2));
    if norm_first {
        norm(&mut g, "x", "n", 4);
        g.node("Gemm", "n w b", "y", [("transB", transposed.into())]);
    } else {
        g.node("Gemm", "x w b", "c", [("transB", transposed.into())]);
        norm(&mut g, "c", "y", outputs);
    }
    g.outputs("y")
}

#[test]
fn batch_normalization_folds_into_the_layer_before_or_behind_it() {
    let group = |n: i64| vec![("group", n.into())];
    let shared = small(13, |g| {
        layer(g, "Conv", "x", "c", &[4, 4, 1, 1], 0, []);
        norm(g, "c", "n", 4);
        g.node("Relu", "n", "r", []);
        g.node("Conv", "r c_w", "y", []);
    });
    let both_sides = small(13, |g| {
        layer(g, "Conv", "x", "c", &[4, 4, 1, 1], 4, []);
        norm(g, "c", "n", 4);
        layer(g, "Conv", "n", "y", &[4, 4, 1, 1], 0, []);
    });
    let mut no_shift = before("Conv", &[6, 4, 3, 3], 0, pads(1).to_vec());
    for name in ["n_beta", "n_mean"] {
        let id = no_shift.find(name).unwrap();
        no_shift.value_mut(id).constant = Some(Tensor::from_f32(&[4], &[0.0; 4]));
    }
    let unread_before = small(13, |g| {
        g.constant("x_w", normal(&[16], 1.0, 3));
        g.constant("x_s", Tensor::from_i64(&[4], &[4, 4, 1, 1]));
        g.node("Reshape", "x_w x_s", "w", []);
        g.node("Conv", "x w", "c", []);
        norm(g, "c", "n", 4);
        layer(g, "Conv", "n", "y", &[6, 4, 1, 1], 0, []);
    });
    let cases: Vec<Case> = vec![
        (
            "Conv",
            after("Conv", &[6, 4, 3, 3], 0, pads(1).to_vec()),
            Some(&["%y = Conv(%x, float32[6, 4, 3, 3], float32[6]) pads=[1, 1, 1, 1]"]),
        ),
        (
            "Conv with bias",
            after("Conv", &[6, 4, 3, 3], 6, vec![]),
            Some(&["%y = Conv(%x, float32[6, 4, 3, 3], float32[6])"]),
        ),
        (
            "grouped Conv",
            after("Conv", &[6, 2, 3, 3], 6, group(2)),
            Some(&["%y = Conv(%x, float32[6, 2, 3, 3], float32[6]) group=2"]),
        ),
        (
            "depthwise Conv",
            after("Conv", &[8, 1, 3, 3], 0, group(4)),
            Some(&["%y = Conv(%x, float32[8, 1, 3, 3], float32[8]) group=4"]),
        ),
        (
            "ConvTranspose",
            after("ConvTranspose", &[4, 3, 3, 3], 0, vec![]),
            Some(&["%y = ConvTranspose(%x, float32[4, 3, 3, 3], float32[3])"]),
        ),
        (
            "grouped ConvTranspose",
            after("ConvTranspose", &[4, 3, 2, 2], 6, group(2)),
            Some(&["%y = ConvTranspose(%x, float32[4, 3, 2, 2], float32[6]) group=2"]),
        ),
        ("Gemm", gemm(&[4, 5], &[5], 0, false), Some(&["%y = Gemm(%x, float32[4, 5], float32[5]) transB=0"])),
        (
            "transposed Gemm",
            gemm(&[5, 4], &[5], 1, false),
            Some(&["%y = Gemm(%x, float32[5, 4], float32[5]) transB=1"]),
        ),
        ("scalar bias", gemm(&[5, 4], &[], 1, false), Some(&["%y = Gemm(%x, float32[5, 4], float32[5]) transB=1"])),
        (
            "bias in a row",
            gemm(&[4, 5], &[1, 5], 0, false),
            Some(&["%y = Gemm(%x, float32[4, 5], float32[5]) transB=0"]),
        ),
        (
            "before a Conv",
            before("Conv", &[6, 4, 3, 3], 6, vec![]),
            Some(&["%y = Conv(%x, float32[6, 4, 3, 3], float32[6])"]),
        ),
        (
            "before a grouped Conv",
            before("Conv", &[6, 2, 3, 3], 0, group(2)),
            Some(&["%y = Conv(%x, float32[6, 2, 3, 3], float32[6]) group=2"]),
        ),
        (
            "before a depthwise Conv",
            before("Conv", &[8, 1, 3, 3], 0, group(4)),
            Some(&["%y = Conv(%x, float32[8, 1, 3, 3], float32[8]) group=4"]),
        ),
        ("before a Gemm", gemm(&[4, 5], &[5], 0, true), Some(&["%y = Gemm(%x, float32[4, 5], float32[5]) transB=0"])),
        (
            "before a transposed Gemm",
            gemm(&[5, 4], &[1], 1, true),
            Some(&["%y = Gemm(%x, float32[5, 4], float32[5]) transB=1"]),
        ),
        (
            "before a padded Conv, without shift",
            no_shift,
            Some(&["%y = Conv(%x, float32[6, 4, 3, 3], float32[6]) pads=[1, 1, 1, 1]"]),
        ),
        (
            "a weight of two layers",
            shared,
            Some(&[
                "%n = Conv(%x, float32[4, 4, 1, 1], float32[4])",
                "%r = Relu(%n)",
                "%y = Conv(%r, float32[4, 4, 1, 1])",
            ]),
        ),
        (
            "layers on both sides",
            both_sides,
            Some(&["%n = Conv(%x, float32[4, 4, 1, 1], float32[4])", "%y = Conv(%n, float32[4, 4, 1, 1])"]),
        ),
        (
            "a layer before it that cannot take it",
            unread_before,
            Some(&[
                "%w = Reshape(float32[16], [4, 4, 1, 1])",
                "%c = Conv(%x, %w)",
                "%y = Conv(%c, float32[6, 4, 1, 1], float32[6])",
            ]),
        ),
    ];
    let failed = failures(fold_batch_norm, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn batch_normalization_stays_where_folding_would_change_a_result() {
    let read_twice = small(13, |g| {
        layer(g, "Conv", "x", "c", &[4, 4, 1, 1], 0, []);
        norm(g, "c", "n", 4);
        g.node("Add", "n c", "y", []);
    });
    let mut output = after("Conv", &[6, 4, 3, 3], 0, vec![]);
    output.outputs.push(output.find("c").unwrap());
    let mut computed = after("Conv", &[6, 4, 3, 3], 0, vec![]);
    let mean = computed.find("y_mean").unwrap();
    computed.value_mut(mean).constant = None;
    computed.value_mut(mean).dtype = Some(DType::F32);
    computed.value_mut(mean).shape = Some(vec![Dim::Known(6)]);
    computed.inputs.push(mean);
    let mut shared = before("Conv", &[4, 4, 1, 1], 0, vec![]);
    shared.outputs.push(shared.find("n").unwrap());
    let cases: Vec<Case> = vec![
        ("a convolution that something else reads", read_twice, None),
        ("a convolution that is a graph output", output, None),
        ("statistics that are fed", computed, None),
        ("a padded Conv behind a shift", before("Conv", &[6, 4, 3, 3], 0, pads(1).to_vec()), None),
        (
            "automatic padding behind a shift",
            before("Conv", &[6, 4, 3, 3], 0, vec![("auto_pad", "SAME_UPPER".into())]),
            None,
        ),
        ("a ConvTranspose behind a shift", before("ConvTranspose", &[4, 3, 3, 3], 0, vec![]), None),
        ("a normalised tensor that is a graph output", shared, None),
        ("a bias per sample", gemm(&[4, 2], &[2, 1], 0, false), None),
    ];
    let failed = failures(fold_batch_norm, cases);
    assert!(failed.is_empty(), "{failed:#?}");
    let mut trains = after("Conv", &[6, 4, 3, 3], 0, vec![]);
    trains.set_opset(15);
    trains.nodes[1].set("training_mode", 1);
    assert_eq!(fold_batch_norm(&mut trains).unwrap(), 0, "in training mode");
}
