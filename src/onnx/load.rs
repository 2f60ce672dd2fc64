//! Reading: file to [`Graph`]; refuses what the toolchain could not carry through unchanged.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::foreign::refusal;
use super::optional_outputs::drop_unread_outputs;
use super::proto::tensor_shape_proto::dimension::Value as DimValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use super::tensor::{ExternalData, from_proto, map_file};
use crate::error::{Error, Result};
use crate::ir::{Attr, Attrs, DType, Dim, Graph, Metadata, Node, OperatorSet, ValueId, check};

/// Returns the model in the file at `path`; weights stay mapped.
///
/// # Errors
/// Files that cannot be read, are no ONNX models, contradict themselves, or hold subgraphs, functions, sparse or
/// string tensors.
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

/// Returns the model file at `path` and the files that it keeps data in.
///
/// # Errors
/// As [`load`].
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let model = ModelProto::decode(map_file(path)?).map_err(|e| Error::malformed("model", e.to_string()))?;
    let graph = || model.graph.iter();
    let attributes = graph().flat_map(|g| &g.node).flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    let tensors = graph().flat_map(|g| &g.initializer).chain(attributes);
    let entries = tensors.flat_map(|t| &t.external_data).filter(|e| e.key() == "location");
    let locations: std::collections::BTreeSet<&str> = entries.map(|e| e.value()).collect();
    let beside = locations.into_iter().map(|location| path.with_file_name(location));
    Ok(std::iter::once(path.to_owned()).chain(beside).collect())
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
    let mut reader = Reader { graph: header(&model, proto), external: ExternalData::new(folder) };
    reader.read(proto)?;
    let mut graph = reader.graph;
    if graph.ir_version > super::NEWEST_IR_VERSION {
        tracing::warn!("file format version {} is newer than this program knows", graph.ir_version);
    }
    graph.sort()?;
    check(&graph)?;
    clear_ambiguities(&mut graph);
    Ok(graph)
}

/// Takes a BatchNormalization whose statistics nobody reads for one in inference mode, and gives every node a name of its
/// own: some runtimes refuse either, or compute something else.
fn clear_ambiguities(graph: &mut Graph) {
    let dropped = drop_unread_outputs(graph);
    if let Some(norm) = dropped.iter().map(|&index| &graph.nodes[index]).find(|node| node.is("BatchNormalization")) {
        tracing::warn!(
            "{}: names outputs of training mode that nobody reads; it is taken for inference mode, as exporters mean it, \
             where ONNX Runtime normalizes by each batch's own statistics",
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

fn properties(entries: &[StringStringEntryProto]) -> Vec<(String, String)> {
    entries.iter().map(|e| (e.key().to_owned(), e.value().to_owned())).collect()
}

struct Reader {
    graph: Graph,
    external: ExternalData,
}

impl Reader {
    /// Values come to be in file order (inputs, initializers, value_info, outputs), so that writing keeps it.
    fn read(&mut self, proto: &GraphProto) -> Result<()> {
        if let Some(sparse) = proto.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", TensorProto::name);
            return Err(Error::unsupported(format!("initializer \"{name}\""), "sparse tensors are not handled"));
        }
        for info in &proto.input {
            let id = self.declare(info)?;
            if self.graph.inputs.contains(&id) {
                return Err(Error::malformed(format!("input \"{}\"", info.name()), "is declared twice"));
            }
            self.graph.inputs.push(id);
        }
        for tensor in &proto.initializer {
            self.initializer(tensor)?;
        }
        for info in &proto.value_info {
            let id = self.declare(info)?;
            self.graph.value_mut(id).declared = true;
        }
        for info in &proto.output {
            let id = self.declare(info)?;
            self.graph.outputs.push(id);
        }
        if proto.output.is_empty() {
            return Err(Error::malformed(format!("graph \"{}\"", proto.name()), "has no output"));
        }
        for node in &proto.node {
            let node = self.node(node)?;
            self.graph.nodes.push(node);
        }
        Ok(())
    }

    fn initializer(&mut self, proto: &TensorProto) -> Result<()> {
        let name = proto.name();
        let place = format!("initializer \"{name}\"");
        if name.is_empty() {
            return Err(Error::malformed("initializer", "without a name"));
        }
        let tensor = from_proto(&place, proto, &mut self.external)?;
        let id = self.graph.find_or_add(name);
        let value = self.graph.value_mut(id);
        if value.constant.is_some() {
            return Err(Error::malformed(place, "is defined twice"));
        }
        value.dtype = Some(tensor.dtype());
        value.constant = Some(tensor);
        if !proto.doc_string().is_empty() {
            value.doc = proto.doc_string().to_owned();
        }
        Ok(())
    }

    fn declare(&mut self, info: &ValueInfoProto) -> Result<ValueId> {
        let name = info.name();
        if name.is_empty() {
            return Err(Error::malformed("graph", "declares a value without a name"));
        }
        let place = format!("tensor \"{name}\"");
        let (dtype, shape) = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            None => (None, None),
            Some(TypeValue::TensorType(tensor)) => {
                if tensor.elem_type() == 8 {
                    return Err(Error::unsupported(place, "string tensors are not handled"));
                }
                let dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(|d| dim(&place, d.value.as_ref())).collect());
                (DType::from_code(tensor.elem_type()), dims.transpose()?)
            }
            Some(_) => {
                return Err(Error::unsupported(
                    place,
                    "is a sequence, map, optional or sparse tensor; only dense tensors are handled",
                ));
            }
        };
        let id = self.graph.find_or_add(name);
        let value = self.graph.value_mut(id);
        value.dtype = dtype.or(value.dtype);
        value.shape = shape.or(value.shape.take());
        value.doc = info.doc_string().to_owned();
        Ok(id)
    }

    fn node(&mut self, proto: &NodeProto) -> Result<Node> {
        let place = format!("node \"{}\" ({})", proto.name(), proto.op_type());
        // An empty name at the end says nothing; ONNX Runtime 1.31 crashes on some (LayerNormalization with the bias "").
        let mut edges = |names: &[String]| -> Vec<Option<ValueId>> {
            let given = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
            let edge = |name: &String| (!name.is_empty()).then(|| self.graph.find_or_add(name));
            names[..given].iter().map(edge).collect()
        };
        let (inputs, outputs) = (edges(&proto.input), edges(&proto.output));
        let mut attrs = Attrs::default();
        for attribute in &proto.attribute {
            let value = self.attribute(&place, attribute)?;
            attrs.set(attribute.name(), value);
        }
        Ok(Node {
            name: proto.name().to_owned(),
            op_type: proto.op_type().to_owned(),
            domain: match proto.domain() {
                "ai.onnx" => String::new(),
                domain => domain.to_owned(),
            },
            inputs,
            outputs,
            attrs,
            doc: proto.doc_string().to_owned(),
            metadata: properties(&proto.metadata_props),
        })
    }

    fn attribute(&mut self, place: &str, proto: &AttributeProto) -> Result<Attr> {
        let name = proto.name();
        let tensors = |reader: &mut Self, protos: &[TensorProto]| {
            let one = |t: &TensorProto| from_proto(&format!("{place}, attribute \"{name}\""), t, &mut reader.external);
            protos.iter().map(one).collect::<Result<Vec<_>>>()
        };
        Ok(match proto.r#type() {
            AttributeType::Int => Attr::Int(proto.i()),
            AttributeType::Float => Attr::Float(proto.f()),
            AttributeType::String => Attr::String(proto.s().to_vec()),
            AttributeType::Ints => Attr::Ints(proto.ints.clone()),
            AttributeType::Floats => Attr::Floats(proto.floats.clone()),
            AttributeType::Strings => Attr::Strings(proto.strings.iter().map(|s| s.to_vec()).collect()),
            AttributeType::Tensors => Attr::Tensors(tensors(self, &proto.tensors)?),
            AttributeType::Tensor => {
                let mut one = tensors(self, proto.t.as_slice())?;
                let missing = || Error::malformed(place, format!("attribute \"{name}\" names a tensor and holds none"));
                Attr::Tensor(one.pop().ok_or_else(missing)?)
            }
            AttributeType::Graph | AttributeType::Graphs => {
                return Err(Error::unsupported(
                    place,
                    format!(
                        "subgraph in attribute \"{name}\"; If, Loop and Scan are not handled, export the model without control flow"
                    ),
                ));
            }
            kind => {
                return Err(Error::unsupported(
                    place,
                    format!("attribute \"{name}\" is of kind {}", kind.as_str_name()),
                ));
            }
        })
    }
}

fn dim(place: &str, value: Option<&DimValue>) -> Result<Dim> {
    Ok(match value {
        None => Dim::Unknown,
        Some(DimValue::DimParam(name)) if name.is_empty() => Dim::Unknown,
        Some(DimValue::DimParam(name)) => Dim::Symbol(name.clone()),
        Some(&DimValue::DimValue(n)) => {
            Dim::Known(usize::try_from(n).map_err(|_| Error::malformed(place, format!("declares a dimension of {n}")))?)
        }
    })
}
