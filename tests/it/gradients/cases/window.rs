//! Convolutions, pools and normalisations.

use dfq_onnx::ir::{Attr, Attrs};

use super::{case, plain};
use crate::gradients::Case;
use crate::gradients::Values::{Apart, Positive};

pub fn cases() -> Vec<Case> {
    let mut cases = convolutions();
    cases.extend(transposed());
    cases.extend(pools());
    cases.extend(normalisations());
    cases
}

type Lists = &'static [(&'static str, &'static [i64])];

/// A case of an operator with these lists, and numbers where a list has one entry and the name is one of a number.
fn windowed(op_type: &'static str, form: &'static str, shapes: &[&[usize]], lists: Lists) -> Case {
    let operands: Vec<_> = shapes.iter().map(|&shape| (shape, Apart)).collect();
    case(op_type, form, &operands, move |x| {
        let mut attrs = Attrs::default();
        for (name, values) in lists {
            match (*name, *values) {
                ("group" | "ceil_mode" | "count_include_pad", [value]) => attrs.set(name, *value),
                (_, values) => attrs.set(name, Attr::Ints(values.to_vec())),
            }
        }
        x[0].builder().apply(op_type, x, attrs)
    })
}

fn convolutions() -> Vec<Case> {
    let image: &[usize] = &[2, 4, 5, 6];
    let conv = |form, shapes: &[&[usize]], lists| windowed("Conv", form, shapes, lists);
    let mut cases = vec![
        conv("bias", &[image, &[3, 4, 3, 3], &[3]], &[]),
        conv("asymmetric pads", &[image, &[3, 4, 3, 2]], &[("pads", &[1, 0, 2, 1])]),
        conv("strides that fit", &[&[1, 2, 5, 7], &[3, 2, 3, 3]], &[("strides", &[2, 2])]),
        conv("strides that stop short", &[image, &[3, 4, 3, 3]], &[("strides", &[3, 2])]),
        conv(
            "strides, pads that stop short",
            &[image, &[3, 4, 3, 3]],
            &[("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])],
        ),
        conv("dilations", &[image, &[3, 4, 2, 3]], &[("dilations", &[2, 2])]),
        conv("dilations and strides", &[&[2, 2, 8, 7], &[3, 2, 2, 3]], &[("dilations", &[3, 2]), ("strides", &[2, 3])]),
        conv("two groups", &[image, &[6, 2, 3, 3], &[6]], &[("group", &[2]), ("pads", &[1, 1, 1, 1])]),
        conv("depthwise", &[image, &[4, 1, 3, 3]], &[("group", &[4]), ("pads", &[1, 1, 1, 1])]),
        conv("depthwise, two of each", &[image, &[8, 1, 3, 3]], &[("group", &[4]), ("strides", &[2, 2])]),
        conv("pointwise", &[image, &[3, 4, 1, 1]], &[]),
        conv("pointwise, strides", &[image, &[3, 4, 1, 1]], &[("strides", &[2, 2])]),
        conv("one axis", &[&[2, 3, 7], &[4, 3, 3]], &[("pads", &[1, 1])]),
        conv("three axes", &[&[1, 2, 3, 4, 3], &[2, 2, 2, 2, 2]], &[]),
    ];
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        cases.push(case("Conv", auto_pad, &[(image, Apart), (&[3, 4, 3, 2], Apart)], move |x| {
            let attrs = [("auto_pad", auto_pad.into()), ("strides", Attr::Ints(vec![2, 1]))];
            x[0].builder().apply("Conv", x, attrs)
        }));
    }
    cases
}

fn transposed() -> Vec<Case> {
    let image: &[usize] = &[2, 4, 3, 4];
    let conv = |form, shapes: &[&[usize]], lists| windowed("ConvTranspose", form, shapes, lists);
    let mut cases = vec![
        conv("bias", &[image, &[4, 3, 3, 3], &[3]], &[]),
        conv("one axis", &[&[2, 3, 4], &[3, 2, 3]], &[("strides", &[3]), ("pads", &[0, 1])]),
        conv(
            "strides beyond the kernel",
            &[image, &[4, 3, 2, 2]],
            &[("strides", &[3, 3]), ("output_padding", &[1, 2])],
        ),
        conv("strides", &[image, &[4, 3, 2, 2]], &[("strides", &[2, 2])]),
        conv("strides, pads", &[image, &[4, 3, 4, 3]], &[("strides", &[2, 2]), ("pads", &[1, 0, 1, 1])]),
        conv("output padding", &[image, &[4, 3, 3, 3]], &[("strides", &[2, 2]), ("output_padding", &[1, 1])]),
        conv("dilations", &[image, &[4, 3, 2, 2]], &[("dilations", &[2, 1])]),
        conv("two groups", &[image, &[4, 3, 3, 3], &[6]], &[("group", &[2])]),
        conv("depthwise", &[image, &[4, 1, 3, 3]], &[("group", &[4]), ("strides", &[2, 2])]),
    ];
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        cases.push(case("ConvTranspose", auto_pad, &[(image, Apart), (&[4, 3, 4, 3], Apart)], move |x| {
            let attrs = [("auto_pad", auto_pad.into()), ("strides", Attr::Ints(vec![1, 2]))];
            x[0].builder().apply("ConvTranspose", x, attrs)
        }));
    }
    cases
}

fn pools() -> Vec<Case> {
    let image: &[usize] = &[2, 3, 6, 5];
    let pool = |op_type, form, lists| windowed(op_type, form, &[image], lists);
    let mut cases = vec![
        pool("MaxPool", "blocks of another shape", &[("kernel_shape", &[3, 5]), ("strides", &[3, 5])]),
        pool("MaxPool", "blocks that stop short", &[("kernel_shape", &[4, 2]), ("strides", &[4, 2])]),
        pool(
            "MaxPool",
            "blocks with pads",
            &[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("pads", &[1, 0, 1, 1])],
        ),
        pool("MaxPool", "dilations", &[("kernel_shape", &[2, 2]), ("dilations", &[3, 2])]),
        pool(
            "MaxPool",
            "ceil, dilations and pads",
            &[
                ("kernel_shape", &[2, 2]),
                ("strides", &[2, 3]),
                ("dilations", &[2, 1]),
                ("pads", &[1, 0, 0, 1]),
                ("ceil_mode", &[1]),
            ],
        ),
        windowed("MaxPool", "one axis", &[&[2, 3, 7]], &[("kernel_shape", &[3]), ("strides", &[2])]),
        windowed(
            "MaxPool",
            "three axes",
            &[&[1, 2, 2, 4, 2]],
            &[("kernel_shape", &[2, 2, 1]), ("strides", &[2, 2, 1])],
        ),
        pool(
            "AveragePool",
            "ceil, pads counted",
            &[
                ("kernel_shape", &[3, 3]),
                ("strides", &[2, 3]),
                ("pads", &[1, 0, 1, 1]),
                ("ceil_mode", &[1]),
                ("count_include_pad", &[1]),
            ],
        ),
        pool(
            "AveragePool",
            "ceil, pads left out",
            &[("kernel_shape", &[3, 3]), ("strides", &[2, 3]), ("pads", &[1, 0, 1, 1]), ("ceil_mode", &[1])],
        ),
        pool("AveragePool", "dilations", &[("kernel_shape", &[2, 2]), ("dilations", &[3, 2]), ("pads", &[1, 1, 1, 0])]),
        windowed("AveragePool", "one axis", &[&[2, 3, 7]], &[("kernel_shape", &[3]), ("strides", &[2])]),
        pool("AveragePool", "strides that stop short", &[("kernel_shape", &[2, 2]), ("strides", &[3, 4])]),
        pool("MaxPool", "apart", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]),
        pool("MaxPool", "overlapping", &[("kernel_shape", &[3, 3]), ("strides", &[2, 1]), ("pads", &[1, 1, 1, 1])]),
        pool("MaxPool", "ceil", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("ceil_mode", &[1])]),
        pool("AveragePool", "apart", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]),
        pool("AveragePool", "overlapping", &[("kernel_shape", &[3, 2]), ("strides", &[2, 1])]),
        pool("AveragePool", "pads left out", &[("kernel_shape", &[3, 3]), ("pads", &[1, 1, 1, 1])]),
        pool(
            "AveragePool",
            "pads counted",
            &[("kernel_shape", &[3, 3]), ("pads", &[1, 0, 1, 2]), ("count_include_pad", &[1])],
        ),
        plain("GlobalAveragePool", "", &[(image, Apart)], &[]),
        plain("GlobalMaxPool", "", &[(image, Apart)], &[]),
        plain("GlobalAveragePool", "one axis", &[(&[2, 3, 7], Apart)], &[]),
    ];
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for (op_type, count) in [("MaxPool", 0), ("AveragePool", 0), ("AveragePool", 1)] {
            let form = format!("{auto_pad}, count_include_pad {count}");
            cases.push(case(op_type, &form, &[(image, Apart)], move |x| {
                let mut attrs = Attrs::from([("auto_pad", auto_pad.into())]);
                attrs.set("kernel_shape", Attr::Ints(vec![3, 2]));
                attrs.set("strides", Attr::Ints(vec![2, 1]));
                if count == 1 {
                    attrs.set("count_include_pad", 1);
                }
                x[0].builder().apply(op_type, x, attrs)
            }));
        }
    }
    cases
}

fn normalisations() -> Vec<Case> {
    let image: &[usize] = &[2, 3, 2, 2];
    let channels: &[usize] = &[3];
    let operands = [(image, Apart), (channels, Apart), (channels, Apart), (channels, Apart), (channels, Positive)];
    vec![
        case("ChannelMoments", "batch normalisation in training mode", &operands[..3], |x| {
            x[0].batch_norm(x[1], x[2], 1e-5).y
        }),
        plain("BatchNormalization", "all trained", &operands, &[]),
        plain(
            "BatchNormalization",
            "no image",
            &[(&[4, 3], Apart), operands[1], operands[2], operands[3], operands[4]],
            &[],
        ),
        case("BatchNormalization", "epsilon", &operands, |x| {
            x[0].builder().apply("BatchNormalization", x, [("epsilon", Attr::Float(0.5))])
        }),
        case("LayerNormalization", "axis from behind, epsilon", &[(&[2, 3, 4], Apart), (&[1, 4], Apart)], |x| {
            let attrs = [("axis", Attr::Int(-2)), ("epsilon", Attr::Float(0.5))];
            x[0].builder().apply("LayerNormalization", x, attrs)
        }),
        plain("InstanceNormalization", "", &operands[..3], &[]),
        case("InstanceNormalization", "one axis, epsilon", &[(&[2, 3, 5], Apart), operands[1], operands[2]], |x| {
            x[0].builder().apply("InstanceNormalization", x, [("epsilon", Attr::Float(0.5))])
        }),
        plain(
            "GroupNormalization",
            "two groups",
            &[(&[2, 4, 3, 2], Apart), (&[4], Apart), (&[4], Apart)],
            &[("num_groups", 2)],
        ),
        plain("LayerNormalization", "last axis", &[(&[2, 3, 4], Apart), (&[4], Apart), (&[4], Apart)], &[]),
        plain("LayerNormalization", "two axes", &[(&[2, 3, 4], Apart), (&[3, 4], Apart)], &[("axis", 1)]),
    ]
}
