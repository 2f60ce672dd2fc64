//! Chooses bits for every weight within the requested average: measures the cost of each weight at each width alone,
//! and minimizes the sum of costs within the budget.

use std::collections::BTreeSet;

use serde::Serialize;

use super::weights::{Weight, weight_readers, weights};
use super::{Allotted, Choice, Part, Reference, WidthCost, allot, partly_quantized};
use crate::error::{Error, Result};
use crate::plan::{LayerBits, Policy};
use crate::solution::Solved;

/// The default candidate widths.
pub const CANDIDATES: &[u32] = &[2, 3, 4, 5, 6, 8];

/// The most fixed weights named in a message.
const NAMED: usize = 3;

/// The user's request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Largest average of weight bits, over all elements of weights.
    pub average: f64,
    /// Widths to choose from.
    pub candidates: Vec<u32>,
}

/// The chosen bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoBits {
    /// The requested average.
    pub asked: f64,
    /// The chosen average over all elements of weights; layers that stay float count with their own width.
    pub average: f64,
    /// The average of stored bits: an integer of 5 bits is stored in 8.
    pub stored: f64,
    /// The averages that this model and these flags allow.
    pub reachable: (f64, f64),
    /// Sum of the measured costs of the chosen widths.
    pub predicted_cost: f64,
    /// Every weight in graph order.
    pub weights: Vec<Allotted>,
    /// The flags that reproduce these bits.
    pub flags: Vec<String>,
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
    if widths.len() < 2 {
        return Err(Error::Usage(
            "--bit-candidates needs two widths to choose from; --bits gives all layers one".to_owned(),
        ));
    }
    let solved: Vec<Solved> =
        widths.iter().map(|&bits| solve(&Policy { weight_bits: bits, ..policy.clone() })).collect::<Result<_>>()?;
    let outputs = |solved: &Solved| weight_readers(solved).iter().map(|r| r.output.to_owned()).collect::<BTreeSet<_>>();
    if solved.iter().any(|other| outputs(other) != outputs(&solved[0])) {
        return Err(Error::Usage(
            "this target quantizes different layers at few bits and at many; give --bit-candidates 5,6,8".to_owned(),
        ));
    }
    let mut weights = weights(&solved);
    let fixed: u64 = weights.iter().filter(|w| w.allotted.fixed).map(Weight::size).sum();
    let free: Vec<usize> = (0..weights.len()).filter(|&i| !weights[i].allotted.fixed).collect();
    let (elements, reachable) = reachable(&weights, &widths);
    let out_of_reach = |weights: &[Weight]| out_of_reach(request.average, weights, reachable.0, reachable.1, policy);
    if request.average < reachable.0 {
        return Err(out_of_reach(&weights));
    }

    let mut choices = Vec::with_capacity(free.len());
    for &i in &free {
        let costs = costs(&solved, &weights[i].outputs, reference)?;
        let of_widths = widths.iter().zip(&costs).map(|(&bits, &cost)| WidthCost { bits, cost });
        weights[i].allotted.costs = of_widths.collect();
        choices.push(Choice { elements: weights[i].allotted.elements, costs });
    }
    let budget = budget(request.average, elements).saturating_sub(fixed);
    let chosen = allot(&choices, &widths, budget).ok_or_else(|| out_of_reach(&weights))?;
    for (&i, &k) in free.iter().zip(&chosen) {
        weights[i].allotted.bits = widths[k];
    }
    let total: u64 = weights.iter().map(Weight::size).sum();
    let mut found = AutoBits {
        asked: request.average,
        average: ratio(total, elements),
        stored: 0.0,
        reachable,
        predicted_cost: choices.iter().zip(&chosen).map(|(choice, &k)| choice.costs[k]).sum(),
        weights: weights.into_iter().map(|w| w.allotted).collect(),
        flags: Vec::new(),
    };
    let mut policy = policy.clone();
    policy.layer_bits.splice(0..0, found.layer_bits());
    found.flags = found.layer_bits().map(|(name, bits)| flag(&name, bits)).collect();
    Ok((found, policy))
}

/// Returns the cost at each width of the weight of the layers with these `outputs`.
fn costs(solved: &[Solved], outputs: &[String], reference: &Reference) -> Result<Vec<f64>> {
    let cost = |candidate: &Solved| {
        let mut part = Part::of(&candidate.plan, false);
        outputs.iter().for_each(|output| part.add_weight(&candidate.plan, output));
        Ok(reference.cost(&partly_quantized(candidate, &part)?)?.cost)
    };
    solved.iter().map(cost).collect()
}

/// Returns the elements of all weights, and the averages of the narrowest and the widest candidate.
fn reachable(weights: &[Weight], widths: &[u32]) -> (u64, (f64, f64)) {
    let elements: u64 = weights.iter().map(|w| w.allotted.elements).sum();
    let total = |width: Option<&u32>| {
        let bits = |w: &Weight| u64::from(if w.allotted.fixed { w.allotted.bits } else { *width.unwrap_or(&8) });
        weights.iter().map(|w| w.allotted.elements * bits(w)).sum::<u64>()
    };
    (elements, (ratio(total(widths.first()), elements), ratio(total(widths.last()), elements)))
}

fn out_of_reach(average: f64, weights: &[Weight], lowest: f64, highest: f64, policy: &Policy) -> Error {
    let mut fixed: Vec<&Allotted> = weights.iter().map(|w| &w.allotted).filter(|w| w.fixed).collect();
    fixed.sort_by_key(|w| std::cmp::Reverse(w.elements * u64::from(w.bits)));
    let name = |w: &&Allotted| format!("{} ({} elements of {} bits)", w.layers.join(", "), w.elements, w.bits);
    let fixed: Vec<String> = fixed.iter().take(NAMED).map(name).collect();
    let mut message = format!(
        "an average of {average} weight bits is out of reach: possible are {:.2} to {highest:.2}",
        (lowest * 100.0).ceil() / 100.0
    );
    if !fixed.is_empty() {
        message += &format!("; fixed are {}", fixed.join(", "));
    }
    if !policy.all_layers {
        message += "; --all-layers frees the first and the last layer";
    }
    Error::Usage(message)
}

fn budget(average: f64, elements: u64) -> u64 {
    (average * elements as f64 + 1e-6).floor() as u64
}

fn ratio(bits: u64, elements: u64) -> f64 {
    bits as f64 / elements.max(1) as f64
}

/// Returns the flag that gives a layer's weight these bits, quoted for a shell where it needs to be.
fn flag(name: &str, bits: LayerBits) -> String {
    let value = format!("{name}=w{}", bits.weight.unwrap_or_default());
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:=,+@%".contains(c));
    if plain { format!("--layer-bits {value}") } else { format!("--layer-bits '{}'", value.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_take_apart_are_quoted() {
        let typed = |name| flag(name, LayerBits::weight(3));
        assert_eq!(typed("/layer1.0/conv1/Conv"), "--layer-bits /layer1.0/conv1/Conv=w3");
        assert_eq!(typed("conv (1)"), "--layer-bits 'conv (1)=w3'");
        assert_eq!(typed("it's"), "--layer-bits 'it'\\''s=w3'");
    }

    #[test]
    fn a_budget_holds_the_average_that_was_printed() {
        assert_eq!([budget(4.0, 10), budget(2.5, 3), budget(ratio(7, 3), 3)], [40, 7, 7]);
    }
}
