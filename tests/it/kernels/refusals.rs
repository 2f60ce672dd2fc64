//! What the operators say to attributes and shapes that do not fit.

use dfq_onnx::ir::{Attr, Attrs};

use super::{normal, run, single};

/// What is wrong, the attributes to change (none: left out), the shapes, and a word of the message.
type Case = (&'static str, &'static [(&'static str, Option<&'static [i64]>)], [&'static [usize]; 2], &'static str);

const FITTING: [&[usize]; 2] = [&[1, 16, 4, 4], &[1, 16, 4, 4]];

const CONVOLUTIONS: &[Case] = &[
    ("no kernel", &[("kernel_shape", None)], FITTING, "kernel_shape"),
    ("a kernel of one axis", &[("kernel_shape", Some(&[3]))], FITTING, "expected 2"),
    ("an empty kernel", &[("kernel_shape", Some(&[0, 3]))], FITTING, "above 0"),
    ("negative padding", &[("pads", Some(&[0, 0, -1, 0]))], FITTING, "not negative"),
    ("no strides", &[("strides", Some(&[0, 1]))], FITTING, "above 0"),
    ("a huge dilation", &[("dilations", Some(&[i64::MAX, 1]))], FITTING, "or more"),
    ("far taps", &[("dilations", Some(&[1 << 30, 1]))], FITTING, "reach beyond"),
    ("groups that do not divide", &[("group", Some(&[3, 0]))], FITTING, "does not divide"),
    ("groups of half a block", &[("group", Some(&[2, 0]))], FITTING, "plain NCHW"),
    ("blocks of 4", &[("block", Some(&[4, 0]))], FITTING, "blocks of 8 or 16"),
    ("no block", &[("block", None)], FITTING, "block"),
    ("a plain dy alone", &[("dy_blocked", Some(&[0, 0]))], FITTING, "dy_blocked"),
    ("no batch", &[], [&[16, 4, 4], &[1, 16, 4, 4]], "4 axes"),
    ("two batches", &[], [&[2, 16, 4, 4], &[1, 16, 4, 4]], "one batch"),
    ("channels without padding", &[], [&[1, 15, 4, 4], &[1, 16, 4, 4]], "16"),
    ("other filters", &[], [&[1, 16, 4, 4], &[1, 32, 4, 4]], "16"),
    ("dy too wide", &[], [&[1, 16, 4, 4], &[1, 16, 4, 5]], "reach beyond"),
];

fn convolution_attrs(changes: &[(&str, Option<&[i64]>)]) -> Attrs {
    let mut attrs = Attrs::default();
    let lists: [(&str, &[i64]); 4] =
        [("kernel_shape", &[3, 3]), ("strides", &[1, 1]), ("pads", &[1; 4]), ("dilations", &[1, 1])];
    lists.into_iter().for_each(|(name, values)| attrs.set(name, values.to_vec()));
    let numbers = [("group", 1), ("channels", 16), ("filters", 16), ("block", 16), ("x_blocked", 1), ("dy_blocked", 1)];
    numbers.into_iter().for_each(|(name, value)| attrs.set(name, Attr::Int(value)));
    for &(name, change) in changes {
        let is_list = lists.iter().any(|(list, _)| *list == name);
        match change {
            None => drop(attrs.remove(name)),
            Some(values) if is_list => attrs.set(name, values.to_vec()),
            Some(values) => attrs.set(name, Attr::Int(values[0])),
        }
    }
    attrs
}

#[test]
fn weight_gradients_refuse_what_does_not_fit() {
    let mut failed = Vec::new();
    for &(name, changes, shapes, word) in CONVOLUTIONS {
        let graph = single("ConvWeightGradient", &shapes, 1, convolution_attrs(changes));
        match run(&graph, &shapes.map(|shape| normal(shape, 1)), 1) {
            Ok(_) => failed.push(format!("{name}: runs")),
            Err(message) if message.contains(word) => {}
            Err(message) => failed.push(format!("{name}: no \"{word}\" in {message}")),
        }
    }
    let fits = single("ConvWeightGradient", &FITTING, 1, convolution_attrs(&[]));
    assert_eq!(run(&fits, &FITTING.map(|shape| normal(shape, 1)), 1).err(), None);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What is wrong, the operator, its attributes, the shapes, and a word of the message.
type Elementwise = (&'static str, &'static str, Vec<(&'static str, Attr)>, Vec<&'static [usize]>, &'static str);

#[test]
fn elementwise_operators_refuse_what_does_not_fit() {
    let level = |name, value| (name, Attr::Float(value));
    let axis = |axis| vec![level("lo", -8.0), level("hi", 7.0), ("axis", Attr::Int(axis))];
    let cases: [Elementwise; 7] = [
        ("no lo", "FakeQuantize", vec![level("hi", 7.0)], vec![&[4], &[1]], "lo"),
        ("lo above hi", "FakeQuantize", vec![level("lo", 1.0), level("hi", 0.0)], vec![&[4], &[1]], "no larger"),
        ("an axis behind the last", "FakeQuantize", axis(2), vec![&[4, 4], &[4]], "axis 2"),
        ("an axis below -1", "FakeQuantize", axis(-2), vec![&[4, 4], &[4]], "axis -2"),
        ("scales of another axis", "FakeQuantize", axis(1), vec![&[4, 5], &[4]], "5 scales"),
        ("two scales for all", "FakeQuantizeGradient", axis(-1), vec![&[4], &[2], &[4]], "1 scales"),
        ("another dy", "FakeQuantizeGradient", axis(-1), vec![&[4], &[1], &[5]], "elements"),
    ];
    let layout = |channels, block| vec![("channels", Attr::Int(channels)), ("block", Attr::Int(block))];
    let channels: [Elementwise; 6] = [
        ("blocks of 4", "ChannelMoments", layout(4, 4), vec![&[2, 4, 3]], "blocks of 1, 8 or 16"),
        ("no channels", "ChannelMoments", vec![], vec![&[2, 4, 3]], "channels"),
        ("one axis", "ChannelMoments", layout(4, 1), vec![&[4]], "2 axes"),
        ("channels that fill no block", "ChannelMoments", layout(9, 8), vec![&[2, 8, 3, 3]], "9 channels"),
        ("a short factor", "ChannelAffine", layout(4, 1), vec![&[2, 4, 3], &[3], &[4]], "4 channels"),
        ("another dy", "ChannelAffineGradient", layout(4, 1), vec![&[2, 4, 3], &[4], &[2, 4, 2]], "24 elements"),
    ];
    let mut failed = Vec::new();
    for (name, op_type, attributes, shapes, word) in cases.into_iter().chain(channels) {
        let mut attrs = Attrs::default();
        attributes.into_iter().for_each(|(name, attr)| attrs.set(name, attr));
        let outputs = match op_type {
            "FakeQuantize" | "ChannelAffine" => 1,
            "FakeQuantizeGradient" | "ChannelMoments" => 2,
            _ => 3,
        };
        let inputs: Vec<_> = shapes.iter().map(|shape| normal(shape, 1)).collect();
        match run(&single(op_type, &shapes, outputs, attrs), &inputs, 1) {
            Ok(_) => failed.push(format!("{name}: runs")),
            Err(message) if message.contains(word) => {}
            Err(message) => failed.push(format!("{name}: no \"{word}\" in {message}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
