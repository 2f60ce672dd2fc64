//! Training steps in ONNX Runtime. Every entry of the state has two buffers on the device that take turns: one is read,
//! the other written. Never one for both: the library may write the new value before the last reader of the old one.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::DynTensor;

use super::OrtSession;
use super::capture::Capture;
use super::value::{allocate, copy, from_tensor, put};
use crate::error::Result;
use crate::ir::Tensor;
use crate::runtime::step_layout::{PhaseLayout, Slot, StepInput, StepLayout};
use crate::runtime::{Device, StepSession};

pub(super) struct OrtSteps {
    /// The bindings of each phase. They keep the session, so they come before the data it reads: fields are dropped in
    /// order.
    bindings: Vec<Vec<Binding>>,
    buffers: [Vec<DynTensor>; 2],
    /// The saved state.
    kept: Vec<DynTensor>,
    /// The feeds of each phase.
    feeds: Vec<Vec<DynTensor>>,
    /// The current buffer (of two) of each state entry.
    sides: Vec<usize>,
    layout: StepLayout,
    /// The recording of steps, if any: all memory that they read and write then stays in place.
    capture: Option<Capture>,
    /// The session of each phase.
    loaded: Vec<OrtSession>,
}

/// The buffers of a run, for one distribution of the state over its buffers.
struct Binding {
    /// [`OrtSteps::sides`] of the entries that the phase reads and updates, in this order.
    sides: Vec<usize>,
    binding: IoBinding,
}

impl OrtSteps {
    /// Returns steps of the `loaded` graphs from `state`, which must fit `layout`. Only steps of a single graph can be
    /// recorded by `capture`.
    pub fn new(
        loaded: Vec<OrtSession>,
        layout: StepLayout,
        state: &[(String, Tensor)],
        capture: Option<Capture>,
    ) -> ort::Result<Self> {
        let (device, host) = (allocator(&loaded[0].session, loaded[0].device())?, Allocator::default());
        let all = |slots: &[Slot], allocator: &Allocator| -> ort::Result<Vec<DynTensor>> {
            slots.iter().map(|slot| allocate(slot.dtype, &slot.shape, allocator)).collect()
        };
        let (mut first, second) = (all(&layout.state, &device)?, all(&layout.state, &device)?);
        let mut kept = all(&layout.state, &device)?;
        for buffers in [&mut first, &mut kept] {
            state.iter().zip(buffers).try_for_each(|((_, value), buffer)| put(value, buffer))?;
        }
        let of_feeds = if capture.is_some() { &device } else { &host };
        let feeds = layout.phases.iter().map(|phase| all(&phase.feeds, of_feeds)).collect::<ort::Result<_>>()?;
        let bindings = loaded.iter().map(|_| Vec::new()).collect();
        let sides = vec![0; layout.state.len()];
        Ok(Self { bindings, buffers: [first, second], kept, feeds, sides, layout, capture, loaded })
    }

    /// Returns whether all steps are replays from now on.
    pub fn is_captured(&self) -> bool {
        self.capture.as_ref().is_some_and(Capture::is_complete)
    }

    /// Returns a copy of the state.
    pub fn state(&self) -> Result<Vec<Tensor>> {
        (0..self.layout.state.len()).map(|index| self.read(index)).collect()
    }

    /// Returns a copy of the saved state, by name.
    pub fn kept(&self) -> Result<Vec<(String, Tensor)>> {
        let value = |value: &DynTensor| from_tensor(value).map_err(|e| self.failed(&e));
        self.layout.state.iter().zip(&self.kept).map(|(slot, kept)| Ok((slot.name.clone(), value(kept)?))).collect()
    }

    fn failed(&self, error: &ort::Error) -> crate::error::Error {
        self.loaded[0].failed(error)
    }

    /// Returns the index of the phase's binding for the current distribution of the state over its buffers, and whether
    /// it was made now.
    fn binding(&mut self, phase: usize) -> ort::Result<(usize, bool)> {
        let PhaseLayout { inputs, updates, .. } = &self.layout.phases[phase];
        let read = inputs.iter().filter_map(|source| match source {
            StepInput::State(place) => Some(place),
            StepInput::Feed(_) => None,
        });
        let sides: Vec<usize> = read.chain(updates).map(|&place| self.sides[place]).collect();
        if let Some(found) = self.bindings[phase].iter().position(|binding| binding.sides == sides) {
            return Ok((found, false));
        }
        let mut binding = self.loaded[phase].session.create_binding()?;
        for (name, &place) in self.loaded[phase].outputs.iter().zip(updates) {
            binding.bind_output(name, &mut self.buffers[1 - self.sides[place]][place])?;
        }
        self.bindings[phase].push(Binding { sides, binding });
        Ok((self.bindings[phase].len() - 1, true))
    }

    fn bind_inputs(&mut self, phase: usize, at: usize) -> ort::Result<()> {
        for (name, source) in self.loaded[phase].inputs.iter().zip(&self.layout.phases[phase].inputs) {
            let value = match *source {
                StepInput::State(place) => &self.buffers[self.sides[place]][place],
                StepInput::Feed(place) => &self.feeds[phase][place],
            };
            self.bindings[phase][at].binding.bind_input(name, value)?;
        }
        Ok(())
    }

    fn run(&mut self, phase: usize, feeds: &[Tensor]) -> ort::Result<()> {
        for (feed, buffer) in feeds.iter().zip(&mut self.feeds[phase]) {
            put(feed, buffer)?;
        }
        let (at, is_new) = self.binding(phase)?;
        if is_new || self.capture.is_none() {
            // Without recording bound anew in every step: an input that a node wants in other memory than it lies in is
            // copied when it is bound, and never again.
            self.bind_inputs(phase, at)?;
        }
        let (session, binding) = (&mut self.loaded[phase].session, &self.bindings[phase][at].binding);
        if let Some(capture) = &mut self.capture {
            session.run_binding_with_options(binding, capture.options(at))?;
            // Copies of feeds and state go through another stream, which does not wait for this one.
            binding.synchronize_outputs()?;
            capture.count();
        } else {
            session.run_binding(binding)?;
        }
        for &place in &self.layout.phases[phase].updates {
            self.sides[place] = 1 - self.sides[place];
        }
        Ok(())
    }
}

impl StepSession for OrtSteps {
    fn step(&mut self, phase: usize, feeds: &[Tensor]) -> Result<()> {
        self.layout.phase_at(phase)?.check_feeds(feeds)?;
        self.run(phase, feeds).map_err(|e| self.loaded[phase].failed(&e))
    }

    fn read(&self, index: usize) -> Result<Tensor> {
        self.layout.entry(index)?;
        from_tensor(&self.buffers[self.sides[index]][index]).map_err(|e| self.failed(&e))
    }

    fn keep(&mut self) -> Result<()> {
        let now = self.sides.iter().enumerate().map(|(index, &side)| &self.buffers[side][index]);
        let mut pairs = now.zip(&mut self.kept);
        pairs.try_for_each(|(now, kept)| copy(now, kept)).map_err(|e| self.failed(&e))
    }

    fn go_back(&mut self) -> Result<()> {
        for (index, &side) in self.sides.iter().enumerate() {
            copy(&self.kept[index], &mut self.buffers[side][index]).map_err(|e| self.failed(&e))?;
        }
        Ok(())
    }

    fn write(&mut self, index: usize, value: &Tensor) -> Result<()> {
        self.layout.check_entry(index, value)?;
        let side = self.sides[index];
        put(value, &mut self.buffers[side][index]).map_err(|e| self.failed(&e))
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
