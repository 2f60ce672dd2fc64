//! Compares the quantized model with the float original: outputs, errors per tensor, and the layers that cause them.

use std::collections::{HashMap, HashSet};

use super::compare::{Comparison, Top1, numbers};
use super::granularity::granularity;
use super::integers::Observed;
use super::matches::Matches;
use super::modes::Mode;
use super::result::{OutputAgreement, TensorError};
use super::structure::Quantizer;
use super::tap::{TapLocation, cut, tap};
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor, Uses, ValueId, is_dequantize};
use crate::shape;

/// Operators that carry weights; a layer is named after them.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// The result of [`against_float`].
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// Per output.
    pub outputs: Vec<OutputAgreement>,
    /// Per quantized tensor that the original has too, and per output; the largest local error first.
    pub blame: Vec<TensorError>,
    /// Tensors of both models that could not be compared.
    pub notes: Vec<String>,
}

/// A run of the quantized model in the reference engine.
pub struct QuantizedRun<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// Its quantizers.
    pub quantizers: &'a [Quantizer],
    /// All samples.
    pub batches: &'a [Vec<Tensor>],
    /// The outputs for them.
    pub outputs: &'a [Vec<Tensor>],
    /// The samples with observed inner tensors.
    pub observed: &'a [Observed],
}

/// Returns the comparison of a quantized model with `original` in `mode`: outputs over all samples, inner tensors over
/// observed ones.
///
/// Tensors are matched by name: a quantizer's float input, else the result of its DequantizeLinear. A name must mean
/// the same tensor in both: after an equalization that rescales channels, pass the rescaled float model as the
/// original.
///
/// # Errors
/// When the engine refuses either model or fails to run it.
pub fn against_float(original: &Graph, run: &QuantizedRun, mode: &Mode) -> Result<Against> {
    let QuantizedRun { graph: quantized, quantizers, .. } = *run;
    let matches = Matches::new(original, quantized, quantizers);
    let mut errors = Errors::new(quantizers.len(), &matches);
    compare_outputs(original, run, &matches, mode, &mut errors)?;
    let floats = float_tensors(original, run, &matches, mode)?;
    let cut = cut(quantized, quantizers);
    let mut alone = mode.load(&cut.graph)?;
    let mut fed = Vec::with_capacity(floats.len());
    for (Observed { inputs, integers, .. }, (floats, _)) in run.observed.iter().zip(&floats) {
        let own = feed(quantizers, floats, integers, &mut errors)?;
        fed.push(inputs.iter().cloned().chain(own).collect());
    }
    let made = alone.run_each(&fed)?;
    for ((Observed { integers, .. }, (floats, float_outputs)), results) in run.observed.iter().zip(&floats).zip(made) {
        for (i, quantizer) in quantizers.iter().enumerate() {
            if let (Some(grid), Some(float), true) = (&quantizer.grid, &floats[i], errors.usable[i]) {
                let float = numbers(float);
                errors.accumulated[i].add(&float, &grid.dequantize(&integers[i])?);
                errors.local[i].add(&float, &grid.dequantize(&results[cut.results[i]])?);
            }
        }
        for (pair, &(own, other)) in matches.outputs.iter().enumerate() {
            errors.outputs_local[pair].add(&numbers(&float_outputs[own]), &numbers(&results[other]));
        }
    }
    let mut against = report(quantized, quantizers, &matches, &errors);
    against.notes.extend(matches.variable.iter().map(|&id| {
        let name = original.name_of(id);
        format!("output \"{name}\" has a size that depends on the data: it is not compared with the float model's")
    }));
    Ok(against)
}

fn compare_outputs(
    original: &Graph,
    run: &QuantizedRun,
    matches: &Matches,
    mode: &Mode,
    errors: &mut Errors,
) -> Result<()> {
    let mut session = mode.load_original(original)?;
    let inputs: Vec<Vec<Tensor>> = run.batches.iter().map(|batch| matches.own_inputs(batch)).collect();
    for (float, outputs) in session.run_each(&inputs)?.iter().zip(run.outputs) {
        for (pair, &(own, other)) in matches.outputs.iter().enumerate() {
            errors.outputs[pair].add(&numbers(&float[own]), &numbers(&outputs[other]));
            errors.labels[pair] |= !float[own].dtype().is_float();
            if errors.labels[pair] || matches.scores[pair] {
                errors.top1[pair].add(&float[own], &outputs[other]);
            }
        }
    }
    Ok(())
}

/// One entry per observed batch: the float tensor at each quantizer, where there is one, and the float outputs.
type FloatTensors = Vec<(Vec<Option<Tensor>>, Vec<Tensor>)>;

fn float_tensors(original: &Graph, run: &QuantizedRun, matches: &Matches, mode: &Mode) -> Result<FloatTensors> {
    let facts = shape::facts(original).unwrap_or_default();
    let dtype = |id: ValueId| facts.get(id.index()).and_then(|fact| fact.dtype).unwrap_or(DType::F32);
    let taps: Vec<_> = matches.tensors.iter().flatten().map(|&id| (id, dtype(id))).collect();
    let (tapped, sources) = tap(original, &taps);
    let mut session = mode.load_original(&tapped)?;
    let inputs: Vec<Vec<Tensor>> = run.observed.iter().map(|o| matches.own_inputs(&o.inputs)).collect();
    let made = session.run_each(&inputs)?;
    let pick = |(inputs, mut outputs): (&Vec<Tensor>, Vec<Tensor>)| {
        let mut source = sources.iter();
        let tensors = matches.tensors.iter().map(|id| id.and_then(|_| source.next()));
        let tensors =
            tensors.map(|source: Option<&TapLocation>| source.map(|s| s.pick(inputs, &outputs).clone())).collect();
        outputs.truncate(original.outputs.len());
        (tensors, outputs)
    };
    Ok(inputs.iter().zip(made).map(pick).collect())
}

/// Returns the integers to feed at every cut: the float model's tensor, quantized, else the quantized model's own.
fn feed(
    quantizers: &[Quantizer],
    floats: &[Option<Tensor>],
    integers: &[Tensor],
    errors: &mut Errors,
) -> Result<Vec<Tensor>> {
    let one = |(i, quantizer): (usize, &Quantizer)| match (&floats[i], &quantizer.grid) {
        (Some(float), Some(grid)) if float.shape() == integers[i].shape() => {
            grid.quantize(&numbers(float), float.shape())
        }
        _ => {
            errors.usable[i] = false;
            Ok(integers[i].clone())
        }
    };
    quantizers.iter().enumerate().map(one).collect()
}

/// Sums over batches; `usable` says which quantizers could be fed from the float model.
struct Errors {
    usable: Vec<bool>,
    local: Vec<Comparison>,
    accumulated: Vec<Comparison>,
    outputs: Vec<Comparison>,
    outputs_local: Vec<Comparison>,
    labels: Vec<bool>,
    top1: Vec<Top1>,
}

impl Errors {
    fn new(quantizers: usize, matches: &Matches) -> Self {
        let outputs = matches.outputs.len();
        Self {
            usable: matches.tensors.iter().map(Option::is_some).collect(),
            local: vec![Comparison::default(); quantizers],
            accumulated: vec![Comparison::default(); quantizers],
            outputs: vec![Comparison::default(); outputs],
            outputs_local: vec![Comparison::default(); outputs],
            labels: vec![false; outputs],
            top1: vec![Top1::default(); outputs],
        }
    }
}

fn report(quantized: &Graph, quantizers: &[Quantizer], matches: &Matches, errors: &Errors) -> Against {
    let mut against = Against::default();
    let (uses, steps) = (quantized.uses(), granularity(quantized));
    let cuts: HashMap<ValueId, usize> = quantizers.iter().enumerate().map(|(i, q)| (q.integers, i)).collect();
    for (i, quantizer) in quantizers.iter().enumerate() {
        let name = quantized.name_of(quantizer.input);
        if !errors.usable[i] {
            if matches.tensors[i].is_some() {
                against.notes.push(format!("\"{name}\" has another shape in the float model: it is not compared"));
            }
            continue;
        }
        let before = upstream(quantized, &uses, &cuts, quantizer.input);
        let smallest = steps[quantizer.integers.index()];
        let relative = |error: &Comparison| error.relative_rms_above(floor(error, smallest));
        against.blame.push(TensorError {
            tensor: name.to_owned(),
            layers: before.layers,
            bits: quantizer.grid.as_ref().map(super::grid::QdqGrid::bits),
            local: relative(&errors.local[i]),
            accumulated: relative(&errors.accumulated[i]),
            isolated: before.quantizers.iter().all(|&i| errors.usable[i]),
        });
    }
    for (pair, &(_, other)) in matches.outputs.iter().enumerate() {
        let (id, comparison) = (quantized.outputs[other], &errors.outputs[pair]);
        let output = quantized.name_of(id).to_owned();
        let before = upstream(quantized, &uses, &cuts, id);
        let smallest = floor(comparison, steps[id.index()]);
        against.outputs.push(OutputAgreement {
            output: output.clone(),
            sqnr_db: comparison.sqnr_db_above(smallest),
            no_signal: !errors.labels[pair] && smallest > 0.0,
            cosine: comparison.cosine(),
            max_abs: comparison.max_abs(),
            labels: errors.labels[pair],
            top1_agreement: errors.top1[pair].agreement(),
        });
        if !before.layers.is_empty() && !errors.labels[pair] {
            against.blame.push(TensorError {
                tensor: output,
                layers: before.layers,
                bits: None,
                local: errors.outputs_local[pair].relative_rms_above(smallest),
                accumulated: comparison.relative_rms_above(smallest),
                isolated: before.quantizers.iter().all(|&i| errors.usable[i]),
            });
        }
    }
    against.blame.sort_by(|a, b| b.local.total_cmp(&a.local));
    against
}

/// Returns the reference magnitude for errors if no value reaches `smallest`; else 0.
fn floor(comparison: &Comparison, smallest: f64) -> f64 {
    if comparison.has_signal(smallest) { 0.0 } else { smallest }
}

/// The nodes between a tensor and the quantizers before it.
struct Upstream {
    layers: Vec<String>,
    quantizers: Vec<usize>,
}

fn upstream(graph: &Graph, uses: &Uses, cuts: &HashMap<ValueId, usize>, start: ValueId) -> Upstream {
    let (mut waiting, mut seen) = (vec![start], HashSet::new());
    let (mut nodes, mut quantizers) = (Vec::new(), Vec::new());
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        match (cuts.get(&id), uses.producer(id)) {
            (Some(&cut), _) => quantizers.push(cut),
            (None, Some(node)) => {
                nodes.push(node);
                waiting.extend(graph.nodes[node].inputs.iter().flatten());
            }
            (None, None) => {}
        }
    }
    nodes.sort_unstable();
    let weighted = |&&node: &&usize| WEIGHTED.iter().any(|op| graph.nodes[node].is(op));
    let mut named: Vec<usize> = nodes.iter().filter(weighted).copied().collect();
    if named.is_empty() {
        named.extend(uses.producer(start).filter(|&node| !is_dequantize(&graph.nodes[node])));
    }
    let name = |node: usize| match graph.nodes[node].name.as_str() {
        "" => graph.nodes[node].output(0).map_or(String::new(), |id| graph.name_of(id).to_owned()),
        name => name.to_owned(),
    };
    Upstream { layers: named.into_iter().map(name).collect(), quantizers }
}
