//! The operators of the default domain and the opsets of their versions.

use super::NEWEST;
use crate::error::Error;
use crate::ir::{Graph, Node, nearest_names};

/// One operator a line with the versions of its schema, as `onnx.defs` of ONNX 1.23 lists them up to opset 24.
const HISTORY: &str = include_str!("history.txt");

/// Substrings of the names of TensorRT's plugins, which its exporters put into the default domain.
const PLUGINS: &[&str] = &["TRT", "Plugin"];

/// Returns each operator with the versions of its schema.
pub(super) fn operators() -> impl Iterator<Item = (&'static str, impl Iterator<Item = i64>)> {
    HISTORY.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.filter_map(|version| version.parse().ok())))
    })
}

/// Returns whether a node names an operator of the default domain that no opset has; TensorRT's plugins and operators
/// that may be newer than opset 24 do not count.
pub fn is_misspelt(node: &Node, opset: i64) -> bool {
    let op = node.op_type.as_str();
    let is_plugin = || PLUGINS.iter().any(|part| op.contains(part));
    node.domain.is_empty() && opset <= NEWEST && !is_plugin() && operators().all(|known| known.0 != op)
}

/// Returns the error for a node whose operator the default domain lacks: it is misspelled, or belongs to another
/// domain.
pub fn misspelt(graph: &Graph) -> Option<Error> {
    let node = graph.nodes.iter().find(|node| is_misspelt(node, graph.opset()))?;
    let nearest = nearest_names(&node.op_type, operators().map(|known| known.0));
    let message = format!(
        "ONNX has no operator of this name; the nearest are {nearest}; an operator of your own needs a domain of its own"
    );
    Some(Error::unsupported(graph.describe(node), message))
}

/// Returns the error for the first node whose operator is newer than the opset of `graph`.
pub fn too_new(graph: &Graph) -> Option<Error> {
    let opset = graph.opset();
    let first_version = |node: &Node| operators().find(|known| known.0 == node.op_type)?.1.min();
    let found = graph.nodes.iter().filter(|node| node.domain.is_empty());
    let (node, first) =
        found.filter_map(|node| Some((node, first_version(node)?))).find(|(_, first)| *first > opset)?;
    let message = format!(
        "is an operator of opset {first} and later, and the model is of opset {opset}; export the model again at opset \
         {first} or later"
    );
    Some(Error::unsupported(graph.describe(node), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(op: &str, domain: &str, opset: i64) -> Graph {
        let mut graph = Graph::default();
        graph.set_opset(opset);
        let [x, y] = ["x", "y"].map(|name| graph.add_value(name));
        let node = Node { name: "n".to_owned(), domain: domain.to_owned(), ..Node::new(op, [x], [y], []) };
        graph.nodes.push(node);
        graph
    }

    #[test]
    fn operators_that_do_not_exist_are_named_with_their_node() {
        let cases = [
            ("Reluu", "", 17, "node \"n\" (Reluu): ONNX has no operator of this name; the nearest are \"Relu\""),
            ("Conv2d", "", 17, "node \"n\" (Conv2d): ONNX has no operator of this name"),
            ("Relu", "", 17, ""),
            ("Reluu", "com.example", 17, ""),
            ("EfficientNMS_TRT", "", 17, ""),
            ("Novel", "", 25, ""),
        ];
        let mut wrong = Vec::new();
        for (op, domain, opset, says) in cases {
            let found = misspelt(&graph(op, domain, opset)).map_or(String::new(), |error| error.to_string());
            if !found.contains(says) || found.is_empty() != says.is_empty() {
                wrong.push(format!("{op}: {found}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn operators_of_a_later_opset_are_named_with_both() {
        let found = too_new(&graph("Gelu", "", 17)).unwrap().to_string();
        assert!(
            found.contains("(Gelu): is an operator of opset 20 and later") && found.contains("opset 17"),
            "{found}"
        );
        assert!(too_new(&graph("Gelu", "", 20)).is_none());
    }
}
