//! The order of the refit: segments of the network between tensors on every path, and within each the layers by depth.

use std::collections::HashMap;

use crate::ir::{Graph, ValueId};
use crate::plan::Plan;
use crate::train::cuts;

/// The most values of a tensor between two segments: larger ones are no place to cut, as they are kept for all samples.
const LARGEST: usize = 1 << 20;

/// A part of the network that is entered and left by one tensor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The tensor that the next segment starts from; none for the last one.
    pub end: Option<String>,
    /// Places in [`Plan::layers`]: those of one level depend on layers of lower levels alone.
    pub levels: Vec<Vec<usize>>,
}

/// Returns the segments that hold layers to refit, in order; empty where there are none. A layer is refitted where it
/// alone reads its weight.
pub(super) fn segments(float: &Graph, plan: &Plan) -> Vec<Segment> {
    let readers = |weight| plan.layers.iter().filter(|other| other.weight == Some(weight)).count();
    let alone = |weight| plan.weight_only.iter().all(|other| other.weight != weight) && readers(weight) == 1;
    let layers = plan.layers.iter().enumerate().filter(|(_, layer)| layer.weight.is_some_and(alone));
    let layers: HashMap<ValueId, usize> =
        layers.filter_map(|(place, layer)| Some((float.find(&layer.output)?, place))).collect();
    let size = |tensor: ValueId| float.value(tensor).sample_len();
    let mut ends: Vec<(usize, Option<String>)> = cuts(float, None)
        .into_iter()
        .filter(|cut| size(cut.tensor) <= LARGEST)
        .map(|cut| (cut.place, Some(float.name_of(cut.tensor).to_owned())))
        .collect();
    ends.push((float.nodes.len(), None));
    let mut found: Vec<Segment> = Vec::new();
    let mut start = 0;
    for (place, end) in ends {
        let levels = levels(float, start..place, &layers);
        if levels.is_empty() {
            continue;
        }
        found.push(Segment { end, levels });
        start = place;
    }
    if let Some(last) = found.last_mut() {
        last.end = None;
    }
    found
}

/// Returns the layers among the nodes at `places` by the number of other layers upstream of each, within these nodes.
fn levels(float: &Graph, places: std::ops::Range<usize>, layers: &HashMap<ValueId, usize>) -> Vec<Vec<usize>> {
    let mut levels: Vec<Vec<usize>> = Vec::new();
    let mut depths: HashMap<ValueId, usize> = HashMap::new();
    for node in &float.nodes[places] {
        let depth = node.inputs.iter().flatten().filter_map(|id| depths.get(id)).max().copied().unwrap_or(0);
        let layer = node.output(0).and_then(|output| layers.get(&output));
        if let Some(&layer) = layer {
            if levels.len() == depth {
                levels.push(Vec::new());
            }
            levels[depth].push(layer);
        }
        let depth = depth + usize::from(layer.is_some());
        node.outputs.iter().flatten().for_each(|&id| {
            depths.insert(id, depth);
        });
    }
    levels
}
