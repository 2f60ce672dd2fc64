//! Loads files as [`Graph`]; refuses contents that the toolchain could not write back unchanged.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::foreign::refusal;
use super::optional_outputs::drop_unread_outputs;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::reader::{Reader, properties};
use super::tensor::{ExternalData, map_file};
use crate::error::{Error, Result};
use crate::ir::{Graph, Metadata, OperatorSet, check};

/// Returns the model in the file at `path`; weights stay mapped.
///
/// # Errors
/// For files that cannot be read, are not ONNX models, are inconsistent, or hold functions, sparse or string tensors.
pub fn load(path: &Path) -> Result<Graph> {
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    let in_file = |error| match error {
        Error::Malformed { place, message } => Error::malformed(format!("{}: {place}", path.display()), message),
        Error::Unsupported { place, message } => Error::unsupported(format!("{}: {place}", path.display()), message),
        other => other,
    };
    let bytes = map_file(path)?;
    decode_in(bytes.clone(), Some(folder)).map_err(|error| match error {
        Error::Malformed { .. } => refusal(path, &bytes).unwrap_or_else(|| in_file(error)),
        error => in_file(error),
    })
}

/// Returns the bytes of the model file at `path` together with its external data, each file counted once.
///
/// # Errors
/// As [`load`].
pub fn stored_bytes(path: &Path) -> Result<u64> {
    let size = |path: &PathBuf| Ok(std::fs::metadata(path).map_err(Error::read(path))?.len());
    files_of(path)?.iter().try_fold(0, |total, path| Ok(total + size(path)?))
}

/// Returns the model file at `path` and its external data files.
///
/// # Errors
/// As [`load`].
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let broken = |e: prost::DecodeError| Error::malformed(path.display().to_string(), e.to_string());
    let model = ModelProto::decode(map_file(path)?).map_err(broken)?;
    let mut tensors = Vec::new();
    model.graph.iter().for_each(|graph| collect_tensors(graph, &mut tensors));
    let entries = tensors.into_iter().flat_map(|t| &t.external_data).filter(|e| e.key() == "location");
    let locations: std::collections::BTreeSet<&str> = entries.map(|e| e.value()).collect();
    let beside = locations.into_iter().map(|location| path.with_file_name(location));
    Ok(std::iter::once(path.to_owned()).chain(beside).collect())
}

/// Returns [`files_of`] a model, or only the path if it is not a model: loading reports why.
pub fn files_read(path: &Path) -> Vec<PathBuf> {
    files_of(path).unwrap_or_else(|_| vec![path.to_owned()])
}

/// Collects initializers and tensor attributes, including those of inner graphs.
fn collect_tensors<'a>(graph: &'a GraphProto, tensors: &mut Vec<&'a TensorProto>) {
    tensors.extend(&graph.initializer);
    let attributes = |node: &'a NodeProto| node.attribute.iter();
    for attribute in graph.node.iter().flat_map(attributes) {
        tensors.extend(attribute.t.iter().chain(&attribute.tensors));
        attribute.g.iter().chain(&attribute.graphs).for_each(|inner| collect_tensors(inner, tensors));
    }
}

/// Returns the model in `bytes`, which must hold all of its data.
///
/// # Errors
/// As [`load`].
pub fn decode(bytes: Bytes) -> Result<Graph> {
    decode_in(bytes, None)
}

fn decode_in(bytes: Bytes, folder: Option<&Path>) -> Result<Graph> {
    let model = ModelProto::decode(bytes)
        .map_err(|e| Error::malformed("model", format!("is not an ONNX file or is cut short ({e})")))?;
    let proto =
        model.graph.as_ref().ok_or_else(|| Error::malformed("model", "holds no graph; is this an ONNX file?"))?;
    if !model.functions.is_empty() {
        return Err(Error::unsupported(
            "model",
            format!(
                "model function \"{}\"; inline the functions first (onnx.inliner.inline_local_functions)",
                model.functions[0].name()
            ),
        ));
    }
    let mut external = ExternalData::new(folder);
    let mut graph = Reader::new(header(&model, proto), &mut external).read(proto)?;
    if graph.ir_version > super::NEWEST_IR_VERSION {
        tracing::warn!("file format version {} is newer than this program supports", graph.ir_version);
    }
    graph.sort()?;
    check(&graph)?;
    clear_ambiguities(&mut graph);
    Ok(graph)
}

/// Sets a BatchNormalization with unused statistics to inference mode, and gives every node a unique name: some
/// runtimes refuse either, or compute wrong results.
fn clear_ambiguities(graph: &mut Graph) {
    let dropped = drop_unread_outputs(graph);
    if let Some(norm) = dropped.iter().map(|&index| &graph.nodes[index]).find(|node| node.is("BatchNormalization")) {
        tracing::warn!(
            "{}: has unused outputs of training mode; it is treated as inference mode, as exporters intend, although \
             ONNX Runtime would normalize by batch statistics",
            graph.describe(norm)
        );
    }
    graph.rename_duplicate_nodes();
}

fn header(model: &ModelProto, proto: &GraphProto) -> Graph {
    let mut graph = Graph::default();
    graph.name = proto.name().to_owned();
    graph.ir_version = model.ir_version();
    graph.opsets = model
        .opset_import
        .iter()
        .map(|set| OperatorSet { domain: set.domain.clone(), version: set.version() })
        .collect();
    graph.metadata = Metadata {
        producer_name: model.producer_name().to_owned(),
        producer_version: model.producer_version().to_owned(),
        domain: model.domain().to_owned(),
        model_version: model.model_version,
        doc: model.doc_string().to_owned(),
        properties: properties(&model.metadata_props),
        graph_doc: proto.doc_string().to_owned(),
        graph_properties: properties(&proto.metadata_props),
    };
    graph
}
