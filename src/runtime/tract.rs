//! The embedded engine: tract, single-threaded, on the CPU.

mod memory;
mod steps;

use std::sync::Arc;

use bytes::Bytes;
use tract_onnx::prelude::tract_data::prelude::Tensor as TractTensor;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, TVec,
    TractResult, TypedRunnableModel,
};

use super::device_failure::{device_failure, lacking_kernel};
use super::panics::caught;
use super::pieces::{in_pieces, piece_limits};
use super::room::refuse_oversized;
use super::step_layout::{PhaseLayout, StepInput, StepLayout};
use super::timed::timed;
use super::{Device, Engine, Optimisation, Session, SessionOptions, StepSession};
use crate::error::{Error, Result};
use crate::ir::{Attr, DType, Graph, Shape, Tensor, Value};
use crate::onnx;
use crate::parallel;
use memory::beyond_memory;
use steps::TractSteps;

/// The version of tract that is built in.
pub const TRACT_VERSION: &str = "0.23.9";

/// The most nodes loaded at a time: tract 0.23 walks the whole graph for each node that it simplifies.
const PIECE_NODES: usize = 128;

const TYPES: &[(DType, DatumType)] = &[
    (DType::F32, DatumType::F32),
    (DType::F64, DatumType::F64),
    (DType::F16, DatumType::F16),
    (DType::I8, DatumType::I8),
    (DType::U8, DatumType::U8),
    (DType::I16, DatumType::I16),
    (DType::U16, DatumType::U16),
    (DType::I32, DatumType::I32),
    (DType::U32, DatumType::U32),
    (DType::I64, DatumType::I64),
    (DType::U64, DatumType::U64),
    (DType::Bool, DatumType::Bool),
];

/// tract. It refuses graphs with tensors of 2 or 4 bits or blocked quantization.
///
/// [`Optimisation::None`] runs the graph as soon as its types are known; [`Optimisation::Default`] lets tract simplify
/// it and choose its fast kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> String {
        format!("tract {TRACT_VERSION}")
    }

    fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>> {
        refuse_oversized(graph)?;
        if let Some(limits) = piece_limits(graph, options, Some(PIECE_NODES)) {
            refuse_unreadable(graph)?;
            return Ok(in_pieces(*self, graph, options, limits));
        }
        let mut session = read(graph, options)?;
        let fact = |value: &Value| Some((value.dtype?, value.static_shape()?));
        let facts: Option<Facts> = session.inputs.iter().map(fact).collect();
        if let Some(facts) = facts {
            session.prepare(&facts)?;
        }
        Ok(Box::new(session))
    }

    fn load_steps(
        &self,
        graphs: &[&Graph],
        state: &[(String, Tensor)],
        options: &SessionOptions,
    ) -> Result<Box<dyn StepSession>> {
        let layout = StepLayout::new(graphs, state)?;
        let plan = |(graph, phase): (&&Graph, &PhaseLayout)| {
            let slot = |source: &StepInput| match *source {
                StepInput::State(place) => &layout.state[place],
                StepInput::Feed(place) => &phase.feeds[place],
            };
            let slots = phase.inputs.iter().map(slot);
            let facts: Facts = slots.map(|slot| (slot.dtype, slot.shape.clone())).collect();
            read(graph, options).and_then(|mut session| session.prepare(&facts)).map_err(lacking_kernel)
        };
        let plans = graphs.iter().zip(&layout.phases).map(plan).collect::<Result<_>>()?;
        Ok(Box::new(TractSteps::new(plans, layout, state)?))
    }
}

fn read(graph: &Graph, options: &SessionOptions) -> Result<TractSession> {
    refuse_unreadable(graph)?;
    if let Some(message) = beyond_memory(graph) {
        return Err(failed(message));
    }
    let bytes = onnx::encode(&with_own_names(graph))?;
    let model = guarded(|| {
        let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        reader.model_for_read(&mut &bytes[..])
    })?;
    let inputs = graph.fed_inputs().into_iter().map(|id| graph.value(id).clone()).collect();
    let threads = options.threads.unwrap_or(1);
    Ok(TractSession { model, inputs, optimisation: options.optimisation, threads, ready: None })
}

/// Returns `graph` with a name for every node that no other node, input, initializer or part of a node of tract's has:
/// tract keeps all of them in one name space, ONNX does not.
fn with_own_names(graph: &Graph) -> Graph {
    let mut named = graph.clone();
    for i in 0..named.nodes.len() {
        let label = graph.label(&graph.nodes[i]);
        let mut name = format!("{label}#{i}");
        while named.find(&name).is_some() {
            name.push('#');
        }
        named.nodes[i].name = name;
    }
    named
}

fn refuse_unreadable(graph: &Graph) -> Result<()> {
    let refuse = |place: String, tensor: &Tensor| match TYPES.iter().any(|row| row.0 == tensor.dtype()) {
        true => Ok(()),
        false => Err(failed(format!(
            "{place} is {}, which tract cannot read; give it a copy whose tensors are stored in int8 or float32",
            tensor.dtype()
        ))),
    };
    for id in graph.value_ids() {
        if let Some(tensor) = graph.constant_of(id) {
            refuse(format!("initializer \"{}\"", graph.name_of(id)), tensor)?;
        }
    }
    for node in &graph.nodes {
        for (name, attr) in node.attrs.iter() {
            if let Attr::Tensor(tensor) = attr {
                refuse(format!("{}, attribute \"{name}\"", graph.describe(node)), tensor)?;
            }
        }
    }
    Ok(())
}

/// Types and shapes of the inputs of a plan.
type Facts = Vec<(DType, Vec<usize>)>;

struct TractSession {
    model: InferenceModel,
    inputs: Vec<Value>,
    optimisation: Optimisation,
    /// Batches that run at a time.
    threads: usize,
    ready: Option<(Facts, Arc<TypedRunnableModel>)>,
}

impl TractSession {
    /// Checks inputs against the declarations of the graph, since tract does not.
    fn check(&self, facts: &[(DType, Vec<usize>)]) -> Result<()> {
        let expected = self.inputs.len();
        if facts.len() != expected || self.model.inputs.len() != expected {
            return Err(failed(format!("expected {expected} inputs, found {}", facts.len())));
        }
        for (value, (dtype, shape)) in self.inputs.iter().zip(facts) {
            let fits = |dims: &Shape| {
                dims.len() == shape.len() && dims.iter().zip(shape).all(|(d, n)| d.known().is_none_or(|d| d == *n))
            };
            if value.dtype.is_some_and(|d| d != *dtype) || !value.shape.as_ref().is_none_or(fits) {
                let declared = value.dtype.map_or("any type".to_owned(), |d| d.to_string());
                let dims = value.shape.as_ref().map_or("of any shape".to_owned(), |dims| {
                    format!("[{}]", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                });
                let name = value.name();
                return Err(failed(format!("input \"{name}\": expected {declared} {dims}, found {dtype} {shape:?}")));
            }
        }
        Ok(())
    }

    fn prepare(&mut self, facts: &[(DType, Vec<usize>)]) -> Result<Arc<TypedRunnableModel>> {
        if let Some((ready, plan)) = &self.ready
            && ready == facts
        {
            return Ok(plan.clone());
        }
        self.check(facts)?;
        let mut model = self.model.clone();
        let facts_of_tract = facts
            .iter()
            .map(|(dtype, shape)| Ok(InferenceFact::dt_shape(datum_type(*dtype)?, shape)))
            .collect::<Result<Vec<_>>>()?;
        let plan = guarded(|| {
            for (i, fact) in facts_of_tract.into_iter().enumerate() {
                model.set_input_fact(i, fact)?;
            }
            match self.optimisation {
                Optimisation::Default => model.into_optimized()?.into_runnable(),
                Optimisation::None => model.into_typed()?.into_runnable(),
            }
        })?;
        self.ready = Some((facts.to_vec(), plan.clone()));
        Ok(plan)
    }
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let plan = self.prepare(&facts_of(inputs))?;
        run_plan(&plan, inputs)
    }

    fn run_each(&mut self, batches: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>> {
        let mut made = Vec::with_capacity(batches.len());
        // One plan at a time: it holds the weights as tract packs them.
        for alike in batches.chunk_by(|a, b| facts_of(a) == facts_of(b)) {
            let plan = self.prepare(&facts_of(&alike[0]))?;
            made.extend(parallel::map(self.threads, alike, |batch| run_plan(&plan, batch)));
        }
        made.into_iter().collect()
    }
}

fn facts_of(inputs: &[Tensor]) -> Facts {
    inputs.iter().map(|t| (t.dtype(), t.shape().to_vec())).collect()
}

fn run_plan(plan: &Arc<TypedRunnableModel>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let values = inputs.iter().map(to_tract).collect::<Result<Vec<_>>>()?;
    let outputs = guarded(|| plan.run(values.into_iter().map(IntoTValue::into_tvalue).collect::<TVec<_>>()))?;
    outputs.iter().map(|value| from_tract(value)).collect()
}

/// Runs `work`; a panic, which tract raises for some malformed graphs, becomes an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T> {
    match timed("tract", || caught(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(failed(format!("{e:#}"))),
        Err(panic) => Err(failed(format!("stopped with a panic: {panic}"))),
    }
}

pub(super) fn failed(message: impl std::fmt::Display) -> Error {
    let of_memory = device_failure(Device::Cpu, &message.to_string());
    of_memory.unwrap_or_else(|| Error::runtime(format!("tract {TRACT_VERSION}"), message))
}

pub(super) fn datum_type(dtype: DType) -> Result<DatumType> {
    let row = TYPES.iter().find(|row| row.0 == dtype);
    row.map(|row| row.1).ok_or_else(|| failed(format!("has no tensors of type {dtype}")))
}

pub(super) fn to_tract(tensor: &Tensor) -> Result<TractTensor> {
    let datum_type = datum_type(tensor.dtype())?;
    guarded(|| {
        let mut value = TractTensor::zero_dt(datum_type, tensor.shape())?;
        value.as_bytes_mut().copy_from_slice(tensor.bytes());
        Ok(value)
    })
}

pub(super) fn from_tract(value: &TractTensor) -> Result<Tensor> {
    let found = value.datum_type().unquantized();
    if found == DatumType::TDim {
        let numbers = guarded(|| Ok(value.cast_to::<i64>()?.into_owned()))?;
        return from_tract(&numbers);
    }
    let row = TYPES.iter().find(|row| row.1 == found);
    let dtype = row.ok_or_else(|| failed(format!("gives a tensor of type {found:?}")))?.0;
    let bytes = guarded(|| Ok(Bytes::copy_from_slice(value.as_bytes())))?;
    Tensor::new(dtype, value.shape().to_vec(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_pinned() {
        let pinned = format!("tract-onnx = {{ version = \"={TRACT_VERSION}\"");
        assert!(include_str!("../../Cargo.toml").contains(&pinned), "{pinned} does not stand in Cargo.toml");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guarded::<()>(|| panic!("index {}", 7)).unwrap_err();
        assert_eq!(error.to_string(), "tract 0.23.9: stopped with a panic: index 7");
    }
}
