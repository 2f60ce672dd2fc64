//! A loaded model inside a graph that is being built.

use std::collections::BTreeSet;

use dfq_onnx::expr::{Builder, OPSET, inline};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions};
use dfq_onnx::{onnx, passes, shape};

use crate::support::{fixture, models, ort, random_inputs, relative_rms};

const BATCH: usize = 3;
/// The order of sums may change.
const SAME: f64 = 1e-5;

/// The model as recipes see it, in the operator set of built graphs.
fn prepared(path: &std::path::Path) -> Graph {
    let mut graph = onnx::load(path).unwrap();
    passes::normalise(&mut graph, ort()).unwrap();
    passes::fold(&mut graph).unwrap();
    onnx::upgrade(&mut graph, OPSET).unwrap();
    shape::infer(&mut graph).unwrap();
    graph
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    ort().load(graph, &SessionOptions::default()).unwrap().run(inputs).unwrap()
}

#[test]
fn every_model_gives_the_same_inside_another_graph() {
    let mut failed = Vec::new();
    for path in models() {
        let graph = prepared(&path);
        let inputs = random_inputs(&graph, BATCH, 3);
        let builder = Builder::new("around");
        let fed: Vec<_> = inputs.iter().map(|t| builder.input("image", DType::F32, t.shape())).collect();
        let mut told = BTreeSet::new();
        let mut twice = Vec::new();
        let inlined = inline(&builder, &graph, &fed, &mut |name, tensor| {
            if !told.insert(name.to_owned()) {
                twice.push(name.to_owned());
            }
            tensor
        });
        let outputs: Vec<_> = inlined.unwrap().outputs.into_iter().map(|y| y.unary("Identity")).collect();
        let names: Vec<String> = (0..outputs.len()).map(|i| format!("out{i}")).collect();
        let named: Vec<_> = names.iter().map(String::as_str).zip(outputs).collect();
        let errors: Vec<f64> = match builder.finish(&named) {
            Ok(around) => {
                let expected = run(&graph, &inputs);
                run(&around, &inputs).iter().zip(&expected).map(|(f, e)| relative_rms(f, e)).collect()
            }
            Err(e) => {
                failed.push(format!("{}: {e}", path.display()));
                continue;
            }
        };
        if errors.len() != graph.outputs.len() || errors.iter().any(|&e| e > SAME) || !twice.is_empty() {
            failed.push(format!("{}: {errors:?}, told twice: {twice:?}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_tap_puts_something_in_a_tensor_s_place() {
    let graph = prepared(&fixture("digits_resnet8.onnx"));
    let inputs = random_inputs(&graph, BATCH, 3);
    let builder = Builder::new("doubled");
    let x = builder.input("image", DType::F32, inputs[0].shape());
    let last = graph.nodes.last().unwrap().input(1).unwrap();
    let name = graph.name_of(last).to_owned();
    let inlined = inline(&builder, &graph, &[x], &mut |tensor, e| if tensor == name { e * 2.0 } else { e }).unwrap();
    let seen = inlined.tensors[&graph.nodes[0].output(0).unwrap()];
    let doubled = builder.finish(&[("logits", inlined.outputs[0]), ("first", seen)]).unwrap();
    let mut by_hand = graph.clone();
    let weight = graph.constant_of(last).unwrap();
    let values: Vec<f32> = weight.to_f32().unwrap().into_iter().map(|v| 2.0 * v).collect();
    by_hand.value_mut(last).constant = Some(Tensor::from_f32(weight.shape(), &values));
    let found = run(&doubled, &inputs);
    assert!(relative_rms(&found[0], &run(&by_hand, &inputs)[0]) < SAME);
    assert_eq!(found[1].shape(), seen.shape(), "an inner tensor can be looked at");
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let graph = prepared(&fixture("digits_resnet8.onnx"));
    let mut old = graph.clone();
    old.set_opset(13);
    let builder = Builder::new("refused");
    let image = builder.input("image", DType::F32, &[2, 1, 8, 8]);
    let wide = builder.input("wide", DType::F32, &[2, 5, 8, 8]);
    let mut same = |_: &str, e| e;
    let cases = [
        ("operator set", inline(&builder, &old, &[image], &mut same).map(|_| ()), "upgrade the graph first"),
        ("number of inputs", inline(&builder, &graph, &[], &mut same).map(|_| ()), "takes 1 inputs, 0 were given"),
        ("shape of an input", inline(&builder, &graph, &[wide], &mut same).map(|_| ()), "does not fit"),
    ];
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, found, expected)| match found {
            Err(e) if e.to_string().contains(expected) => None,
            other => Some(format!("{name}: {other:?}")),
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
