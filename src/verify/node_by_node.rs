//! Node by node: every engine gets the same integers at every quantizer, and the results are compared.

use super::compare::{Comparison, numbers};
use super::float_run::FloatRun;
use super::granularity::granularity;
use super::integers::Observed;
use super::kernels::{KernelError, kernel_error};
use super::limits;
use super::matches::Matches;
use super::modes::Mode;
use super::reals::Reals;
use super::result::{Check, IntegerAgreement};
use super::structure::Quantizer;
use super::tap::{cut, tap};
use super::ties::{Pair, is_tie};
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::outputs::{decided_since_quantizers, settled_tensors};

/// The result of [`node_by_node`].
#[derive(Default)]
pub struct NodeByNode {
    /// The checks of integers and outputs of every comparable mode.
    pub checks: Vec<Check>,
    /// The agreement of every quantizer in each of these modes.
    pub agreements: Vec<IntegerAgreement>,
    /// Names of the compared modes.
    pub compared: Vec<String>,
    /// Why other modes could not be compared.
    pub notes: Vec<String>,
}

/// Compares all modes with the first (the reference), piece by piece: each piece of the model between quantized
/// tensors gets the same integers, so that the kernels of a piece are those of the whole model.
///
/// `float` gives the differences of float arithmetic.
///
/// # Errors
/// When the reference fails on a graph that it ran before.
pub fn node_by_node(
    quantized: &Graph,
    quantizers: &[Quantizer],
    modes: &[Mode],
    observed: &[Observed],
    float: &FloatRun,
) -> Result<NodeByNode> {
    let mut found = NodeByNode::default();
    let [reference, others @ ..] = modes else { return Ok(found) };
    let graph = &*reference.readable(quantized)?;
    let settled = settled_tensors(graph);
    let (smallest, decided) = (granularity(graph), decided_since_quantizers(graph));
    let ties_are_known = |q: &Quantizer| q.grid.is_some() && !decided[q.input.index()];
    let shares: Vec<f64> = quantizers.iter().map(|q| limits::differing_integers(ties_are_known(q))).collect();
    let pieces = Pieces { graph, quantizers, observed, float };
    let mut reals = Reals::new(graph, quantizers, reference, observed);
    for mode in others {
        let made = Made::by(mode, quantized, quantizers, &settled, observed);
        let compared = made.and_then(|made| Ok((made.agreements(&pieces, &mut reals, [reference, mode])?, made)));
        let (agreements, made) = match compared {
            Ok(compared) => compared,
            Err(e) => {
                found.notes.push(format!("{} could not be compared node by node: {e}", mode.name()));
                continue;
            }
        };
        found.checks.push(integers(&agreements, &shares, mode));
        found.checks.extend(settled.iter().enumerate().map(|(i, &(id, _))| {
            let pairs = observed.iter().zip(&made.outputs).map(|(o, made)| (&o.outputs[i], &made[i]));
            same_floats(graph.name_of(id), pairs, smallest[id.index()], mode)
        }));
        found.agreements.extend(agreements);
        found.compared.push(mode.name());
    }
    Ok(found)
}

/// The results of a mode on the given integers, batch by batch.
struct Made {
    mode: String,
    integers: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<Tensor>>,
}

impl Made {
    fn by(
        mode: &Mode,
        quantized: &Graph,
        quantizers: &[Quantizer],
        settled: &[(ValueId, DType)],
        observed: &[Observed],
    ) -> Result<Self> {
        let cut = cut(&*mode.readable(quantized)?, quantizers);
        let (tapped, sources) = tap(&cut.graph, settled);
        let mut session = mode.load(&tapped)?;
        let fed: Vec<Vec<Tensor>> = observed.iter().map(Observed::fed).collect();
        let runs = session.run_each(&fed)?;
        let pick =
            |(fed, run): (&Vec<Tensor>, &Vec<Tensor>)| sources.iter().map(|s| s.pick(fed, run).clone()).collect();
        Ok(Self {
            mode: mode.name(),
            outputs: fed.iter().zip(&runs).map(pick).collect(),
            integers: runs.iter().map(|run| cut.results.iter().map(|&at| run[at].clone()).collect()).collect(),
        })
    }

    fn agreements(
        &self,
        pieces: &Pieces,
        reals: &mut Reals,
        [reference, mode]: [&Mode; 2],
    ) -> Result<Vec<IntegerAgreement>> {
        let Pieces { graph, quantizers, observed, .. } = *pieces;
        let differs = |i: &usize| observed.iter().zip(&self.integers).any(|(o, made)| o.integers[*i] != made[*i]);
        let differing: Vec<usize> = (0..quantizers.len()).filter(differs).collect();
        reals.compute(&differing)?;
        let uses = graph.uses();
        let kernel = |i: usize| match mode.fuses() {
            true => kernel_error(graph, &uses, &quantizers[i]),
            false => KernelError::default(),
        };
        let of = |i: usize, error| self.agreement(i, pieces, reals, error);
        let mut agreements = (0..quantizers.len()).map(|i| of(i, kernel(i))).collect::<Result<Vec<_>>>()?;
        let open: Vec<usize> = (0..quantizers.len()).filter(|&i| agreements[i].unexplained() > 0).collect();
        for (i, noise) in pieces.noise(&open, [reference, mode]) {
            let KernelError { absolute, relative } = kernel(i);
            agreements[i] = of(i, KernelError { absolute: absolute + noise, relative })?;
        }
        Ok(agreements)
    }

    /// Returns the agreement of one quantizer's integers, of which a kernel may be off by `error`.
    fn agreement(&self, index: usize, pieces: &Pieces, reals: &Reals, error: KernelError) -> Result<IntegerAgreement> {
        let quantizer = &pieces.quantizers[index];
        let mut agreement = IntegerAgreement::of(pieces.graph.name_of(quantizer.input), &self.mode);
        for (batch, (o, made)) in pieces.observed.iter().zip(&self.integers).enumerate() {
            let real = reals.of(index, batch).unwrap_or_default();
            let batch = QuantizedBatch { expected: &o.integers[index], found: &made[index], real };
            add(&mut agreement, quantizer, &batch, error)?;
        }
        Ok(agreement)
    }
}

/// The compared graph and its references.
struct Pieces<'a> {
    graph: &'a Graph,
    quantizers: &'a [Quantizer],
    observed: &'a [Observed],
    float: &'a FloatRun<'a>,
}

impl Pieces<'_> {
    /// Returns the tolerated difference of two modes at each of these quantizers: that in the float model, if it has
    /// the same tensor.
    fn noise(&self, open: &[usize], modes: [&Mode; 2]) -> Vec<(usize, f64)> {
        if open.is_empty() {
            return Vec::new();
        }
        let plain = self.float.normalised(modes[0]);
        let float = plain.as_ref().unwrap_or(self.float);
        let matches = Matches::new(float.graph(), self.graph, self.quantizers);
        let known: Vec<(usize, ValueId)> = open.iter().filter_map(|&i| Some((i, matches.tensors[i]?))).collect();
        if known.is_empty() {
            return Vec::new();
        }
        let tensors: Vec<ValueId> = known.iter().map(|&(_, id)| id).collect();
        // A runtime that refuses these tensors as outputs is held to the other bounds alone.
        let noise = float.noise(modes, &tensors).unwrap_or_default();
        known.into_iter().filter_map(|(i, id)| Some((i, *noise.get(&id)?))).collect()
    }
}

/// The results of one quantizer on one batch.
struct QuantizedBatch<'a> {
    /// The integers of the reference.
    expected: &'a Tensor,
    /// The integers of another mode.
    found: &'a Tensor,
    /// The values before rounding; empty where they are unknown.
    real: &'a [f32],
}

/// Adds one batch; integers of different shapes are all counted as differing.
fn add(
    agreement: &mut IntegerAgreement,
    quantizer: &Quantizer,
    batch: &QuantizedBatch,
    error: KernelError,
) -> Result<()> {
    let QuantizedBatch { expected, found, real } = *batch;
    agreement.count += expected.len();
    if expected == found {
        return Ok(());
    }
    if expected.shape() != found.shape() {
        agreement.differing += expected.len();
        agreement.largest_step = i64::MAX;
        return Ok(());
    }
    let grid = quantizer.grid.as_ref();
    let inner = grid.map(|grid| grid.inner(expected.shape())).transpose()?.unwrap_or(1);
    for (element, (a, b)) in expected.to_i64()?.into_iter().zip(found.to_i64()?).enumerate() {
        if a == b {
            continue;
        }
        agreement.differing += 1;
        agreement.largest_step = agreement.largest_step.max((a - b).abs());
        if let (Some(grid), Some(&x)) = (grid, real.get(element)) {
            let tie = is_tie(grid, inner, Pair { element, x, integers: (a, b) }, error.at(x));
            agreement.ties += usize::from(tie);
        }
    }
    Ok(())
}

fn integers(agreements: &[IntegerAgreement], shares: &[f64], mode: &Mode) -> Check {
    let check = |measured, limit, passed, message: String| Check {
        name: "node by node: integers".to_owned(),
        engine: mode.name(),
        measured,
        limit: Some(limit),
        passed,
        message,
    };
    let judged = agreements.iter().zip(shares).map(|(agreement, &limit)| {
        let share = agreement.unexplained() as f64 / agreement.count.max(1) as f64;
        (agreement, share, limit, agreement.unexplained() > limits::allowed(agreement.count, limit))
    });
    let judged: Vec<_> = judged.collect();
    let Some((worst, share, limit, _)) = judged.iter().max_by(|a, b| a.3.cmp(&b.3).then(a.1.total_cmp(&b.1))) else {
        let message = "the model has no activation quantizer".to_owned();
        return check(None, limits::differing_integers(true), true, message);
    };
    let bad = judged.iter().filter(|(.., exceeds)| *exceeds).count();
    let message = format!(
        "worst of {} quantizers: \"{}\", {} of {} integers differ, by at most {} step(s), {} of them on a rounding tie{}",
        agreements.len(),
        worst.tensor,
        worst.differing,
        worst.count,
        worst.largest_step,
        worst.ties,
        if bad > 1 { format!("; {bad} quantizers exceed the limit") } else { String::new() }
    );
    check(Some(*share), *limit, bad == 0, message)
}

fn same_floats<'a>(
    name: &str,
    pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>,
    smallest: f64,
    mode: &Mode,
) -> Check {
    let mut comparison = Comparison::default();
    for (expected, found) in pairs {
        comparison.add(&numbers(expected), &numbers(found));
    }
    let (measured, limit) = (comparison.relative_rms_above(smallest), limits::SAME_INTEGERS_RELATIVE_RMS);
    Check {
        name: "node by node: outputs".to_owned(),
        engine: mode.name(),
        measured: Some(measured),
        limit: Some(limit),
        passed: measured <= limit,
        message: format!("\"{name}\": relative RMS {measured:.2e} of at most {limit:.0e}"),
    }
}
