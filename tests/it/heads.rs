//! Models whose inputs are no single image, or whose outputs are no class scores.

use std::io::Write;
use std::path::Path;

use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::onnx;
use ndarray_npy::WriteNpyExt;
use serde_json::Value;
use zip::write::SimpleFileOptions;

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::program::run;

/// Name, model, and for each output that is reported whether it has a top-1 class.
pub type Case = (&'static str, Graph, &'static [(&'static str, bool)]);

fn quantize(folder: &Path, graph: &Graph, flags: &str) -> Result<Value, String> {
    onnx::save(graph, &folder.join("model.onnx"), usize::MAX).unwrap();
    let ran = run(folder, &format!("quantize model.onnx -o out.onnx --samples 16 --format json {flags}"));
    if ran.code == Some(0) { Ok(ran.json()) } else { Err(format!("exit {:?}: {}", ran.code, ran.stderr)) }
}

/// `features` `[N, 8, 8, 8]` behind two convolutions of `image: [batch, 3, 16, 16]`.
fn backbone(batch: &str) -> Build {
    let mut g = Build::at(17);
    g.fed("image", DType::F32, &format!("{batch}, 3, 16, 16"));
    layer(
        &mut g,
        "Conv",
        "image",
        "c1",
        &[8, 3, 3, 3],
        8,
        [("pads", vec![1; 4].into()), ("strides", vec![2, 2].into())],
    );
    g.node("Relu", "c1", "r1", []);
    layer(&mut g, "Conv", "r1", "c2", &[8, 8, 3, 3], 8, pads(1));
    g.node("Relu", "c2", "features", []);
    g
}

/// Adds `boxes: [N, 64, 4]` and `scores: [N, 2, 64]`.
fn detector(batch: &str) -> Build {
    let mut g = backbone(batch);
    layer(&mut g, "Conv", "features", "b", &[4, 8, 1, 1], 4, []);
    layer(&mut g, "Conv", "features", "s", &[2, 8, 1, 1], 2, []);
    g.ints("box_shape", &[0, 4, 64]);
    g.ints("score_shape", &[0, 2, 64]);
    g.node("Reshape", "b box_shape", "b2", []);
    g.node("Transpose", "b2", "boxes", [("perm", vec![0, 2, 1].into())]);
    g.node("Sigmoid", "s", "s2", []);
    g.node("Reshape", "s2 score_shape", "scores", []);
    g
}

fn suppressed() -> Graph {
    let mut g = detector("1");
    g.ints("most", &[10]);
    g.constant("overlap", Tensor::from_f32(&[1], &[0.5]));
    g.constant("least", Tensor::from_f32(&[1], &[0.4]));
    g.node("NonMaxSuppression", "boxes scores most overlap least", "kept", []);
    g.outputs("kept")
}

fn segmentation(with_labels: bool) -> Graph {
    let mut g = backbone("N");
    layer(&mut g, "Conv", "features", "s", &[5, 8, 1, 1], 5, []);
    g.constant("scales", Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]));
    g.node("Resize", "s _ scales", "map", [("mode", "linear".into())]);
    if !with_labels {
        return g.outputs("map");
    }
    g.node("ArgMax", "map", "labels", [("axis", 1.into()), ("keepdims", 0.into())]);
    g.outputs("labels")
}

fn embedding() -> Graph {
    let mut g = backbone("N");
    g.node("GlobalAveragePool", "features", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "e", &[8, 6], 6, []);
    g.node("ReduceL2", "e", "length", [("axes", vec![1].into())]);
    g.node("Div", "e length", "embedding", []);
    g.outputs("embedding")
}

fn labels_and_scores() -> Graph {
    let mut g = backbone("N");
    g.node("GlobalAveragePool", "features", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "scores", &[8, 6], 6, []);
    g.node("Softmax", "scores", "probabilities", []);
    g.node("ArgMax", "scores", "label", [("axis", 1.into())]);
    g.outputs("probabilities label")
}

fn words() -> Graph {
    let mut g = Build::at(17);
    g.fed("ids", DType::I64, "N, 12");
    g.fed("mask", DType::I64, "N, 12");
    g.constant("table", normal(&[50, 16], 1.0, 3));
    g.node("Gather", "table ids", "e", []);
    g.node("Cast", "mask", "m", [("to", Attr::Int(1))]);
    g.ints("last", &[-1]);
    g.node("Unsqueeze", "m last", "m2", []);
    g.node("Mul", "e m2", "h", []);
    layer(&mut g, "MatMul", "h", "k", &[16, 24], 0, []);
    g.node("Relu", "k", "r", []);
    g.node("ReduceMean", "r", "p", [("axes", vec![1].into()), ("keepdims", 0.into())]);
    layer(&mut g, "Gemm", "p", "y", &[24, 3], 3, []);
    g.outputs("y")
}

/// Two images, and boxes scaled by sizes that are fed.
fn several_inputs() -> Graph {
    let mut g = detector("N");
    g.fed("depth", DType::F32, "N, 1, 16, 16");
    layer(
        &mut g,
        "Conv",
        "depth",
        "d",
        &[4, 1, 3, 3],
        4,
        [("pads", vec![1; 4].into()), ("strides", vec![2, 2].into())],
    );
    layer(&mut g, "Conv", "d", "d2", &[4, 4, 1, 1], 4, []);
    g.node("Add", "b d2", "both", []);
    g.ints("flat", &[0, 4, -1]);
    g.node("Reshape", "both flat", "rows", []);
    g.fed("original_size", DType::I64, "N, 2");
    g.node("Cast", "original_size", "size", [("to", Attr::Int(1))]);
    g.ints("one_by_two", &[1, 2]);
    g.node("Tile", "size one_by_two", "sizes", []);
    g.ints("last", &[-1]);
    g.node("Unsqueeze", "sizes last", "factor", []);
    g.node("Mul", "rows factor", "scaled", []);
    g.outputs("scaled scores")
}

fn bytes() -> Graph {
    let mut g = Build::at(17);
    g.fed("pixels", DType::U8, "N, 16, 16, 3");
    g.node("Cast", "pixels", "x", [("to", Attr::Int(1))]);
    g.node("Transpose", "x", "t", [("perm", vec![0, 3, 1, 2].into())]);
    layer(&mut g, "Conv", "t", "c", &[8, 3, 3, 3], 8, []);
    g.node("Relu", "c", "r", []);
    g.node("GlobalAveragePool", "r", "p", []);
    g.node("Flatten", "p", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[8, 4], 4, []);
    g.outputs("y")
}

/// One model of each kind.
pub fn cases() -> Vec<Case> {
    vec![
        ("boxes and scores", detector("N").outputs("boxes scores"), &[("boxes", false), ("scores", false)]),
        ("boxes and scores, batch of 1", detector("1").outputs("boxes scores"), &[("boxes", false), ("scores", false)]),
        ("boxes that are left by suppression", suppressed(), &[]),
        ("a segmentation map", segmentation(false), &[("map", false)]),
        ("labels of pixels", segmentation(true), &[("labels", true)]),
        ("an embedding", embedding(), &[("embedding", false)]),
        ("probabilities and labels", labels_and_scores(), &[("probabilities", true), ("label", true)]),
        ("token ids", words(), &[("y", true)]),
        ("two images and sizes", several_inputs(), &[("scaled", false), ("scores", false)]),
        ("bytes", bytes(), &[("y", true)]),
    ]
}

#[test]
fn bytes_are_fed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let pixels =
        ndarray::Array4::from_shape_fn((3, 16, 16, 3), |(n, h, w, c)| u8::try_from(n + 5 * h + 7 * w + c).unwrap());
    pixels.write_npy(&mut images).unwrap();
    ndarray::arr1(&[0u8, 1, 2]).write_npy(&mut labels).unwrap();
    let mut writer = zip::ZipWriter::new(std::fs::File::create(folder.path().join("data.npz")).unwrap());
    for (name, bytes) in [("images.npy", images), ("labels.npy", labels)] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
    let report = quantize(folder.path(), &bytes(), "--eval data.npz").unwrap();
    assert_eq!(report["evaluation"]["images"], 3);
    assert_eq!(report["evaluation"]["agreeing"], 3);
    assert_eq!((&report["input"]["source"], &report["input"]["hi"]), (&"bytes".into(), &255.0.into()));
}

#[test]
fn models_of_every_kind_are_quantized_and_checked_by_what_their_outputs_are() {
    let mut failed = Vec::new();
    for bits in [8, 4] {
        for (name, graph, outputs) in cases() {
            let folder = tempfile::tempdir().unwrap();
            let report = match quantize(folder.path(), &graph, &format!("--bits {bits}")) {
                Ok(report) => report,
                Err(message) => {
                    failed.push(format!("{name}, {bits} bits: {message}"));
                    continue;
                }
            };
            let found = report["verification"]["outputs"].as_array().unwrap().iter();
            let found: Vec<(&str, bool)> =
                found.map(|o| (o["output"].as_str().unwrap(), !o["top1_agreement"].is_null())).collect();
            if found != outputs {
                failed.push(format!("{name}, {bits} bits: {found:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
