//! Batches that an exporter fixed.

use dfq_onnx::ir::{DType, Dim, Graph, Tensor};
use dfq_onnx::passes::{fix_batch, free_batch};
use dfq_onnx::runtime::{Engine, SessionOptions};
use dfq_onnx::shape;

use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::{ort, random_inputs};

/// Two samples through a convolution, whatever `tail` makes of `c: [2, 4, 5, 5]`, to `y`.
fn net(tail: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "2, 3, 5, 5");
    layer(&mut g, "Conv", "x", "c", &[4, 3, 3, 3], 4, pads(1));
    tail(&mut g);
    let mut graph = g.outputs("y");
    shape::infer(&mut graph).unwrap();
    graph
}

fn reshaped(g: &mut Build, name: &str, from: &str, to: &str, dims: &[i64]) {
    g.ints(name, dims);
    g.node("Reshape", &format!("{from} {name}"), to, []);
}

#[test]
fn a_freed_batch_gives_every_sample_what_the_fixed_one_gave_it() {
    type Tail = fn(&mut Build);
    let cases: [(&str, Tail); 4] = [
        ("flattened", |g| g.node("Flatten", "c", "y", [])),
        ("reshaped", |g| reshaped(g, "d", "c", "y", &[2, 100])),
        ("reshaped with a size left open", |g| reshaped(g, "d", "c", "y", &[2, -1, 5])),
        ("reshaped twice", |g| {
            reshaped(g, "d", "c", "t", &[2, 4, 25]);
            reshaped(g, "e", "t", "y", &[2, 100]);
        }),
    ];
    let mut failed = Vec::new();
    for (name, tail) in cases {
        let fixed = net(tail);
        let mut free = fixed.clone();
        if free_batch(&mut free) != 1 || free.fixed_batch().is_some() {
            failed.push(format!("{name}: not freed"));
            continue;
        }
        let inputs = random_inputs(&fixed, 2, 1);
        let run = |graph: &Graph, inputs: &[Tensor]| {
            ort().load(graph, &SessionOptions::default()).unwrap().run(inputs).unwrap().remove(0)
        };
        let six = Tensor::joined(&[&inputs[0], &inputs[0], &inputs[0]]).unwrap();
        let (expected, found) = (run(&fixed, &inputs), run(&free, &[six]));
        if found != Tensor::joined(&[&expected, &expected, &expected]).unwrap() {
            failed.push(format!("{name}: {found:?}"));
        }
        fix_batch(&mut free, 2).unwrap();
        let dims = |graph: &Graph| graph.value(graph.outputs[0]).shape.clone();
        if dims(&free) != dims(&fixed) || free.fixed_batch() != Some(2) || run(&free, &inputs) != expected {
            failed.push(format!("{name}: fixed again, {:?}", dims(&free)));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_depends_on_the_batch_stays_fixed() {
    let own = |g: &mut Build| {
        g.constant("own", Tensor::from_f32(&[2, 1, 1, 1], &[1.0, 2.0]));
        g.node("Add", "c own", "y", []);
    };
    let cases = [
        ("samples side by side", net(|g| reshaped(g, "d", "c", "y", &[200]))),
        ("numbers for each sample", net(own)),
        ("another axis first", net(|g| g.node("Transpose", "c", "y", [("perm", vec![1, 0, 2, 3].into())]))),
    ];
    for (name, graph) in cases {
        let mut freed = graph.clone();
        assert_eq!((free_batch(&mut freed), freed.fixed_batch()), (0, Some(2)), "{name}");
    }
    let mut open = net(|g| g.node("Flatten", "c", "y", []));
    let x = open.inputs[0];
    open.value_mut(x).shape.as_mut().unwrap()[0] = Dim::Symbol("N".to_owned());
    assert_eq!(free_batch(&mut open), 0, "it is free");
}
