//! Bits for every weight such that their average stays within what the user asked for: the cost of each weight at each
//! width is measured alone, and the sum of costs is made as small as the budget allows.

use serde::Serialize;

use super::{Choice, Part, Reference, Solved, allot, partly_quantized};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node};
use crate::plan::{LAYERS, LayerBits, Plan, Policy};

/// The widths that are tried where the user names none.
pub const CANDIDATES: &[u32] = &[2, 3, 4, 5, 6, 8];

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Largest average of weight bits, over all elements of weights.
    pub average: f64,
    /// Widths to choose from.
    pub candidates: Vec<u32>,
}

/// The bits that were chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoBits {
    /// The average that was asked for.
    pub asked: f64,
    /// The average of what was chosen, over all elements of weights; layers that stay float count with their own width.
    pub average: f64,
    /// The averages that this model and these flags allow.
    pub reachable: (f64, f64),
    /// Sum of the measured costs of the chosen widths.
    pub predicted_cost: f64,
    /// Every weight in graph order.
    pub weights: Vec<Allotted>,
    /// The flags that give the same bits again.
    pub flags: Vec<String>,
}

/// The bits of one weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allotted {
    /// The layers that read it.
    pub layers: Vec<String>,
    /// Its elements.
    pub elements: u64,
    /// Its bits.
    pub bits: u32,
    /// Whether something else fixed them: the place in the network, `--layer-bits`, or staying float.
    pub fixed: bool,
    /// Width and what it costs with all else float; empty where the bits are fixed.
    pub costs: Vec<(u32, f64)>,
}

impl AutoBits {
    /// Returns the chosen bits as entries of [`Policy::layer_bits`], by names that pick one layer each.
    fn layer_bits(&self) -> impl Iterator<Item = (String, LayerBits)> + use<'_> {
        let free = self.weights.iter().filter(|weight| !weight.fixed);
        free.flat_map(|w| w.layers.iter().map(|name| (name.clone(), LayerBits::weight(w.bits))))
    }
}

/// Returns the bits of every weight, and the policy with them in it. `solve` plans for a policy and solves the plan.
///
/// # Errors
/// [`Error::Usage`] naming the reachable averages where the one asked for is below; whatever `solve` and the engine
/// return.
pub fn choose_bits(
    policy: &Policy,
    request: &Request,
    solve: &dyn Fn(&Policy) -> Result<Solved>,
    reference: &Reference,
) -> Result<(AutoBits, Policy)> {
    let mut widths = request.candidates.clone();
    widths.sort_unstable();
    widths.dedup();
    let solved: Vec<Solved> =
        widths.iter().map(|&bits| solve(&Policy { weight_bits: bits, ..policy.clone() })).collect::<Result<_>>()?;
    let mut weights = weights(&solved, &widths);
    let fixed: u64 = weights.iter().filter(|w| w.allotted.fixed).map(Weight::size).sum();
    let free: Vec<usize> = (0..weights.len()).filter(|&i| !weights[i].allotted.fixed).collect();
    let (elements, reachable) = reachable(&weights, &widths);
    refuse_unreachable(request, &weights, reachable)?;

    let mut choices = Vec::with_capacity(free.len());
    for &i in &free {
        let mut costs = Vec::with_capacity(widths.len());
        for candidate in &solved {
            let mut part = Part::of(&candidate.plan, false);
            weights[i].layers.iter().for_each(|&layer| part.weights[layer] = true);
            costs.push(reference.cost(&partly_quantized(candidate, &part)?)?.cost);
        }
        weights[i].allotted.costs = widths.iter().copied().zip(costs.iter().copied()).collect();
        choices.push(Choice { elements: weights[i].allotted.elements, costs });
    }
    let budget = budget(request.average, elements).saturating_sub(fixed);
    let chosen = allot(&choices, &widths, budget).expect("an average within reach has an assignment");
    for (&i, &k) in free.iter().zip(&chosen) {
        weights[i].allotted.bits = widths[k];
    }
    let total: u64 = weights.iter().map(Weight::size).sum();
    let mut found = AutoBits {
        asked: request.average,
        average: ratio(total, elements),
        reachable,
        predicted_cost: choices.iter().zip(&chosen).map(|(choice, &k)| choice.costs[k]).sum(),
        weights: weights.into_iter().map(|w| w.allotted).collect(),
        flags: Vec::new(),
    };
    let mut policy = policy.clone();
    policy.layer_bits.splice(0..0, found.layer_bits());
    found.flags =
        found.layer_bits().map(|(name, b)| format!("--layer-bits {name}=w{}", b.weight.unwrap_or(8))).collect();
    Ok((found, policy))
}

/// A weight and the layers of the plan that read it.
struct Weight {
    layers: Vec<usize>,
    allotted: Allotted,
}

impl Weight {
    fn size(&self) -> u64 {
        self.allotted.elements * u64::from(self.allotted.bits)
    }
}

/// Returns all weights, quantized and float. Those whose bits follow the policy's own are free.
fn weights(solved: &[Solved], widths: &[u32]) -> Vec<Weight> {
    let Some(first) = solved.first() else { return Vec::new() };
    let bits =
        |solved: &Solved, layer: usize| solved.plan.layers[layer].weight.map(|w| solved.plan.weights[w].scheme.bits);
    let mut found: Vec<(usize, Weight)> = Vec::new();
    for (index, layer) in first.plan.layers.iter().enumerate() {
        let Some(weight) = layer.weight else { continue };
        let free = solved.iter().zip(widths).all(|(s, &width)| bits(s, index) == Some(width));
        let name = name_of_one(&first.student, &first.plan, index);
        if let Some((_, known)) = found.iter_mut().find(|(w, known)| *w == weight && known.allotted.fixed != free) {
            known.layers.push(index);
            known.allotted.layers.push(name);
            continue;
        }
        let tensor = &first.solution.weights[weight];
        let allotted = Allotted {
            layers: vec![name],
            elements: count(tensor.bytes.len()),
            bits: tensor.grid.scheme.bits,
            fixed: !free,
            costs: Vec::new(),
        };
        found.push((weight, Weight { layers: vec![index], allotted }));
    }
    found.into_iter().map(|(_, weight)| weight).chain(float_weights(first)).collect()
}

/// Weights of layers that stay float.
fn float_weights(solved: &Solved) -> Vec<Weight> {
    let Solved { student, plan, .. } = solved;
    let planned = |node: &Node| {
        let output = node.output(0).map(|id| student.name_of(id));
        plan.layers.iter().any(|layer| Some(layer.output.as_str()) == output)
    };
    let layers = student.nodes.iter().filter(|node| LAYERS.iter().any(|op| node.is(op)) && !planned(node));
    let weight = |node: &Node| {
        let tensor = student.constant_of(node.input(1)?)?;
        let allotted = Allotted {
            layers: vec![student.name_of(node.output(0)?).to_owned()],
            elements: count(tensor.len()),
            bits: u32::try_from(tensor.dtype().bits()).ok()?,
            fixed: true,
            costs: Vec::new(),
        };
        Some(Weight { layers: Vec::new(), allotted })
    };
    layers.filter_map(weight).collect()
}

/// Returns the elements of all weights, and the averages that the narrowest and the widest candidate give.
fn reachable(weights: &[Weight], widths: &[u32]) -> (u64, (f64, f64)) {
    let elements: u64 = weights.iter().map(|w| w.allotted.elements).sum();
    let total = |width: Option<&u32>| {
        let bits = |w: &Weight| u64::from(if w.allotted.fixed { w.allotted.bits } else { *width.unwrap_or(&8) });
        weights.iter().map(|w| w.allotted.elements * bits(w)).sum::<u64>()
    };
    (elements, (ratio(total(widths.first()), elements), ratio(total(widths.last()), elements)))
}

fn refuse_unreachable(request: &Request, weights: &[Weight], (lowest, highest): (f64, f64)) -> Result<()> {
    if request.average >= lowest {
        return Ok(());
    }
    let fixed = weights.iter().filter(|w| w.allotted.fixed);
    let mut fixed: Vec<&Allotted> = fixed.map(|w| &w.allotted).collect();
    fixed.sort_by_key(|w| std::cmp::Reverse(w.elements * u64::from(w.bits)));
    let named: Vec<String> = fixed
        .iter()
        .take(3)
        .map(|w| format!("{} ({} bits, {} elements)", w.layers.join(", "), w.bits, w.elements))
        .collect();
    let why = match named.as_slice() {
        [] => String::new(),
        named => format!("; fixed are {}: --all-layers frees the first and the last layer", named.join(", ")),
    };
    let message = format!(
        "an average of {} weight bits is out of reach: from {:.2} to {highest:.2} can be had{why}",
        request.average,
        (lowest * 100.0).ceil() / 100.0
    );
    Err(Error::Usage(message))
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn budget(average: f64, elements: u64) -> u64 {
    (average * elements as f64 + 1e-6).floor() as u64
}

#[allow(clippy::cast_precision_loss)]
fn ratio(bits: u64, elements: u64) -> f64 {
    bits as f64 / elements.max(1) as f64
}

/// Returns the layer's name where it names no other layer, else its result's.
fn name_of_one(graph: &Graph, plan: &Plan, layer: usize) -> String {
    let layer = &plan.layers[layer];
    let named = |node: &&Node| {
        let result = node.output(0).map(|id| graph.name_of(id));
        LAYERS.iter().any(|op| node.is(op)) && (node.name == layer.name || result == Some(layer.name.as_str()))
    };
    if graph.nodes.iter().filter(named).count() == 1 { layer.name.clone() } else { layer.output.clone() }
}

fn count(elements: usize) -> u64 {
    u64::try_from(elements).unwrap_or(u64::MAX)
}
