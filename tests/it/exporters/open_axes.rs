//! Dimensions that files leave open, in every spelling.

use dfq_onnx::ir::{DType, Dim, Graph, Tensor};
use dfq_onnx::{onnx, shape};

use super::{differs, quantize};
use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::wire::{INPUT, bytes, int, part_of_graph};

/// Conv, a Resize to the size of the image by a chain over its Shape, Conv.
fn resized(dims: &str) -> Graph {
    let mut g = Build::at(17);
    g.fed("image", DType::F32, dims);
    layer(
        &mut g,
        "Conv",
        "image",
        "first",
        &[4, 3, 3, 3],
        4,
        [("strides", vec![2, 2].into()), ("pads", vec![1; 4].into())],
    );
    g.node("Relu", "first", "r", []);
    for (name, values) in [("two", [2]), ("four", [4]), ("zero", [0])] {
        g.ints(name, &values);
    }
    g.node("Shape", "image", "shape", []);
    g.node("Shape", "r", "own", []);
    g.node("Slice", "shape two four zero", "sides", []);
    g.node("Slice", "own zero two zero", "others", []);
    g.node("Concat", "others sides", "sizes", [("axis", 0.into())]);
    g.node("Resize", "r _ _ sizes", "wide", [("mode", "linear".into())]);
    layer(&mut g, "Conv", "wide", "last", &[4, 4, 3, 3], 4, pads(1));
    g.declare("last", DType::F32);
    g.outputs("last")
}

#[test]
fn every_axis_that_was_open_stays_open() {
    let cases = [
        ("anonymous", "?, 3, ?, ?", "image:1x3x8x12", "?,3,?,?"),
        ("named", "N, 3, H, W", "image:1x3x8x12", "N,3,H,W"),
        ("one name for two sizes", "N, 3, S, S", "image:1x3x8x12", "N,3,S,S"),
        ("batch left open", "N, 3, H, W", "image:?x3x8x12", "N,3,H,W"),
        ("a fixed batch", "1, 3, H, W", "image:1x3x8x12", "1,3,H,W"),
        ("one axis open", "1, 3, 8, W", "image:1x3x8x12", "1,3,8,W"),
    ];
    let mut failed = Vec::new();
    for (name, dims, flag, expected) in cases {
        let graph = resized(dims);
        match quantize(&graph, &format!("--input-shape {flag}")) {
            Ok(found) => {
                let declared = found.declared();
                let input = declared.split(" -> ").next().unwrap_or_default().to_owned();
                let mut fed = vec![normal(&[1, 3, 8, 12], 1.0, 3)];
                if expected.contains("H") || expected.contains("?") {
                    fed.push(normal(&[1, 3, 16, 20], 1.0, 4));
                }
                if !dims.starts_with('1') {
                    fed.push(normal(&[2, 3, 8, 12], 1.0, 5));
                }
                let differ: Vec<_> = fed.into_iter().filter_map(|x| differs(&graph, &found.graph, &[x])).collect();
                if input != expected || found.layers() != 2 || !differ.is_empty() {
                    failed.push(format!("{name}: {declared}, {} layers, {differ:?}", found.layers()));
                }
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_size_that_tells_nothing_is_anonymous() {
    let mut g = Build::at(17);
    g.input("x", &[1]);
    g.node("Relu", "x", "y", []);
    let model = onnx::encode(&g.outputs("y")).unwrap();
    let dim = |value: Vec<u8>| bytes(1, value);
    let spellings = [
        ("-1", dim(int(1, -1))),
        ("-7", dim(int(1, -7))),
        ("?", dim(bytes(2, "?"))),
        ("\"-1\"", dim(bytes(2, "-1"))),
        ("None", dim(bytes(2, "None"))),
        ("empty", dim(bytes(2, ""))),
        ("nothing", dim(Vec::new())),
    ];
    let mut failed = Vec::new();
    for (name, dim) in spellings {
        let tensor_type = [int(1, 1), bytes(2, [dim.clone(), dim].concat())].concat();
        let info = [bytes(1, "z"), bytes(2, bytes(1, tensor_type))].concat();
        let read = onnx::decode([model.clone(), part_of_graph(INPUT, info)].concat().into());
        let shape = read.map(|graph| graph.value(graph.find("z").unwrap()).shape.clone());
        if !matches!(&shape, Ok(Some(dims)) if *dims == [Dim::Unknown, Dim::Unknown]) {
            failed.push(format!("{name}: {shape:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn sequences_of_any_length_stay_so() {
    let mut g = Build::at(17);
    g.fed("ids", DType::I64, "batch, length");
    g.constant("table", normal(&[20, 16], 1.0, 1));
    g.node("Gather", "table ids", "x", []);
    layer(&mut g, "MatMul", "x", "q", &[16, 16], 0, []);
    layer(&mut g, "MatMul", "x", "k", &[16, 16], 0, []);
    g.node("Transpose", "k", "t", [("perm", vec![0, 2, 1].into())]);
    g.node("MatMul", "q t", "scores", []);
    g.node("Softmax", "scores", "weights", [("axis", (-1).into())]);
    g.node("MatMul", "weights x", "y", []);
    g.declare("y", DType::F32);
    let graph = g.outputs("y");
    let found = quantize(&graph, "--input-shape ids:1x8").unwrap();
    assert_eq!(found.declared(), "batch,length -> batch,length,16");
    let mut failed = Vec::new();
    for dims in [[1, 8], [1, 3], [4, 11]] {
        let ids: Vec<i64> = (0..dims[0] * dims[1]).map(|i| i64::try_from(i * 7 % 20).unwrap()).collect();
        failed.extend(differs(&graph, &found.graph, &[Tensor::from_i64(&dims, &ids)]));
    }
    assert!(failed.is_empty(), "{failed:#?}");
    shape::infer(&mut found.graph.clone()).unwrap();
}

#[test]
fn a_state_beside_the_batch_is_fed_run_by_run() {
    let cases = [("1, 5", "2, 1, 4"), ("N, 5", "2, N, 4"), ("N, 5", "2, 1, 4"), ("?, 5", "2, ?, 4")];
    let mut failed = Vec::new();
    for (x, state) in cases {
        let mut g = Build::at(17);
        g.fed("x", DType::F32, x);
        g.fed("state", DType::F32, state);
        layer(&mut g, "Gemm", "x", "a", &[5, 4], 4, []);
        g.node("Relu", "a", "r", []);
        g.node("Add", "r state", "next", []);
        g.node("ReduceMean", "next", "m", [("axes", vec![0].into()), ("keepdims", 0.into())]);
        layer(&mut g, "MatMul", "m", "y", &[4, 4], 0, []);
        g.declare("y", DType::F32);
        g.declare("next", DType::F32);
        let graph = g.outputs("y next");
        // A rank is all that some exporters tell of a state.
        match quantize(&graph, if x.starts_with('?') { "--input-shape state:2x1x4" } else { "" }) {
            Ok(found) => {
                let inputs = [normal(&[1, 5], 1.0, 1), normal(&[2, 1, 4], 1.0, 2)];
                let differs = differs(&graph, &found.graph, &inputs);
                let samples = found.report["verification"]["samples"].as_u64();
                let input = found.declared();
                if found.layers() != 2
                    || differs.is_some()
                    || samples != Some(8)
                    || !input.starts_with(&x.replace(' ', ""))
                {
                    failed.push(format!("{x}; {state}: {input}, {samples:?} samples, {differs:?}"));
                }
            }
            Err(error) => failed.push(format!("{x}; {state}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
