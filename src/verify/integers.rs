//! Node by node: every engine is fed the same integers at every quantizer, and what it makes of them is compared.

use super::compare::{Comparison, numbers};
use super::limits;
use super::modes::Mode;
use super::outputs::settled_tensors;
use super::result::{Check, IntegerAgreement};
use super::structure::Quantizer;
use super::tap::{cut, tap};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};

/// One batch through the quantized model in the reference engine, with every quantizer's integers seen.
pub struct Observed {
    /// What the model was fed.
    pub inputs: Vec<Tensor>,
    /// The tensors that stand for the model's outputs (see [`settled_tensors`]).
    pub outputs: Vec<Tensor>,
    /// The integers of each quantizer.
    pub integers: Vec<Tensor>,
}

/// Returns what the reference engine makes of the first samples of `batches`, in batches of at most their size: as many
/// samples as have [`limits::NODE_BY_NODE_INTEGERS`] integers, and [`limits::NODE_BY_NODE_SAMPLES`] at least. A batch
/// that the model fixes is never cut.
///
/// # Errors
/// When the engine refuses the tapped model or fails.
pub fn observe(graph: &Graph, quantizers: &[Quantizer], mode: &Mode, batches: &[Vec<Tensor>]) -> Result<Vec<Observed>> {
    let settled = settled_tensors(graph);
    let integers = quantizers.iter().map(|q| (q.integers, q.dtype));
    let (tapped, sources) = tap(graph, &settled.iter().copied().chain(integers).collect::<Vec<_>>());
    let mut session = mode.load(&tapped)?;
    let mut run = |inputs: Vec<Tensor>| -> Result<Observed> {
        let made = session.run(&inputs)?;
        let mut outputs: Vec<Tensor> = sources.iter().map(|source| source.pick(&inputs, &made).clone()).collect();
        let integers = outputs.split_off(settled.len());
        Ok(Observed { inputs, outputs, integers })
    };
    let mut observed: Vec<Observed> = Vec::new();
    let (mut samples, mut integers) = (0, 0);
    for batch in batches {
        let mut rest = batch.clone();
        loop {
            let len = rest.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
            let wanted = match (fixes_batch(graph), samples) {
                (true, _) => len,
                // The first sample alone tells how large the tensors of one are.
                (false, 0) => 1,
                (false, _) => (limits::NODE_BY_NODE_INTEGERS / (integers / samples).max(1))
                    .max(limits::NODE_BY_NODE_SAMPLES)
                    .saturating_sub(samples)
                    .min(len),
            };
            if wanted == 0 {
                return Ok(observed);
            }
            let cut = |range: std::ops::Range<usize>| rest.iter().map(|t| t.rows(range.clone())).collect::<Result<_>>();
            let (part, left) = if wanted < len { (cut(0..wanted)?, cut(wanted..len)?) } else { (rest, Vec::new()) };
            let found = run(part)?;
            integers += found.integers.iter().map(Tensor::len).sum::<usize>();
            samples += wanted;
            observed.push(found);
            if left.is_empty() {
                break;
            }
            rest = left;
        }
        if fixes_batch(graph) && integers >= limits::NODE_BY_NODE_INTEGERS {
            break;
        }
    }
    Ok(observed)
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
            for Observed { inputs, outputs, integers } in observed {
                let fed: Vec<Tensor> = inputs.iter().chain(integers).cloned().collect();
                let found = session.run(&fed)?;
                for (i, expected) in integers.iter().enumerate() {
                    seen.integers(i, expected, &found[cut.results[i]])?;
                }
                for (i, expected) in outputs.iter().enumerate() {
                    seen.outputs[i].add(&numbers(expected), &numbers(sources[i].pick(&fed, &found)));
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
