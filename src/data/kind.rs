//! The kind of a model's input (image, token ids, mask, recurrent state, features), from its use in the graph, its
//! type, shape and name.

use serde::{Serialize, Serializer};

use crate::ir::{DType, Dim, Graph, Node, Tensor, ValueId, front_axis};

/// The most channels of an image with channels last.
pub const MOST_COLOURS: usize = 4;
/// Operators that pass on the values of their first input.
const PASS_THROUGH: &[&str] =
    &["Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"];
/// Recurrent operators and their inputs that are states.
const RECURRENT: (&[&str], [usize; 2]) = (&["LSTM", "GRU", "RNN"], [5, 6]);
/// Words in which the name of a state differs from that of the next state.
const DIRECTIONS: &[&str] = &["in", "out", "past", "present", "prev", "previous", "next", "new", "n", "cache"];

/// The kind of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Images, or other tensors of rank 4.
    Image {
        /// Whether channels come last.
        channels_last: bool,
    },
    /// Integers that pick rows of a table.
    TokenIds {
        /// Rows of the smallest such table.
        vocabulary: u32,
    },
    /// Height and width of the images beside it.
    Size,
    /// Factors by which the images beside it were resized.
    Factor,
    /// One integer that the graph compares with constants, as a sampling rate that decides between branches.
    Setting {
        /// The first of these constants.
        value: u16,
    },
    /// Integers or booleans, zeros and ones: which elements count.
    Mask,
    /// A state that the network returned in the previous call; zeros at first.
    State,
    /// Any other floats: features, sound, sequences of vectors.
    Features,
}

impl InputKind {
    /// Returns its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image { .. } => "image",
            Self::TokenIds { .. } => "token ids",
            Self::Size => "size of images",
            Self::Factor => "resize factor",
            Self::Setting { .. } => "setting",
            Self::Mask => "mask",
            Self::State => "recurrent state",
            Self::Features => "features",
        }
    }
}

impl Serialize for InputKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name().replace(' ', "_"))
    }
}

/// Returns the channel axis of images of this shape; `None` for ranks other than 4.
pub fn image_channels(dims: &[Dim]) -> Option<usize> {
    let [_, first, _, last] = dims else { return None };
    let colours = |dim: &Dim| dim.known().is_some_and(|n| n <= MOST_COLOURS);
    Some(if colours(last) && !colours(first) { 3 } else { 1 })
}

/// Returns the kind of input `id` of `graph`.
pub fn input_kind(graph: &Graph, id: ValueId) -> InputKind {
    if is_image(graph, id) {
        return InputKind::Image { channels_last: image_channels(shape_of(graph, id)) == Some(3) };
    }
    let dtype = dtype_of(graph, id);
    let has_image = image_beside(graph).is_some();
    let name = graph.name_of(id).to_lowercase();
    let named = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let is_pair = shape_of(graph, id).last().and_then(Dim::known) == Some(2);
    match rows_picked(graph, id) {
        Some(vocabulary) if !dtype.is_float() => InputKind::TokenIds { vocabulary },
        _ if has_image && is_pair && named(&["scale_factor"]) => InputKind::Factor,
        _ if has_image && is_pair && named(&["size", "shape"]) => InputKind::Size,
        _ if !dtype.is_float() => {
            compared_with(graph, id).map_or(InputKind::Mask, |value| InputKind::Setting { value })
        }
        _ if is_state(graph, id) => InputKind::State,
        _ => InputKind::Features,
    }
}

/// Returns the first input of `graph` that is an image.
pub(super) fn image_beside(graph: &Graph) -> Option<ValueId> {
    graph.fed_inputs().into_iter().find(|&id| is_image(graph, id))
}

fn is_image(graph: &Graph, id: ValueId) -> bool {
    let dtype = dtype_of(graph, id);
    let is_numbers = dtype.is_float() || dtype == DType::U8;
    is_numbers && image_channels(shape_of(graph, id)).is_some() && !is_state(graph, id)
}

fn dtype_of(graph: &Graph, id: ValueId) -> DType {
    graph.value(id).dtype.unwrap_or(DType::F32)
}

fn shape_of(graph: &Graph, id: ValueId) -> &[Dim] {
    graph.value(id).shape.as_deref().unwrap_or_default()
}

/// Returns every node that reads `start`, directly or through operators that pass values on, with the value that it
/// reads.
fn readers(graph: &Graph, start: ValueId) -> Vec<(&Node, ValueId)> {
    let (mut waiting, mut seen, mut found) = (vec![start], vec![start], Vec::new());
    while let Some(id) = waiting.pop() {
        for node in graph.nodes.iter().filter(|node| node.inputs.contains(&Some(id))) {
            found.push((node, id));
            let is_handed_on = PASS_THROUGH.iter().any(|op| node.is(op)) && node.input(0) == Some(id);
            if let Some(next) = node.output(0).filter(|next| is_handed_on && !seen.contains(next)) {
                seen.push(next);
                waiting.push(next);
            }
        }
    }
    found
}

/// Returns the rows of the smallest constant table that `id` indexes, by Gather or as one-hot vectors.
fn rows_picked(graph: &Graph, id: ValueId) -> Option<u32> {
    let rows = |(node, read): (&Node, ValueId)| -> Option<usize> {
        match node.op_type.as_str() {
            "Gather" if node.input(1) == Some(read) => {
                let shape = graph.constant_of(node.input(0)?)?.shape();
                shape.get(front_axis(node.attrs.int("axis", 0), shape.len())?).copied()
            }
            "OneHot" if node.input(0) == Some(read) => {
                let depth = graph.constant_of(node.input(1)?)?.to_i64().ok()?;
                depth.first().and_then(|&depth| usize::try_from(depth).ok())
            }
            "Equal" => {
                let other = node.inputs.iter().flatten().find(|&&other| other != read)?;
                counted(graph.constant_of(*other)?)
            }
            _ => None,
        }
    };
    let found = readers(graph, id).into_iter().filter_map(rows);
    found.filter_map(|n| u32::try_from(n).ok()).filter(|&n| n > 0).min()
}

/// Returns the first constant, beside the 0 and 1 of masks, that the single integer `id` is compared with, if any.
fn compared_with(graph: &Graph, id: ValueId) -> Option<u16> {
    let dims = graph.value(id).shape.as_ref()?;
    dims.iter().all(|dim| dim.known() == Some(1)).then_some(())?;
    let constant = |(node, read): (&Node, ValueId)| -> Option<u16> {
        let other = node.inputs.iter().flatten().find(|&&other| node.is("Equal") && other != read)?;
        match graph.constant_of(*other)?.to_i64().ok()?.as_slice() {
            &[value] => u16::try_from(value).ok().filter(|&value| value > 1),
            _ => None,
        }
    };
    readers(graph, id).into_iter().find_map(constant)
}

/// Returns the length of a tensor that counts 0, 1, 2 and so on, as one-hot encodings use; `None` for other tensors.
fn counted(tensor: &Tensor) -> Option<usize> {
    let values = tensor.to_i64().ok().filter(|values| values.len() > 1)?;
    let is_count = values.iter().zip(0i64..).all(|(&value, i)| value == i);
    is_count.then_some(values.len())
}

/// Returns whether an input is the state of a recurrent operator, or one of several inputs whose shape and name match
/// an output (`h` and `hn`, `state_in` and `state_out`, `past.0` and `present.0`).
fn is_state(graph: &Graph, id: ValueId) -> bool {
    let (operators, slots) = RECURRENT;
    let is_slot = |(node, read): (&Node, ValueId)| {
        operators.iter().any(|op| node.is(op)) && slots.iter().any(|&slot| node.input(slot) == Some(read))
    };
    if readers(graph, id).into_iter().any(is_slot) {
        return true;
    }
    let follows = |id: ValueId| {
        let rank = shape_of(graph, id).len();
        graph.outputs.iter().any(|&output| {
            let same_rank = rank > 0 && graph.value(output).shape.as_ref().is_none_or(|shape| shape.len() == rank);
            same_rank && dtype_of(graph, output).is_float() && is_next(graph.name_of(id), graph.name_of(output))
        })
    };
    follows(id) && graph.fed_inputs().into_iter().any(|other| !follows(other))
}

/// Returns whether an output of this name is the next state of an input.
fn is_next(input: &str, output: &str) -> bool {
    let words = |name: &str| -> Vec<String> {
        let words = name.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        words.filter(|word| !word.is_empty() && !DIRECTIONS.contains(&word.as_str())).collect()
    };
    let (before, behind) = (words(input), words(output));
    let with_n = || output.to_lowercase() == format!("{}n", input.to_lowercase());
    input != output && (!before.is_empty() && before == behind || with_n())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attr, Attrs};

    /// A graph whose inputs are `name, type, shape`.
    fn graph(inputs: &[(&str, DType, &[usize])]) -> Graph {
        let mut graph = Graph::default();
        for (name, dtype, shape) in inputs {
            let id = value(&mut graph, name, *dtype, shape);
            graph.inputs.push(id);
        }
        graph
    }

    fn value(graph: &mut Graph, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let id = graph.add_value(name);
        graph.value_mut(id).dtype = Some(dtype);
        graph.value_mut(id).shape = Some(shape.iter().map(|&n| Dim::Known(n)).collect());
        id
    }

    /// Returns `graph` with float outputs `name, shape`.
    fn returning(mut graph: Graph, outputs: &[(&str, &[usize])]) -> Graph {
        for (name, shape) in outputs {
            let id = value(&mut graph, name, DType::F32, shape);
            graph.outputs.push(id);
        }
        graph
    }

    fn one_hot(op: &str) -> Graph {
        let mut graph = graph(&[("bytes", DType::I32, &[1, 8])]);
        let bytes = graph.inputs[0];
        let [row, equal] = ["row", "equal"].map(|name| graph.add_value(name));
        let constant = match op {
            "Equal" => Tensor::from_i64(&[1, 1, 5], &[0, 1, 2, 3, 4]),
            _ => Tensor::from_i64(&[], &[5]),
        };
        let constant = graph.add_constant("depth", constant);
        graph.nodes.push(Node::new("Expand", [bytes], [row], Attrs::default()));
        graph.nodes.push(Node::new(op, [row, constant], [equal], Attrs::default()));
        graph
    }

    fn compared(shape: &[usize]) -> Graph {
        let mut graph = graph(&[("rate", DType::I64, shape)]);
        let (rate, equal) = (graph.inputs[0], graph.add_value("equal"));
        let constant = graph.add_constant("high", Tensor::from_i64(&[], &[16000]));
        graph.nodes.push(Node::new("Equal", [constant, rate], [equal], Attrs::default()));
        graph
    }

    fn recurrent() -> Graph {
        let mut graph = graph(&[("x", DType::F32, &[7, 1, 9]), ("start", DType::F32, &[1, 1, 4])]);
        let (x, start) = (graph.inputs[0], graph.inputs[1]);
        let y = graph.add_value("y");
        let mut node = Node::new("GRU", [x], [y], Attrs::default());
        node.inputs.extend([None, None, None, None, Some(start)]);
        graph.nodes.push(node);
        graph
    }

    #[test]
    fn inputs_are_what_their_shape_type_name_and_use_tell() {
        let image = ("image", DType::F32, &[1usize, 3, 20, 30][..]);
        let mut words = graph(&[("ids", DType::I64, &[1, 8]), ("mask", DType::I64, &[1, 8])]);
        let ids = words.inputs[0];
        let table = words.add_constant("table", Tensor::from_f32(&[7, 50], &[0.0; 350]));
        let [cast, rows] = ["cast", "rows"].map(|name| words.add_value(name));
        words.nodes.push(Node::new("Cast", [ids], [cast], [("to", Attr::Int(6))]));
        words.nodes.push(Node::new("Gather", [table, cast], [rows], Attrs::default()));
        let state = graph(&[("x", DType::F32, &[1, 9]), ("state", DType::F32, &[2, 1, 8])]);
        let next: &[(&str, &[usize])] = &[("y", &[1, 1]), ("stateN", &[2, 1, 8])];
        let alone = returning(graph(&[("audio_in", DType::F32, &[1, 9])]), &[("audio_out", &[1, 9])]);
        let past = returning(
            graph(&[("past.0.key", DType::F32, &[1, 2, 4, 8]), ("x", DType::F32, &[1, 4])]),
            &[("present.0.key", &[1, 2, 4, 8])],
        );
        let ids = |vocabulary| InputKind::TokenIds { vocabulary };
        let cases = [
            ("image", graph(&[image]), 0, InputKind::Image { channels_last: false }),
            ("bytes", graph(&[("x", DType::U8, &[1, 20, 30, 3])]), 0, InputKind::Image { channels_last: true }),
            ("token ids", words.clone(), 0, ids(7)),
            ("ids compared with a count", one_hot("Equal"), 0, ids(5)),
            ("ids as one-hot vectors", one_hot("OneHot"), 0, ids(5)),
            ("mask", words, 1, InputKind::Mask),
            ("setting", compared(&[]), 0, InputKind::Setting { value: 16000 }),
            ("setting of one element", compared(&[1]), 0, InputKind::Setting { value: 16000 }),
            ("mask that is compared", compared(&[1, 8]), 0, InputKind::Mask),
            ("size", graph(&[("orig_size", DType::I64, &[1, 2]), image]), 0, InputKind::Size),
            ("shape", graph(&[image, ("im_shape", DType::F32, &[1, 2])]), 1, InputKind::Size),
            ("factor", graph(&[image, ("scale_factor", DType::F32, &[1, 2])]), 1, InputKind::Factor),
            ("features", graph(&[("x", DType::F32, &[1, 9])]), 0, InputKind::Features),
            ("features beside", graph(&[image, ("x", DType::F32, &[1, 9])]), 1, InputKind::Features),
            ("state of a recurrent operator", recurrent(), 1, InputKind::State),
            ("features of a recurrent operator", recurrent(), 0, InputKind::Features),
            ("state by name", returning(state.clone(), next), 1, InputKind::State),
            ("features beside a state", returning(state, next), 0, InputKind::Features),
            ("past of attention", past, 0, InputKind::State),
            ("a single input is no state", alone, 0, InputKind::Features),
        ];
        let mut failed = Vec::new();
        for (name, graph, input, expected) in cases {
            let found = input_kind(&graph, graph.inputs[input]);
            if found != expected {
                failed.push(format!("{name}: {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
