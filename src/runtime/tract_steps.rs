//! Training steps in tract: what one run gives is moved into the next.

use std::sync::Arc;

use tract_onnx::prelude::{IntoTValue, TValue, TVec, TypedRunnableModel};

use super::StepSession;
use super::step_layout::StepLayout;
use super::tract::{datum_type, failed, from_tract, guarded, to_tract};
use crate::error::Result;
use crate::ir::Tensor;

pub(super) struct TractSteps {
    plan: Arc<TypedRunnableModel>,
    state: TVec<TValue>,
    /// The state to go back to.
    kept: TVec<TValue>,
    layout: StepLayout,
}

impl TractSteps {
    /// Returns steps by `plan` from `state`, both of which fit `layout`.
    pub fn new(plan: Arc<TypedRunnableModel>, layout: StepLayout, state: &[Tensor]) -> Result<Self> {
        let value = |tensor: &Tensor| Ok(to_tract(tensor)?.into_tvalue());
        let state: TVec<TValue> = state.iter().map(value).collect::<Result<_>>()?;
        Ok(Self { plan, kept: state.clone(), state, layout })
    }

    /// tract checks no outputs against what the graph declares, so what is to be the state is checked here.
    fn check(&self, found: &[TValue]) -> Result<()> {
        if found.len() != self.layout.state.len() {
            return Err(failed(format!("expected {} outputs, found {}", self.layout.state.len(), found.len())));
        }
        for (slot, value) in self.layout.state.iter().zip(found) {
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
    fn step(&mut self, feeds: &[Tensor]) -> Result<()> {
        self.layout.check_feeds(feeds)?;
        let mut inputs = self.state.clone();
        for feed in feeds {
            inputs.push(to_tract(feed)?.into_tvalue());
        }
        let next = guarded(|| self.plan.run(inputs))?;
        self.check(&next)?;
        self.state = next;
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
