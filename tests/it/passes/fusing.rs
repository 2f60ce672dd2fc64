//! Padding and clipping that move into the nodes beside them.

use dfq_onnx::ir::{Attr, DType, Tensor};
use dfq_onnx::passes;

use super::{failures, small};
use crate::support::net::{layer, pads};

#[test]
fn zero_padding_moves_into_the_convolution_that_alone_reads_it() {
    let case = |padding: &[i64], value: Option<f32>, attrs: Vec<(&'static str, Attr)>| {
        let mut graph = small(13, |g| {
            g.constant("p", Tensor::from_i64(&[padding.len()], padding));
            if let Some(value) = value {
                g.constant("v", Tensor::from_f32(&[], &[value]));
            }
            g.node("Pad", if value.is_some() { "x p v" } else { "x p" }, "h", []);
            layer(g, "Conv", "h", "y", &[3, 4, 3, 3], 0, []);
        });
        for (name, value) in attrs {
            let at = usize::from(name != "mode");
            graph.nodes[at].set(name, value);
        }
        graph
    };
    let sides = [0, 0, 1, 2, 0, 0, 3, 0];
    let read_twice = small(13, |g| {
        g.constant("p", Tensor::from_i64(&[8], &[0, 0, 1, 1, 0, 0, 1, 1]));
        g.node("Pad", "x p", "h", []);
        layer(g, "Conv", "h", "c", &[4, 4, 3, 3], 0, pads(1));
        g.node("Add", "c h", "y", []);
    });
    let mut output = case(&sides, None, vec![]);
    output.outputs.push(output.find("h").unwrap());
    let old = small(10, |g| {
        g.node("Pad", "x", "h", [("pads", vec![0, 0, 1, 1, 0, 0, 1, 1].into())]);
        layer(g, "Conv", "h", "y", &[3, 4, 3, 3], 0, []);
    });
    let computed = small(13, |g| {
        g.constant("p", Tensor::from_i64(&[8], &sides));
        g.node("Abs", "p", "a", []);
        g.node("Pad", "x a", "h", []);
        layer(g, "Conv", "h", "y", &[3, 4, 3, 3], 0, []);
    });
    const ALONE: &[&str] = &["%y = Conv(%x, float32[3, 4, 3, 3]) pads=[1, 2, 3, 0]"];
    let cases = vec![
        ("sides that differ", case(&sides, None, vec![]), Some(ALONE)),
        ("a stated zero", case(&sides, Some(0.0), vec![]), Some(ALONE)),
        (
            "a convolution padded already",
            case(&sides, None, pads(1).to_vec()),
            Some(&["%y = Conv(%x, float32[3, 4, 3, 3]) pads=[2, 3, 4, 1]"] as &[_]),
        ),
        ("opset 10", old, Some(&["%y = Conv(%x, float32[3, 4, 3, 3]) pads=[1, 1, 1, 1]"])),
        ("another value", case(&sides, Some(1.0), vec![]), None),
        ("reflection", case(&sides, None, vec![("mode", "reflect".into())]), None),
        ("batch", case(&[1, 0, 0, 0, 0, 0, 0, 0], None, vec![]), None),
        ("cropping", case(&[0, 0, -1, 0, 0, 0, 0, 0], None, vec![]), None),
        ("automatic padding", case(&sides, None, vec![("auto_pad", "SAME_UPPER".into())]), None),
        ("another reader", read_twice, None),
        ("a graph output", output, None),
        ("padding computed at run time", computed, None),
    ];
    let failed = failures(passes::fuse_pad, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_clip_before_a_quantizer_goes_or_becomes_one_of_integers() {
    let case = |node: (&'static str, Option<[f32; 2]>), scale: f32, zero: i32, top: Option<i32>| {
        small(13, |g| {
            layer(g, "Conv", "x", "c", &[3, 4, 1, 1], 3, []);
            let mut inputs = "c".to_owned();
            for (name, v) in ["lo", "hi"].iter().zip(node.1.into_iter().flatten()) {
                g.constant(name, Tensor::from_f32(&[], &[v]));
                inputs = format!("{inputs} {name}");
            }
            g.node(node.0, &inputs, "r", []);
            g.constant("s", Tensor::from_f32(&[], &[scale]));
            let byte = |v| Tensor::from_ints(DType::U8, &[], &[v]).unwrap();
            g.constant("z", byte(zero));
            g.node("QuantizeLinear", "r s z", "q", []);
            if let Some(top) = top {
                g.constant("q_lo", byte(0));
                g.constant("q_hi", byte(top));
                g.node("Clip", "q q_lo q_hi", "k", []);
            }
            g.node("DequantizeLinear", if top.is_some() { "k s z" } else { "q s z" }, "y", []);
        })
    };
    let six = ("Clip", Some([0.0, 6.0]));
    let capped = |caps: [f32; 3]| {
        let mut graph = small(13, |g| {
            layer(g, "Conv", "x", "c", &[3, 4, 1, 1], 3, []);
            g.node("Relu", "c", "a", []);
            g.constant("caps", Tensor::from_f32(&[3, 1, 1], &caps));
            g.node("Min", "a caps", "r", []);
            g.constant("s", Tensor::from_f32(&[], &[0.01]));
            g.constant("z", Tensor::from_ints(DType::U8, &[], &[0]).unwrap());
            g.node("QuantizeLinear", "r s z", "q", []);
            g.node("DequantizeLinear", "q s z", "y", []);
        });
        dfq_onnx::shape::infer(&mut graph).unwrap();
        graph
    };
    const PLAIN: &[&str] = &[
        "%r = Conv(%x, float32[3, 4, 1, 1], float32[3])",
        "%q = QuantizeLinear(%r, float32[], [0])",
        "%y = DequantizeLinear(%q, float32[], [0])",
    ];
    const CLIPPED: &[&str] = &[
        "%r = Conv(%x, float32[3, 4, 1, 1], float32[3])",
        "%q = QuantizeLinear(%r, float32[], [0])",
        "%k = Clip(%q, [0], [15])",
        "%y = DequantizeLinear(%k, float32[], [0])",
    ];
    let mut output = case(six, 0.1, 0, Some(15));
    output.outputs.push(output.find("r").unwrap());
    let cases = vec![
        ("Relu", case(("Relu", None), 0.1, 0, None), Some(PLAIN)),
        ("ReLU6 at 8 bits", case(six, 6.0 / 255.0, 0, None), Some(PLAIN)),
        ("ReLU6 at 4 bits", case(six, 6.0 / 15.0, 0, Some(15)), Some(CLIPPED)),
        ("ReLU6 on a shorter grid", case(six, 0.05, 0, Some(15)), Some(CLIPPED)),
        (
            "a grid with room below zero",
            case(("Relu", None), 0.1, 20, None),
            Some(&[
                "%r = Conv(%x, float32[3, 4, 1, 1], float32[3])",
                "%q = QuantizeLinear(%r, float32[], [20])",
                "%q_clipped = Clip(%q, [20], [255])",
                "%y = DequantizeLinear(%q_clipped, float32[], [20])",
            ]),
        ),
        (
            "a limit within 4 bits",
            case(six, 0.5, 0, Some(15)),
            Some(&[
                "%r = Conv(%x, float32[3, 4, 1, 1], float32[3])",
                "%q = QuantizeLinear(%r, float32[], [0])",
                "%k = Clip(%q, [0], [12])",
                "%y = DequantizeLinear(%k, float32[], [0])",
            ]),
        ),
        (
            "a limit within 8 bits",
            case(six, 0.1, 0, None),
            Some(&[
                "%r = Conv(%x, float32[3, 4, 1, 1], float32[3])",
                "%q = QuantizeLinear(%r, float32[], [0])",
                "%q_clipped = Clip(%q, [0], [60])",
                "%y = DequantizeLinear(%q_clipped, float32[], [0])",
            ]),
        ),
        ("a graph output", output, None),
        ("caps beyond the grid", capped([2.55, 3.0, 9.0]), Some(PLAIN)),
        ("a cap of one channel within the grid", capped([2.0, 3.0, 9.0]), None),
    ];
    let failed = failures(passes::clip_in_integers, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}
