//! Small nets with everything that quantizers treat in their own way.

use dfq_onnx::ir::{DType, Graph};

use crate::support::build::Build;
use crate::support::net::{layer, pads, with_dynamic_batch};

fn side(n: i64) -> dfq_onnx::ir::Attr {
    vec![n, n].into()
}

/// A product of two activations between layers.
pub fn attention() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 4, 6]);
    layer(&mut g, "MatMul", "x", "q", &[6, 6], 0, []);
    layer(&mut g, "MatMul", "x", "k", &[6, 4], 0, []);
    g.node("MatMul", "k q", "z", []);
    g.node("Relu", "z", "r", []);
    layer(&mut g, "MatMul", "r", "y", &[6, 3], 0, []);
    with_dynamic_batch(g.outputs("y"))
}

/// An image made larger by ConvTranspose, whose output channels lie on axis 1 of its weight.
pub fn upsampling(group: i64) -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 3, 6, 6]);
    layer(&mut g, "Conv", "x", "c1", &[4, 3, 3, 3], 4, pads(1));
    g.node("Relu", "c1", "r1", []);
    let channels = 6 / usize::try_from(group).unwrap();
    layer(
        &mut g,
        "ConvTranspose",
        "r1",
        "u",
        &[4, channels, 2, 2],
        6,
        [("group", group.into()), ("strides", side(2)), ("kernel_shape", side(2))],
    );
    g.node("Relu", "u", "r2", []);
    layer(&mut g, "Conv", "r2", "y", &[2, 6, 3, 3], 2, pads(1));
    with_dynamic_batch(g.outputs("y"))
}

/// Pooling, joining, padding and reshaping between layers: all on the grid of what they are made of.
pub fn grid_preserving() -> Graph {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "c0", &[4, 3, 3, 3], 4, pads(1));
    g.node("Relu", "c0", "r0", []);
    g.node("MaxPool", "r0", "p0", [("kernel_shape", side(2)), ("strides", side(2))]);
    layer(&mut g, "Conv", "p0", "c1", &[4, 4, 3, 3], 4, pads(1));
    g.node("LeakyRelu", "c1", "r1", []);
    g.node("Concat", "p0 r1", "j", [("axis", 1.into())]);
    g.ints("wider", &[0, 0, 1, 1, 0, 0, 1, 1]);
    g.node("Pad", "j wider", "wide", []);
    layer(&mut g, "Conv", "wide", "c2", &[4, 8, 3, 3], 4, []);
    g.node("Relu", "c2", "r2", []);
    g.ints("rows", &[0, 4, 16]);
    g.node("Reshape", "r2 rows", "t", []);
    g.node("Transpose", "t", "u", [("perm", vec![0, 2, 1].into())]);
    layer(&mut g, "MatMul", "u", "h", &[4, 5], 0, []);
    g.node("Relu", "h", "r3", []);
    layer(&mut g, "MatMul", "r3", "y", &[5, 3], 0, []);
    g.outputs("y")
}
