//! Cross-layer equalisation over every link of a network (Nagel et al. 2019, section 4.1), iterated until it settles;
//! a chain of links (a depthwise triple) settles on the common solution of all its pairs.

use std::collections::HashMap;

use super::link::Link;
use super::link::links;
use super::rows::Rows;
use super::scale::scale_channels;
use super::step::Step;
use crate::error::Result;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::quant::equalising_factors;
use crate::stats::BatchNorm;

/// Sweeps over all links at most, and the factor below which one is no change.
const SWEEPS: usize = 50;
const SETTLED: f64 = 1e-4;

/// Equalises the weight ranges of linked layers, adjusts `norms`, and returns what was done to each planned layer.
///
/// # Errors
/// When weights cannot be read.
pub fn equalise(graph: &mut Graph, plan: &Plan, norms: &mut [BatchNorm]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut linked: Vec<Link> = Vec::new();
    for (layer, found) in links(graph, plan)? {
        steps.push(Step::new("equalise", layer, found.as_ref().err().cloned()));
        linked.extend(found.ok());
    }
    let mut ranges: HashMap<usize, Ranges> = HashMap::new();
    for index in linked.iter().flat_map(|l| [l.first, l.second]) {
        if let Some(rows) = Rows::read(graph, &graph.nodes[index])? {
            ranges.insert(index, Ranges::of(&rows));
        }
    }
    let mut factors: Vec<Vec<f64>> = linked.iter().map(|l| vec![1.0; ranges[&l.first].rows]).collect();
    for _ in 0..SWEEPS {
        let mut largest = 0.0f64;
        for (link, total) in linked.iter().zip(&mut factors) {
            let own = equalising_factors(&ranges[&link.first].of_rows(), &ranges[&link.second].of_columns(link.repeat));
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
    for (link, factors) in linked.iter().zip(&factors) {
        scale_channels(graph, norms, link, factors)?;
    }
    graph.sort()?;
    Ok(steps)
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
