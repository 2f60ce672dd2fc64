//! Node by node: every engine is fed the same integers at every quantizer, and what it makes of them is compared.

use super::compare::{Comparison, numbers};
use super::limits;
use super::modes::{Mode, Subject};
use super::result::{Check, IntegerAgreement};
use super::structure::Quantizer;
use super::tap::{Source, cut, tap};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::runtime::Session;

/// The quantized model in the reference engine with every quantizer's integers visible.
pub struct Tapped {
    session: Box<dyn Session>,
    sources: Vec<Source>,
    outputs: usize,
}

impl Tapped {
    /// Returns the tapped model, ready to run.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load(graph: &Graph, quantizers: &[Quantizer], mode: &Mode) -> Result<Self> {
        let taps: Vec<_> = quantizers.iter().map(|q| (q.integers, q.dtype)).collect();
        let (tapped, sources) = tap(graph, &taps);
        Ok(Self { session: mode.load(&tapped)?, sources, outputs: graph.outputs.len() })
    }

    /// Returns the outputs of the model and the integers of each quantizer.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let mut outputs = self.session.run(inputs)?;
        let integers = self.sources.iter().map(|source| source.pick(inputs, &outputs).clone()).collect();
        outputs.truncate(self.outputs);
        Ok((outputs, integers))
    }
}

/// Returns the checks of all modes but the first (the reference), and the agreement of every quantizer in each.
pub fn node_by_node(
    subject: &Subject,
    quantizers: &[Quantizer],
    modes: &[Mode],
    batches: &[Vec<Tensor>],
) -> Result<(Vec<Check>, Vec<IntegerAgreement>)> {
    let (mut checks, mut agreements) = (Vec::new(), Vec::new());
    let [reference, others @ ..] = modes else { return Ok((checks, agreements)) };
    let graph = subject.for_mode(reference).map_err(Error::Verification)?;
    let mut tapped = Tapped::load(graph, quantizers, reference)?;
    for mode in others {
        let mut seen = Seen::new(graph, quantizers, mode);
        let result = || -> Result<()> {
            let cut = cut(subject.for_mode(mode).map_err(Error::Verification)?, quantizers);
            let mut session = mode.load(&cut.graph)?;
            for batch in batches {
                let (outputs, integers) = tapped.run(batch)?;
                let fed: Vec<Tensor> = batch.iter().chain(&integers).cloned().collect();
                let found = session.run(&fed)?;
                for (i, expected) in integers.iter().enumerate() {
                    seen.integers(i, expected, &found[cut.results[i]])?;
                }
                for (i, expected) in outputs.iter().enumerate() {
                    seen.outputs[i].add(&numbers(expected), &numbers(&found[i]));
                }
            }
            Ok(())
        }();
        match result {
            Ok(()) => checks.extend(seen.checks(graph, mode)),
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
    fn new(graph: &Graph, quantizers: &[Quantizer], mode: &Mode) -> Self {
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
            outputs: vec![Comparison::default(); graph.outputs.len()],
        }
    }

    fn integers(&mut self, i: usize, expected: &Tensor, found: &Tensor) -> Result<()> {
        let agreement = &mut self.agreements[i];
        if expected.shape() != found.shape() {
            let message = format!("{:?} in {}, expected {:?}", found.shape(), agreement.engine, expected.shape());
            return Err(Error::shape(format!("tensor \"{}\"", agreement.tensor), message));
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
        let outputs = self.outputs.iter().zip(&graph.outputs).map(|(comparison, &output)| {
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
