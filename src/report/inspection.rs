//! What a model holds, before anything is done to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::inputs::inputs;
use super::layout::{add_row, grouped, line, millions, paragraph, table};
use crate::error::{Error, Result};
use crate::infer_by_running::infer_by_running;
use crate::ir::{Graph, ValueId};
use crate::plan::{Activations, Float, Policy, macs, plan, total_macs};
use crate::runtime::Engine;
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, KnownInput, TensorStatistics, guess_input, guessed, known_inputs,
    place_statistics, read_batch_norms, read_statistics, statistics_to_write,
};
use crate::verify::{Engines, LeftOut, left_out};
use crate::{onnx, passes, shape};

/// The result of `inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The file.
    #[serde(serialize_with = "crate::shown::path")]
    pub model: PathBuf,
    /// Who wrote it.
    pub producer: String,
    /// The default operator set.
    pub opset: i64,
    /// Inputs that are fed.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Operators in the file.
    pub operators: BTreeMap<String, usize>,
    /// Operators after the normalising passes, normalisations folded.
    pub normalised: BTreeMap<String, usize>,
    /// Elements of all initializers.
    pub parameters: usize,
    /// Multiply-accumulates of one sample, over layers whose shapes are known.
    pub macs: u64,
    /// The statistics of every BatchNormalization.
    pub batch_norms: Vec<BatchNorm>,
    /// How many of them fold into a layer.
    pub batch_norms_folded: usize,
    /// Tensors with statistics from a separate file.
    pub statistics_given: usize,
    /// The statistics of tensors of the folded graph, in the form that [`read_statistics`] reads.
    #[serde(skip)]
    pub statistics: BTreeMap<String, TensorStatistics>,
    /// What follows where there are none.
    pub without_statistics: Option<String>,
    /// The input statistics, as far as the file's statistics determine them.
    pub input: InputStatistics,
    /// What is known of each input, and how surely.
    pub known_inputs: Vec<KnownInput>,
    /// Layers that would be quantized.
    pub quantizable: Vec<Quantizable>,
    /// What would stay float, and why.
    pub float: Vec<Float>,
    /// Why nothing can be quantized, where that is so.
    pub refused: Option<String>,
    /// Runtimes that will take no part in the checks of a quantized file.
    pub left_out: Vec<LeftOut>,
}

/// A graph input or output.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its dimensions; names and `?` where they are not numbers.
    pub shape: Vec<String>,
}

/// A layer that can be quantized.
#[derive(Clone, Debug, Serialize)]
pub struct Quantizable {
    /// The layer.
    pub name: String,
    /// The operator.
    pub op_type: String,
    /// The dimensions of its weight; empty where both operands are activations.
    pub weight: Vec<usize>,
    /// The first tensor on the grid of its input; none where only the weight would be quantized.
    pub input: Option<String>,
    /// Multiply-accumulates of one sample, where shapes are known.
    pub macs: Option<u64>,
}

/// The user's settings for an inspection.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectOptions<'a> {
    /// Input shapes to plan for.
    pub input_shapes: &'a [passes::GivenShape],
    /// Inputs to replace by constants, with their values as typed.
    pub set_inputs: &'a [(String, String)],
    /// A separate file of statistics (see [`read_statistics`]).
    pub statistics: Option<&'a Path>,
}

/// Returns the contents of the model at `path` and the layers that would be quantized. `engine` folds constants;
/// `checkers` are the engines that check quantized files.
///
/// # Errors
/// Models that cannot be read; those of [`read_statistics`] and [`place_statistics`].
pub fn inspect(path: &Path, options: &InspectOptions, engine: &dyn Engine, checkers: &Engines) -> Result<Inspection> {
    let InspectOptions { input_shapes, set_inputs, statistics } = *options;
    let given = statistics.map(read_statistics).transpose()?.unwrap_or_default();
    let mut original = onnx::load(path)?;
    passes::set_inputs(&mut original, set_inputs)?;
    let of_model = |error: Error| error.in_model(path);
    passes::refuse_unloadable(&original, checkers.ort).map_err(of_model)?;
    let mut graph = original.clone();
    passes::set_aside(&mut graph, engine)?;
    passes::declare_ranks(&mut graph, input_shapes)?;
    let mut fixed = graph.clone();
    passes::fix_shapes(&mut fixed, input_shapes)?;
    passes::normalise(&mut graph, engine).map_err(of_model)?;
    let norms = read_batch_norms(&graph);
    let mut input = guess_input(&graph, &norms);
    passes::fold(&mut graph).map_err(of_model)?;
    passes::fix_shapes(&mut graph, input_shapes)?;
    passes::settle_batch(&mut graph);
    shape::infer(&mut graph)?;
    let left = read_batch_norms(&graph).len();
    let place = statistics.map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&graph, &given, &place)?;
    if input.source == InputSource::Assumed {
        input = guess_input(&graph, &given);
    }
    let left_out = match input.synthetic(&fixed, 1, 0, 1) {
        Ok(inputs) => left_out(&fixed, checkers, &inputs),
        Err(_) => Vec::new(),
    };
    infer_by_running(&mut graph, &input, engine, 0)?;
    let known_inputs = known_inputs(&graph, &input);
    let statistics: Vec<BatchNorm> = norms.iter().chain(&given).cloned().collect();
    let float_activations = Activations::Auto.float(&guessed(&graph, &statistics, &known_inputs));
    let policy = Policy { float_activations, ..Policy::default() };
    let (quantizable, float, refused) = match layers(&graph, &policy) {
        Ok((quantizable, float)) => (quantizable, float, None),
        Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
    };
    Ok(Inspection {
        schema_version: super::SCHEMA_VERSION,
        model: path.to_owned(),
        producer: format!("{} {}", original.metadata.producer_name, original.metadata.producer_version)
            .trim()
            .to_owned(),
        opset: original.opset(),
        inputs: ports(&original, &original.fed_inputs()),
        outputs: ports(&original, &original.outputs),
        operators: operators(&original),
        normalised: operators(&graph),
        parameters: original.value_ids().filter_map(|id| original.constant_of(id)).map(crate::ir::Tensor::len).sum(),
        macs: total_macs(&graph),
        batch_norms_folded: norms.len() - left,
        statistics_given: given.len(),
        statistics: statistics_to_write(&graph, &statistics),
        without_statistics: (norms.is_empty() && given.is_empty()).then(|| super::Warning::NoStatistics.to_string()),
        batch_norms: norms,
        input,
        known_inputs,
        quantizable,
        float,
        refused,
        left_out,
    })
}

fn layers(graph: &Graph, policy: &Policy) -> Result<(Vec<Quantizable>, Vec<Float>)> {
    passes::validate(graph)?;
    let plan = plan(graph, policy)?;
    let uses = graph.uses();
    let maker = |output: &str| Some(&graph.nodes[uses.producer(graph.find(output)?)?]);
    let quantizable = |name: &String, op_type: &String, output: &str, weight: Option<usize>, input: Option<usize>| {
        let weight = weight.and_then(|i| graph.constant_of(graph.find(&plan.weights[i].tensor)?));
        Quantizable {
            name: name.clone(),
            op_type: op_type.clone(),
            weight: weight.map_or(Vec::new(), |w| w.shape().to_vec()),
            input: input.and_then(|i| plan.activations[i].tensors.first().cloned()),
            macs: maker(output).and_then(|n| macs(graph, n)),
        }
    };
    let layers = plan.layers.iter().map(|l| quantizable(&l.name, &l.op_type, &l.output, l.weight, Some(l.input)));
    let alone = plan.weight_only.iter().map(|l| quantizable(&l.name, &l.op_type, &l.output, Some(l.weight), None));
    Ok((layers.chain(alone).collect(), plan.float.clone()))
}

fn ports(graph: &Graph, ids: &[ValueId]) -> Vec<Port> {
    let port = |id: &ValueId| {
        let value = graph.value(*id);
        Port {
            name: value.name().to_owned(),
            dtype: value.dtype.map_or("?".to_owned(), |d| d.to_string()),
            shape: value.shape.as_ref().map_or(Vec::new(), |s| s.iter().map(ToString::to_string).collect()),
        }
    };
    ids.iter().map(port).collect()
}

fn operators(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.nodes {
        *counts.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    counts
}

/// Returns the inspection as tables.
pub fn render_inspection(inspection: &Inspection) -> String {
    let ports = |ports: &[Port]| {
        let port = |p: &Port| format!("{} {} [{}]", p.name, p.dtype, p.shape.join(", "));
        ports.iter().map(port).collect::<Vec<_>>().join("; ")
    };
    let counts = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(op, n)| format!("{op} {n}")).collect::<Vec<_>>().join(", ")
    };
    let i = inspection;
    let parameters = i.parameters as f64 / 1e6;
    let mut lines = vec![
        line(&format!("{} (opset {}, by {})", i.model.display(), i.opset, i.producer)),
        paragraph("inputs", &ports(&i.inputs)),
        paragraph("outputs", &ports(&i.outputs)),
        paragraph("operators", &counts(&i.operators)),
        paragraph("normalised", &counts(&i.normalised)),
        paragraph("parameters", &format!("{parameters:.3} M, {} MMAC per sample", millions(Some(i.macs)))),
        paragraph("ranges", &inputs(&i.known_inputs)),
    ];
    match &i.without_statistics {
        Some(text) => lines.push(paragraph("statistics", &format!("none: {text}"))),
        None => {
            let (all, folded, given) = (i.batch_norms.len(), i.batch_norms_folded, i.statistics_given);
            let text =
                format!("{all} BatchNormalization, {folded} fold into a layer; {given} tensor(s) from --bn-stats");
            lines.push(paragraph("statistics", &text));
            lines.push(format!("\n{}", norms(&i.batch_norms)));
        }
    }
    lines.push(String::new());
    match &i.refused {
        Some(refused) => lines.push(paragraph("refused:", refused)),
        None => {
            lines.push(quantizable(&i.quantizable) + "\n");
            let stays = i.float.iter().map(|f| (f.name.as_str(), f.reason.as_str()));
            let stays = grouped(stays).into_iter();
            lines.extend(stays.map(|(reason, names)| line(&format!("stays float: {}: {reason}", names.join(", ")))));
        }
    }
    lines.extend(i.left_out.iter().map(|left_out| paragraph("warning:", &left_out.to_string())));
    lines.join("\n")
}

fn quantizable(layers: &[Quantizable]) -> String {
    let mut table = table(&["layer", "op", "weight"], &["MMAC"]);
    for layer in layers {
        let weight = layer.weight.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        add_row(&mut table, [layer.name.clone(), layer.op_type.clone(), weight, millions(layer.macs)]);
    }
    table.trim_fmt()
}

fn norms(norms: &[BatchNorm]) -> String {
    let mut table = table(&["normalised tensor"], &["channels", "mean", "std", "beta", "gamma"]);
    let span = |values: &[f32]| {
        let (lo, hi) = values.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        format!("{lo:.2} .. {hi:.2}")
    };
    for norm in norms {
        let std: Vec<f32> = norm.variance.iter().map(|v| v.sqrt()).collect();
        let spans = [&norm.mean, &std, &norm.beta, &norm.gamma].map(|values| span(values));
        add_row(&mut table, [norm.input.clone(), norm.mean.len().to_string()].into_iter().chain(spans));
    }
    table.trim_fmt()
}
