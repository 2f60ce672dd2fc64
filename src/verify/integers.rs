//! Node by node: every engine is fed the same integers at every quantizer, and what it makes of them is compared.

use super::compare::{Comparison, numbers};
use super::limits;
use super::modes::Mode;
use super::result::{Check, IntegerAgreement};
use super::structure::Quantizer;
use super::tap::{cut, tap};
use crate::error::{Error, Result};
use crate::ir::{Dim, Graph, Tensor};
use crate::outputs::settled_tensors;
use crate::shape;

/// One batch through the quantized model in the reference engine, with every quantizer's integers seen.
pub struct Observed {
    /// What the model was fed.
    pub inputs: Vec<Tensor>,
    /// The tensors that stand for the model's outputs (see [`settled_tensors`]).
    pub outputs: Vec<Tensor>,
    /// The integers of each quantizer.
    pub integers: Vec<Tensor>,
}

/// Returns what the reference engine makes of the first samples of `batches`, in a few pieces of one size: as many samples
/// as have [`limits::NODE_BY_NODE_INTEGERS`] integers, and [`limits::NODE_BY_NODE_SAMPLES`] at least. A batch that the
/// model fixes is never cut.
///
/// # Errors
/// When the engine refuses the tapped model or fails.
pub fn observe(graph: &Graph, quantizers: &[Quantizer], mode: &Mode, batches: &[Vec<Tensor>]) -> Result<Vec<Observed>> {
    let settled = settled_tensors(graph);
    let integers = quantizers.iter().map(|q| (q.integers, q.dtype));
    let (tapped, sources) = tap(graph, &settled.iter().copied().chain(integers).collect::<Vec<_>>());
    let mut session = mode.load(&tapped)?;
    let observed = |inputs: Vec<Tensor>, made: &[Tensor]| -> Observed {
        let mut outputs: Vec<Tensor> = sources.iter().map(|source| source.pick(&inputs, made).clone()).collect();
        let integers = outputs.split_off(settled.len());
        Observed { inputs, outputs, integers }
    };
    if !fixes_batch(graph) {
        let wanted = match integers_of_a_sample(graph, quantizers) {
            Some(integers) => wanted_samples(integers),
            None => {
                let first = batches[0].iter().map(|t| t.rows(0..1)).collect::<Result<Vec<_>>>()?;
                let made = session.run(&first)?;
                wanted_samples(observed(first, &made).integers.iter().map(Tensor::len).sum())
            }
        };
        let pieces = pieces(batches, wanted)?;
        let made = session.run_each(&pieces)?;
        return Ok(pieces.into_iter().zip(made).map(|(inputs, made)| observed(inputs, &made)).collect());
    }
    let (mut all, mut integers) = (Vec::new(), 0);
    for batch in batches {
        let made = session.run(batch)?;
        let found = observed(batch.clone(), &made);
        integers += found.integers.iter().map(Tensor::len).sum::<usize>();
        all.push(found);
        if integers >= limits::NODE_BY_NODE_INTEGERS {
            break;
        }
    }
    Ok(all)
}

fn wanted_samples(integers: usize) -> usize {
    (limits::NODE_BY_NODE_INTEGERS / integers.max(1)).max(limits::NODE_BY_NODE_SAMPLES)
}

/// Returns the first `wanted` samples of `batches` in pieces of a quarter of them, a last piece being filled up.
fn pieces(batches: &[Vec<Tensor>], wanted: usize) -> Result<Vec<Vec<Tensor>>> {
    let length = |batch: &[Tensor]| batch.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    let size = wanted.min(batches.iter().map(|batch| length(batch)).sum()).div_ceil(4).max(1);
    let (mut pieces, mut samples) = (Vec::new(), 0);
    for batch in batches {
        for start in (0..length(batch)).step_by(size) {
            if samples >= wanted {
                return Ok(pieces);
            }
            let end = length(batch).min(start + size);
            pieces.push(batch.iter().map(|t| t.rows(start..end)).collect::<Result<Vec<_>>>()?);
            samples += end - start;
        }
    }
    Ok(pieces)
}

/// Returns how many integers all quantizers make of one sample, where their shapes tell.
fn integers_of_a_sample(graph: &Graph, quantizers: &[Quantizer]) -> Option<usize> {
    let facts = shape::facts(graph).ok()?;
    let one = |q: &Quantizer| -> Option<usize> {
        let shape = facts.get(q.integers.index())?.shape.as_ref()?;
        let (batch, sizes) = shape.split_first()?;
        batch.known().is_none().then(|| sizes.iter().map(Dim::known).product())?
    };
    quantizers.iter().map(one).sum()
}

/// Returns whether an input's first axis is no free symbol, so that samples cannot be told apart or regrouped.
fn fixes_batch(graph: &Graph) -> bool {
    graph.fed_inputs().iter().any(|&id| {
        let first = graph.value(id).shape.as_ref().and_then(|shape| shape.first());
        first.is_none_or(|dim| dim.known().is_some())
    })
}

/// Returns the checks of all modes but the first (the reference), and the agreement of every quantizer in each.
pub fn node_by_node(
    graph: &Graph,
    quantizers: &[Quantizer],
    modes: &[Mode],
    observed: &[Observed],
) -> Result<(Vec<Check>, Vec<IntegerAgreement>)> {
    let (mut checks, mut agreements) = (Vec::new(), Vec::new());
    let [reference, others @ ..] = modes else { return Ok((checks, agreements)) };
    let reference = reference.readable(graph)?;
    let settled = settled_tensors(&reference);
    for mode in others {
        let mut seen = Seen::new(&reference, quantizers, settled.len(), mode);
        let result = || -> Result<()> {
            let readable = mode.readable(graph)?;
            let cut = cut(&readable, quantizers);
            let (tapped, sources) = tap(&cut.graph, &settled);
            let mut session = mode.load(&tapped)?;
            let fed = |o: &Observed| o.inputs.iter().chain(&o.integers).cloned().collect();
            let fed: Vec<Vec<Tensor>> = observed.iter().map(fed).collect();
            let made = session.run_each(&fed)?;
            for ((Observed { outputs, integers, .. }, fed), found) in observed.iter().zip(&fed).zip(&made) {
                for (i, expected) in integers.iter().enumerate() {
                    seen.integers(i, expected, &found[cut.results[i]])?;
                }
                for (i, expected) in outputs.iter().enumerate() {
                    seen.outputs[i].add(&numbers(expected), &numbers(sources[i].pick(fed, found)));
                }
            }
            Ok(())
        }();
        match result {
            Ok(()) => checks.extend(seen.checks(&reference, mode)),
            Err(e) => checks.push(integer_check(mode, seen.limit, (None, false), e.to_string())),
        }
        agreements.append(&mut seen.agreements);
    }
    Ok((checks, agreements))
}

struct Seen {
    limit: f64,
    agreements: Vec<IntegerAgreement>,
    outputs: Vec<Comparison>,
}

impl Seen {
    fn new(graph: &Graph, quantizers: &[Quantizer], outputs: usize, mode: &Mode) -> Self {
        let agreement = |q: &Quantizer| IntegerAgreement {
            tensor: graph.name_of(q.input).to_owned(),
            engine: mode.name(),
            count: 0,
            differing: 0,
            largest_step: 0,
        };
        let limit = match mode.fuses() {
            true => limits::DIFFERING_INTEGERS_FUSED,
            false => limits::DIFFERING_INTEGERS,
        };
        Self {
            limit,
            agreements: quantizers.iter().map(agreement).collect(),
            outputs: vec![Comparison::default(); outputs],
        }
    }

    fn integers(&mut self, i: usize, expected: &Tensor, found: &Tensor) -> Result<()> {
        let agreement = &mut self.agreements[i];
        if expected.shape() != found.shape() {
            let message = format!("{:?} in {}, expected {:?}", found.shape(), agreement.engine, expected.shape());
            return Err(Error::shape(format!("tensor \"{}\"", agreement.tensor), message));
        }
        if expected == found {
            agreement.count += expected.len();
            return Ok(());
        }
        for (a, b) in expected.to_i64()?.into_iter().zip(found.to_i64()?) {
            agreement.count += 1;
            agreement.differing += usize::from(a != b);
            agreement.largest_step = agreement.largest_step.max((a - b).abs());
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn checks(&self, graph: &Graph, mode: &Mode) -> Vec<Check> {
        let excess = |a: &IntegerAgreement| {
            let far = a.largest_step > limits::LARGEST_STEP;
            (
                far || a.differing > limits::differing_integers(a.count, self.limit),
                a.differing as f64 / a.count.max(1) as f64,
            )
        };
        let worst = self.agreements.iter().max_by(|a, b| {
            let (a, b) = (excess(a), excess(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let integers = match worst {
            None => integer_check(mode, self.limit, (None, true), "the model has no activation quantizer".to_owned()),
            Some(worst) => {
                let bad = self.agreements.iter().filter(|a| excess(a).0).count();
                let message = format!(
                    "worst of {} quantizers: \"{}\", {} of {} integers differ, by at most {} step(s){}",
                    self.agreements.len(),
                    worst.tensor,
                    worst.differing,
                    worst.count,
                    worst.largest_step,
                    if bad > 1 { format!("; {bad} quantizers exceed the limit") } else { String::new() }
                );
                integer_check(mode, self.limit, (Some(excess(worst).1), bad == 0), message)
            }
        };
        let outputs = self.outputs.iter().zip(settled_tensors(graph)).map(|(comparison, (output, _))| {
            let measured = comparison.relative_rms();
            Check {
                name: "node by node: outputs".to_owned(),
                engine: mode.name(),
                measured: Some(measured),
                limit: Some(limits::SAME_INTEGERS_RELATIVE_RMS),
                passed: measured <= limits::SAME_INTEGERS_RELATIVE_RMS,
                message: format!("output \"{}\", relative RMS", graph.name_of(output)),
            }
        });
        std::iter::once(integers).chain(outputs).collect()
    }
}

fn integer_check(mode: &Mode, limit: f64, (measured, passed): (Option<f64>, bool), message: String) -> Check {
    Check {
        name: "node by node: integers".to_owned(),
        engine: mode.name(),
        measured,
        limit: Some(limit),
        passed,
        message,
    }
}
