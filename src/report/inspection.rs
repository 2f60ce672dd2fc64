//! What a model holds, before anything is done to it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::{numbers, table};
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::plan::{Float, Policy, macs, plan};
use crate::runtime::Engine;
use crate::stats::{
    BatchNorm, InputSource, InputStatistics, TensorStatistics, guess_input, place_statistics, read_batch_norms,
    read_statistics, statistics_to_write,
};
use crate::{onnx, passes, shape};

/// The result of `inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The file.
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
    /// Tensors whose statistics came in a file of their own.
    pub statistics_given: usize,
    /// The statistics of tensors of the folded graph, in the form that [`read_statistics`] reads.
    #[serde(skip)]
    pub statistics: BTreeMap<String, TensorStatistics>,
    /// What follows where there are none.
    pub without_statistics: Option<String>,
    /// What the statistics tell of the network's input.
    pub input: InputStatistics,
    /// Layers that would be quantized.
    pub quantizable: Vec<Quantizable>,
    /// What would stay float, and why.
    pub float: Vec<Float>,
    /// Why nothing can be quantized, where that is so.
    pub refused: Option<String>,
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
    /// The tensors whose grid its input would be on.
    pub input: String,
    /// Multiply-accumulates of one sample, where shapes are known.
    pub macs: Option<u64>,
}

/// Returns what the model at `path` holds and what quantizing it would do.
///
/// # Errors
/// Models that cannot be read; those of [`read_statistics`] and [`place_statistics`].
pub fn inspect(
    path: &Path,
    input_shapes: &[(String, Vec<usize>)],
    statistics: Option<&Path>,
    engine: &dyn Engine,
) -> Result<Inspection> {
    let given = statistics.map(read_statistics).transpose()?.unwrap_or_default();
    let original = onnx::load(path)?;
    let mut graph = original.clone();
    passes::fix_shapes(&mut graph, input_shapes)?;
    passes::normalise(&mut graph, engine)?;
    let norms = read_batch_norms(&graph);
    let mut input = guess_input(&graph, &norms);
    passes::fold(&mut graph)?;
    shape::infer(&mut graph)?;
    let left = read_batch_norms(&graph).len();
    let place = statistics.map_or(String::new(), |path| path.display().to_string());
    let given = place_statistics(&graph, &given, &place)?;
    if input.source == InputSource::Assumed {
        input = guess_input(&graph, &given);
    }
    let (quantizable, float, refused) =
        match passes::refuse_unfit(&graph).and_then(|()| plan(&graph, &Policy::default())) {
            Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
            Ok(plan) => {
                let layers = plan.layers.iter().map(|layer| {
                    let node = graph.maker(&layer.output);
                    let weight = layer.weight.and_then(|i| graph.constant_of(graph.find(&plan.weights[i].tensor)?));
                    Quantizable {
                        name: layer.name.clone(),
                        op_type: layer.op_type.clone(),
                        weight: weight.map_or(Vec::new(), |w| w.shape().to_vec()),
                        input: plan.activations[layer.input].tensors.first().cloned().unwrap_or_default(),
                        macs: node.and_then(|n| macs(&graph, n)),
                    }
                });
                (layers.collect(), plan.float.clone(), None)
            }
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
        macs: graph.nodes.iter().filter_map(|n| macs(&graph, n)).sum(),
        batch_norms_folded: norms.len() - left,
        statistics_given: given.len(),
        statistics: statistics_to_write(&graph, norms.iter().chain(&given)),
        without_statistics: (norms.is_empty() && given.is_empty()).then(|| super::Warning::NoStatistics.to_string()),
        batch_norms: norms,
        input,
        quantizable,
        float,
        refused,
    })
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
    let mut out = String::new();
    let ports = |ports: &[Port]| {
        let port = |p: &Port| format!("{} {} [{}]", p.name, p.dtype, p.shape.join(", "));
        ports.iter().map(port).collect::<Vec<_>>().join("; ")
    };
    let counts = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(op, n)| format!("{op} {n}")).collect::<Vec<_>>().join(", ")
    };
    let i = inspection;
    #[allow(clippy::cast_precision_loss)]
    let (parameters, macs) = (i.parameters as f64 / 1e6, i.macs as f64 / 1e6);
    let _ = writeln!(out, "{} (opset {}, by {})", i.model.display(), i.opset, i.producer);
    let _ = writeln!(out, "inputs      {}\noutputs     {}", ports(&i.inputs), ports(&i.outputs));
    let _ = writeln!(out, "operators   {}\nnormalised  {}", counts(&i.operators), counts(&i.normalised));
    let _ = writeln!(out, "parameters  {parameters:.3} M, {macs:.2} MMAC a sample");
    let _ =
        writeln!(out, "input       {:.3} to {:.3} ({:?}, {:?})", i.input.lo, i.input.hi, i.input.scale, i.input.source);
    if let Some(text) = &i.without_statistics {
        let _ = writeln!(out, "statistics  none: {text}");
    } else {
        let _ = writeln!(
            out,
            "statistics  {} BatchNormalization, {} fold into a layer; {} tensor(s) from --bn-stats",
            i.batch_norms.len(),
            i.batch_norms_folded,
            i.statistics_given
        );
        let _ = writeln!(out, "\n{}", norms(&i.batch_norms));
    }
    if let Some(refused) = &i.refused {
        let _ = writeln!(out, "\nrefused: {refused}");
    } else {
        let mut layers = table(&["layer", "op", "weight", "input", "MMAC"]);
        for q in &i.quantizable {
            #[allow(clippy::cast_precision_loss)]
            let mega = q.macs.map_or("-".to_owned(), |n| format!("{:.2}", n as f64 / 1e6));
            layers.add_row(numbers(&q.name, [q.op_type.clone(), format!("{:?}", q.weight), q.input.clone(), mega]));
        }
        let _ = writeln!(out, "\n{layers}");
        for f in &i.float {
            let _ = writeln!(out, "stays float: {} ({}): {}", f.name, f.op_type, f.reason);
        }
    }
    out
}

fn norms(norms: &[BatchNorm]) -> comfy_table::Table {
    let mut table = table(&["normalised tensor", "channels", "mean", "std", "beta", "gamma"]);
    let span = |values: &[f32]| {
        let (lo, hi) = values.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        format!("{lo:.3} .. {hi:.3}")
    };
    for norm in norms {
        let std: Vec<f32> = norm.variance.iter().map(|v| v.sqrt()).collect();
        table.add_row(numbers(
            &norm.input,
            [norm.mean.len().to_string(), span(&norm.mean), span(&std), span(&norm.beta), span(&norm.gamma)],
        ));
    }
    table
}
