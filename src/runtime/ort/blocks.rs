//! The block size of ONNX Runtime's blocked convolutions on this processor.

use crate::error::Result;
use crate::expr::{NCHWC, OPSET};
use crate::ir::{DType, Dim, Graph, Node, Tensor};
use crate::runtime::{Engine, Optimisation, OrtEngine, SessionOptions};

/// Channels of the probe: more than any block.
const CHANNELS: usize = 64;

/// Returns the channels of a block: 16 with AVX-512, 8 with AVX2. `None` if the library has no blocked kernels.
pub(super) fn block(engine: &OrtEngine) -> Option<usize> {
    channels_before_second_pixel(engine).ok().filter(|&block| block > 1 && block < CHANNELS)
}

fn channels_before_second_pixel(engine: &OrtEngine) -> Result<usize> {
    let shape = [1, CHANNELS, 1, 2];
    let mut graph = Graph::default();
    graph.ir_version = 10;
    graph.set_opset(OPSET);
    graph.import(NCHWC, 1);
    let [x, y] = ["x", "y"].map(|name| graph.add_value(name));
    for id in [x, y] {
        let value = graph.value_mut(id);
        (value.dtype, value.shape) = (Some(DType::F32), Some(shape.map(Dim::Known).to_vec()));
    }
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    let node = Node::new("ReorderInput", [x], [y], []);
    graph.nodes.push(Node { domain: NCHWC.to_owned(), ..node });
    let pixels = Tensor::from_f32(&shape, &[0.0, 1.0].repeat(CHANNELS));
    let options = SessionOptions { optimisation: Optimisation::None, ..SessionOptions::default() };
    let made = engine.load(&graph, &options)?.run(&[pixels])?;
    Ok(made[0].to_f32()?.iter().take_while(|&&pixel| pixel == 0.0).count())
}
