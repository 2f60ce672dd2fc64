//! Cross-layer equalization over every link of a network (Nagel et al. 2019, section 4.1), iterated until it settles;
//! a chain of links (a depthwise triple) settles on the common solution of all its pairs.

use std::collections::HashMap;

use super::link::Link;
use super::link::links;
use super::rows::Rows;
use super::scale::scale_channels;
use super::step::LayerStep;
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::plan::Plan;
use crate::quant::{equalising_factors, within_reach};
use crate::stats::{BatchNorm, Moments};

/// Sweeps over all links at most, and the factor below which one is no change.
const SWEEPS: usize = 50;
const SETTLED: f64 = 1e-4;
/// Standard deviations that practically bound a channel.
const DEVIATIONS: f64 = 6.0;

/// Which links are equalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All links.
    All,
    /// Links with a per-tensor weight, the only weights that benefit.
    SharedScales,
}

/// Equalizes the weight ranges of linked layers, adjusts `norms`, and returns the step of each planned layer.
///
/// # Errors
/// When weights cannot be read.
pub fn equalise(
    graph: &mut Graph,
    plan: &Plan,
    norms: &mut [BatchNorm],
    scope: Scope,
    moments: &HashMap<ValueId, Moments>,
) -> Result<Vec<LayerStep>> {
    let mut steps = Vec::new();
    let mut linked: Vec<Link> = Vec::new();
    for (layer, found) in links(graph, plan)? {
        let found = found.and_then(|link| match scope == Scope::All || shares_a_scale(graph, plan, &link) {
            true => Ok(link),
            false => Err("each channel of both weights has its own scale".to_owned()),
        });
        steps.push(LayerStep::new("equalise", layer, found.as_ref().err().cloned()));
        linked.extend(found.ok());
    }
    let mut ranges: HashMap<usize, Ranges> = HashMap::new();
    for index in linked.iter().flat_map(|l| [l.first, l.second]) {
        if let Some(rows) = Rows::read(graph, &graph.nodes[index])? {
            ranges.insert(index, Ranges::of(&rows));
        }
    }
    let mut factors: Vec<Vec<f64>> = linked.iter().map(|l| vec![1.0; ranges[&l.first].rows]).collect();
    let reaches = linked.iter().map(|link| reach(graph, moments, link)).collect::<Vec<_>>();
    for _ in 0..SWEEPS {
        let mut largest = 0.0f64;
        for ((link, total), reach) in linked.iter().zip(&mut factors).zip(&reaches) {
            let rows = ranges[&link.first].of_rows();
            let mut own = equalising_factors(&rows, &ranges[&link.second].of_columns(link.repeat), total);
            if let Some(reach) = reach {
                own = within_reach(&own, total, reach);
            }
            for (t, s) in total.iter_mut().zip(&own) {
                *t *= s;
                largest = largest.max(s.ln().abs());
            }
            ranges.entry(link.first).and_modify(|r| r.scale_rows(&own));
            ranges.entry(link.second).and_modify(|r| r.scale_columns(&own, link.repeat));
        }
        if largest < SETTLED {
            break;
        }
    }
    let applied = (0..steps.len()).filter(|&i| steps[i].refused.is_none()).collect::<Vec<_>>();
    for ((link, factors), step) in linked.iter().zip(&factors).zip(applied) {
        if !scale_channels(graph, norms, link, factors)? {
            steps[step].refused = Some("its values would leave float32".to_owned());
        }
    }
    graph.sort()?;
    Ok(steps)
}

fn shares_a_scale(graph: &Graph, plan: &Plan, link: &Link) -> bool {
    let weight = |index: usize| {
        let output = graph.nodes[index].output(0).map(|id| graph.name_of(id));
        plan.layers.iter().find(|l| Some(l.output.as_str()) == output).and_then(|l| l.weight)
    };
    [link.first, link.second].into_iter().filter_map(weight).any(|w| plan.weights[w].scheme.axis.is_none())
}

/// Returns the largest magnitude of each channel between two layers; `None` where its distribution is unknown.
fn reach(graph: &Graph, moments: &HashMap<ValueId, Moments>, link: &Link) -> Option<Vec<f64>> {
    let between = graph.nodes[link.second].input(0).and_then(|id| moments.get(&id))?;
    let made = graph.nodes[link.first].output(0).and_then(|id| moments.get(&id))?;
    let channel = |c: &crate::stats::ClippedNormal| {
        let ends = [c.mean - DEVIATIONS * c.std, c.mean + DEVIATIONS * c.std];
        ends.map(|end| end.clamp(c.lo, c.hi).abs()).into_iter().fold(0.0, f64::max)
    };
    (between.0.len() == made.0.len() && link.repeat == 1).then(|| between.0.iter().map(channel).collect())
}

/// Largest absolute element of each kernel of a weight.
struct Ranges {
    rows: usize,
    inputs: usize,
    group: usize,
    largest: Vec<f64>,
}

impl Ranges {
    fn of(rows: &Rows) -> Self {
        let largest = |kernel: &[f32]| kernel.iter().fold(0.0, |m: f64, &w| m.max(f64::from(w).abs()));
        Self {
            rows: rows.outputs,
            inputs: rows.inputs,
            group: rows.group,
            largest: rows.values.chunks(rows.taps).map(largest).collect(),
        }
    }

    fn of_rows(&self) -> Vec<f64> {
        self.largest.chunks(self.inputs).map(|row| row.iter().copied().fold(0.0, f64::max)).collect()
    }

    fn column(&self, index: usize) -> usize {
        let (o, i) = (index / self.inputs, index % self.inputs);
        o / (self.rows / self.group) * self.inputs + i
    }

    fn of_columns(&self, repeat: usize) -> Vec<f64> {
        let mut columns = vec![0.0f64; self.inputs * self.group / repeat];
        for (index, &r) in self.largest.iter().enumerate() {
            let column = &mut columns[self.column(index) / repeat];
            *column = column.max(r);
        }
        columns
    }

    fn scale_rows(&mut self, factors: &[f64]) {
        for (row, s) in self.largest.chunks_mut(self.inputs).zip(factors) {
            row.iter_mut().for_each(|r| *r /= s);
        }
    }

    fn scale_columns(&mut self, factors: &[f64], repeat: usize) {
        for index in 0..self.largest.len() {
            self.largest[index] *= factors[self.column(index) / repeat];
        }
    }
}
