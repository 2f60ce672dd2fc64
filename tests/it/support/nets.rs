//! Small sound nets, to be spoilt.

use std::path::Path;

use dfq_onnx::ir::{Attr, DType, Dim, Graph, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;

/// Returns `x[N, 1, 6, 6] -> conv -> Relu -> gemm -> y[N, 3]`, of which `spoil` may change anything.
pub fn net(spoil: impl FnOnce(&mut Graph)) -> Vec<u8> {
    let mut b = Build::at(13);
    b.input("x", &[1, 1, 6, 6]);
    b.weights("w", &[2, 1, 3, 3]);
    b.weights("v", &[3, 2]);
    layers(&mut b);
    let mut graph = b.outputs("y");
    let x = graph.find("x").unwrap();
    graph.value_mut(x).shape.as_mut().unwrap()[0] = Dim::Symbol("N".to_owned());
    spoil(&mut graph);
    onnx::encode(&graph).unwrap()
}

/// Returns the net without the initializer `w` of 2 x 1 x 3 x 3, for a file that defines it in its own way.
pub fn net_without_w() -> Vec<u8> {
    net(|graph| {
        let w = graph.find("w").unwrap();
        graph.value_mut(w).constant = None;
    })
}

/// Returns the net with batch normalisation behind the convolution.
pub fn normalised_net(spoil: impl FnOnce(&mut Graph)) -> Vec<u8> {
    let mut b = Build::at(13);
    b.input("x", &[1, 1, 6, 6]);
    b.weights("w", &[2, 1, 3, 3]);
    b.weights("gamma beta mean variance", &[2]);
    b.node("Conv", "x w", "c", []);
    b.node("BatchNormalization", "c gamma beta mean variance", "n", []);
    b.node("Relu", "n", "y", []);
    let mut graph = b.outputs("y");
    spoil(&mut graph);
    onnx::encode(&graph).unwrap()
}

/// Puts the sound net into `folder` as `model.onnx`.
pub fn sound(folder: &Path) {
    std::fs::write(folder.join("model.onnx"), net(|_| ())).unwrap();
}

/// Replaces an initializer.
pub fn replace(graph: &mut Graph, name: &str, tensor: Tensor) {
    let id = graph.find(name).unwrap();
    graph.value_mut(id).dtype = Some(tensor.dtype());
    graph.value_mut(id).constant = Some(tensor);
}

/// Returns the net in another floating-point type.
pub fn net_of(dtype: DType) -> Vec<u8> {
    net(|graph| {
        for id in graph.value_ids().collect::<Vec<_>>() {
            let constant = graph.constant_of(id).map(|t| t.to_f32().unwrap());
            let shape = graph.constant_of(id).map(|t| t.shape().to_vec());
            let value = graph.value_mut(id);
            value.dtype = value.dtype.map(|_| dtype);
            value.constant = constant.zip(shape).map(|(v, s)| Tensor::from_floats(dtype, &s, &v).unwrap());
        }
    })
}

/// Returns the net in float32 whose second half, between Casts, is in `dtype`.
pub fn net_with_a_middle_of(dtype: DType) -> Vec<u8> {
    let mut b = Build::at(13);
    b.input("x", &[1, 1, 6, 6]);
    b.weights("w", &[2, 1, 3, 3]);
    b.constant("v", Tensor::from_floats(dtype, &[3, 2], &[0.5, 0.25, -0.5, 1.0, 0.125, 0.75]).unwrap());
    b.node("Conv", "x w", "c", []);
    b.node("Relu", "c", "r", []);
    b.node("Cast", "r", "h", [("to", Attr::Int(dtype.code().into()))]);
    b.node("GlobalAveragePool", "h", "p", []);
    b.node("Flatten", "p", "f", []);
    b.node("Gemm", "f v", "g", [("transB", Attr::Int(1))]);
    b.node("Cast", "g", "y", [("to", Attr::Int(1))]);
    b.declare("y", DType::F32);
    onnx::encode(&b.outputs("y")).unwrap()
}

fn layers(b: &mut Build) {
    b.node("Conv", "x w", "c", []);
    b.node("Relu", "c", "r", []);
    b.node("GlobalAveragePool", "r", "p", []);
    b.node("Flatten", "p", "f", []);
    b.node("Gemm", "f v", "y", [("transB", Attr::Int(1))]);
}
