//! Graphs that an upgrade rewrites, and some of common operators whose versions only widened.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor};

use crate::support::build::Build;

type Attrs<'a> = Vec<(&'a str, Attr)>;

/// Returns each case with its name; the graph's opset is the one that it is upgraded from.
pub fn cases() -> Vec<(String, Graph)> {
    let mut cases = attributes_to_inputs();
    cases.extend(reductions());
    cases.extend(softmax());
    cases.extend(normalization());
    cases.extend(resize());
    cases.extend(others());
    cases.extend(unchanged());
    cases.into_iter().map(|(name, graph)| (name.to_owned(), graph)).collect()
}

/// One node on input `x: [2, 4, 6, 5]` with weights `a b c d: [4]`.
fn one(opset: i64, op: &str, io: (&str, &str), attrs: Attrs) -> Graph {
    let mut g = Build::at(opset);
    g.input("x", &[2, 4, 6, 5]);
    if io.0.contains('a') {
        g.weights("a b c d", &[4]);
    }
    node(&mut g, op, io, attrs);
    g.outputs(io.1)
}

pub fn node(g: &mut Build, op: &str, io: (&str, &str), attrs: Attrs) {
    let mut all = dfq_onnx::ir::Attrs::default();
    attrs.into_iter().for_each(|(name, value)| all.set(name, value));
    g.node(op, io.0, io.1, all);
}

const XY: (&str, &str) = ("x", "y");

fn attributes_to_inputs() -> Vec<(&'static str, Graph)> {
    let slice = |axes: Option<Vec<i64>>| {
        let mut attrs: Attrs = vec![("starts", vec![1, -4].into()), ("ends", vec![2, 1000].into())];
        attrs.extend(axes.map(|axes| ("axes", axes.into())));
        one(9, "Slice", XY, attrs)
    };
    let pads = || ("pads", Attr::Ints(vec![0, 0, 1, 2, 0, 0, 1, -1]));
    let squeezed = |axes: Option<Vec<i64>>| {
        let mut g = Build::at(12);
        g.input("x", &[1, 4, 1, 5]);
        node(&mut g, "Squeeze", XY, axes.map(|axes| ("axes", axes.into())).into_iter().collect());
        g.outputs("y")
    };
    let mut dropout = Build::at(7);
    dropout.input("x", &[2, 3]);
    dropout.node("Dropout", "x", "h mask", [("ratio", 0.25.into())]);
    dropout.node("Relu", "h", "y", []);
    let mut half = Build::at(10);
    half.input("x", &[2, 3]);
    half.node("Cast", "x", "h", [("to", 10.into())]);
    half.declare("h", DType::F16);
    half.node("Clip", "h", "c", [("min", (-0.5).into()), ("max", 0.25.into())]);
    half.node("Cast", "c", "y", [("to", 1.into())]);
    let mut dft = Build::at(19);
    dft.input("x", &[2, 8, 1]);
    dft.node("DFT", "x", "y", []);
    vec![
        ("Clip without limits", one(7, "Clip", XY, vec![])),
        ("Clip with the default limits", one(7, "Clip", XY, vec![("min", f32::MIN.into()), ("max", f32::MAX.into())])),
        ("Clip from below", one(10, "Clip", XY, vec![("min", (-0.5).into())])),
        ("Clip from above", one(10, "Clip", XY, vec![("max", 0.5.into())])),
        ("Clip from both sides", one(8, "Clip", XY, vec![("min", (-0.5).into()), ("max", 0.25.into())])),
        ("Clip of float16", half.outputs("y")),
        ("Pad with zeros", one(7, "Pad", XY, vec![pads()])),
        ("Pad with a value", one(10, "Pad", XY, vec![pads(), ("value", 1.5.into())])),
        ("Pad by reflection", one(10, "Pad", XY, vec![pads(), ("mode", "reflect".into())])),
        ("Slice of leading axes", slice(None)),
        ("Slice of named axes", slice(Some(vec![3, 2]))),
        ("Dropout with a mask that nobody reads", dropout.outputs("y")),
        ("Dropout with a ratio", one(11, "Dropout", XY, vec![("ratio", 0.25.into())])),
        ("TopK", one(8, "TopK", ("x", "y i"), vec![("k", 3.into()), ("axis", 2.into())])),
        ("Squeeze of all ones", squeezed(None)),
        ("Squeeze of named axes", squeezed(Some(vec![0]))),
        ("Unsqueeze", one(12, "Unsqueeze", XY, vec![("axes", vec![0, -1].into())])),
        (
            "Split into given parts",
            one(8, "Split", ("x", "y z"), vec![("axis", 2.into()), ("split", vec![2, 4].into())]),
        ),
        ("Split into equal parts", one(12, "Split", ("x", "y z w"), vec![("axis", 2.into())])),
        ("DFT", dft.outputs("y")),
    ]
}

fn reductions() -> Vec<(&'static str, Graph)> {
    let mut cases = Vec::new();
    for op in [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ] {
        for (opset, attrs) in [
            (7, vec![("axes", Attr::Ints(vec![1, 3])), ("keepdims", 0.into())]),
            (12, vec![("axes", vec![-2].into())]),
            (12, vec![]),
        ] {
            let mut g = Build::at(opset);
            g.input("x", &[2, 4, 6, 5]);
            g.node("Abs", "x", "h", []);
            node(&mut g, op, ("h", "y"), attrs);
            cases.push((op, g.outputs("y")));
        }
    }
    cases
}

fn softmax() -> Vec<(&'static str, Graph)> {
    let mut cases = Vec::new();
    for op in ["Softmax", "LogSoftmax", "Hardmax"] {
        for axis in [None, Some(0), Some(2), Some(3), Some(-1), Some(-2)] {
            let attrs: Attrs = axis.map(|axis: i64| ("axis", axis.into())).into_iter().collect();
            cases.push((op, one(11, op, XY, attrs.clone())));
            let mut unknown = Build::at(12);
            unknown.input("x", &[2, 4, 6, 5]);
            unknown.node("Relu", "x", "h", []);
            node(&mut unknown, op, ("h", "s"), attrs);
            unknown.node("Neg", "s", "y", []);
            cases.push((op, unknown.outputs("y")));
        }
        let mut matrix = Build::at(7);
        matrix.input("x", &[2, 4, 6, 5]);
        matrix.node("Flatten", "x", "h", []);
        matrix.node(op, "h", "y", []);
        cases.push((op, matrix.outputs("y")));
    }
    cases
}

fn normalization() -> Vec<(&'static str, Graph)> {
    let batch = ("x a b c d", "y");
    let group = |known: bool| {
        let mut g = Build::at(18);
        g.input("x", &[2, 4, 6, 5]);
        g.weights("a b", &[2]);
        g.node("Identity", "x", "h", []);
        g.node("GroupNormalization", if known { "x a b" } else { "h a b" }, "y", [("num_groups", 2.into())]);
        g.outputs("y")
    };
    let mut per_activation = Build::at(8);
    per_activation.input("x", &[2, 4, 6, 5]);
    per_activation.weights("a b c d", &[4, 6, 5]);
    per_activation.node("BatchNormalization", "x a b c d", "y", [("spatial", 0.into())]);
    vec![
        ("BatchNormalization per activation", per_activation.outputs("y")),
        ("BatchNormalization with spatial", one(8, "BatchNormalization", batch, vec![("spatial", 1.into())])),
        ("BatchNormalization", one(7, "BatchNormalization", batch, vec![("epsilon", 0.01.into())])),
        ("GroupNormalization of known channels", group(true)),
        ("GroupNormalization of unknown channels", group(false)),
    ]
}

fn resize() -> Vec<(&'static str, Graph)> {
    let version_10 = |op: &str, scales: [f32; 2], mode: &str, constant: bool| {
        let mut g = Build::at(if op == "Upsample" { 9 } else { 10 });
        g.input("x", &[2, 4, 6, 5]);
        g.constant("s", Tensor::from_f32(&[4], &[1.0, 1.0, scales[0], scales[1]]));
        g.node("Identity", "s", "t", []);
        g.node(op, if constant { "x s" } else { "x t" }, "y", [("mode", mode.into())]);
        g.outputs("y")
    };
    let upsample = |mode: &str| {
        one(7, "Upsample", XY, vec![("scales", Attr::Floats(vec![1.0, 1.0, 2.0, 3.0])), ("mode", mode.into())])
    };
    let later = |opset, sizes: bool, attrs: Attrs| {
        let mut g = Build::at(opset);
        g.input("x", &[2, 4, 6, 5]);
        g.constant("roi", Tensor::from_f32(&[0], &[]));
        g.constant("none", Tensor::from_f32(&[0], &[]));
        g.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, 1.7, 2.5]));
        g.constant("sizes", Tensor::from_i64(&[4], &[2, 4, 9, 7]));
        node(&mut g, "Resize", (if sizes { "x roi none sizes" } else { "x roi scales" }, "y"), attrs);
        g.outputs("y")
    };
    let for_nn = || {
        vec![("coordinate_transformation_mode", Attr::from("tf_half_pixel_for_nn")), ("nearest_mode", "floor".into())]
    };
    vec![
        ("Upsample 7 nearest", upsample("nearest")),
        ("Upsample 7 linear", upsample("linear")),
        ("Upsample 9 nearest", version_10("Upsample", [2.0, 1.5], "nearest", true)),
        ("Upsample 9 linear", version_10("Upsample", [2.0, 1.5], "linear", true)),
        ("Upsample 9 with computed scales", version_10("Upsample", [2.0, 1.5], "nearest", false)),
        ("Resize 10 nearest, enlarging", version_10("Resize", [2.3, 1.5], "nearest", true)),
        ("Resize 10 nearest, shrinking", version_10("Resize", [0.6, 0.7], "nearest", true)),
        ("Resize 10 nearest, both", version_10("Resize", [0.6, 1.7], "nearest", true)),
        ("Resize 10 nearest, both and computed", version_10("Resize", [1.7, 0.6], "nearest", false)),
        ("Resize 10 linear, both", version_10("Resize", [0.6, 1.7], "linear", true)),
        ("Resize 11 with scales", later(11, false, vec![])),
        ("Resize 11 cubic", later(11, false, vec![("mode", "cubic".into())])),
        ("Resize 11 with sizes", later(11, true, vec![("mode", "linear".into())])),
        ("Resize 11 for nn", later(11, false, for_nn())),
        ("Resize 13 for nn", later(13, false, for_nn())),
    ]
}

fn others() -> Vec<(&'static str, Graph)> {
    let grid = |attrs: Attrs| {
        let mut g = Build::at(16);
        g.input("x", &[2, 4, 6, 5]);
        g.input("grid", &[2, 3, 3, 2]);
        node(&mut g, "GridSample", ("x grid", "y"), attrs);
        g.outputs("y")
    };
    let roi = |mode: &str| {
        let mut g = Build::at(10);
        g.input("x", &[2, 4, 6, 5]);
        g.constant("rois", Tensor::from_f32(&[2, 4], &[0.0, 0.0, 3.0, 4.0, 1.0, 1.0, 4.0, 5.0]));
        g.constant("batch", Tensor::from_i64(&[2], &[0, 1]));
        let attrs = [
            ("mode", mode.into()),
            ("output_height", 2.into()),
            ("output_width", 2.into()),
            ("sampling_ratio", 2.into()),
        ];
        g.node("RoiAlign", "x rois batch", "y", attrs);
        g.outputs("y")
    };
    let mut scatter = Build::at(9);
    scatter.input("x", &[3, 3]);
    scatter.input("u", &[1, 3]);
    scatter.constant("i", Tensor::from_i64(&[1, 3], &[2, 0, 1]));
    scatter.node("Scatter", "x i u", "y", [("axis", 1.into())]);
    vec![
        ("GridSample by default", grid(vec![])),
        ("GridSample bilinear", grid(vec![("mode", "bilinear".into())])),
        ("GridSample bicubic", grid(vec![("mode", "bicubic".into())])),
        ("RoiAlign by average", roi("avg")),
        ("RoiAlign by maximum", roi("max")),
        ("Scatter", scatter.outputs("y")),
    ]
}

fn unchanged() -> Vec<(&'static str, Graph)> {
    let pool = |ceil: i64, include: Option<i64>| {
        let mut attrs: Attrs = vec![
            ("kernel_shape", vec![3, 3].into()),
            ("strides", vec![2, 2].into()),
            ("pads", vec![1, 1, 1, 1].into()),
            ("ceil_mode", ceil.into()),
        ];
        attrs.extend(include.map(|include| ("count_include_pad", include.into())));
        one(10, if include.is_some() { "AveragePool" } else { "MaxPool" }, XY, attrs)
    };
    let weighted = |op: &str, attrs: Attrs| {
        let mut g = Build::at(7);
        g.input("x", &[2, 4, 6, 5]);
        g.weights("w", &[4, 4, 3, 3]);
        node(&mut g, op, ("x w", "y"), attrs);
        g.outputs("y")
    };
    let mut recurrent = Build::at(7);
    recurrent.input("x", &[3, 2, 4]);
    recurrent.weights("w", &[1, 12, 4]);
    recurrent.weights("r", &[1, 12, 3]);
    recurrent.node("LSTM", "x w r", "y h", [("hidden_size", 3.into())]);
    let mut chain = Build::at(7);
    chain.input("x", &[2, 4, 6, 5]);
    chain.constant("i", Tensor::from_i64(&[2], &[1, 0]));
    chain.constant("s", Tensor::from_i64(&[2], &[0, -1]));
    chain.weights("p", &[1]);
    for (op, inputs, output) in [
        ("Gather", "x i", "g"),
        ("LeakyRelu", "g", "l"),
        ("PRelu", "l p", "q"),
        ("Add", "q p", "a"),
        ("GlobalAveragePool", "a", "v"),
        ("Reshape", "v s", "m"),
        ("Shape", "m", "n"),
        ("Cast", "n", "c"),
        ("Sum", "m m m", "t"),
        ("Max", "t m", "u"),
        ("Abs", "u", "f"),
        ("Pow", "f p", "e"),
        ("ArgMax", "x", "z"),
    ] {
        let attrs: Attrs = if op == "Cast" { vec![("to", 1.into())] } else { vec![] };
        node(&mut chain, op, (inputs, output), attrs);
    }
    vec![
        ("AveragePool, ceil, without padding in the count", pool(1, Some(0))),
        ("AveragePool, ceil, with padding in the count", pool(1, Some(1))),
        ("AveragePool, floor", pool(0, Some(1))),
        ("MaxPool, ceil", pool(1, None)),
        ("Conv", weighted("Conv", vec![("auto_pad", "SAME_LOWER".into()), ("strides", vec![2, 2].into())])),
        (
            "ConvTranspose",
            weighted("ConvTranspose", vec![("auto_pad", "SAME_UPPER".into()), ("strides", vec![2, 2].into())]),
        ),
        ("LRN", one(7, "LRN", XY, vec![("size", 3.into())])),
        ("DepthToSpace", one(7, "DepthToSpace", XY, vec![("blocksize", 2.into())])),
        ("InstanceNormalization", one(7, "InstanceNormalization", ("x a b", "y"), vec![])),
        ("LSTM", recurrent.outputs("y h")),
        ("a chain of common operators", chain.outputs("c e z")),
    ]
}
