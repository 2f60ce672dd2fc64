//! Inputs and outputs of step graphs. All steps of a session share one state: an input with the name of a state entry
//! reads it, an output named `ENTRY.next` updates it, and the other inputs are fed. Checked once at loading, for every
//! engine.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Tensor, ValueId};

/// The suffix of outputs that update a state entry.
pub(super) const NEXT: &str = ".next";

/// A state entry or a fed input.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Slot {
    fn of_input(graph: &Graph, id: ValueId) -> Result<Self> {
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

    fn of_entry((name, start): &(String, Tensor)) -> Self {
        Self { name: name.clone(), dtype: start.dtype(), shape: start.shape().to_vec() }
    }

    fn check(&self, found: &Tensor) -> Result<()> {
        if found.dtype() == self.dtype && found.shape() == self.shape {
            return Ok(());
        }
        let message = format!("expected {} {:?}, found {} {:?}", self.dtype, self.shape, found.dtype(), found.shape());
        Err(Error::shape(format!("input \"{}\"", self.name), message))
    }
}

/// The source of an input of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepInput {
    /// The state entry with this index.
    State(usize),
    /// The feed with this index.
    Feed(usize),
}

/// Inputs and outputs of one step graph.
#[derive(Debug)]
pub(super) struct PhaseLayout {
    /// The source of each input.
    pub inputs: Vec<StepInput>,
    /// The fed inputs.
    pub feeds: Vec<Slot>,
    /// The index of the state entry that each output updates.
    pub updates: Vec<usize>,
}

/// The state, and the inputs and outputs of each step graph.
#[derive(Debug)]
pub(super) struct StepLayout {
    pub state: Vec<Slot>,
    pub phases: Vec<PhaseLayout>,
}

impl StepLayout {
    /// Returns the layout of `graphs` that read and update `state`.
    ///
    /// # Errors
    /// [`Error::Shape`] when state, inputs and outputs do not fit together, or a type or shape is not fixed.
    pub fn new(graphs: &[&Graph], state: &[(String, Tensor)]) -> Result<Self> {
        let mut layout = Self { state: state.iter().map(Slot::of_entry).collect(), phases: Vec::new() };
        for graph in graphs {
            let phase = layout.phase(graph, state)?;
            layout.phases.push(phase);
        }
        for (place, entry) in layout.state.iter().enumerate() {
            let reads = |phase: &PhaseLayout| phase.inputs.contains(&StepInput::State(place));
            if !layout.phases.iter().any(|phase| reads(phase) || phase.updates.contains(&place)) {
                let names: Vec<&str> = graphs.iter().map(|graph| graph.name.as_str()).collect();
                let message = format!("is neither read nor updated by any of the step graphs ({})", names.join(", "));
                return Err(Error::shape(format!("entry \"{}\" of the state", entry.name), message));
            }
        }
        Ok(layout)
    }

    fn phase(&self, graph: &Graph, state: &[(String, Tensor)]) -> Result<PhaseLayout> {
        let mut phase = PhaseLayout { inputs: Vec::new(), feeds: Vec::new(), updates: Vec::new() };
        for id in graph.fed_inputs() {
            let slot = Slot::of_input(graph, id)?;
            if let Some(place) = self.place(&slot.name) {
                slot.check(&state[place].1)?;
                phase.inputs.push(StepInput::State(place));
            } else {
                phase.inputs.push(StepInput::Feed(phase.feeds.len()));
                phase.feeds.push(slot);
            }
        }
        let mut made: HashSet<ValueId> =
            graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
        for &id in &graph.outputs {
            let name = graph.name_of(id);
            let refuse = |message: String| Error::shape(format!("output \"{name}\""), message);
            if !made.remove(&id) {
                let message = "is an input, a constant, or an output already; put an Identity in between";
                return Err(refuse(message.to_owned()));
            }
            let place = name.strip_suffix(NEXT).and_then(|entry| self.place(entry)).ok_or_else(|| {
                let entries: Vec<&str> = self.state.iter().map(|slot| slot.name.as_str()).collect();
                let message = format!("updates nothing; expected ENTRY{NEXT} with an entry of the state");
                refuse(format!("{message} ({})", entries.join(", ")))
            })?;
            let Slot { dtype, shape, .. } = &self.state[place];
            let value = graph.value(id);
            if value.dtype != Some(*dtype) || value.static_shape().as_ref() != Some(shape) {
                return Err(refuse(format!("expected {dtype} {shape:?} as its entry, found {}", declared(graph, id))));
            }
            phase.updates.push(place);
        }
        Ok(phase)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.state.iter().position(|slot| slot.name == name)
    }

    /// Returns the inputs and outputs of a phase.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no such phase.
    pub fn phase_at(&self, phase: usize) -> Result<&PhaseLayout> {
        let missing = || Error::shape("step", format!("expected a phase below {}, found {phase}", self.phases.len()));
        self.phases.get(phase).ok_or_else(missing)
    }

    /// Checks that `value` fits entry `index` of the state.
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

impl PhaseLayout {
    /// Checks that `feeds` fit a step.
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
}

fn declared(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    let dtype = value.dtype.map_or("any type".to_owned(), |dtype| dtype.to_string());
    let dims = |dims: &crate::ir::Shape| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let shape = value.shape.as_ref().map_or("of any shape".to_owned(), |shape| format!("[{}]", dims(shape)));
    format!("{dtype} {shape}")
}
