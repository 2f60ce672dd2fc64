//! Unique node names, which runtimes need although the specification does not require them.

use std::collections::{HashMap, HashSet};

use super::Graph;

/// The names in use, for new names.
pub struct NodeNames {
    taken: HashSet<String>,
    /// The last suffix of each name.
    suffixes: HashMap<String, usize>,
}

impl NodeNames {
    /// Returns the names of the nodes of `graph`.
    pub fn of(graph: &Graph) -> Self {
        let taken = graph.nodes.iter().map(|node| node.name.clone()).collect();
        Self { taken, suffixes: HashMap::new() }
    }

    /// Returns `wanted`, or `wanted_1`, `wanted_2`, … if it is taken, and reserves it.
    pub fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.taken.insert(name.clone()) {
            let suffix = self.suffixes.entry(wanted.to_owned()).or_default();
            *suffix += 1;
            name = format!("{wanted}_{suffix}");
        }
        name
    }
}

impl Graph {
    /// Renames nodes that have the name of an earlier node; returns their number. Empty names stay.
    pub fn rename_duplicate_nodes(&mut self) -> usize {
        let mut names = NodeNames::of(self);
        let mut seen: HashSet<String> = HashSet::new();
        let mut renamed = 0;
        for node in self.nodes.iter_mut().filter(|node| !node.name.is_empty()) {
            if !seen.insert(node.name.clone()) {
                node.name = names.unique(&node.name);
                renamed += 1;
            }
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Node;

    #[test]
    fn nodes_of_one_name_are_told_apart_and_no_new_name_is_that_of_another_node() {
        let mut graph = Graph::default();
        for name in ["a", "a", "", "a_1", "", "a", "b"] {
            graph.nodes.push(Node { name: name.to_owned(), ..Node::default() });
        }
        assert_eq!(graph.rename_duplicate_nodes(), 2);
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "a_2", "", "a_1", "", "a_3", "b"]);
        assert_eq!(graph.rename_duplicate_nodes(), 0);
    }
}
