//! From a [`Policy`] to requests for grids: placement, bits, and which tensors share a grid.

use std::collections::{HashMap, HashSet};

use super::container::is_packed;
use super::demand::Demand;
use super::float_paths::FloatPaths;
use super::fragile::fragile;
use super::grid_preserving::preserved_inputs;
use super::policy::{Pattern, own_bits, refuse_unmatched, validate};
use super::residual::{makes_operand, quantized_operands};
use super::slow_in_integers::kept_float;
use super::stays_float::{excluded, is_float, why_float};
use super::target::Choices;
use super::{Cause, Float, LayerBits, Plan, Policy, Role, is_layer};
use crate::error::Result;
use crate::ir::{Graph, Node, Tensor, Uses, ValueId};
use crate::quant::Scheme;

/// Bits of the network input, of operands of residual sums, and of tensors quantized only for kernels.
pub(super) const WIDE_BITS: u32 = 8;
/// Bits of weights in the reduced range: two products of a byte and such a weight sum to less than 16 bits.
/// Depthwise kernels do not add such pairs, so their weights keep all bits.
const REDUCED_BITS: u32 = 7;
/// Operators besides those that keep a grid whose results are quantized for targets that want it between all integer
/// kernels. ONNX Runtime's CPU kernels compute them in integers then ([`crate::audit`] has the rules).
pub const INTEGER_KERNELS: &[&str] =
    &["Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"];

/// Returns the plan for `graph`, after the normalizing passes and shape inference.
///
/// # Errors
/// Bits or a container that the target lacks; names that match no node; a graph without a layer that can be quantized.
pub fn plan(graph: &Graph, policy: &Policy) -> Result<Plan> {
    placed(graph, policy)?.plan()
}

/// Returns the grid requests of layers and residual sums.
///
/// # Errors
/// As [`plan`].
pub(super) fn placed<'a>(graph: &'a Graph, policy: &'a Policy) -> Result<Planner<'a>> {
    validate(policy)?;
    let mut planner = Planner::new(graph, policy)?;
    planner.place_layers();
    planner.place_residual_sums();
    planner.unite_upwards();
    if planner.choices.concat_shares_grid {
        planner.unite_concats();
    }
    Ok(planner)
}

/// A layer that is quantized.
pub(super) struct PlacedLayer {
    pub node: usize,
    /// The quantized input, or why only the weight is quantized.
    pub input: Result<ValueId, Float>,
    /// Initializer, grid, and whether it is stored two per byte.
    pub weight: Option<(ValueId, Scheme, bool)>,
}

/// Collects requests for grids operator by operator; [`Planner::finish`] builds the plan.
pub(super) struct Planner<'a> {
    pub graph: &'a Graph,
    pub policy: &'a Policy,
    pub choices: &'static Choices,
    pub uses: Uses,
    exclude: Vec<Pattern>,
    layer_bits: Vec<(Pattern, LayerBits)>,
    float_paths: FloatPaths,
    /// Weights that keep 8 bits.
    fragile: HashSet<ValueId>,
    /// Whether a weighted node lies upstream, downstream, per value.
    behind_layer: Vec<bool>,
    before_layer: Vec<bool>,
    pub parent: Vec<usize>,
    pub demand: Vec<Option<Demand>>,
    pub layers: Vec<PlacedLayer>,
    /// Operands of residual sums that are on a grid.
    pub summed: Vec<ValueId>,
    pub float: Vec<Float>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, policy: &'a Policy) -> Result<Self> {
        let values = graph.value_ids().count();
        let exclude: Vec<Pattern> = policy.exclude.iter().map(|p| Pattern::new(p)).collect();
        let layer_bits: Vec<(Pattern, LayerBits)> =
            policy.layer_bits.iter().map(|(p, b)| (Pattern::new(p), *b)).collect();
        refuse_unmatched(graph, &exclude, &layer_bits, &policy.exclude_ops)?;
        let (behind_layer, before_layer) = around_layers(graph, values);
        let may_be_quantized = |node: &Node| is_layer(node) && why_float(graph, policy, &exclude, node).is_none();
        let asked_for = |node: &Node| layer_bits.iter().any(|(pattern, _)| pattern.matches(graph, node));
        let float_paths = FloatPaths::to_plan(graph, may_be_quantized, asked_for);
        Ok(Self {
            graph,
            policy,
            choices: policy.target.choices(),
            uses: graph.uses(),
            exclude,
            layer_bits,
            float_paths,
            fragile: if policy.all_layers { HashSet::new() } else { fragile(graph) },
            behind_layer,
            before_layer,
            parent: (0..values).collect(),
            demand: vec![None; values],
            layers: Vec::new(),
            summed: Vec::new(),
            float: Vec::new(),
        })
    }

    /// Returns the plan, with the outputs of layers placed where the target wants them quantized.
    pub fn plan(mut self) -> Result<Plan> {
        if self.choices.quantizes_outputs {
            self.place_outputs();
        }
        self.finish()
    }

    fn place_layers(&mut self) {
        let slow = match self.choices.keeps_slow_head_float {
            true => kept_float(self.graph, |n| self.excluded(n), |n| self.has_own_bits(n)),
            false => HashMap::new(),
        };
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if !is_layer(node) {
                continue;
            }
            let reason = why_float(self.graph, self.policy, &self.exclude, node);
            let reason = reason.or_else(|| self.float_paths.lead_to_indices(node).then(for_indices));
            match reason.or_else(|| slow.get(&index).map(|slow| (Cause::Speed, slow.why_kept()))) {
                Some((cause, reason)) => self.float.push(Float {
                    name: self.graph.label(node).to_owned(),
                    op_type: node.op_type.clone(),
                    cause,
                    reason,
                }),
                None => self.place_layer(index, node),
            }
        }
    }

    fn has_own_bits(&self, node: &Node) -> bool {
        self.layer_bits.iter().any(|(pattern, _)| pattern.matches(self.graph, node))
    }

    fn place_layer(&mut self, index: usize, node: &Node) {
        let (Some(input), Some(other), Some(output)) = (node.input(0), node.input(1), node.output(0)) else { return };
        let at_the_end = !self.behind_layer[input.index()] || !self.before_layer[output.index()];
        let bits = |asked: u32, own: Option<u32>, is_fragile: bool| match own {
            Some(bits) => bits,
            None if (at_the_end || is_fragile) && !self.policy.all_layers => WIDE_BITS,
            None => asked,
        };
        let own = |part: fn(&LayerBits) -> Option<u32>| own_bits(self.graph, node, &self.layer_bits, part);
        let weight_bits = bits(self.policy.weight_bits, own(|bits| bits.weight), self.fragile.contains(&other));
        let input_bits = bits(self.policy.activation_bits, own(|bits| bits.input), false);
        let adds_products = |tensor: &Tensor| !(node.is("Conv") && tensor.shape().get(1) == Some(&1));
        let reduced = self.policy.reduce_range && self.graph.constant_of(other).is_some_and(adds_products);
        let weight_bits = if reduced { weight_bits.min(REDUCED_BITS) } else { weight_bits };
        let weight = self.graph.constant_of(other).map(|tensor| {
            let axis = if self.policy.per_channel { channel_axis(node, tensor.shape().len()) } else { None };
            let packed = is_packed(self.policy, &node.op_type, weight_bits);
            (other, Scheme::weight(weight_bits, self.policy.symmetric, axis), packed)
        });
        let stays_float = |cause, reason: &str| Float {
            name: self.graph.label(node).to_owned(),
            op_type: node.op_type.clone(),
            cause,
            reason: reason.to_owned(),
        };
        let operands = if weight.is_some() { vec![input] } else { vec![input, other] };
        if let Some(why) = operands.iter().find_map(|&id| self.why_float(id)) {
            return match weight {
                Some(_) => {
                    let reason = format!("only its weight is quantized: {why}");
                    let input = Err(stays_float(Cause::FloatInput, &reason));
                    self.layers.push(PlacedLayer { node: index, input, weight });
                }
                None => self.float.push(stays_float(Cause::FloatInput, why)),
            };
        }
        if weight.is_some_and(|(_, _, packed)| packed && self.choices.packed_weights_alone) {
            let reason = "only its weight is quantized, as the target reads packed weights";
            let input = Err(stays_float(Cause::WeightOnly, reason));
            return self.layers.push(PlacedLayer { node: index, input, weight });
        }
        self.ask(input, Role::LayerInput, input_bits);
        if weight.is_none() {
            self.ask(other, Role::LayerInput, input_bits);
        }
        self.layers.push(PlacedLayer { node: index, input: Ok(input), weight });
    }

    /// Returns why a tensor is not quantized, if so.
    fn why_float(&self, id: ValueId) -> Option<&'static str> {
        self.policy.float_activations.why(self.graph, id)
    }

    fn place_residual_sums(&mut self) {
        for node in &self.graph.nodes {
            let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
            let Ok(operands) = <[ValueId; 2]>::try_from(operands) else { continue };
            let ready = |id: &ValueId| {
                let is_operand = self.uses.producer(*id).is_none_or(|maker| makes_operand(&self.graph.nodes[maker]));
                let is_behind = self.behind_layer[id.index()] && is_float(self.graph, *id);
                is_behind && is_operand && self.why_float(*id).is_none()
            };
            if !node.is("Add") || !operands.iter().all(ready) || self.excluded(node) || self.float_paths.touch(node) {
                continue;
            }
            for id in quantized_operands(self.graph, &self.uses, self.policy.target, node, operands) {
                self.ask(id, Role::Carrier, WIDE_BITS);
                self.summed.push(id);
            }
        }
    }

    /// Moves demands from the results of grid-preserving operators to their inputs, last node first.
    fn unite_upwards(&mut self) {
        for node in self.graph.nodes.iter().rev() {
            let Some(inputs) = self.preserved_inputs(node) else { continue };
            let wanted = node.outputs.iter().flatten().any(|&id| self.demanded(id));
            if wanted && inputs.iter().all(|&id| is_float(self.graph, id) && self.why_float(id).is_none()) {
                self.unite(node, &inputs);
            }
        }
    }

    fn unite_concats(&mut self) {
        for node in self.graph.nodes.iter().filter(|node| node.is("Concat")) {
            let Some(inputs) = self.preserved_inputs(node) else { continue };
            if inputs.iter().all(|&id| self.demanded(id)) && !self.excluded(node) {
                self.unite(node, &inputs);
            }
        }
    }

    /// Requests a grid for every result that an integer kernel could compute, first node first.
    fn place_outputs(&mut self) {
        for node in &self.graph.nodes {
            let Some(output) = node.output(0) else { continue };
            if let Some(inputs) = self.preserved_inputs(node) {
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
            let makes_logits = is_layer(node) && !self.before_layer[output.index()];
            if makes_logits {
                continue;
            }
            let may_be_on_a_grid = !self.uses.is_output(result) && self.why_float(result).is_none();
            let reads_it = |&reader: &usize| !self.float_paths.lead_through(&self.graph.nodes[reader], result);
            if may_be_on_a_grid && self.uses.consumers(result).iter().any(reads_it) {
                self.ask(result, Role::Output, WIDE_BITS);
            }
        }
    }

    /// Returns the result of the Relu or Clip that is the only reader of `output`: kernels absorb it, so the grid
    /// belongs after it.
    pub fn behind_activation(&self, output: ValueId) -> ValueId {
        let reader = self.uses.only_consumer(output).map(|i| &self.graph.nodes[i]);
        match reader.filter(|n| n.is("Relu") || n.is("Clip")).and_then(|n| n.output(0)) {
            Some(result) => result,
            None => output,
        }
    }

    /// Returns the data inputs of a grid-preserving node; `None` if it must read float values.
    pub fn preserved_inputs(&self, node: &Node) -> Option<Vec<ValueId>> {
        preserved_inputs(self.graph, node).filter(|_| !self.float_paths.touch(node))
    }

    fn excluded(&self, node: &Node) -> bool {
        excluded(self.graph, self.policy, &self.exclude, node).is_some()
    }

    pub fn set_of(&self, id: ValueId) -> usize {
        let mut at = id.index();
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    pub fn demanded(&self, id: ValueId) -> bool {
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

fn for_indices() -> (Cause, String) {
    let reason = "the indices of a MaxPool depend on it, and rounding would change them; --layer-bits NAME=8 \
        quantizes it anyway";
    (Cause::Indices, reason.to_owned())
}

/// Returns the output-channel axis of a layer's weight of this rank, if it has one.
pub fn channel_axis(node: &Node, rank: usize) -> Option<usize> {
    match node.op_type.as_str() {
        "Conv" => Some(0),
        "ConvTranspose" => (node.attrs.int("group", 1) == 1).then_some(1),
        "Gemm" => Some(if node.attrs.int("transB", 0) != 0 { 0 } else { 1 }),
        _ => rank.checked_sub(1).filter(|&axis| axis > 0),
    }
}

fn around_layers(graph: &Graph, values: usize) -> (Vec<bool>, Vec<bool>) {
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
