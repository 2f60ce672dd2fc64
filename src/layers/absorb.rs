//! High-bias absorption (Nagel et al. 2019, section 4.1.3): moves the part of a bias that a rectified channel
//! practically always exceeds into the bias of the next layer.
//!
//! `relu(x) = relu(x - c) + c` for `x > c`, with `c = max(0, mean - 3·deviation)` (99.87 % of a normal distribution).
//! Refused behind zero padding, where the `c` that is taken away is not there to be added, and below caps.

use super::bias::{read_bias, subtract_from_bias};
use super::link::{Link, links};
use super::rows::Rows;
use super::step::LayerStep;
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::quant::absorbed;
use crate::stats::BatchNorm;

/// Standard deviations between a channel's mean and the absorbed bias.
const EXACT: &str = "exact for 99.87 % of their values if these are normally distributed";

/// Absorbs high biases, adjusts `norms`, and returns the step of each planned layer.
///
/// # Errors
/// When weights or biases cannot be read.
pub fn absorb(graph: &mut Graph, plan: &Plan, norms: &mut [BatchNorm]) -> Result<Vec<LayerStep>> {
    let mut steps = Vec::new();
    for (layer, found) in links(graph, plan)? {
        let absorbed = match found {
            Ok(link) => absorb_link(graph, norms, &link)?.map_err(str::to_owned),
            Err(reason) => Err(reason),
        };
        let note = absorbed.as_ref().ok().map(|channels| format!("{channels} channel(s), {EXACT}"));
        steps.push(LayerStep { note, ..LayerStep::new("absorb", layer, absorbed.err()) });
    }
    Ok(steps)
}

/// Returns the number of changed channels, or the reason for none.
fn absorb_link(
    graph: &mut Graph,
    norms: &mut [BatchNorm],
    link: &Link,
) -> Result<std::result::Result<usize, &'static str>> {
    if !link.rectified {
        return Ok(Err("no Relu follows directly"));
    }
    if link.clip.is_some() {
        return Ok(Err("a cap follows, which would have to move too"));
    }
    if link.padded {
        return Ok(Err("the next layer is padded with zeros"));
    }
    let made = graph.nodes[link.first].output(0).map(|id| graph.name_of(id).to_owned());
    let Some(norm) = norms.iter().find(|n| Some(&n.output) == made.as_ref()) else {
        return Ok(Err("no statistics tell its mean"));
    };
    let c = absorbed(&norm.beta, &norm.std());
    if c.iter().all(|&c| c == 0.0) {
        return Ok(Err("no channel is high enough"));
    }
    let shared = "a bias is shared or of an unknown form";
    let Some(rows) = Rows::read(graph, &graph.nodes[link.second])? else { return Ok(Err(shared)) };
    let readable = read_bias(graph, &graph.nodes[link.second], rows.outputs)?.is_some();
    if !readable || !subtract_from_bias(graph, link.first, &c)? {
        return Ok(Err(shared));
    }
    let columns: Vec<f64> = c.iter().flat_map(|&c| std::iter::repeat_n(-c, link.repeat)).collect();
    subtract_from_bias(graph, link.second, &rows.times(&rows.values, &columns))?;
    for norm in link.norms(graph, norms) {
        let repeat = (norm.beta.len() / c.len()).max(1);
        for (same, c) in norm.beta.chunks_mut(repeat).zip(&c) {
            same.iter_mut().for_each(|b| *b = (f64::from(*b) - c) as f32);
        }
    }
    Ok(Ok(c.iter().filter(|&&c| c > 0.0).count()))
}
