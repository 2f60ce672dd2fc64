//! The known properties of each input of a model, and their certainty.

use serde::Serialize;

use super::{InputSource, InputStatistics, is_network_input};
use crate::data::{InputKind, input_kind};
use crate::ir::{DType, Graph, ValueId};

/// The known properties of one input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnownInput {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: InputKind,
    /// Its smallest and largest value, if known or assumed.
    pub range: Option<[f64; 2]>,
    /// The source of the range.
    pub source: InputSource,
    /// Whether ranges of later tensors depend on a guess: of its range, or of the frequencies of ids.
    pub is_guess: bool,
}

/// Returns the known properties of every fed input of `graph`; `statistics` are those of images and features.
pub fn known_inputs(graph: &Graph, statistics: &InputStatistics) -> Vec<KnownInput> {
    graph.fed_inputs().into_iter().map(|id| known_input(graph, id, statistics)).collect()
}

fn known_input(graph: &Graph, id: ValueId, statistics: &InputStatistics) -> KnownInput {
    let kind = input_kind(graph, id);
    let (range, source) = match kind {
        InputKind::TokenIds { vocabulary } => (Some([0.0, f64::from(vocabulary) - 1.0]), InputSource::Graph),
        InputKind::Setting { value } => (Some([f64::from(value); 2]), InputSource::Graph),
        InputKind::Mask => (Some([0.0, 1.0]), InputSource::Graph),
        InputKind::Size | InputKind::Factor => (None, InputSource::Graph),
        InputKind::Image { .. } if graph.value(id).dtype == Some(DType::U8) => (Some([0.0, 255.0]), InputSource::Bytes),
        InputKind::Image { .. } | InputKind::Features | InputKind::State => {
            // Inputs that were handed over are handed over for every input.
            let is_told = is_network_input(graph, id) || statistics.source == InputSource::Data;
            let range = is_network_input(graph, id).then_some([statistics.lo, statistics.hi]);
            (range, if is_told { statistics.source } else { InputSource::Assumed })
        }
    };
    let is_told = statistics.source == InputSource::Data;
    let is_open = matches!(kind, InputKind::TokenIds { .. } | InputKind::Setting { .. });
    let is_guess = source.is_guess() || is_open && !is_told;
    KnownInput { name: graph.name_of(id).to_owned(), kind, range, source, is_guess }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attrs, Dim, Node, Tensor};

    #[test]
    fn statistics_tell_of_images_and_features_alone() {
        let mut graph = Graph::default();
        let inputs: [(&str, DType, &[usize]); 5] = [
            ("ids", DType::I64, &[1, 8]),
            ("mask", DType::Bool, &[1, 8]),
            ("sound", DType::F32, &[1, 64]),
            ("state", DType::F32, &[1, 16]),
            ("bytes", DType::U8, &[1, 3, 8, 8]),
        ];
        for (name, dtype, shape) in inputs {
            let id = graph.add_value(name);
            graph.value_mut(id).dtype = Some(dtype);
            graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
            graph.inputs.push(id);
        }
        let table = graph.add_constant("table", Tensor::from_f32(&[7, 2], &[0.0; 14]));
        let rows = graph.add_value("rows");
        graph.nodes.push(Node::new("Gather", [table, graph.inputs[0]], [rows], Attrs::default()));
        let next = graph.add_value("state_out");
        graph.value_mut(next).dtype = Some(DType::F32);
        graph.outputs.push(next);
        let sources = |graph: &Graph, statistics: &InputStatistics| -> Vec<(String, InputSource)> {
            known_inputs(graph, statistics).into_iter().map(|known| (known.name, known.source)).collect()
        };
        let mut failed = Vec::new();
        let mut expect = |found: Vec<(String, InputSource)>, expected: [InputSource; 4]| {
            for ((name, source), expected) in found.into_iter().zip(expected) {
                if source != expected {
                    failed.push(format!("{name}: {source:?}, expected {expected:?}"));
                }
            }
        };
        use InputSource::{Assumed, Bytes, Data, Given, Graph as Told};
        let given = InputStatistics::of_interval(-1.0, 1.0);
        let of_data = InputStatistics { source: Data, ..given.clone() };
        let with_bytes = |source| InputStatistics { source, ..given.clone() };
        // Beside an image, features are not what statistics describe.
        expect(sources(&graph, &with_bytes(Bytes)), [Told, Told, Assumed, Assumed]);
        graph.inputs.pop();
        expect(sources(&graph, &InputStatistics::assumed()), [Told, Told, Assumed, Assumed]);
        expect(sources(&graph, &with_bytes(Given)), [Told, Told, Given, Assumed]);
        expect(sources(&graph, &of_data), [Told, Told, Data, Data]);
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
