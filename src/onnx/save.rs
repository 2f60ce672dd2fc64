//! Writes [`Graph`] to bytes or files. Large weights go to an external data file beside the model.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::draft::data_name;
use super::proto::tensor_proto::DataLocation;
use super::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use super::tensor::{header, to_proto};
use super::writer::{graph_proto, properties, text};
use crate::digest::Hashed;
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, Tensor, ValueId};

/// Weights above this many bytes in all are written as external data: protobuf readers in C++ stop at 2 GiB.
pub const INLINE_LIMIT: usize = 3 << 29;
/// Tensors below this many bytes stay in the model file even with external data.
const EXTERNAL_MIN: usize = 1024;
/// Offsets in the external file are multiples of this, so that readers can map tensors one by one.
const ALIGNMENT: u64 = 4096;

/// The files that [`save`] wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The model.
    pub model: PathBuf,
    /// Its external data, if any.
    pub data: Option<PathBuf>,
    /// Bytes of both.
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
/// These refer to a placeholder external file: the caller passes them to the runtime by name.
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

/// Writes the model to `path`, and its weights to a file beside it where they exceed `inline_limit` bytes: `path`, 16
/// digits of the sha256 of what it holds, and `.data`. Both are flushed to the disk.
///
/// # Errors
/// [`Error::Write`], with the message of the operating system.
pub fn save(graph: &Graph, path: &Path, inline_limit: usize) -> Result<Saved> {
    if constant_bytes(graph) <= inline_limit {
        let bytes = write_whole(path, &encode(graph)?)?;
        return Ok(Saved { model: path.to_owned(), data: None, bytes });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unnamed = path.with_file_name(format!("{name}.data"));
    let Weights { starts, sha256, bytes } = write_weights(graph, &unnamed).map_err(Error::write(&unnamed))?;
    let location = data_name(&name, &sha256);
    let data = path.with_file_name(&location);
    std::fs::rename(&unnamed, &data).map_err(Error::write(&data))?;
    let mut starts = starts.into_iter();
    let proto = model(graph, |name, tensor| match is_external(tensor).then(|| starts.next()).flatten() {
        Some(start) => external(name, tensor, &location, start),
        None => to_proto(name, tensor),
    });
    let bytes = bytes + write_whole(path, &proto.encode_to_vec())?;
    Ok(Saved { model: path.to_owned(), data: Some(data), bytes })
}

/// A file of external data.
struct Weights {
    /// The offset of each tensor, in the order of the model.
    starts: Vec<u64>,
    sha256: String,
    bytes: u64,
}

fn write_weights(graph: &Graph, path: &Path) -> io::Result<Weights> {
    let file = File::create(path)?;
    let mut hashed = Hashed::new(BufWriter::new(&file));
    let (mut starts, mut offset, mut failed) = (Vec::new(), 0u64, None);
    // The model is made for the order of its tensors alone.
    model(graph, |name, tensor| {
        if is_external(tensor) && failed.is_none() {
            let start = offset.next_multiple_of(ALIGNMENT);
            let padding = vec![0u8; usize::try_from(start - offset).unwrap_or(0)];
            failed = hashed.write_all(&padding).and_then(|()| hashed.write_all(tensor.bytes())).err();
            offset = start + byte_len(tensor);
            starts.push(start);
        }
        header(name, tensor)
    });
    failed.map_or(Ok(()), Err).and_then(|()| hashed.flush())?;
    file.sync_all()?;
    Ok(Weights { starts, sha256: hashed.sha256(), bytes: offset })
}

fn is_external(tensor: &Tensor) -> bool {
    tensor.bytes().len() >= EXTERNAL_MIN
}

/// Returns the number of written bytes.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<u64> {
    let written = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(Error::write(path))?;
    Ok(u64::try_from(bytes.len()).expect("a length in memory fits in 64 bits"))
}

/// Returns the bytes of all initializers, including those of bodies.
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
