//! What a step graph takes and gives: its first inputs are the state, its outputs the state one step on, its other inputs
//! are fed. Checked once at loading, the same for every engine.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Tensor, ValueId};

/// An input of a step graph.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Slot {
    fn new(graph: &Graph, id: ValueId) -> Result<Self> {
        let value = graph.value(id);
        let name = value.name().to_owned();
        match (value.dtype, value.static_shape()) {
            (Some(dtype), Some(shape)) => Ok(Self { name, dtype, shape }),
            _ => {
                let message =
                    format!("expected a type and a fixed shape, found {}; fix the batch", declared(graph, id));
                Err(Error::shape(format!("tensor \"{name}\" of a step graph"), message))
            }
        }
    }

    fn check(&self, found: &Tensor) -> Result<()> {
        if found.dtype() == self.dtype && found.shape() == self.shape {
            return Ok(());
        }
        let message = format!("expected {} {:?}, found {} {:?}", self.dtype, self.shape, found.dtype(), found.shape());
        Err(Error::shape(format!("input \"{}\"", self.name), message))
    }
}

/// The inputs of a step graph.
#[derive(Debug)]
pub(super) struct StepLayout {
    pub state: Vec<Slot>,
    pub feeds: Vec<Slot>,
}

impl StepLayout {
    /// Returns the inputs of `graph`, of which the first are `state`.
    ///
    /// # Errors
    /// [`Error::Shape`] when state, inputs and outputs do not fit together, or a type or shape is not fixed.
    pub fn new(graph: &Graph, state: &[Tensor]) -> Result<Self> {
        let (inputs, entries) = (graph.fed_inputs(), state.len());
        let place = || format!("step graph \"{}\"", graph.name);
        if inputs.len() < entries {
            let message = format!("takes {} inputs, expected one for each of {entries} entries of state", inputs.len());
            return Err(Error::shape(place(), message));
        }
        if graph.outputs.len() != entries {
            let message =
                format!("gives {} outputs, expected one for each of {entries} entries of state", graph.outputs.len());
            return Err(Error::shape(place(), message));
        }
        let slots = |ids: &[ValueId]| ids.iter().map(|&id| Slot::new(graph, id)).collect::<Result<Vec<_>>>();
        let layout = Self { state: slots(&inputs[..entries])?, feeds: slots(&inputs[entries..])? };
        for (slot, value) in layout.state.iter().zip(state) {
            slot.check(value)?;
        }
        layout.check_outputs(graph)?;
        Ok(layout)
    }

    fn check_outputs(&self, graph: &Graph) -> Result<()> {
        let mut made: HashSet<ValueId> =
            graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
        for (slot, &id) in self.state.iter().zip(&graph.outputs) {
            let place = || format!("output \"{}\"", graph.name_of(id));
            let value = graph.value(id);
            if value.dtype != Some(slot.dtype) || value.static_shape().as_ref() != Some(&slot.shape) {
                let Slot { name, dtype, shape } = slot;
                let found = declared(graph, id);
                return Err(Error::shape(
                    place(),
                    format!("expected {dtype} {shape:?} as input \"{name}\", found {found}"),
                ));
            }
            if !made.remove(&id) {
                let message = "is an input, a constant, or an output already; put an Identity in between";
                return Err(Error::shape(place(), message));
            }
        }
        Ok(())
    }

    /// Returns nothing where `feeds` are what is fed in a step.
    ///
    /// # Errors
    /// [`Error::Shape`] when their number, a type or a shape differs.
    pub fn check_feeds(&self, feeds: &[Tensor]) -> Result<()> {
        if feeds.len() != self.feeds.len() {
            let names: Vec<&str> = self.feeds.iter().map(|slot| slot.name.as_str()).collect();
            let message = format!("expected {} ({}), found {}", names.len(), names.join(", "), feeds.len());
            return Err(Error::shape("feeds of a step", message));
        }
        self.feeds.iter().zip(feeds).try_for_each(|(slot, feed)| slot.check(feed))
    }

    /// Returns nothing where `value` can be entry `index` of the state.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such entry, or type or shape differs.
    pub fn check_entry(&self, index: usize, value: &Tensor) -> Result<()> {
        self.entry(index)?.check(value)
    }

    /// Returns entry `index` of the state.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is none.
    pub fn entry(&self, index: usize) -> Result<&Slot> {
        let missing = || Error::shape("state", format!("expected an entry below {}, found {index}", self.state.len()));
        self.state.get(index).ok_or_else(missing)
    }
}

fn declared(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    let dtype = value.dtype.map_or("any type".to_owned(), |dtype| dtype.to_string());
    let dims = |dims: &crate::ir::Shape| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let shape = value.shape.as_ref().map_or("of any shape".to_owned(), |shape| format!("[{}]", dims(shape)));
    format!("{dtype} {shape}")
}
