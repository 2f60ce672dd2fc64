//! The activation quantizers and stored weights of a Q/DQ model of any tool.

use super::grid::{QdqGrid, bits_for_levels};
use crate::ir::{DType, Graph, Node, Uses, ValueId, is_dequantize, is_quantize, quantized_type};

/// An activation quantizer: QuantizeLinear, with an integer Clip if present.
#[derive(Clone, Debug)]
pub struct Quantizer {
    /// The float tensor that is quantized.
    pub input: ValueId,
    /// The integers that all later nodes read.
    pub integers: ValueId,
    /// The results of its DequantizeLinear nodes.
    pub dequantized: Vec<ValueId>,
    /// The type of the integers.
    pub dtype: DType,
    /// Scales and range; `None` where they are computed at run time.
    pub grid: Option<QdqGrid>,
}

/// An initializer of integers that a DequantizeLinear reads.
#[derive(Clone, Debug)]
pub struct QuantizedWeight {
    /// The initializer.
    pub integers: ValueId,
    /// The float weight.
    pub dequantized: ValueId,
    /// The bits that its integers use; `None` for vectors, and for int32 (biases) and wider.
    pub bits: Option<u32>,
}

/// All quantizers and quantized weights of a model, in the order of its nodes.
#[derive(Clone, Debug, Default)]
pub struct Structure {
    /// Activation quantizers.
    pub quantizers: Vec<Quantizer>,
    /// Stored weights.
    pub weights: Vec<QuantizedWeight>,
}

impl Structure {
    /// Returns the fewest bits of any grid, 8 where there is none.
    pub fn lowest_bits(&self) -> u32 {
        let activations = self.quantizers.iter().filter_map(|q| {
            let (low, high) = q.dtype.int_range()?;
            Some(q.grid.as_ref().map_or(bits_for_levels(high - low + 1), QdqGrid::bits))
        });
        activations.chain(self.weights.iter().filter_map(|w| w.bits)).min().unwrap_or(8)
    }

    /// Returns whether an activation is signed with zero point 0.
    pub fn is_symmetric(&self) -> bool {
        let symmetric = |grid: &QdqGrid| grid.low < 0 && grid.zero_point.iter().all(|&zero| zero == 0);
        self.quantizers.iter().filter_map(|q| q.grid.as_ref()).any(symmetric)
    }
}

/// Returns the quantizers of `graph`. Quantizers of constants are not listed: they belong to weights.
pub fn find_quantizers(graph: &Graph) -> Structure {
    let uses = graph.uses();
    let constant = constants(graph);
    let mut structure = Structure::default();
    for node in &graph.nodes {
        let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { continue };
        if is_quantize(node) && !constant[input.index()] {
            structure.quantizers.push(quantizer(graph, &uses, node, input, output));
        }
        if is_dequantize(node) && graph.constant_of(input).is_some() {
            structure.weights.push(QuantizedWeight {
                integers: input,
                dequantized: output,
                bits: used_bits(graph, input),
            });
        }
    }
    structure
}

fn quantizer(graph: &Graph, uses: &Uses, node: &Node, input: ValueId, output: ValueId) -> Quantizer {
    let dtype = quantized_type(graph, node);
    let mut grid = QdqGrid::of(graph, node, dtype);
    let mut integers = output;
    let clip = uses.only_consumer(output).map(|i| &graph.nodes[i]).filter(|next| next.is("Clip"));
    if let Some(clip) = clip
        && let Some(clipped) = clip.output(0)
    {
        let bound = |i| Some(graph.constant_of(clip.input(i)?)?.to_i64().ok()?.first().copied());
        if let Some(grid) = &mut grid {
            grid.low = bound(1).flatten().map_or(grid.low, |low| low.max(grid.low));
            grid.high = bound(2).flatten().map_or(grid.high, |high| high.min(grid.high));
        }
        integers = clipped;
    }
    let readers = uses.consumers(integers).iter().map(|&i| &graph.nodes[i]);
    let dequantized = readers.filter(|n| is_dequantize(n)).filter_map(|n| n.output(0)).collect();
    Quantizer { input, integers, dequantized, dtype, grid }
}

/// Returns for each value whether it is an initializer or computed from initializers alone.
fn constants(graph: &Graph) -> Vec<bool> {
    let mut constant: Vec<bool> = graph.value_ids().map(|id| graph.constant_of(id).is_some()).collect();
    for node in &graph.nodes {
        if node.inputs.iter().flatten().all(|id| constant[id.index()]) {
            for id in node.outputs.iter().flatten() {
                constant[id.index()] = true;
            }
        }
    }
    constant
}

/// Returns the bits of the smallest two's-complement (or unsigned) range that holds all integers, which for a weight in
/// a wider container are fewer than the container's.
fn used_bits(graph: &Graph, id: ValueId) -> Option<u32> {
    let tensor = graph.constant_of(id)?;
    let (lowest, _) = tensor.dtype().int_range().filter(|_| tensor.dtype().bits() < 32 && tensor.shape().len() > 1)?;
    let values = tensor.to_i64().ok()?;
    let (min, max) = (*values.iter().min()?, *values.iter().max()?);
    if min == max {
        return None;
    }
    Some(match lowest {
        0 => bits_for_levels(max - min + 1),
        _ => bits_for_levels(2 * max.max(-min - 1) + 2),
    })
}
