//! From the float graph, the plan and the solution to the Q/DQ graph that is shipped.
//!
//! Activations: `x -> QuantizeLinear -> [integer Clip below 8 bits] -> DequantizeLinear`, read by every node that read
//! `x`; graph outputs stay float. Weights: an integer initializer behind DequantizeLinear. Biases: int32 with scale
//! `x·w`, or float where the target wants it. Grids that tensors share are one scale and one zero-point initializer.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ir::{Attr, Attrs, DType, Graph, Node, NodeNames, Tensor, ValueId};
use crate::passes::{clip_in_integers, drop_identity};
use crate::place::{PlacedActivation, layer_of, place};
use crate::plan::Plan;
use crate::quant::{Grid, QuantizedTensor, quantize_bias};
use crate::solution::Solution;

/// Returns the Q/DQ graph. `graph` is the float network of the solution; its operator set must be at least what the plan
/// needs.
///
/// # Errors
/// When the plan or the solution do not belong to the graph.
pub fn emit(graph: &Graph, plan: &Plan, solution: &Solution) -> Result<Graph> {
    let placed = place(graph, plan, &solution.biases)?;
    let node_names = NodeNames::of(&placed.graph);
    let mut emitter = Emitter { graph: placed.graph, plan, solution, written: HashMap::new(), node_names };
    let mut grids = HashMap::new();
    for activation in placed.activations {
        let written = match grids.get(&activation.grid) {
            Some(written) => *written,
            None => *grids.entry(activation.grid).or_insert(emitter.write_grid(activation.grid)?),
        };
        emitter.quantize(activation, written);
    }
    for (weight, y) in placed.weights.into_iter().enumerate() {
        if let Some(y) = y {
            emitter.quantize_weight(weight, y)?;
        }
    }
    for index in 0..plan.layers.len() {
        emitter.quantize_bias_of(index)?;
    }
    let mut graph = emitter.finish();
    graph.sort()?;
    graph.sweep();
    drop_identity(&mut graph)?;
    if plan.target.choices().clips_in_integers {
        clip_in_integers(&mut graph)?;
    }
    graph.rename_duplicate_nodes();
    graph.metadata.producer_name = env!("CARGO_PKG_NAME").to_owned();
    graph.metadata.producer_version = env!("CARGO_PKG_VERSION").to_owned();
    crate::ir::check(&graph)?;
    Ok(graph)
}

struct Emitter<'a> {
    graph: Graph,
    plan: &'a Plan,
    solution: &'a Solution,
    /// The nodes that take the place of an Identity, by its output.
    written: HashMap<ValueId, Vec<Node>>,
    node_names: NodeNames,
}

/// The initializers of an activation's grid.
#[derive(Clone, Copy)]
struct WrittenGrid {
    scale: ValueId,
    zero_point: ValueId,
    /// Bounds of the integers below 8 bits.
    bounds: Option<(ValueId, ValueId)>,
}

impl Emitter<'_> {
    fn write_grid(&mut self, index: usize) -> Result<WrittenGrid> {
        let grid = &self.solution.activations[index];
        let first = self.plan.activations[index].tensors.first().map_or("grid", String::as_str);
        let byte = grid.scheme.byte_type();
        let scale = self.graph.add_constant(&format!("{first}_scale"), Tensor::from_f32(&[], &grid.scale));
        let mut integer = |what: &str, value: i32| -> Result<ValueId> {
            Ok(self.graph.add_constant(&format!("{first}_{what}"), Tensor::from_ints(byte, &[], &[value])?))
        };
        let zero_point = integer("zero_point", grid.zero_point[0])?;
        let bounds = match (grid.scheme.bits, grid.scheme.int_range()) {
            (8, _) => None,
            (_, (lo, hi)) => Some((integer("min", lo)?, integer("max", hi)?)),
        };
        Ok(WrittenGrid { scale, zero_point, bounds })
    }

    fn quantize(&mut self, activation: PlacedActivation, grid: WrittenGrid) {
        let PlacedActivation { x, y, is_root, .. } = activation;
        let name = self.graph.name_of(x).to_owned();
        let WrittenGrid { scale, zero_point, bounds } = grid;
        let (mut q, node) = self.node("QuantizeLinear", &format!("{name}_quantized"), [x, scale, zero_point]);
        let mut nodes = vec![node];
        // What a grid-preserving operator makes of clipped integers needs no second Clip.
        if let Some((lo, hi)) = bounds.filter(|_| is_root) {
            let (clipped, node) = self.node("Clip", &format!("{name}_clipped"), [q, lo, hi]);
            nodes.push(node);
            q = clipped;
        }
        nodes.push(self.dequantize([q, scale, zero_point], y, Attrs::default()));
        self.written.insert(y, nodes);
    }

    fn node(&mut self, op_type: &str, output: &str, inputs: [ValueId; 3]) -> (ValueId, Node) {
        let id = self.graph.add_value(output);
        let mut node = Node::new(op_type, inputs, [id], Attrs::default());
        node.name = self.node_names.unique(&format!("{}_node", self.graph.name_of(id)));
        (id, node)
    }

    fn dequantize(&mut self, inputs: impl IntoIterator<Item = ValueId>, y: ValueId, attrs: Attrs) -> Node {
        let mut node = Node::new("DequantizeLinear", inputs, [y], attrs);
        node.name = self.node_names.unique(&format!("{}_node", self.graph.name_of(y)));
        node
    }

    fn quantize_weight(&mut self, index: usize, y: ValueId) -> Result<()> {
        let QuantizedTensor { grid, shape, bytes } = &self.solution.weights[index];
        let name = &self.plan.weights[index].tensor;
        let dtype = match self.plan.weights[index].packed {
            true => grid.scheme.packed_type(),
            false => grid.scheme.byte_type(),
        };
        let integers = match dtype.bits() {
            8 => Tensor::new(dtype, shape.clone(), bytes.clone())?,
            _ => {
                let values: Vec<i32> = (0..bytes.len()).map(|i| self.solution.weights[index].integer(i)).collect();
                Tensor::from_ints(dtype, shape, &values)?
            }
        };
        let (dims, attrs) = per_channel(grid.scheme.axis.map(|axis| (axis, grid.scale.len())));
        let integers = self.graph.add_constant(&format!("{name}_quantized"), integers);
        let scale = self.graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(&dims, &grid.scale));
        let zero_point = Tensor::from_ints(dtype, &dims, &grid.zero_point)?;
        let zero_point = self.graph.add_constant(&format!("{name}_zero_point"), zero_point);
        let node = self.dequantize([integers, scale, zero_point], y, attrs);
        self.written.insert(y, vec![node]);
        Ok(())
    }

    fn quantize_bias_of(&mut self, index: usize) -> Result<()> {
        let layer = &self.plan.layers[index];
        let Some(weight) = layer.weight else { return Ok(()) };
        let node = layer_of(&self.graph, &layer.output)?;
        let (input, weights) = (self.solution.activations[layer.input].scale[0], &self.solution.weights[weight]);
        if let Some(scale) = weights.grid.scale.iter().find(|&scale| !(input * scale).is_finite()) {
            let message = format!(
                "the scales of its input ({input:e}) and weight ({scale:e}) multiply to more than float32 holds; leave it \
                 float with --exclude"
            );
            return Err(Error::unsupported(self.graph.describe(&self.graph.nodes[node]), message));
        }
        let bias = self.graph.nodes[node].input(2).filter(|_| self.plan.target.choices().quantizes_biases);
        if let Some(bias) = bias
            && let Some(written) = self.write_bias(bias, input, &weights.grid)?
        {
            self.graph.nodes[node].inputs[2] = Some(written);
        }
        Ok(())
    }

    /// `None` where the bias is no constant vector, which then stays as it is.
    fn write_bias(&mut self, bias: ValueId, input_scale: f32, weight: &Grid) -> Result<Option<ValueId>> {
        let Some(tensor) = self.graph.constant_of(bias).filter(|t| t.shape().len() == 1) else { return Ok(None) };
        let values = tensor.to_f32()?;
        if weight.scale.len() != 1 && weight.scale.len() != values.len() {
            return Ok(None);
        }
        let guarded = quantize_bias(&values, input_scale, &weight.scale);
        let name = self.graph.name_of(bias).to_owned();
        let integers = Tensor::from_ints(DType::I32, &[values.len()], &guarded.integers)?;
        let integers = self.graph.add_constant(&format!("{name}_quantized"), integers);
        let (dims, attrs) = per_channel(Some((0, guarded.scale.len())).filter(|&(_, scales)| scales > 1));
        let scale = self.graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(&dims, &guarded.scale));
        let y = self.graph.add_value(&format!("{name}_dequantized"));
        let node = self.dequantize([integers, scale], y, attrs);
        self.graph.nodes.push(node);
        Ok(Some(y))
    }

    /// Returns the graph with what was written in place of each Identity.
    fn finish(mut self) -> Graph {
        let nodes = std::mem::take(&mut self.graph.nodes);
        let replaced = |node: Node| match node.output(0).and_then(|y| self.written.remove(&y)) {
            Some(nodes) => nodes,
            None => vec![node],
        };
        self.graph.nodes = nodes.into_iter().flat_map(replaced).collect();
        self.graph
    }
}

/// Returns the shape of scales and the attributes that say along which axis they lie.
fn per_channel(axis: Option<(usize, usize)>) -> (Vec<usize>, Attrs) {
    let Some((axis, scales)) = axis else { return (Vec::new(), Attrs::default()) };
    let axis = i64::try_from(axis).expect("an axis is below the rank");
    (vec![scales], [("axis", Attr::Int(axis))].into())
}
