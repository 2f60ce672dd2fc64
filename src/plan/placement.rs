//! From a [`Policy`] to a [`Plan`]: placement, bits, and which tensors share a grid.

use super::demand::Demand;
use super::grid_preserving::preserved_inputs;
use super::policy::{Pattern, own_bits, refuse_unmatched};
use super::{Activation, Float, LAYERS, Layer, LayerBits, Plan, Policy, Role, Weight};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Node, Uses, ValueId};
use crate::quant::Scheme;

/// Bits of the network input, of residual operands that no layer reads, and of tensors quantized for kernels' sake.
const WIDE_BITS: u32 = 8;
/// Operators that ONNX Runtime's CPU kernels run in integer when their inputs and their output are quantized.
const INTEGER_KERNELS: &[&str] =
    &["Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"];

/// Returns the plan for `graph`, whose normalising passes have run and whose shapes are inferred.
///
/// # Errors
/// Names that match no node; a graph without a layer that can be quantized.
pub fn plan(graph: &Graph, policy: &Policy) -> Result<Plan> {
    let mut planner = Planner::new(graph, policy)?;
    planner.place_layers();
    planner.place_residual_sums();
    planner.unite_upwards();
    if policy.target.quantizes_outputs() {
        planner.place_outputs();
    }
    planner.finish()
}

struct PlacedLayer {
    node: usize,
    input: ValueId,
    weight: Option<(ValueId, Scheme)>,
}

struct Planner<'a> {
    graph: &'a Graph,
    policy: &'a Policy,
    uses: Uses,
    exclude: Vec<Pattern>,
    layer_bits: Vec<(Pattern, LayerBits)>,
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
        let layer_bits: Vec<(Pattern, LayerBits)> =
            policy.layer_bits.iter().map(|(p, b)| (Pattern::new(p), *b)).collect();
        refuse_unmatched(graph, &exclude, &layer_bits, &policy.exclude_ops)?;
        let (behind_layer, before_layer) = around_layers(graph, values);
        Ok(Self {
            graph,
            policy,
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
            match self.why_float(node) {
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
        let bits = |asked: u32, own: Option<u32>| match own {
            Some(bits) => bits,
            None if at_the_end && !self.policy.all_layers => WIDE_BITS,
            None => asked,
        };
        let own = |part: fn(&LayerBits) -> Option<u32>| own_bits(self.graph, node, &self.layer_bits, part);
        let weight_bits = bits(self.policy.weight_bits, own(|bits| bits.weight));
        let input_bits = bits(self.policy.activation_bits, own(|bits| bits.input));
        let weight = self.graph.constant_of(other).map(|tensor| {
            let symmetric = self.policy.symmetric;
            let axis = if self.policy.per_channel { channel_axis(node, tensor.shape().len()) } else { None };
            (other, Scheme { bits: weight_bits, signed: symmetric, symmetric, axis })
        });
        self.ask(input, Role::LayerInput, input_bits);
        if weight.is_none() {
            self.ask(other, Role::LayerInput, input_bits);
        }
        self.layers.push(PlacedLayer { node: index, input, weight });
    }

    fn place_residual_sums(&mut self) {
        for node in &self.graph.nodes {
            let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
            let residual = node.is("Add")
                && operands.len() == 2
                && operands.iter().all(|id| self.behind_layer[id.index()] && self.is_float(*id));
            if !residual || self.excluded(node).is_some() {
                continue;
            }
            for id in operands {
                self.ask(id, Role::Carrier, WIDE_BITS);
            }
        }
    }

    /// Moves demands from the results of grid-preserving operators to their inputs, last node first.
    fn unite_upwards(&mut self) {
        for node in self.graph.nodes.iter().rev() {
            let Some(inputs) = preserved_inputs(self.graph, node) else { continue };
            let wanted = node.outputs.iter().flatten().any(|&id| self.demanded(id));
            if wanted && inputs.iter().all(|&id| self.is_float(id)) {
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
                if all && !self.uses.is_output(output) && self.excluded(node).is_none() {
                    self.unite(node, &inputs);
                }
                continue;
            }
            let data = node.inputs.iter().take(2).flatten().filter(|&&id| self.graph.constant_of(id).is_none());
            let mut data = data.peekable();
            let ready = data.peek().is_some() && data.all(|&id| self.demanded(id));
            if !ready || !INTEGER_KERNELS.iter().any(|op| node.is(op)) || self.excluded(node).is_some() {
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
                    scheme: Scheme::activation(demand.bits),
                    role: demand.role,
                    roots: Vec::new(),
                    tensors: Vec::new(),
                    quantized: Vec::new(),
                });
                activations.len() - 1
            });
            self.join(&mut activations[index], set, id);
        }
        let (weights, layers) = self.weights_and_layers(&slot);
        self.list_float_tensors();
        Ok(Plan { target: self.policy.target, activations, weights, layers, float: self.float })
    }

    fn join(&self, activation: &mut Activation, set: usize, id: ValueId) {
        let name = self.graph.name_of(id).to_owned();
        let maker = self.uses.producer(id).map(|i| &self.graph.nodes[i]);
        let inputs = maker.and_then(|node| preserved_inputs(self.graph, node)).unwrap_or_default();
        let is_root = !inputs.into_iter().any(|input| self.set_of(input) == set);
        if is_root {
            activation.roots.push(name.clone());
        }
        if (is_root || self.policy.target.quantizes_outputs()) && !self.uses.consumers(id).is_empty() {
            activation.quantized.push(name.clone());
        }
        activation.tensors.push(name);
    }

    fn weights_and_layers(&mut self, slot: &[Option<usize>]) -> (Vec<Weight>, Vec<Layer>) {
        let mut weights: Vec<Weight> = Vec::new();
        let mut layers = Vec::new();
        for placed in std::mem::take(&mut self.layers) {
            let node = &self.graph.nodes[placed.node];
            let weight = placed.weight.map(|(id, scheme)| {
                let wanted = Weight { tensor: self.graph.name_of(id).to_owned(), scheme };
                weights.iter().position(|w| *w == wanted).unwrap_or_else(|| {
                    weights.push(wanted);
                    weights.len() - 1
                })
            });
            layers.push(Layer {
                name: self.name(node),
                op_type: node.op_type.clone(),
                output: node.output(0).map_or(String::new(), |id| self.graph.name_of(id).to_owned()),
                input: slot[self.set_of(placed.input)].expect("a layer's input was asked for"),
                weight,
            });
        }
        (weights, layers)
    }

    /// Lists tensors that some operator reads in floating point, beside results that go straight into an activation
    /// function whose result is on a grid.
    fn list_float_tensors(&mut self) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            for &id in node.outputs.iter().flatten() {
                if self.demanded(id) || !self.is_float(id) {
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

    fn why_float(&self, node: &Node) -> Option<String> {
        if let Some(reason) = self.excluded(node) {
            return Some(reason);
        }
        let (Some(input), Some(weight)) = (node.input(0), node.input(1)) else {
            return Some("an input is missing".to_owned());
        };
        if !self.is_float(input) {
            return Some(format!("its input is {}", self.not_float32(input)));
        }
        match self.graph.constant_of(weight) {
            Some(tensor) if tensor.dtype() != DType::F32 => return Some(format!("its weight is {}", tensor.dtype())),
            Some(tensor) if tensor.is_empty() => return Some("its weight is empty".to_owned()),
            None if !node.is("MatMul") => return Some("its weight is computed at run time".to_owned()),
            None if !self.is_float(weight) => {
                return Some(format!("its second operand is {}", self.not_float32(weight)));
            }
            _ => {}
        }
        let attrs = &node.attrs;
        let plain = attrs.float("alpha", 1.0) == 1.0 && attrs.float("beta", 1.0) == 1.0 && attrs.int("transA", 0) == 0;
        (node.is("Gemm") && !plain).then(|| "Gemm with alpha, beta or transA has no integer form".to_owned())
    }

    fn not_float32(&self, id: ValueId) -> String {
        match self.graph.value(id) {
            value if value.constant.is_some() => "a constant".to_owned(),
            value => match value.dtype {
                Some(dtype) if dtype.is_float() => format!("{dtype}; convert the model to float32 first"),
                Some(dtype) => format!("{dtype}, only float32 is quantized"),
                None => "of unknown type".to_owned(),
            },
        }
    }

    fn excluded(&self, node: &Node) -> Option<String> {
        if let Some(pattern) = self.exclude.iter().find(|p| p.matches(self.graph, node)) {
            return Some(format!("excluded by name \"{}\"", pattern.typed));
        }
        self.policy.exclude_ops.contains(&node.op_type).then(|| "excluded by operator".to_owned())
    }

    fn name(&self, node: &Node) -> String {
        match (node.name.as_str(), node.output(0)) {
            ("", Some(output)) => self.graph.name_of(output).to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    fn is_float(&self, id: ValueId) -> bool {
        let value = self.graph.value(id);
        value.constant.is_none() && value.dtype == Some(DType::F32)
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

fn channel_axis(node: &Node, rank: usize) -> Option<usize> {
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
