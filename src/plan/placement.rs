//! From a [`Policy`] to a [`Plan`]: placement, bits, and which tensors share a grid.

use super::container::{is_packed, refuse_unused};
use super::demand::Demand;
use super::grid_preserving::preserved_inputs;
use super::policy::{Pattern, refuse_unfit, refuse_unmatched};
use super::residual::quantized_operands;
use super::stays_float::{excluded, is_float, why_float};
use super::target::Choices;
use super::{Activation, Float, LAYERS, Layer, Plan, Policy, Role, Weight, WeightOnly};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, Tensor, Uses, ValueId};
use crate::quant::Scheme;

/// Bits of the network input, of residual operands that no layer reads, and of tensors quantized for kernels' sake.
const WIDE_BITS: u32 = 8;
/// Bits of weights in the reduced range: two products of a byte and such a weight add up to less than 16 bits hold.
/// Depthwise kernels add no products of bytes, so their weights keep all bits.
const REDUCED_BITS: u32 = 7;
/// Operators that ONNX Runtime's CPU kernels run in integer when their inputs and their output are quantized.
const INTEGER_KERNELS: &[&str] =
    &["Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"];

/// Returns the plan for `graph`, whose normalising passes have run and whose shapes are inferred.
///
/// # Errors
/// Bits or a container that the target lacks; names that match no node; a graph without a layer that can be quantized.
pub fn plan(graph: &Graph, policy: &Policy) -> Result<Plan> {
    refuse_unfit(policy)?;
    let mut planner = Planner::new(graph, policy)?;
    planner.place_layers();
    planner.place_residual_sums();
    planner.unite_upwards();
    if planner.choices.concat_shares_grid {
        planner.unite_concats();
    }
    if planner.choices.quantizes_outputs {
        planner.place_outputs();
    }
    planner.finish()
}

struct PlacedLayer {
    node: usize,
    /// None where the weight alone is quantized.
    input: Option<ValueId>,
    weight: Option<(ValueId, Scheme, bool)>,
}

/// Weight grids and the layers that read them.
#[derive(Default)]
struct Weights {
    weights: Vec<Weight>,
    layers: Vec<Layer>,
    weight_only: Vec<WeightOnly>,
}

impl Weights {
    fn index_of(&mut self, wanted: Weight) -> usize {
        self.weights.iter().position(|w| *w == wanted).unwrap_or_else(|| {
            self.weights.push(wanted);
            self.weights.len() - 1
        })
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    policy: &'a Policy,
    choices: &'static Choices,
    uses: Uses,
    exclude: Vec<Pattern>,
    layer_bits: Vec<(Pattern, u32)>,
    /// Whether a weighted node lies upstream, downstream, per value.
    behind_layer: Vec<bool>,
    before_layer: Vec<bool>,
    parent: Vec<usize>,
    demand: Vec<Option<Demand>>,
    layers: Vec<PlacedLayer>,
    float: Vec<Float>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, policy: &'a Policy) -> Result<Self> {
        let values = graph.value_ids().count();
        let exclude: Vec<Pattern> = policy.exclude.iter().map(|p| Pattern::new(p)).collect();
        let layer_bits: Vec<(Pattern, u32)> = policy.layer_bits.iter().map(|(p, b)| (Pattern::new(p), *b)).collect();
        refuse_unmatched(graph, &exclude, &layer_bits, &policy.exclude_ops)?;
        let (behind_layer, before_layer) = around_layers(graph, values);
        Ok(Self {
            graph,
            policy,
            choices: policy.target.choices(),
            uses: graph.uses(),
            exclude,
            layer_bits,
            behind_layer,
            before_layer,
            parent: (0..values).collect(),
            demand: vec![None; values],
            layers: Vec::new(),
            float: Vec::new(),
        })
    }

    fn place_layers(&mut self) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if !LAYERS.iter().any(|op| node.is(op)) {
                continue;
            }
            match why_float(self.graph, self.policy, &self.exclude, node) {
                Some(reason) => self.float.push(Float {
                    name: self.name(node),
                    op_type: node.op_type.clone(),
                    is_layer: true,
                    reason,
                }),
                None => self.place_layer(index, node),
            }
        }
    }

    fn place_layer(&mut self, index: usize, node: &Node) {
        let (Some(input), Some(other), Some(output)) = (node.input(0), node.input(1), node.output(0)) else { return };
        let at_the_end = !self.behind_layer[input.index()] || !self.before_layer[output.index()];
        let own = self.layer_bits.iter().find(|(p, _)| p.matches(self.graph, node)).map(|(_, bits)| *bits);
        let bits = |asked: u32| match own {
            Some(bits) => bits,
            None if at_the_end && !self.policy.all_layers => WIDE_BITS,
            None => asked,
        };
        let (weight_bits, input_bits) = (bits(self.policy.weight_bits), bits(self.policy.activation_bits));
        let adds_products = |tensor: &Tensor| !(node.is("Conv") && tensor.shape().get(1) == Some(&1));
        let reduced = self.policy.reduce_range && self.graph.constant_of(other).is_some_and(adds_products);
        let weight_bits = if reduced { weight_bits.min(REDUCED_BITS) } else { weight_bits };
        let weight = self.graph.constant_of(other).map(|tensor| {
            let axis = if self.policy.per_channel { channel_axis(node, tensor.shape().len()) } else { None };
            let packed = is_packed(self.policy, &node.op_type, weight_bits);
            (other, Scheme::weight(weight_bits, self.policy.symmetric, axis), packed)
        });
        if weight.is_some_and(|(_, _, packed)| packed && self.choices.packed_weights_alone) {
            return self.layers.push(PlacedLayer { node: index, input: None, weight });
        }
        self.ask(input, Role::LayerInput, input_bits);
        if weight.is_none() {
            self.ask(other, Role::LayerInput, input_bits);
        }
        self.layers.push(PlacedLayer { node: index, input: Some(input), weight });
    }

    fn place_residual_sums(&mut self) {
        for node in &self.graph.nodes {
            let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
            let Ok(operands) = <[ValueId; 2]>::try_from(operands) else { continue };
            let ready = |id: &ValueId| self.behind_layer[id.index()] && is_float(self.graph, *id);
            if !node.is("Add") || !operands.iter().all(ready) || self.excluded(node) {
                continue;
            }
            for id in quantized_operands(self.graph, &self.uses, self.policy.target, node, operands) {
                self.ask(id, Role::Carrier, WIDE_BITS);
            }
        }
    }

    /// Moves demands from the results of grid-preserving operators to their inputs, last node first.
    fn unite_upwards(&mut self) {
        for node in self.graph.nodes.iter().rev() {
            let Some(inputs) = preserved_inputs(self.graph, node) else { continue };
            let wanted = node.outputs.iter().flatten().any(|&id| self.demanded(id));
            if wanted && inputs.iter().all(|&id| is_float(self.graph, id)) {
                self.unite(node, &inputs);
            }
        }
    }

    fn unite_concats(&mut self) {
        for node in self.graph.nodes.iter().filter(|node| node.is("Concat")) {
            let Some(inputs) = preserved_inputs(self.graph, node) else { continue };
            if inputs.iter().all(|&id| self.demanded(id)) && !self.excluded(node) {
                self.unite(node, &inputs);
            }
        }
    }

    /// Puts every result that an integer kernel could make on a grid, first node first.
    fn place_outputs(&mut self) {
        for node in &self.graph.nodes {
            let Some(output) = node.output(0) else { continue };
            if let Some(inputs) = preserved_inputs(self.graph, node) {
                let all = inputs.iter().all(|&id| self.demanded(id));
                if all && !self.uses.is_output(output) && !self.excluded(node) {
                    self.unite(node, &inputs);
                }
                continue;
            }
            let data = node.inputs.iter().take(2).flatten().filter(|&&id| self.graph.constant_of(id).is_none());
            let mut data = data.peekable();
            let ready = data.peek().is_some() && data.all(|&id| self.demanded(id));
            if !ready || !INTEGER_KERNELS.iter().any(|op| node.is(op)) || self.excluded(node) {
                continue;
            }
            let result = self.behind_activation(output);
            let makes_logits = LAYERS.iter().any(|op| node.is(op)) && !self.before_layer[output.index()];
            if makes_logits {
                continue;
            }
            if !self.uses.is_output(result) && !self.uses.consumers(result).is_empty() {
                self.ask(result, Role::Output, WIDE_BITS);
            }
        }
    }

    /// The result of a Relu or Clip that alone reads `output`: kernels take it in, so the grid belongs behind it.
    fn behind_activation(&self, output: ValueId) -> ValueId {
        let reader = self.uses.only_consumer(output).map(|i| &self.graph.nodes[i]);
        match reader.filter(|n| n.is("Relu") || n.is("Clip")).and_then(|n| n.output(0)) {
            Some(result) => result,
            None => output,
        }
    }

    fn finish(mut self) -> Result<Plan> {
        if self.layers.is_empty() {
            let why: Vec<String> =
                self.float.iter().map(|f| format!("{} ({}): {}", f.name, f.op_type, f.reason)).collect();
            let why = if why.is_empty() { "it has no Conv, Gemm or MatMul".to_owned() } else { why.join("; ") };
            return Err(Error::Plan(format!("no layer of the model can be quantized: {why}")));
        }
        let mut slot = vec![None; self.parent.len()];
        let mut activations: Vec<Activation> = Vec::new();
        for id in self.graph.value_ids() {
            let set = self.set_of(id);
            let Some(demand) = self.demand[set] else { continue };
            let index = *slot[set].get_or_insert_with(|| {
                activations.push(Activation {
                    scheme: match self.choices.symmetric_activations {
                        true => Scheme::symmetric_activation(demand.bits),
                        false => Scheme::activation(demand.bits),
                    },
                    role: demand.role,
                    roots: Vec::new(),
                    tensors: Vec::new(),
                    quantized: Vec::new(),
                });
                activations.len() - 1
            });
            self.join(&mut activations[index], set, id);
        }
        let Weights { weights, layers, weight_only } = self.weights(&slot);
        refuse_unused(self.policy, &weights)?;
        self.list_float_tensors();
        Ok(Plan { target: self.policy.target, activations, weights, layers, weight_only, float: self.float })
    }

    fn join(&self, activation: &mut Activation, set: usize, id: ValueId) {
        let name = self.graph.name_of(id).to_owned();
        let maker = self.uses.producer(id).map(|i| &self.graph.nodes[i]);
        let inputs = maker.and_then(|node| preserved_inputs(self.graph, node)).unwrap_or_default();
        let is_root = !inputs.into_iter().any(|input| self.set_of(input) == set);
        if is_root {
            activation.roots.push(name.clone());
        }
        if (is_root || self.choices.quantizes_outputs) && !self.uses.consumers(id).is_empty() {
            activation.quantized.push(name.clone());
        }
        activation.tensors.push(name);
    }

    fn weights(&mut self, slot: &[Option<usize>]) -> Weights {
        let mut made = Weights::default();
        for placed in std::mem::take(&mut self.layers) {
            let node = &self.graph.nodes[placed.node];
            let weight = placed.weight.map(|(id, scheme, packed)| {
                made.index_of(Weight { tensor: self.graph.name_of(id).to_owned(), scheme, packed })
            });
            let (name, op_type) = (self.name(node), node.op_type.clone());
            let output = node.output(0).map_or(String::new(), |id| self.graph.name_of(id).to_owned());
            match (placed.input, weight) {
                (Some(input), weight) => {
                    let input = slot[self.set_of(input)].expect("a layer's input was asked for");
                    made.layers.push(Layer { name, op_type, output, input, weight });
                }
                (None, Some(weight)) => {
                    let reason = "its weight alone is quantized, as the target reads packed weights".to_owned();
                    let float = Float { name: name.clone(), op_type: op_type.clone(), is_layer: false, reason };
                    self.float.push(float);
                    made.weight_only.push(WeightOnly { name, op_type, output, weight });
                }
                (None, None) => {}
            }
        }
        made
    }

    /// Lists tensors that some operator reads in floating point, beside results that go straight into an activation
    /// function whose result is on a grid.
    fn list_float_tensors(&mut self) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            for &id in node.outputs.iter().flatten() {
                if self.demanded(id) || !is_float(self.graph, id) {
                    continue;
                }
                let result = self.behind_activation(id);
                let reason = match (self.uses.is_output(id), self.uses.consumers(id)) {
                    (true, _) => "graph outputs stay float".to_owned(),
                    (false, []) => continue,
                    (false, _) if result != id && self.demanded(result) => continue,
                    (false, readers) => {
                        let mut ops: Vec<&str> =
                            readers.iter().map(|&i| self.graph.nodes[i].op_type.as_str()).collect();
                        ops.dedup();
                        format!("read by {} in floating point", ops.join(", "))
                    }
                };
                let op_type = self.graph.nodes[index].op_type.clone();
                self.float.push(Float { name: self.graph.name_of(id).to_owned(), op_type, is_layer: false, reason });
            }
        }
    }

    fn excluded(&self, node: &Node) -> bool {
        excluded(self.graph, self.policy, &self.exclude, node).is_some()
    }

    fn name(&self, node: &Node) -> String {
        match (node.name.as_str(), node.output(0)) {
            ("", Some(output)) => self.graph.name_of(output).to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    fn set_of(&self, id: ValueId) -> usize {
        let mut at = id.index();
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn demanded(&self, id: ValueId) -> bool {
        self.demand[self.set_of(id)].is_some()
    }

    fn ask(&mut self, id: ValueId, role: Role, bits: u32) {
        let set = self.set_of(id);
        let demand = match self.behind_layer[id.index()] {
            true => Demand { role, bits },
            false => Demand { role: Role::Image, bits: WIDE_BITS },
        };
        self.demand[set] = Some(self.demand[set].map_or(demand, |old| old.merge(demand)));
    }

    fn unite(&mut self, node: &Node, inputs: &[ValueId]) {
        let ids: Vec<ValueId> = inputs.iter().chain(node.outputs.iter().flatten()).copied().collect();
        let first = self.set_of(ids[0]);
        for &id in &ids[1..] {
            let other = self.set_of(id);
            if other != first {
                self.parent[other] = first;
                self.demand[first] = match (self.demand[first], self.demand[other].take()) {
                    (Some(a), Some(b)) => Some(a.merge(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
}

/// Returns the axis of output channels of a layer's weight of so many axes, where it has one.
pub fn channel_axis(node: &Node, rank: usize) -> Option<usize> {
    match node.op_type.as_str() {
        "Conv" => Some(0),
        "ConvTranspose" => (node.attrs.int("group", 1) == 1).then_some(1),
        "Gemm" => Some(if node.attrs.int("transB", 0) != 0 { 0 } else { 1 }),
        _ => rank.checked_sub(1).filter(|&axis| axis > 0),
    }
}

fn around_layers(graph: &Graph, values: usize) -> (Vec<bool>, Vec<bool>) {
    let is_layer = |node: &Node| LAYERS.iter().any(|op| node.is(op));
    let (mut behind, mut before) = (vec![false; values], vec![false; values]);
    for node in &graph.nodes {
        let found = is_layer(node) || node.inputs.iter().flatten().any(|id| behind[id.index()]);
        for id in node.outputs.iter().flatten() {
            behind[id.index()] = found;
        }
    }
    for node in graph.nodes.iter().rev() {
        let found = is_layer(node) || node.outputs.iter().flatten().any(|id| before[id.index()]);
        for id in node.inputs.iter().flatten() {
            before[id.index()] |= found;
        }
    }
    (behind, before)
}
