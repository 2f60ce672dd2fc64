//! From placed layers and grids to a [`Plan`]: which tensors are on each grid, which weights are shared, what stays
//! float.

use super::container::refuse_unused;
use super::placement::Planner;
use super::stays_float::is_float;
use super::{Activation, Cause, Float, Layer, Plan, Weight, WeightOnly, is_layer};
use crate::error::{Error, Result};
use crate::ir::{Node, ValueId};
use crate::quant::Scheme;
use crate::stats::output_limits;

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

impl Planner<'_> {
    pub fn finish(mut self) -> Result<Plan> {
        let inside = self.list_bodies();
        if self.layers.is_empty() && inside == 0 {
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
                    reach: None,
                    limits: [None; 2],
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
        let inputs = maker.and_then(|node| self.preserved_inputs(node)).unwrap_or_default();
        let is_root = !inputs.into_iter().any(|input| self.set_of(input) == set);
        if is_root {
            self.bound(activation, maker, id);
            activation.roots.push(name.clone());
        }
        if (is_root || self.choices.quantizes_outputs) && !self.uses.consumers(id).is_empty() {
            activation.quantized.push(name.clone());
        }
        activation.tensors.push(name);
    }

    /// Extends the bounds of an activation's grid by those of one more root, the result of `maker`.
    fn bound(&self, activation: &mut Activation, maker: Option<&Node>, root: ValueId) {
        let reach = self.policy.float_activations.reach(self.graph, maker, root, activation.scheme.bits);
        let hull = |[a, b]: [f32; 2], [c, d]: [f32; 2]| [a.min(c), b.max(d)];
        activation.reach = match (activation.reach, reach) {
            (Some(a), Some(b)) => Some(hull(a, b)),
            (a, b) => a.or(b),
        };
        let limits = maker.map_or([None; 2], output_limits);
        activation.limits = match (activation.roots.is_empty(), activation.limits, limits) {
            (true, _, limits) => limits,
            (false, [a, b], [c, d]) => [a.zip(c).map(|(a, c)| a.min(c)), b.zip(d).map(|(b, d)| b.max(d))],
        };
    }

    fn weights(&mut self, slot: &[Option<usize>]) -> Weights {
        let mut made = Weights::default();
        for placed in std::mem::take(&mut self.layers) {
            let node = &self.graph.nodes[placed.node];
            let weight = placed.weight.map(|(id, scheme, packed)| {
                made.index_of(Weight { tensor: self.graph.name_of(id).to_owned(), scheme, packed })
            });
            let (name, op_type) = (self.graph.label(node).to_owned(), node.op_type.clone());
            let output = node.output(0).map_or(String::new(), |id| self.graph.name_of(id).to_owned());
            match (placed.input, weight) {
                (Ok(input), weight) => {
                    let input = slot[self.set_of(input)].expect("a layer's input was asked for");
                    made.layers.push(Layer { name, op_type, output, input, weight });
                }
                (Err(why), Some(weight)) => {
                    self.float.push(why);
                    made.weight_only.push(WeightOnly { name, op_type, output, weight });
                }
                (Err(why), None) => self.float.push(why),
            }
        }
        made
    }

    /// Lists the control-flow nodes whose bodies have layers, which stay float, and returns the number of these layers.
    fn list_bodies(&mut self) -> usize {
        let mut inside = 0;
        for node in &self.graph.nodes {
            let layers: usize = node.bodies().map(|(_, body)| body.count(&is_layer)).sum();
            if layers == 0 {
                continue;
            }
            inside += layers;
            let advice = match node.is("If") {
                true => {
                    "; where an input decides which branch is taken, make it a constant with --set-input NAME=VALUE"
                }
                false => "",
            };
            let reason = format!("{layers} layer(s) lie inside of it, and control flow stays float{advice}");
            let (name, op_type) = (self.graph.label(node).to_owned(), node.op_type.clone());
            self.float.push(Float { name, op_type, cause: Cause::Form, reason });
        }
        inside
    }

    /// Lists tensors that some operator reads in floating point, except those read only by an activation function whose
    /// result is quantized.
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
                let name = self.graph.name_of(id).to_owned();
                self.float.push(Float { name, op_type, cause: Cause::Reader, reason });
            }
        }
    }
}
