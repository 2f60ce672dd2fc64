//! Converts [`Graph`] to `GraphProto`, including bodies of control-flow nodes.

use std::collections::HashSet;

use super::proto::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use super::proto::{
    AttributeProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, type_proto,
};
use super::tensor::to_proto;
use crate::ir::{Attr, Body, Graph, Node, Tensor, ValueId};

/// Returns the graph of a model; `initializer` converts each of its tensors with its name. Tensors of bodies stay
/// inline.
pub(super) fn graph_proto(graph: &Graph, initializer: &mut dyn FnMut(&str, &Tensor) -> TensorProto) -> GraphProto {
    let names = graph.value_ids().map(|id| graph.name_of(id).to_owned()).collect();
    Writer { graph, names: &Names { names, around: HashSet::new() } }.graph(&graph.inputs, initializer)
}

/// The names of values in the file.
struct Names {
    /// By [`ValueId::index`].
    names: Vec<String>,
    /// Names of the outer graphs, which values of a body must not use.
    around: HashSet<String>,
}

impl Names {
    /// Returns the names of a body's values within `node` of the graph that has these names.
    fn within(&self, node: &Node, body: &Body) -> Self {
        let mut around = self.around.clone();
        around.extend(self.names.iter().cloned());
        let captured: Vec<(ValueId, usize)> = body.captured().collect();
        let mut own = HashSet::new();
        let mut name = |id: ValueId| {
            let outer = captured.iter().find(|(inner, _)| *inner == id).and_then(|&(_, input)| node.input(input));
            if let Some(outer) = outer {
                return self.names[outer.index()].clone();
            }
            let wanted = body.graph.name_of(id);
            let mut free = wanted.to_owned();
            let mut suffix = 0;
            while around.contains(&free) || !own.insert(free.clone()) {
                suffix += 1;
                free = format!("{wanted}_{suffix}");
            }
            free
        };
        let names = body.graph.value_ids().map(&mut name).collect();
        Self { names, around }
    }
}

/// A graph and the names of its values.
struct Writer<'a> {
    graph: &'a Graph,
    names: &'a Names,
}

impl Writer<'_> {
    fn graph(&self, inputs: &[ValueId], initializer: &mut dyn FnMut(&str, &Tensor) -> TensorProto) -> GraphProto {
        let (graph, meta) = (self.graph, &self.graph.metadata);
        let declared = |id: &ValueId| graph.value(*id).declared;
        let constant = |id: ValueId| {
            let value = graph.value(id);
            let mut proto = initializer(self.name(id), value.constant.as_ref()?);
            if !graph.inputs.contains(&id) {
                proto.doc_string = text(&value.doc);
            }
            Some(proto)
        };
        GraphProto {
            name: text(&graph.name),
            doc_string: text(&meta.graph_doc),
            metadata_props: properties(&meta.graph_properties),
            initializer: graph.value_ids().filter_map(constant).collect(),
            input: inputs.iter().map(|id| self.value_info(*id)).collect(),
            output: graph.outputs.iter().map(|id| self.value_info(*id)).collect(),
            value_info: graph.value_ids().filter(declared).map(|id| self.value_info(id)).collect(),
            node: graph.nodes.iter().map(|n| self.node(n)).collect(),
            ..GraphProto::default()
        }
    }

    fn name(&self, id: ValueId) -> &str {
        &self.names.names[id.index()]
    }

    fn value_info(&self, id: ValueId) -> ValueInfoProto {
        let value = self.graph.value(id);
        let dim = |d: &crate::ir::Dim| Dimension {
            value: match d {
                crate::ir::Dim::Known(n) => Some(DimValue::DimValue(i64::try_from(*n).expect("read from an i64"))),
                crate::ir::Dim::Symbol(s) => Some(DimValue::DimParam(s.clone())),
                crate::ir::Dim::Unknown => None,
            },
            ..Dimension::default()
        };
        let tensor = value.dtype.map(|dtype| type_proto::Tensor {
            elem_type: Some(dtype.code()),
            shape: value.shape.as_ref().map(|shape| TensorShapeProto { dim: shape.iter().map(dim).collect() }),
        });
        ValueInfoProto {
            name: Some(self.name(id).to_owned()),
            r#type: tensor.map(|t| TypeProto { value: Some(type_proto::Value::TensorType(t)), ..TypeProto::default() }),
            doc_string: text(&value.doc),
            ..ValueInfoProto::default()
        }
    }

    fn node(&self, node: &Node) -> NodeProto {
        // An absent one at the end is not listed; see the reader for why.
        let names = |ids: &[Option<ValueId>]| {
            let listed = ids.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            let name = |id: &Option<ValueId>| id.map_or(String::new(), |id| self.name(id).to_owned());
            ids[..listed].iter().map(name).collect()
        };
        NodeProto {
            name: text(&node.name),
            op_type: text(&node.op_type),
            domain: text(&node.domain),
            input: names(&node.inputs[..node.listed_inputs()]),
            output: names(&node.outputs),
            attribute: node.attrs.iter().map(|(name, value)| self.attribute(node, name, value)).collect(),
            doc_string: text(&node.doc),
            metadata_props: properties(&node.metadata),
            ..NodeProto::default()
        }
    }

    fn attribute(&self, node: &Node, name: &str, value: &Attr) -> AttributeProto {
        let of = |kind: AttributeType| AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(kind.into()),
            ..AttributeProto::default()
        };
        match value {
            Attr::Int(v) => AttributeProto { i: Some(*v), ..of(AttributeType::Int) },
            Attr::Float(v) => AttributeProto { f: Some(*v), ..of(AttributeType::Float) },
            Attr::String(v) => AttributeProto { s: Some(v.clone().into()), ..of(AttributeType::String) },
            Attr::Tensor(t) => AttributeProto { t: Some(to_proto("", t)), ..of(AttributeType::Tensor) },
            Attr::Ints(v) => AttributeProto { ints: v.clone(), ..of(AttributeType::Ints) },
            Attr::Floats(v) => AttributeProto { floats: v.clone(), ..of(AttributeType::Floats) },
            Attr::Strings(v) => {
                AttributeProto { strings: v.iter().map(|s| s.clone().into()).collect(), ..of(AttributeType::Strings) }
            }
            Attr::Graph(body) => AttributeProto { g: Some(self.body(node, body)), ..of(AttributeType::Graph) },
            Attr::Tensors(v) => {
                AttributeProto { tensors: v.iter().map(|t| to_proto("", t)).collect(), ..of(AttributeType::Tensors) }
            }
        }
    }

    fn body(&self, node: &Node, body: &Body) -> GraphProto {
        let names = self.names.within(node, body);
        Writer { graph: &body.graph, names: &names }
            .graph(body.formal_inputs(), &mut |name, tensor| to_proto(name, tensor))
    }
}

/// Returns a text field, omitted if empty.
pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns pairs as `metadata_props`.
pub(super) fn properties(entries: &[(String, String)]) -> Vec<StringStringEntryProto> {
    let entry =
        |(key, value): &(String, String)| StringStringEntryProto { key: Some(key.clone()), value: Some(value.clone()) };
    entries.iter().map(entry).collect()
}
