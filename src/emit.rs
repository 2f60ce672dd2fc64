//! From the float graph, the plan and the solution to the Q/DQ graph that is shipped.
//!
//! Activations: `x -> QuantizeLinear -> [integer Clip below 8 bits] -> DequantizeLinear`, read by every node that read
//! `x`; graph outputs stay float. Weights: an integer initializer behind DequantizeLinear. Biases: int32 with scale
//! `x·w`, or float where the target wants it. Grids that tensors share are one scale and one zero-point initializer.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::ir::{Attr, Attrs, Graph, Node, Tensor, ValueId};
use crate::passes::clip_in_integers;
use crate::plan::{Activation, Plan, is_layer};
use crate::quant::{Grid, QuantizedTensor, quantize_bias};
use crate::recipes::Solution;

/// Returns the Q/DQ graph. `graph` is the float student; its operator set must be at least what the plan needs.
///
/// # Errors
/// When the plan or the solution do not belong to the graph.
pub fn emit(graph: &Graph, plan: &Plan, solution: &Solution) -> Result<Graph> {
    let mut emitter = Emitter {
        graph: graph.clone(),
        plan,
        solution,
        float_layers: float_layers(graph, plan),
        weights: HashMap::new(),
    };
    for (activation, grid) in plan.activations.iter().zip(&solution.activations) {
        emitter.quantize_activation(activation, grid)?;
    }
    for index in 0..plan.layers.len() {
        emitter.quantize_layer(index)?;
    }
    for layer in &plan.weight_only {
        emitter.replace_weight(&layer.output, layer.weight)?;
    }
    let mut graph = emitter.graph;
    graph.sort()?;
    graph.sweep();
    if plan.target.choices().clips_in_integers {
        clip_in_integers(&mut graph)?;
    }
    graph.metadata.producer_name = env!("CARGO_PKG_NAME").to_owned();
    graph.metadata.producer_version = env!("CARGO_PKG_VERSION").to_owned();
    crate::ir::check(&graph)?;
    Ok(graph)
}

fn float_layers(graph: &Graph, plan: &Plan) -> HashSet<ValueId> {
    let planned: HashSet<&str> = plan.layers.iter().map(|layer| layer.output.as_str()).collect();
    let layers = graph.nodes.iter().filter(|node| is_layer(node));
    let outputs = layers.filter_map(|node| node.output(0));
    outputs.filter(|&id| !planned.contains(graph.name_of(id))).collect()
}

struct Emitter<'a> {
    graph: Graph,
    plan: &'a Plan,
    solution: &'a Solution,
    /// Results of layers that stay float. They read floats: behind a DequantizeLinear, ONNX Runtime's default options
    /// would quantize their weights per tensor (`WeightBiasQuantization`, seen in 1.31).
    float_layers: HashSet<ValueId>,
    /// The dequantized value of each weight grid that was written.
    weights: HashMap<usize, ValueId>,
}

impl Emitter<'_> {
    fn find(&self, name: &str) -> Result<ValueId> {
        self.graph
            .find(name)
            .ok_or_else(|| Error::Plan(format!("the plan names tensor \"{name}\", which the graph lacks")))
    }

    fn quantize_activation(&mut self, activation: &Activation, grid: &Grid) -> Result<()> {
        let Some(first) = activation.tensors.first() else { return Ok(()) };
        let byte = grid.scheme.byte_type();
        let scale = self.graph.add_constant(&format!("{first}_scale"), Tensor::from_f32(&[], &grid.scale));
        let zero_point = Tensor::from_ints(byte, &[], &grid.zero_point)?;
        let zero_point = self.graph.add_constant(&format!("{first}_zero_point"), zero_point);
        let bounds = match grid.scheme.bits {
            8 => None,
            _ => {
                let (lo, hi) = grid.scheme.int_range();
                let lo = self.graph.add_constant(&format!("{first}_min"), Tensor::from_ints(byte, &[], &[lo])?);
                let hi = self.graph.add_constant(&format!("{first}_max"), Tensor::from_ints(byte, &[], &[hi])?);
                Some((lo, hi))
            }
        };
        for name in &activation.quantized {
            let x = self.find(name)?;
            let dequantized = self.graph.add_value(&format!("{name}_dequantized"));
            let float_layers = &self.float_layers;
            let stays_float = |n: &Node| n.output(0).is_some_and(|y| float_layers.contains(&y));
            for input in self.graph.nodes.iter_mut().filter(|n| !stays_float(n)).flat_map(|n| n.inputs.iter_mut()) {
                if *input == Some(x) {
                    *input = Some(dequantized);
                }
            }
            let mut q =
                self.push("QuantizeLinear", &format!("{name}_quantized"), &[x, scale, zero_point], Attrs::default());
            // What a grid-preserving operator makes of clipped integers needs no second Clip.
            if let Some((lo, hi)) = bounds.filter(|_| activation.roots.contains(name)) {
                q = self.push("Clip", &format!("{name}_clipped"), &[q, lo, hi], Attrs::default());
            }
            let mut node = Node::new("DequantizeLinear", [q, scale, zero_point], [dequantized], Attrs::default());
            node.name = format!("{}_node", self.graph.name_of(dequantized));
            self.graph.nodes.push(node);
        }
        Ok(())
    }

    fn push(&mut self, op_type: &str, output: &str, inputs: &[ValueId], attrs: Attrs) -> ValueId {
        let id = self.graph.add_value(output);
        let mut node = Node::new(op_type, inputs.iter().copied(), [id], attrs);
        node.name = format!("{}_node", self.graph.name_of(id));
        self.graph.nodes.push(node);
        id
    }

    fn quantize_layer(&mut self, index: usize) -> Result<()> {
        let layer = &self.plan.layers[index];
        let Some(weight) = layer.weight else { return Ok(()) };
        let node = self.replace_weight(&layer.output, weight)?;
        let (input, weights) = (self.solution.activations[layer.input].scale[0], &self.solution.weights[weight]);
        if let Some(scale) = weights.grid.scale.iter().find(|&scale| !(input * scale).is_finite()) {
            let message = format!(
                "the scales of its input ({input:e}) and weight ({scale:e}) multiply to more than float32 holds; leave it \
                 float with --exclude"
            );
            return Err(Error::unsupported(self.graph.describe(&self.graph.nodes[node]), message));
        }
        let bias = self.graph.nodes[node].input(2).filter(|_| self.plan.target.choices().quantizes_biases);
        if let Some(bias) = bias {
            let grid = &self.solution.activations[layer.input];
            if let Some(written) = self.write_bias(bias, grid.scale[0], &self.solution.weights[weight].grid.scale)? {
                self.graph.nodes[node].inputs[2] = Some(written);
            }
        }
        Ok(())
    }

    /// Lets the layer that makes `output` read its quantized weight, and returns its place.
    fn replace_weight(&mut self, output: &str, weight: usize) -> Result<usize> {
        let id = self.find(output)?;
        let node = self.graph.nodes.iter().position(|n| n.output(0) == Some(id));
        let node = node.ok_or_else(|| Error::Plan(format!("no node makes \"{output}\", which the plan names")))?;
        let dequantized = match self.weights.get(&weight) {
            Some(id) => *id,
            None => self.write_weight(weight)?,
        };
        self.graph.nodes[node].inputs[1] = Some(dequantized);
        Ok(node)
    }

    fn write_weight(&mut self, index: usize) -> Result<ValueId> {
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
        let (dims, attrs): (&[usize], Attrs) = match grid.scheme.axis {
            None => (&[], Attrs::default()),
            Some(axis) => {
                let axis = i64::try_from(axis).expect("an axis is below the rank");
                (&[grid.scale.len()], [("axis", Attr::Int(axis))].into())
            }
        };
        let integers = self.graph.add_constant(&format!("{name}_quantized"), integers);
        let scale = self.graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(dims, &grid.scale));
        let zero_point = Tensor::from_ints(dtype, dims, &grid.zero_point)?;
        let zero_point = self.graph.add_constant(&format!("{name}_zero_point"), zero_point);
        let id = self.push("DequantizeLinear", &format!("{name}_dequantized"), &[integers, scale, zero_point], attrs);
        self.weights.insert(index, id);
        Ok(id)
    }

    /// `None` where the bias is no constant vector, which then stays as it is.
    fn write_bias(&mut self, bias: ValueId, input_scale: f32, weight_scale: &[f32]) -> Result<Option<ValueId>> {
        let Some(tensor) = self.graph.constant_of(bias).filter(|t| t.shape().len() == 1) else { return Ok(None) };
        let values = tensor.to_f32()?;
        if weight_scale.len() != 1 && weight_scale.len() != values.len() {
            return Ok(None);
        }
        let guarded = quantize_bias(&values, input_scale, weight_scale);
        let name = self.graph.name_of(bias).to_owned();
        let integers = Tensor::from_ints(crate::ir::DType::I32, &[values.len()], &guarded.integers)?;
        let integers = self.graph.add_constant(&format!("{name}_quantized"), integers);
        let (dims, attrs): (&[usize], Attrs) = match guarded.scale.len() {
            1 => (&[], Attrs::default()),
            _ => (&[guarded.scale.len()], [("axis", Attr::Int(0))].into()),
        };
        let scale = self.graph.add_constant(&format!("{name}_scale"), Tensor::from_f32(dims, &guarded.scale));
        Ok(Some(self.push("DequantizeLinear", &format!("{name}_dequantized"), &[integers, scale], attrs)))
    }
}
