//! Checks a Q/DQ model of any tool: equal results in two independent runtimes and in the bytes on disk (hard checks),
//! and the distance from its float original (reported, and a gate on request). Agreement with the float model is not
//! accuracy: no labels are involved.

mod against;
mod compare;
mod decode;
mod float_run;
mod gates;
mod granularity;
mod grid;
mod integers;
mod kernels;
pub mod limits;
mod matches;
mod modes;
mod node_by_node;
mod operands;
mod reals;
mod result;
mod saturation;
mod shadow;
mod structure;
mod tap;
mod ties;
mod voters;

use std::path::{Path, PathBuf};

pub use against::{Against, QuantizedRun, against_float};
pub(crate) use compare::numbers;
pub use compare::{Comparison, EQUAL_DB, Top1};
pub use decode::{Decoded, compare_initializers, decode_shipped};
pub use grid::QdqGrid;
pub use integers::{Observed, observe};
pub use modes::Engines;
pub use result::{Check, IntegerAgreement, LeftOut, OutputAgreement, TensorError, Verification};
pub use saturation::Saturation;
pub use shadow::{shadow, widen_initializers};
pub use structure::{QuantizedWeight, Quantizer, Structure, find_quantizers};
pub use tap::{CutGraph, TapLocation, cut, tap};
pub use voters::left_out;

use crate::data::{InputMoments, synthetic_inputs};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::runtime::{rows_of_a_run, rows_of_run};
use float_run::FloatRun;
use gates::gates;
use modes::{EndToEnd, Mode, end_to_end, modes, reported};
use node_by_node::node_by_node;
use voters::voters;

/// The options of a verification.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Samples to run, synthetic or the first ones of those provided.
    pub samples: usize,
    /// Samples in one run; a fixed batch of the model takes precedence.
    pub batch: usize,
    /// Seed of synthetic inputs.
    pub seed: u64,
    /// Threads; results do not depend on them.
    pub threads: usize,
    /// Mean of synthetic images, one value or one per channel.
    pub mean: Vec<f32>,
    /// Standard deviation of synthetic images, one value or one per channel.
    pub std: Vec<f32>,
    /// The file to ship, which is decoded and compared.
    pub shipped: Option<PathBuf>,
    /// Smallest top-1 agreement with the float model, 0 to 1.
    pub min_agreement: Option<f64>,
    /// Smallest signal-to-noise ratio of the worst output against the float model, in dB.
    pub min_sqnr: Option<f64>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            samples: 64,
            batch: 16,
            seed: 0,
            threads: 1,
            mean: vec![0.0],
            std: vec![1.0],
            shipped: None,
            min_agreement: None,
            min_sqnr: None,
        }
    }
}

/// Returns the results of all checks of `quantized` and its comparison with `original`, on `inputs` (batch axis first,
/// in the order of [`Graph::fed_inputs`]) or on synthetic ones.
///
/// A failed check is part of the result, not an error; an original that a runtime refuses is an error.
///
/// # Errors
/// Without any engine, when synthetic inputs cannot be made, when the shipped file cannot be read, or the original does
/// not run.
pub fn verify(
    original: &Graph,
    quantized: &Graph,
    engines: &Engines,
    inputs: Option<&[Tensor]>,
    options: &VerifyOptions,
) -> Result<Verification> {
    let modes = modes(engines, options.threads);
    if modes.is_empty() {
        return Err(Error::Usage("verification needs an engine: ONNX Runtime, tract or both".to_owned()));
    }
    same_number_of_inputs(original, quantized)?;
    let samples = options.samples.max(1);
    let made = match inputs {
        Some(_) => Vec::new(),
        None => {
            let VerifyOptions { mean, std, seed, threads, .. } = options;
            synthetic_inputs(quantized, samples, InputMoments { mean, std }, *seed, *threads)?
        }
    };
    let batches = split(quantized, inputs.unwrap_or(&made), samples, options.batch.max(1))?;
    let float = FloatRun::new(original, quantized, &batches[0]);
    let (modes, left_out) = voters(&float, modes);
    let structure = find_quantizers(quantized);
    let mut result = Verification {
        samples: batches.iter().map(|b| samples_of(b)).sum(),
        synthetic_inputs: inputs.is_none(),
        quantizers: structure.quantizers.len(),
        lowest_bits: structure.lowest_bits(),
        notes: left_out.iter().map(ToString::to_string).collect(),
        left_out,
        ..Verification::default()
    };
    if let Some(path) = &options.shipped {
        result.checks.push(shipped_check(path, quantized)?);
    }
    let limit = limits::relative_rms(result.lowest_bits, structure.is_symmetric());
    let EndToEnd { ran, checks, outputs } = end_to_end(quantized, &modes, &batches, limit)?;
    let did_not_run = modes.iter().filter(|mode| ran.iter().all(|ran| ran.name() != mode.name()));
    did_not_run.map(|mode| float.runs_in(mode)).collect::<Result<Vec<()>>>()?;
    describe_engines(&mut result, &ran);
    if let Some(reference) = ran.first() {
        let graph = &*reference.readable(quantized)?;
        let quantizers = &structure.quantizers;
        let observed = observe(graph, quantizers, reference, &batches)?;
        result.node_by_node_samples = observed.iter().map(|o| samples_of(&o.inputs)).sum();
        let pieces = node_by_node(quantized, quantizers, &ran, &observed, &float)?;
        result.checks.extend(reported(checks, &pieces.compared));
        result.checks.extend(pieces.checks);
        result.integers = pieces.agreements;
        result.notes.extend(pieces.notes);
        result.saturation = saturation::saturation(graph, quantizers, reference, &observed)?;
        let run = QuantizedRun { graph, quantizers, batches: &batches, outputs: &outputs, observed: &observed };
        let against = against_float(original, &run, reference)?;
        result.outputs = against.outputs;
        result.blame = against.blame;
        result.notes.extend(against.notes);
    } else {
        result.checks.extend(checks);
    }
    result.gates = gates(&result, options);
    Ok(result)
}

fn same_number_of_inputs(original: &Graph, quantized: &Graph) -> Result<()> {
    let (expected, found) = (original.fed_inputs().len(), quantized.fed_inputs().len());
    if expected == found {
        return Ok(());
    }
    let message = format!("takes {found} inputs, the float model {expected}; are they the same network?");
    Err(Error::malformed("quantized model", message))
}

fn samples_of(batch: &[Tensor]) -> usize {
    batch.first().and_then(|t| t.shape().first().copied()).unwrap_or(1)
}

fn describe_engines(result: &mut Verification, ran: &[Mode]) {
    result.engines = ran.iter().map(Mode::name).collect();
    result.reference = ran.first().map(Mode::name);
    result.second_runtime = ran.iter().any(|m| m.reads_copy) && ran.iter().any(|m| !m.reads_copy);
    if !result.second_runtime {
        result.notes.push(match ran.first() {
            Some(only) => format!("only {} ran: no second runtime confirmed these results", only.engine_name()),
            None => "no runtime could run the model: nothing was compared".to_owned(),
        });
    }
}

/// Returns the first `samples` of `inputs` in batches; inputs without a common first axis are one batch.
pub(crate) fn split(graph: &Graph, inputs: &[Tensor], samples: usize, batch: usize) -> Result<Vec<Vec<Tensor>>> {
    let fed = graph.fed_inputs();
    if fed.len() != inputs.len() {
        let message = format!("takes {} inputs, {} were given", fed.len(), inputs.len());
        return Err(Error::malformed("quantized model", message));
    }
    let taken = rows_of_a_run(graph);
    if let Some(fixed) = graph.fixed_batch() {
        let rows = |(t, rows): (&Tensor, &Option<usize>)| Some((*t.shape().first()?, (*rows)?));
        let possible = inputs.iter().zip(&taken).filter_map(rows).map(|(given, rows)| given / rows).min().unwrap_or(0);
        if possible == 0 {
            let message = format!("too few samples, the model runs batches of {fixed}");
            return Err(Error::shape("inputs", message));
        }
        let runs = possible.min(samples.div_ceil(fixed.max(1)));
        return (0..runs).map(|run| rows_of_run(inputs, &taken, run)).collect();
    }
    let lengths: Vec<Option<usize>> = inputs.iter().map(|t| t.shape().first().copied()).collect();
    let Some(Some(n)) = lengths.first().copied().filter(|first| lengths.iter().all(|l| l == first)) else {
        return Ok(vec![inputs.to_vec()]);
    };
    if n == 0 {
        return Err(Error::shape("inputs", "no samples"));
    }
    let end = n.min(samples);
    (0..end)
        .step_by(batch)
        .map(|start| inputs.iter().map(|t| t.rows(start..end.min(start + batch))).collect())
        .collect()
}

/// Returns whether the file at `path` holds `intended`, integer by integer.
///
/// # Errors
/// As [`decode_shipped`].
pub fn shipped_check(path: &Path, intended: &Graph) -> Result<Check> {
    Ok(decode_check(&decode_shipped(path, intended)?))
}

fn decode_check(decoded: &Decoded) -> Check {
    let compared = format!("{} integers and {} floats compared", decoded.integers, decoded.floats);
    Check {
        name: "shipped bytes".to_owned(),
        engine: "decoder".to_owned(),
        measured: Some(decoded.differences.len() as f64),
        limit: Some(0.0),
        passed: decoded.differences.is_empty(),
        message: decoded.differences.first().map_or(compared.clone(), |first| format!("{compared}; {first}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Dim};

    fn lengths(first: Dim, given: usize, samples: usize, batch: usize) -> Option<Vec<usize>> {
        let mut graph = Graph::default();
        let x = graph.add_value("x");
        graph.value_mut(x).dtype = Some(DType::F32);
        graph.value_mut(x).shape = Some(vec![first, Dim::Known(2)]);
        graph.inputs.push(x);
        let values: Vec<f32> = (0u8..).take(given * 2).map(f32::from).collect();
        let batches = split(&graph, &[Tensor::from_f32(&[given, 2], &values)], samples, batch).ok()?;
        let all: Vec<f32> = batches.iter().flat_map(|b| b[0].to_f32().unwrap()).collect();
        assert_eq!(all, values[..all.len()], "samples keep their order");
        Some(batches.iter().map(|b| b[0].shape()[0]).collect())
    }

    #[test]
    fn samples_are_split_as_the_model_takes_them() {
        let free = || Dim::Symbol("N".to_owned());
        let cases = [
            ("last batch is smaller", lengths(free(), 10, 7, 3), Some(vec![3, 3, 1])),
            ("fewer than asked for", lengths(free(), 2, 64, 16), Some(vec![2])),
            ("a batch fixed at 1 runs one by one", lengths(Dim::Known(1), 3, 64, 16), Some(vec![1, 1, 1])),
            ("a fixed batch is filled", lengths(Dim::Known(4), 10, 5, 16), Some(vec![4, 4])),
            ("too few for a fixed batch", lengths(Dim::Known(4), 3, 5, 16), None),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
