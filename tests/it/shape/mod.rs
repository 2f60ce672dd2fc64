//! Inferred shapes against those that ONNX Runtime produces: single calls, whole models, contradictions.

mod cases;
mod refusals;

use std::collections::BTreeSet;

use dfq_onnx::Result;
use dfq_onnx::ir::{DType, Dim, Graph, Node, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::runtime::{Engine, Optimisation, SessionOptions};
use dfq_onnx::shape::{RULES, infer};

use crate::support::{models, ort, random_inputs};
use cases::{Case, In, cases};

const AS_WRITTEN: SessionOptions = SessionOptions {
    optimisation: Optimisation::None,
    threads: None,
    prepacking: false,
    piece_bytes: None,
    optimised_model: None,
    cuda_graphs: false,
    tf32: false,
};

#[test]
fn every_rule_has_a_case() {
    let covered: BTreeSet<&str> = cases().iter().map(|case| case.op).collect();
    let missing: Vec<&str> = RULES.iter().map(|row| row.0).filter(|op| !covered.contains(op)).collect();
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn no_operator_has_two_rules() {
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = RULES.iter().map(|row| row.0).filter(|op| !seen.insert(*op)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn inferred_shapes_are_those_that_onnx_runtime_produces() {
    let mut failed = Vec::new();
    for case in cases() {
        if let Err(message) = agrees(&case) {
            failed.push(format!("{} {} {:?}: {message}", case.op, case.opset, case.attrs));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn agrees(case: &Case) -> Result<(), String> {
    let (graph, inputs) = graph_of(case);
    let text = |e: dfq_onnx::Error| e.to_string();
    let real = ort().load(&graph, &AS_WRITTEN).and_then(|mut s| s.run(&inputs)).map_err(text)?;
    let exact = inferred(&graph, |_| {}).map_err(text)?;
    for ((dtype, shape), real) in exact.iter().zip(&real) {
        if *dtype != Some(real.dtype()) {
            return Err(format!("inferred type {dtype:?}, real {}", real.dtype()));
        }
        let number = |d: &Dim| d.known();
        let found = shape.as_ref().and_then(|s| s.iter().map(number).collect::<Option<Vec<_>>>());
        if found.as_deref() != Some(real.shape()) && case.op != "NonZero" {
            return Err(format!("inferred {shape:?}, real {:?}", real.shape()));
        }
    }
    // What is inferred from less must not contradict what is real.
    let symbols = inferred(&graph, |g| loosen(g, |i, axis| Dim::Symbol(format!("s{i}_{axis}")))).map_err(text)?;
    let unknown = inferred(&graph, |g| loosen(g, |_, _| Dim::Unknown)).map_err(text)?;
    let hidden = inferred(&graph, hide_constants).map_err(text)?;
    for (what, facts) in [("symbols", symbols), ("unknown sizes", unknown), ("hidden constants", hidden)] {
        for ((_, shape), real) in facts.iter().zip(&real) {
            if !shape.as_ref().is_none_or(|s| fits(s, real.shape())) {
                return Err(format!("with {what}: inferred {shape:?}, real {:?}", real.shape()));
            }
        }
    }
    Ok(())
}

fn fits(shape: &[Dim], real: &[usize]) -> bool {
    shape.len() == real.len() && shape.iter().zip(real).all(|(d, r)| d.known().is_none_or(|d| d == *r))
}

type Facts = Vec<(Option<DType>, Option<Vec<Dim>>)>;

fn inferred(graph: &Graph, change: impl Fn(&mut Graph)) -> Result<Facts> {
    let mut graph = graph.clone();
    change(&mut graph);
    infer(&mut graph)?;
    Ok(graph.outputs.iter().map(|&id| (graph.value(id).dtype, graph.value(id).shape.clone())).collect())
}

fn loosen(graph: &mut Graph, dim: impl Fn(usize, usize) -> Dim) {
    for (i, id) in graph.inputs.clone().into_iter().enumerate() {
        for (axis, d) in graph.value_mut(id).shape.iter_mut().flatten().enumerate() {
            *d = dim(i, axis);
        }
    }
}

fn hide_constants(graph: &mut Graph) {
    for id in graph.value_ids() {
        if let Some(tensor) = graph.value_mut(id).constant.take() {
            graph.value_mut(id).shape = Some(tensor.shape().iter().copied().map(Dim::Known).collect());
            graph.inputs.push(id);
        }
    }
}

fn graph_of(case: &Case) -> (Graph, Vec<Tensor>) {
    let mut graph = Graph::default();
    (graph.name, graph.ir_version) = ("case".to_owned(), 10);
    graph.set_opset(case.opset);
    let (mut node, mut fed) = (Node::new(case.op, [], [], case.attrs.clone()), Vec::new());
    for (i, input) in case.inputs.iter().enumerate() {
        let name = format!("x{i}");
        let mut feed = |graph: &mut Graph, tensor: Tensor| {
            let id = graph.add_value(&name);
            graph.value_mut(id).dtype = Some(tensor.dtype());
            graph.value_mut(id).shape = Some(tensor.shape().iter().copied().map(Dim::Known).collect());
            graph.inputs.push(id);
            fed.push(tensor);
            id
        };
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        node.inputs.push(match *input {
            In::X(shape) => Some(feed(&mut graph, Tensor::from_f32(shape, &vec![1.5; count(shape)]))),
            In::B(shape) => {
                let bytes = vec![1u8; count(shape)].into();
                Some(feed(&mut graph, Tensor::new(DType::Bool, shape.to_vec(), bytes).unwrap()))
            }
            In::Z(dtype, shape) => {
                let bytes = vec![0u8; dtype.byte_len(count(shape)).unwrap()].into();
                Some(feed(&mut graph, Tensor::new(dtype, shape.to_vec(), bytes).unwrap()))
            }
            In::I(values) => Some(graph.add_constant(&name, Tensor::from_i64(&[values.len()], values))),
            In::S(value) => Some(graph.add_constant(&name, Tensor::from_i64(&[], &[value]))),
            In::F(values) => Some(graph.add_constant(&name, Tensor::from_f32(&[values.len()], values))),
            In::None => None,
        });
    }
    for i in 0..case.outputs {
        let id = graph.add_value(&format!("y{i}"));
        graph.outputs.push(id);
        node.outputs.push(Some(id));
    }
    graph.nodes.push(node);
    (graph, fed)
}

#[test]
fn every_value_of_every_model_has_its_real_shape_at_batch_2() {
    let mut failed = Vec::new();
    for path in models() {
        let mut graph = onnx::load(&path).unwrap();
        let inputs = random_inputs(&graph, 2, 1);
        for (id, tensor) in graph.fed_inputs().into_iter().zip(&inputs) {
            graph.value_mut(id).shape = Some(tensor.shape().iter().copied().map(Dim::Known).collect());
        }
        // What files declare must not help.
        let made: Vec<_> = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
        for &id in &made {
            let value = graph.value_mut(id);
            (value.dtype, value.shape, value.declared) = (None, None, false);
        }
        let mut tapped = graph.clone();
        tapped.outputs = made;
        infer(&mut graph).unwrap();
        let real = ort().load(&tapped, &AS_WRITTEN).unwrap().run(&inputs).unwrap();
        for (&id, real) in tapped.outputs.iter().zip(&real) {
            let value = graph.value(id);
            if value.static_shape().as_deref() != Some(real.shape()) || value.dtype != Some(real.dtype()) {
                failed.push(format!("{}: {value:?}, real {} {:?}", path.display(), real.dtype(), real.shape()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_symbolic_batch_reaches_the_output_of_every_model() {
    let mut failed = Vec::new();
    for path in models() {
        let mut graph = onnx::load(&path).unwrap();
        let input = graph.fed_inputs()[0];
        let mut shape = graph.value(input).shape.clone().unwrap();
        shape[0] = Dim::Symbol("batch".to_owned());
        graph.value_mut(input).shape = Some(shape);
        infer(&mut graph).unwrap();
        let output = &graph.value(graph.outputs[0]).shape;
        if output.as_ref().map(|s| &s[0]) != Some(&Dim::Symbol("batch".to_owned())) {
            failed.push(format!("{}: {output:?}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
