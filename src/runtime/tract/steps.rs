//! Training steps in tract: results of a run are moved into the state, which the next run reads.

use std::sync::Arc;

use tract_onnx::prelude::{IntoTValue, TValue, TVec, TypedRunnableModel};

use super::{datum_type, failed, from_tract, guarded, to_tract};
use crate::error::Result;
use crate::ir::Tensor;
use crate::runtime::StepSession;
use crate::runtime::step_layout::{StepInput, StepLayout};

pub(super) struct TractSteps {
    /// One per phase.
    plans: Vec<Arc<TypedRunnableModel>>,
    state: TVec<TValue>,
    /// The saved state.
    kept: TVec<TValue>,
    layout: StepLayout,
}

impl TractSteps {
    /// Returns steps by `plans`, one for each phase of `layout`, from `state`, which fits it.
    pub fn new(plans: Vec<Arc<TypedRunnableModel>>, layout: StepLayout, state: &[(String, Tensor)]) -> Result<Self> {
        let value = |(_, tensor): &(String, Tensor)| Ok(to_tract(tensor)?.into_tvalue());
        let state: TVec<TValue> = state.iter().map(value).collect::<Result<_>>()?;
        Ok(Self { plans, kept: state.clone(), state, layout })
    }

    /// Checks new state entries, since tract does not check outputs against the graph's declarations.
    fn check(&self, phase: usize, found: &[TValue]) -> Result<()> {
        let updates = &self.layout.phases[phase].updates;
        if found.len() != updates.len() {
            return Err(failed(format!("expected {} outputs, found {}", updates.len(), found.len())));
        }
        for (&place, value) in updates.iter().zip(found) {
            let slot = &self.layout.state[place];
            if value.datum_type() != datum_type(slot.dtype)? || value.shape() != slot.shape {
                let (name, dtype, shape) = (&slot.name, value.datum_type(), value.shape());
                return Err(failed(format!(
                    "expected {} {:?} for the next \"{name}\", found {dtype:?} {shape:?}",
                    slot.dtype, slot.shape
                )));
            }
        }
        Ok(())
    }
}

impl StepSession for TractSteps {
    fn step(&mut self, phase: usize, feeds: &[Tensor]) -> Result<()> {
        let layout = self.layout.phase_at(phase)?;
        layout.check_feeds(feeds)?;
        let input = |source: &StepInput| match *source {
            StepInput::State(place) => Ok(self.state[place].clone()),
            StepInput::Feed(place) => Ok(to_tract(&feeds[place])?.into_tvalue()),
        };
        let inputs = layout.inputs.iter().map(input).collect::<Result<TVec<TValue>>>()?;
        let next = guarded(|| self.plans[phase].run(inputs))?;
        self.check(phase, &next)?;
        let updates = self.layout.phases[phase].updates.iter();
        updates.zip(next).for_each(|(&place, value)| self.state[place] = value);
        Ok(())
    }

    fn read(&self, index: usize) -> Result<Tensor> {
        self.layout.entry(index)?;
        from_tract(&self.state[index])
    }

    fn keep(&mut self) -> Result<()> {
        self.kept = self.state.clone();
        Ok(())
    }

    fn go_back(&mut self) -> Result<()> {
        self.state = self.kept.clone();
        Ok(())
    }

    fn write(&mut self, index: usize, value: &Tensor) -> Result<()> {
        self.layout.check_entry(index, value)?;
        self.state[index] = to_tract(value)?.into_tvalue();
        Ok(())
    }
}
