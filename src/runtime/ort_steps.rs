//! Training steps in ONNX Runtime. Every entry of the state has two buffers on the device that take turns: one is read,
//! the other written. Never one for both: the library may write the new value before the last reader of the old one.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::DynTensor;

use super::ort::OrtSession;
use super::ort_capture::Capture;
use super::ort_value::{allocate, copy, from_tensor, put};
use super::step_layout::{Slot, StepLayout};
use super::{Device, StepSession};
use crate::error::Result;
use crate::ir::Tensor;

pub(super) struct OrtSteps {
    /// They keep the session, so they stand before what it reads: fields are dropped in order.
    bindings: [IoBinding; 2],
    buffers: [Vec<DynTensor>; 2],
    /// The state to go back to.
    kept: Vec<DynTensor>,
    feeds: Vec<DynTensor>,
    /// Which of the buffers hold the state; the binding of this number reads them and writes the others.
    turn: usize,
    layout: StepLayout,
    /// How steps are recorded, where they are: all that they read and write stays where it is then.
    capture: Option<Capture>,
    loaded: OrtSession,
}

impl OrtSteps {
    /// Returns steps of the graph behind `loaded` from `state`, both of which fit `layout`.
    pub fn new(
        loaded: OrtSession,
        layout: StepLayout,
        state: &[Tensor],
        capture: Option<Capture>,
    ) -> ort::Result<Self> {
        let (device, host) = (allocator(&loaded.session, loaded.device())?, Allocator::default());
        let all = |slots: &[Slot], allocator: &Allocator| -> ort::Result<Vec<DynTensor>> {
            slots.iter().map(|slot| allocate(slot.dtype, &slot.shape, allocator)).collect()
        };
        let (mut first, mut second) = (all(&layout.state, &device)?, all(&layout.state, &device)?);
        let mut kept = all(&layout.state, &device)?;
        for buffers in [&mut first, &mut kept] {
            state.iter().zip(buffers).try_for_each(|(value, buffer)| put(value, buffer))?;
        }
        let feeds = all(&layout.feeds, if capture.is_some() { &device } else { &host })?;
        let bindings = [writing(&loaded, &mut second)?, writing(&loaded, &mut first)?];
        let mut steps = Self { bindings, buffers: [first, second], kept, feeds, turn: 0, layout, capture, loaded };
        if steps.capture.is_some() {
            steps.bind_inputs(0)?;
            steps.bind_inputs(1)?;
        }
        Ok(steps)
    }

    /// Returns whether nothing but replays is left to do.
    pub fn is_captured(&self) -> bool {
        self.capture.as_ref().is_some_and(Capture::is_complete)
    }

    /// Returns a copy of the state.
    pub fn state(&self) -> Result<Vec<Tensor>> {
        (0..self.layout.state.len()).map(|index| self.read(index)).collect()
    }

    /// Returns a copy of the state that was kept last.
    pub fn kept(&self) -> Result<Vec<Tensor>> {
        self.kept.iter().map(|value| from_tensor(value).map_err(|e| self.loaded.failed(&e))).collect()
    }

    fn bind_inputs(&mut self, turn: usize) -> ort::Result<()> {
        for (name, value) in self.loaded.inputs.iter().zip(self.buffers[turn].iter().chain(&self.feeds)) {
            self.bindings[turn].bind_input(name, value)?;
        }
        Ok(())
    }

    fn run(&mut self, feeds: &[Tensor]) -> ort::Result<()> {
        for (feed, buffer) in feeds.iter().zip(&mut self.feeds) {
            put(feed, buffer)?;
        }
        let turn = self.turn;
        if let Some(capture) = &mut self.capture {
            let session = &mut self.loaded.session;
            session.run_binding_with_options(&self.bindings[turn], capture.options(turn))?;
            // Copies of feeds and state go through another stream, which does not wait for this one.
            self.bindings[turn].synchronize_outputs()?;
            capture.count();
        } else {
            // Bound anew in every step: an input that a node wants in other memory than it lies in is copied when it is
            // bound, and never again.
            self.bind_inputs(turn)?;
            self.loaded.session.run_binding(&self.bindings[turn])?;
        }
        self.turn = 1 - turn;
        Ok(())
    }
}

impl StepSession for OrtSteps {
    fn step(&mut self, feeds: &[Tensor]) -> Result<()> {
        self.layout.check_feeds(feeds)?;
        self.run(feeds).map_err(|e| self.loaded.failed(&e))
    }

    fn read(&self, index: usize) -> Result<Tensor> {
        self.layout.entry(index)?;
        from_tensor(&self.buffers[self.turn][index]).map_err(|e| self.loaded.failed(&e))
    }

    fn keep(&mut self) -> Result<()> {
        let mut pairs = self.buffers[self.turn].iter().zip(&mut self.kept);
        pairs.try_for_each(|(now, kept)| copy(now, kept)).map_err(|e| self.loaded.failed(&e))
    }

    fn go_back(&mut self) -> Result<()> {
        let mut pairs = self.kept.iter().zip(&mut self.buffers[self.turn]);
        pairs.try_for_each(|(kept, now)| copy(kept, now)).map_err(|e| self.loaded.failed(&e))
    }

    fn write(&mut self, index: usize, value: &Tensor) -> Result<()> {
        self.layout.check_entry(index, value)?;
        put(value, &mut self.buffers[self.turn][index]).map_err(|e| self.loaded.failed(&e))
    }
}

fn allocator(session: &Session, device: Device) -> ort::Result<Allocator> {
    match device {
        Device::Cpu => Ok(Allocator::default()),
        // TensorRT computes in CUDA's memory.
        Device::Cuda(index) | Device::TensorRt(index) => {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let memory = MemoryInfo::new(AllocationDevice::CUDA, index, AllocatorType::Device, MemoryType::Default)?;
            Allocator::new(session, memory)
        }
    }
}

fn writing(loaded: &OrtSession, buffers: &mut [DynTensor]) -> ort::Result<IoBinding> {
    let mut binding = loaded.session.create_binding()?;
    for (name, buffer) in loaded.outputs.iter().zip(buffers) {
        binding.bind_output(name, buffer)?;
    }
    Ok(binding)
}
