//! Statistics in a side file, for a model whose exporter folded its normalizations.
//!
//! JSON: `{"NAME": {"mean": [..], "var": [..]}, ..}`. NumPy `.npz`: two arrays per name, `NAME.mean` and `NAME.var`.
//! `NAME` is a tensor of the model, or the node that produces it: the output of a Conv, ConvTranspose, Gemm or MatMul
//! with its bias added and before its activation function, which is where BatchNormalization stood (any other float
//! result may be named too). `mean` and `var` hold one value per channel (axis 1; the last axis after a MatMul): mean
//! and variance (not the standard deviation) over samples and all other axes. After a folded BatchNormalization these
//! are its `beta` and `gamma²`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BatchNorm;
use crate::data::Arrays;
use crate::error::{Error, Result};
use crate::files;
use crate::ir::{DType, Graph, ValueId, nearest_names};

/// The most bytes of a statistics file: those of several million channels.
const MOST_BYTES: u64 = 1 << 28;

/// Mean and variance of one tensor, per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorStatistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Variance (not the standard deviation).
    #[serde(rename = "var", alias = "variance")]
    pub variance: Vec<f32>,
}

/// Returns the statistics in the `.json` or `.npz` file at `path`, by tensor or node.
///
/// # Errors
/// For files that cannot be read or have another format, NaN values, negative variances, and channels that do not
/// match.
pub fn read_statistics(path: &Path) -> Result<BTreeMap<String, TensorStatistics>> {
    let place = path.display().to_string();
    let statistics = match files::start_of(path, 2)?.starts_with(b"PK") {
        true => from_arrays(&place, &Arrays::open(path)?)?,
        false => serde_json::from_slice(&files::read(path, MOST_BYTES)?).map_err(|e| {
            let form = "{\"TENSOR\": {\"mean\": [..], \"var\": [..]}, ..}";
            Error::malformed(&place, format!("expected an .npz file or JSON of the form {form}: {e}"))
        })?,
    };
    if statistics.is_empty() {
        return Err(Error::malformed(place, "holds no statistics"));
    }
    for (name, given) in &statistics {
        if let Some(message) = unfit(given) {
            return Err(Error::malformed(format!("{place}: \"{name}\""), message));
        }
    }
    Ok(statistics)
}

fn from_arrays(place: &str, arrays: &Arrays) -> Result<BTreeMap<String, TensorStatistics>> {
    let mut parts: BTreeMap<String, [Option<Vec<f32>>; 2]> = BTreeMap::new();
    for member in arrays.members() {
        let name = &member.name;
        let split = name.rsplit_once('.').and_then(|(tensor, part)| {
            let slot = ["mean", "var"].iter().position(|known| *known == part)?;
            Some((tensor.to_owned(), slot))
        });
        let Some((of, slot)) = split.filter(|_| member.rank().is_none_or(|rank| rank == 1)) else {
            let shape = member.form.as_ref().map_or(String::new(), |(_, shape)| format!(" {shape:?}"));
            let found = format!("array \"{name}\"{shape}");
            return Err(Error::malformed(
                place,
                format!("expected TENSOR.mean and TENSOR.var of rank 1, found {found}"),
            ));
        };
        parts.entry(of).or_default()[slot] = Some(arrays.tensor(member)?.to_f32()?);
    }
    let pair = |(name, [mean, variance]): (String, [Option<Vec<f32>>; 2])| match (mean, variance) {
        (Some(mean), Some(variance)) => Ok((name, TensorStatistics { mean, variance })),
        (mean, _) => {
            let missing = if mean.is_none() { "mean" } else { "var" };
            Err(Error::malformed(place, format!("array \"{name}.{missing}\" is missing")))
        }
    };
    parts.into_iter().map(pair).collect()
}

fn unfit(given: &TensorStatistics) -> Option<String> {
    let (means, variances) = (given.mean.len(), given.variance.len());
    if means != variances || means == 0 {
        return Some(format!("{means} means and {variances} variances; expected one of each per channel"));
    }
    let odd = |values: &[f32], what: &str, fits: fn(f32) -> bool, rule: &str| {
        let (i, value) = values.iter().enumerate().find(|(_, v)| !fits(**v))?;
        Some(format!("{what} of channel {i} is {value}; {rule}"))
    };
    odd(&given.mean, "mean", f32::is_finite, "expected a finite number").or_else(|| {
        let fits = |v: f32| v.is_finite() && v >= 0.0;
        odd(&given.variance, "variance", fits, "expected a finite number of 0 or more")
    })
}

/// Returns the statistics as those of a normalization that produced each tensor; `graph` has its normalizations folded
/// and its shapes inferred.
///
/// # Errors
/// [`Error::Malformed`] for a name that no tensor and no node has, naming the nearest; for two names of one tensor; for
/// another number of channels than the tensor has.
pub fn place_statistics(
    graph: &Graph,
    given: &BTreeMap<String, TensorStatistics>,
    place: &str,
) -> Result<Vec<BatchNorm>> {
    let mut norms: Vec<BatchNorm> = Vec::with_capacity(given.len());
    for (name, statistics) in given {
        let refused = |message: String| Error::malformed(format!("{place}: \"{name}\""), message);
        let id = tensor_called(graph, name).ok_or_else(|| refused(no_such_name(graph, name)))?;
        let tensor = graph.name_of(id).to_owned();
        if norms.iter().any(|n| n.output == tensor) {
            return Err(refused(format!("tensor \"{tensor}\" is given under its node's name too; give it once")));
        }
        let (found, channels) = (statistics.mean.len(), channels(graph, id));
        if let Some(channels) = channels.filter(|&channels| channels != found) {
            return Err(refused(format!("{found} channels, tensor \"{tensor}\" has {channels}")));
        }
        norms.push(BatchNorm {
            input: tensor.clone(),
            output: tensor,
            mean: statistics.mean.clone(),
            variance: statistics.variance.clone(),
            gamma: statistics.variance.iter().map(|v| v.sqrt()).collect(),
            beta: statistics.mean.clone(),
            epsilon: 0.0,
        });
    }
    Ok(norms)
}

/// Returns the first output of a node, by its own name or by the node's.
fn tensor_called(graph: &Graph, name: &str) -> Option<ValueId> {
    let float = |id: &ValueId| graph.value(*id).dtype.is_none_or(|dtype| dtype == DType::F32);
    let results = || graph.nodes.iter().filter_map(|n| Some((n, n.output(0)?)));
    let by_tensor = results().map(|(_, id)| id).find(|&id| graph.name_of(id) == name);
    by_tensor.or_else(|| results().find(|(n, _)| n.name == name).map(|(_, id)| id)).filter(float)
}

fn channels(graph: &Graph, id: ValueId) -> Option<usize> {
    let shape = graph.value(id).shape.as_ref()?;
    let behind_matmul = graph.nodes.iter().any(|n| n.is("MatMul") && n.output(0) == Some(id));
    if behind_matmul { shape.last()?.known() } else { shape.get(1)?.known() }
}

fn no_such_name(graph: &Graph, name: &str) -> String {
    let layers = |op: &str| ["Conv", "ConvTranspose", "Gemm", "MatMul"].contains(&op);
    let mut names: Vec<&str> = Vec::new();
    for node in graph.nodes.iter().filter(|n| layers(&n.op_type)) {
        names.extend(node.output(0).map(|id| graph.name_of(id)));
        names.extend((!node.name.is_empty()).then_some(node.name.as_str()));
    }
    let nearest = nearest_names(name, names);
    format!("the normalized model has no float tensor or node of this name; nearest: {nearest}")
}

/// Returns statistics for [`read_statistics`], for every normalization whose result is a tensor of the folded `graph`:
/// by the name of the node that now produces it, if it has one, which an exported folded file shares.
pub fn statistics_to_write<'a>(
    graph: &Graph,
    norms: impl IntoIterator<Item = &'a BatchNorm>,
) -> BTreeMap<String, TensorStatistics> {
    let entry = |norm: &BatchNorm| {
        let name = graph.maker(&norm.output)?.name.as_str();
        let unique = !name.is_empty() && graph.nodes.iter().filter(|n| n.name == name).count() == 1;
        let name = if unique { name.to_owned() } else { norm.output.clone() };
        let variance = norm.gamma.iter().map(|g| g * g).collect();
        Some((name, TensorStatistics { mean: norm.beta.clone(), variance }))
    };
    norms.into_iter().filter_map(entry).collect()
}
