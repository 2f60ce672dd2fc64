//! What each graph pass makes of a graph, that the outputs stay, and what it leaves alone.

mod affine;
mod batch;
mod batch_norm;
mod folding;
mod fusing;
mod heads;
mod models;
mod outputs;

use dfq_onnx::ir::{Attr, DType, Dim, Graph, Tensor, check};
use dfq_onnx::{Result, passes, shape};

use crate::support::build::Build;
use crate::support::net::{nodes, same_outputs};

/// Room for another order of summation, and for products that folding rounds once more.
const SAME: f64 = 1e-5;

/// A graph, and the dump of its nodes after the pass; `None` where the pass must leave it as it is.
type Case = (&'static str, Graph, Option<&'static [&'static str]>);

/// Returns what is wrong with the results of `pass`.
fn failures(pass: impl Fn(&mut Graph) -> Result<usize>, cases: Vec<Case>) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, before, expected) in cases {
        let mut after = before.clone();
        let changes = match pass(&mut after).and_then(|n| check(&after).map(|()| n)) {
            Ok(changes) => changes,
            Err(error) => {
                failed.push(format!("{name}: {error}"));
                continue;
            }
        };
        let found = nodes(&after);
        let same = match expected {
            Some(expected) => found == expected && changes > 0,
            None => found == nodes(&before) && changes == 0,
        };
        if !same {
            failed.push(format!("{name}: {changes} changes, {found:#?}"));
        }
        if let Err(message) = same_outputs(&before, &after, SAME) {
            failed.push(format!("{name}: {message}"));
        }
    }
    failed
}

fn small(opset: i64, build: impl FnOnce(&mut Build)) -> Graph {
    let mut g = Build::at(opset);
    g.input("x", &[2, 4, 6, 6]);
    build(&mut g);
    g.outputs("y")
}

#[test]
fn an_input_with_a_default_becomes_a_constant() {
    let mut before = small(7, |g| g.node("Add", "x w", "y", []));
    let w = before.find("w").unwrap();
    before.value_mut(w).constant = Some(Tensor::from_f32(&[1], &[2.0]));
    before.value_mut(w).dtype = Some(DType::F32);
    before.value_mut(w).shape = Some(vec![Dim::Known(1)]);
    before.inputs.push(w);
    before.ir_version = 3;
    let mut after = before.clone();
    assert_eq!(passes::freeze_initializer_inputs(&mut after).unwrap(), 1);
    assert_eq!((after.inputs.len(), after.ir_version), (1, 4));
    assert_eq!(nodes(&after), ["%y = Add(%x, float32[1])"]);
    before.ir_version = 4;
    same_outputs(&before, &after, 0.0).unwrap();
    assert_eq!(passes::freeze_initializer_inputs(&mut after).unwrap(), 0);
}

#[test]
fn constants_are_lifted_whatever_attribute_holds_them() {
    let with = |name: &'static str, value: Attr| {
        small(13, |g| {
            g.node("Constant", "_", "c", [(name, value)]);
            g.node("Cast", "c", "f", [("to", 1.into())]);
            g.node("Mul", "x f", "y", []);
        })
    };
    let lifted = |mut graph: Graph| {
        graph.nodes[0].inputs.clear();
        graph
    };
    let to = |constant: &'static str| -> &'static [&'static str] {
        Box::leak(vec![&*format!("%f = Cast({constant}) to=1").leak(), "%y = Mul(%x, %f)"].into_boxed_slice())
    };
    let mut output = small(13, |g| g.node("Constant", "_", "y", [("value_float", 2.0.into())]));
    output.nodes[0].inputs.clear();
    let cases = vec![
        ("value", lifted(with("value", Tensor::from_f32(&[1], &[2.0]).into())), Some(to("float32[1]"))),
        ("value_int", lifted(with("value_int", 3.into())), Some(to("[3]"))),
        ("value_ints", lifted(with("value_ints", vec![3].into())), Some(to("[3]"))),
        ("value_float", lifted(with("value_float", 3.0.into())), Some(to("float32[]"))),
        ("value_floats", lifted(with("value_floats", Attr::Floats(vec![3.0]))), Some(to("float32[1]"))),
        ("a constant that is a graph output", output, None),
    ];
    let failed = failures(passes::lift_constants, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn nodes_that_hand_on_their_input_go_and_others_stay() {
    let dropout = |opset, outputs: &'static str, attrs: Vec<(&'static str, Attr)>| {
        let mut graph = small(opset, |g| {
            g.node("Dropout", "x", outputs, []);
            g.node("Relu", "h", "y", []);
        });
        attrs.into_iter().for_each(|(name, value)| graph.nodes[0].set(name, value));
        graph
    };
    let mut mask_read = dropout(13, "h m", vec![]);
    let mask = mask_read.find("m").unwrap();
    mask_read.outputs.push(mask);
    let mode = |trains: i32| {
        small(13, |g| {
            g.constant("ratio", Tensor::from_f32(&[], &[0.0]));
            g.constant("mode", Tensor::from_ints(DType::U8, &[], &[trains]).unwrap());
            g.node("Cast", "mode", "trains", [("to", 9.into())]);
            g.node("Dropout", "x ratio trains", "h", []);
            g.node("Relu", "h", "y", []);
        })
    };
    let constant_mode = |trains: u8| {
        small(13, |g| {
            g.constant("ratio", Tensor::from_f32(&[], &[0.0]));
            g.constant("trains", Tensor::new(DType::Bool, vec![], vec![trains].into()).unwrap());
            g.node("Dropout", "x ratio trains", "h", []);
            g.node("Relu", "h", "y", []);
        })
    };
    let mut two_outputs = small(13, |g| {
        g.node("Relu", "x", "h", []);
        g.node("Identity", "h", "y", []);
    });
    two_outputs.outputs.insert(0, two_outputs.find("h").unwrap());
    let cast = |to: i64| {
        let mut graph = small(13, |g| {
            g.node("Cast", "x", "h", [("to", to.into())]);
            g.node("Relu", "h", "y", []);
        });
        shape::infer(&mut graph).unwrap();
        graph
    };
    const RELU: &[&str] = &["%y = Relu(%x)"];
    let cases = vec![
        (
            "Identity",
            small(13, |g| {
                g.node("Identity", "x", "h", []);
                g.node("Relu", "h", "y", []);
            }),
            Some(RELU),
        ),
        (
            "Identity that makes the output",
            small(13, |g| {
                g.node("Relu", "x", "h", []);
                g.node("Identity", "h", "y", []);
            }),
            Some(RELU),
        ),
        (
            "output of another reader's tensor",
            small(13, |g| {
                g.node("Relu", "x", "h", []);
                g.node("Identity", "h", "y", []);
                g.node("Neg", "h", "z", []);
            }),
            Some(&["%y = Relu(%x)", "%z = Neg(%y)"]),
        ),
        ("Dropout", dropout(13, "h", vec![]), Some(RELU)),
        ("Dropout with a mask that nobody reads", dropout(13, "h m", vec![]), Some(RELU)),
        ("Dropout of opset 10", dropout(10, "h", vec![("ratio", 0.5.into())]), Some(RELU)),
        ("Cast to the same type", cast(1), Some(RELU)),
        ("Cast to another type", cast(11), None),
        ("input straight to output", small(13, |g| g.node("Identity", "x", "y", [])), None),
        ("Dropout whose mask is read", mask_read, None),
        ("Dropout whose mode is computed", mode(0), None),
        ("Dropout that may train", constant_mode(1), None),
        ("Dropout that is told not to train", constant_mode(0), Some(RELU)),
        ("Identity between two outputs", two_outputs, None),
    ];
    let failed = failures(passes::drop_identity, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn shapes_are_fixed_by_name_and_symbol() {
    let graph = || {
        let mut g = Build::at(13);
        g.input("a", &[1, 3]);
        g.input("b", &[1, 3]);
        g.node("Add", "a b", "y", []);
        let mut graph = g.outputs("y");
        for id in graph.inputs.clone() {
            graph.value_mut(id).shape = Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(3)]);
        }
        graph
    };
    let fixed = |shapes: &[(&str, &[usize])]| {
        let mut graph = graph();
        // 9 stands for a size that stays open.
        let size = |&n: &usize| Some(n).filter(|&n| n != 9);
        let shapes: Vec<_> =
            shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.iter().map(size).collect())).collect();
        match passes::fix_shapes(&mut graph, &shapes) {
            Ok(_) => dfq_onnx::ir::text(&graph).lines().next().unwrap().to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let cases: Vec<(&str, String, &str)> = vec![
        ("nothing given", fixed(&[]), "inputs %a: float32[N, 3], %b: float32[N, 3]"),
        ("one given", fixed(&[("a", &[4, 3])]), "inputs %a: float32[4, 3], %b: float32[4, 3]"),
        ("a declared size replaced", fixed(&[("a", &[4, 5])]), "inputs %a: float32[4, 5], %b: float32[4, 3]"),
        ("unknown name", fixed(&[("c", &[4, 3])]), "it has \"a\", \"b\""),
        ("another rank", fixed(&[("a", &[4, 3, 1])]), "the model declares [N, 3]"),
        ("a size of 0", fixed(&[("a", &[0, 3])]), "has a size of 0"),
        ("one left open", fixed(&[("a", &[9, 5])]), "inputs %a: float32[N, 5], %b: float32[N, 3]"),
        ("two sizes", fixed(&[("a", &[4, 3]), ("b", &[5, 3])]), "inputs %a: float32[4, 3], %b: float32[5, 3]"),
    ];
    let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| !found.contains(expected)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
