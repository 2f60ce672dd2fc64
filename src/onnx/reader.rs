//! Converts `GraphProto` to [`Graph`], including bodies of control-flow nodes.

use super::proto::tensor_shape_proto::dimension::Value as DimValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{
    AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use super::tensor::{ExternalData, from_proto};
use crate::error::{Error, Result};
use crate::ir::{Attr, Attrs, Body, DType, Dim, Graph, Node, ValueId, check};

/// Reads one graph.
pub(super) struct Reader<'e> {
    graph: Graph,
    external: &'e mut ExternalData,
}

impl<'e> Reader<'e> {
    /// Returns a reader that fills `graph`, which already holds the model's metadata.
    pub(super) fn new(graph: Graph, external: &'e mut ExternalData) -> Self {
        Self { graph, external }
    }

    /// Returns the graph with the contents of `proto`. Values are added in file order (inputs, initializers,
    /// value_info, outputs), so that writing keeps it. Nothing is sorted or checked.
    ///
    /// # Errors
    /// For inconsistent graphs, and for sparse or string tensors.
    pub(super) fn read(mut self, proto: &GraphProto) -> Result<Graph> {
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
        Ok(self.graph)
    }

    fn initializer(&mut self, proto: &TensorProto) -> Result<()> {
        let name = proto.name();
        let place = format!("initializer \"{name}\"");
        if name.is_empty() {
            return Err(Error::malformed("initializer", "without a name"));
        }
        let tensor = from_proto(&place, proto, self.external)?;
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
                let dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(|d| dim(d.value.as_ref())).collect());
                (DType::from_code(tensor.elem_type()), dims)
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
        // An empty name at the end says nothing; ONNX Runtime 1.31 crashes on some (LayerNormalization with the bias
        // "").
        let mut edges = |names: &[String]| -> Vec<Option<ValueId>> {
            let given = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
            let edge = |name: &String| (!name.is_empty()).then(|| self.graph.find_or_add(name));
            names[..given].iter().map(edge).collect()
        };
        let (mut inputs, outputs) = (edges(&proto.input), edges(&proto.output));
        let mut attrs = Attrs::default();
        let listed = inputs.len();
        for attribute in &proto.attribute {
            let value = match &attribute.g {
                Some(graph) if attribute.r#type() == AttributeType::Graph => {
                    Attr::from(self.body(&place, graph, &mut inputs, listed)?)
                }
                _ => self.attribute(&place, attribute)?,
            };
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

    /// Reads a graph inside a node; its captured values are appended to the node's `inputs`, of which the file lists
    /// `listed`.
    fn body(
        &mut self,
        place: &str,
        proto: &GraphProto,
        inputs: &mut Vec<Option<ValueId>>,
        listed: usize,
    ) -> Result<Body> {
        let mut empty = Graph::default();
        (empty.name, empty.ir_version) = (proto.name().to_owned(), self.graph.ir_version);
        empty.opsets.clone_from(&self.graph.opsets);
        empty.metadata.graph_doc = proto.doc_string().to_owned();
        empty.metadata.graph_properties = properties(&proto.metadata_props);
        let inside = |error| match error {
            Error::Malformed { place: inner, message } => Error::malformed(format!("{place}: {inner}"), message),
            Error::Unsupported { place: inner, message } => Error::unsupported(format!("{place}: {inner}"), message),
            other => other,
        };
        let mut graph = Reader::new(empty, self.external).read(proto).map_err(inside)?;
        let mut captures = Vec::new();
        for id in unmade(&graph) {
            let outer = Some(self.graph.find_or_add(graph.name_of(id)));
            let known = inputs.iter().skip(listed).position(|input| *input == outer);
            captures.push(listed + known.unwrap_or(inputs.len() - listed));
            if known.is_none() {
                inputs.push(outer);
            }
            graph.inputs.push(id);
        }
        graph.sort().map_err(inside)?;
        check(&graph).map_err(inside)?;
        Ok(Body { graph, captures })
    }

    fn attribute(&mut self, place: &str, proto: &AttributeProto) -> Result<Attr> {
        let name = proto.name();
        let tensors = |reader: &mut Self, protos: &[TensorProto]| {
            let one = |t: &TensorProto| from_proto(&format!("{place}, attribute \"{name}\""), t, reader.external);
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
            kind => {
                return Err(Error::unsupported(
                    place,
                    format!("attribute \"{name}\" is of kind {}", kind.as_str_name()),
                ));
            }
        })
    }
}

/// Some exporters write a negative number for an open size.
fn dim(value: Option<&DimValue>) -> Dim {
    match value {
        None => Dim::Unknown,
        Some(DimValue::DimParam(name)) if is_anonymous(name) => Dim::Unknown,
        Some(DimValue::DimParam(name)) => Dim::Symbol(name.clone()),
        Some(&DimValue::DimValue(n)) => usize::try_from(n).map_or(Dim::Unknown, Dim::Known),
    }
}

/// Returns whether a size name is meaningless: exporters without names write one name for different sizes.
fn is_anonymous(name: &str) -> bool {
    name.is_empty() || name.starts_with('?') || name.parse::<i64>().is_ok() || name.eq_ignore_ascii_case("none")
}

/// Returns the values that are read or output but have no producer in the graph.
fn unmade(graph: &Graph) -> Vec<ValueId> {
    let mut made = vec![false; graph.value_ids().count()];
    let outputs = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    graph.inputs.iter().chain(outputs).for_each(|id| made[id.index()] = true);
    let read = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&graph.outputs);
    let mut unmade: Vec<ValueId> = Vec::new();
    for &id in read {
        if graph.constant_of(id).is_none() && !std::mem::replace(&mut made[id.index()], true) {
            unmade.push(id);
        }
    }
    unmade
}

/// Returns `metadata_props` as pairs.
pub(super) fn properties(entries: &[StringStringEntryProto]) -> Vec<(String, String)> {
    entries.iter().map(|e| (e.key().to_owned(), e.value().to_owned())).collect()
}
