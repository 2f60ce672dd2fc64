//! Writing: [`Graph`] to bytes or files. Large weights go to a file of external data beside the model.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::tensor_proto::DataLocation;
use super::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use super::tensor::{header, to_proto};
use super::writer::{graph_proto, properties, text};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, Tensor, ValueId};

/// Weights above this many bytes in all are written as external data: protobuf readers in C++ stop at 2 GiB.
pub const INLINE_LIMIT: usize = 3 << 29;
/// Tensors below this many bytes stay inside the model file even when others leave it.
const EXTERNAL_MIN: usize = 1024;
/// Offsets in the external file are multiples of this, so that readers can map tensors one by one.
const ALIGNMENT: u64 = 4096;

/// The files that [`save`] wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The model.
    pub model: PathBuf,
    /// Its external data, where there is any.
    pub data: Option<PathBuf>,
    /// Bytes of both together.
    pub bytes: u64,
}

/// Returns the model as the bytes of a self-contained ONNX file.
///
/// # Errors
/// [`Error::Resources`] above 2 GiB.
pub fn encode(graph: &Graph) -> Result<Vec<u8>> {
    if constant_bytes(graph) > i32::MAX.unsigned_abs().try_into().unwrap_or(usize::MAX) {
        return Err(Error::Resources("a model above 2 GiB cannot be held in one protobuf message".to_owned()));
    }
    Ok(model(graph, to_proto).encode_to_vec())
}

/// Returns the model's bytes with every initializer of `min_bytes` or more left out, and those initializers.
///
/// The left-out ones refer to an external file of no meaning: the caller hands them to the runtime by name.
pub fn encode_split(graph: &Graph, min_bytes: usize) -> (Vec<u8>, Vec<ValueId>) {
    let leaves = |tensor: &Tensor| tensor.bytes().len() >= min_bytes;
    let mut offset = 0u64;
    let bytes = model(graph, |name, tensor| match leaves(tensor) {
        true => {
            let proto = external(name, tensor, "weights", offset);
            offset += byte_len(tensor);
            proto
        }
        false => to_proto(name, tensor),
    })
    .encode_to_vec();
    let left_out = graph.value_ids().filter(|&id| graph.constant_of(id).is_some_and(leaves));
    (bytes, left_out.collect())
}

/// Writes the model to `path`, and its weights to `path` + `.data` where they exceed `inline_limit` bytes.
///
/// # Errors
/// [`Error::Write`], with what the operating system said.
pub fn save(graph: &Graph, path: &Path, inline_limit: usize) -> Result<Saved> {
    if constant_bytes(graph) <= inline_limit {
        let bytes = encode(graph)?;
        std::fs::write(path, &bytes).map_err(Error::write(path))?;
        return Ok(Saved { model: path.to_owned(), data: None, bytes: bytes.len() as u64 });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let location = format!("{name}.data");
    let data_path = path.with_file_name(&location);
    let mut file = BufWriter::new(File::create(&data_path).map_err(Error::write(&data_path))?);
    let mut offset = 0u64;
    let mut failed = None;
    let proto = model(graph, |name, tensor| {
        if tensor.bytes().len() < EXTERNAL_MIN || failed.is_some() {
            return to_proto(name, tensor);
        }
        let start = offset.next_multiple_of(ALIGNMENT);
        let padding = vec![0u8; usize::try_from(start - offset).unwrap_or(0)];
        failed = file.write_all(&padding).and_then(|()| file.write_all(tensor.bytes())).err();
        offset = start + byte_len(tensor);
        external(name, tensor, &location, start)
    });
    let written = failed.map_or(Ok(()), Err).and_then(|()| file.flush());
    written.map_err(Error::write(&data_path))?;
    let bytes = proto.encode_to_vec();
    std::fs::write(path, &bytes).map_err(Error::write(path))?;
    Ok(Saved { model: path.to_owned(), data: Some(data_path), bytes: bytes.len() as u64 + offset })
}

/// Returns the bytes of all initializers together, those of bodies too.
pub fn constant_bytes(graph: &Graph) -> usize {
    let own: usize = graph.value_ids().filter_map(|id| graph.constant_of(id)).map(|t| t.bytes().len()).sum();
    let inner = |node: &Node| node.bodies().map(|(_, body)| constant_bytes(&body.graph)).sum::<usize>();
    own + graph.nodes.iter().map(inner).sum::<usize>()
}

fn byte_len(tensor: &Tensor) -> u64 {
    u64::try_from(tensor.bytes().len()).expect("a length in memory fits in 64 bits")
}

fn external(name: &str, tensor: &Tensor, location: &str, offset: u64) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    TensorProto {
        data_location: Some(DataLocation::External.into()),
        external_data: vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", tensor.bytes().len().to_string()),
        ],
        ..header(name, tensor)
    }
}

fn model(graph: &Graph, mut initializer: impl FnMut(&str, &Tensor) -> TensorProto) -> ModelProto {
    let meta = &graph.metadata;
    ModelProto {
        ir_version: Some(graph.ir_version),
        opset_import: graph
            .opsets
            .iter()
            .map(|set| OperatorSetIdProto { domain: set.domain.clone(), version: Some(set.version) })
            .collect(),
        producer_name: text(&meta.producer_name),
        producer_version: text(&meta.producer_version),
        domain: text(&meta.domain),
        model_version: meta.model_version,
        doc_string: text(&meta.doc),
        metadata_props: properties(&meta.properties),
        graph: Some(graph_proto(graph, &mut initializer)),
        ..ModelProto::default()
    }
}
