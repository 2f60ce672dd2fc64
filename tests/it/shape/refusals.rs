//! Contradictions that are certain name the node, and what was expected and found.

use dfq_onnx::Error;
use dfq_onnx::ir::{Attr, Attrs, DType, Tensor};
use dfq_onnx::shape::infer;

use crate::support::build::Build;

fn refusal(op: &str, inputs: &[&str], target: &[i64], attrs: Attrs) -> String {
    let mut g = Build::at(13);
    let mut names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    for (name, dims) in names.iter().zip(inputs) {
        g.fed(name, DType::F32, dims);
    }
    if !target.is_empty() {
        g.ints("target", target);
        names.push("target".to_owned());
    }
    g.node(op, &names.join(" "), "y", attrs);
    let mut graph = g.outputs("y");
    match infer(&mut graph) {
        Err(Error::Shape { place, message }) => format!("{place}: {message}"),
        other => format!("{other:?}, {:?}", graph.value(graph.outputs[0]).shape),
    }
}

#[test]
fn refuses_what_certainly_does_not_fit() {
    let ints = |name, values: &[i64]| Attrs::from([(name, Attr::Ints(values.to_vec()))]);
    let int = |name, value| Attrs::from([(name, Attr::Int(value))]);
    let none = Attrs::default;
    type Case<'a> = (&'a str, &'a [&'a str], &'a [i64], Attrs, &'a str);
    let cases: &[Case] = &[
        (
            "Conv",
            &["N, 3, 8, 8", "4, 5, 3, 3"],
            &[],
            none(),
            "channels of input 0 (weight channels times group): expected 5, found 3",
        ),
        (
            "Conv",
            &["N, 3, 2, 8", "4, 3, 3, 3"],
            &[],
            none(),
            "a window that spans 3 does not fit spatial axis 0 of size 2, padded by 0 and 0",
        ),
        ("Conv", &["N, 4, 8, 8", "3, 2, 3, 3"], &[], int("group", 2), "group 2 does not divide 3 output channels"),
        ("Conv", &["N, 4, 8, 8", "3, 4, 3, 3"], &[], int("group", 0), "group is 0, expected a positive number"),
        ("Conv", &["N, 4, 8, 8", "3, 4, 3, 3"], &[], ints("strides", &[1]), "strides is [1], expected 2 numbers"),
        ("Conv", &["N, 4, 8, 8", "3, 4, 3, 3", "5"], &[], none(), "size of the bias: expected 3, found 5"),
        ("MatMul", &["N, 3", "4, 5"], &[], none(), "inner dimension of input 1: expected 3, found 4"),
        ("Gemm", &["N, 3", "4, 5"], &[], none(), "inner dimension of input 1: expected 3, found 4"),
        ("Add", &["N, 3", "4"], &[], none(), "shapes [N, 3] and [4] do not broadcast: 3 against 4"),
        ("Concat", &["N, 3", "N, 4"], &[], int("axis", 0), "size 1 of input 1: expected 3, found 4"),
        ("Reshape", &["2, 3"], &[4, 2], none(), "[2, 3] cannot be reshaped to [4, 2]: the element counts differ"),
        (
            "Reshape",
            &["N, 3"],
            &[0, 2, -1],
            none(),
            "[N, 3] cannot be reshaped to [N, 2, 1] times a free size: the element counts differ",
        ),
        (
            "Transpose",
            &["2, 3"],
            &[],
            ints("perm", &[1, 1]),
            "perm [1, 1] does not permute the axes of an input of rank 2",
        ),
        ("ReduceMean", &["2, 3"], &[], ints("axes", &[2]), "axis 2 lies outside of an input of rank 2"),
        ("Squeeze", &["2, 3"], &[1], none(), "size of squeezed axis 1: expected 1, found 3"),
        (
            "BatchNormalization",
            &["N, 3, 4", "3", "3", "3", "5"],
            &[],
            none(),
            "channels of input 4: expected 3, found 5",
        ),
    ];
    let mut failed = Vec::new();
    for (op, inputs, target, attrs, expected) in cases {
        let found = refusal(op, inputs, target, attrs.clone());
        let expected = format!("node producing \"y\" ({op}): {expected}");
        if found != expected {
            failed.push(format!("expected {expected}; found {found}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_operator_without_a_rule_has_an_unknown_output() {
    let mut g = Build::at(13);
    g.fed("x", DType::F32, "N, 3");
    g.node("NoSuchOperator", "x", "y", []);
    g.node("Relu", "y", "z", []);
    let mut graph = g.outputs("z");
    infer(&mut graph).unwrap();
    let z = graph.outputs[0];
    assert_eq!((graph.value(z).dtype, &graph.value(z).shape), (None, &None));
}

#[test]
fn integers_that_would_be_too_many_are_not_followed() {
    let far = [1 << 20, 1 << 20];
    let axes = |at: usize| {
        let mut shape = vec![1; 3];
        shape[at] = 1000;
        Tensor::from_i64(&shape, &[1; 1000])
    };
    type Case<'a> = (&'a str, Vec<(&'a str, Tensor)>, &'a [usize]);
    let cases: [Case; 4] = [
        (
            "Expand",
            vec![("x", Tensor::from_i64(&[1], &[3])), ("to", Tensor::from_i64(&[2], &far))],
            &[1 << 20, 1 << 20],
        ),
        ("Add", vec![("x", axes(0)), ("y", axes(1))], &[1000, 1000, 1]),
        ("Where", vec![("c", axes(0)), ("x", axes(1)), ("y", axes(2))], &[1000, 1000, 1000]),
        ("Gather", vec![("x", axes(1)), ("at", Tensor::from_i64(&[1000], &[0; 1000]))], &[1000, 1000, 1]),
    ];
    let mut wrong = Vec::new();
    for (op, inputs, expected) in cases {
        let mut g = Build::at(13);
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        inputs.iter().for_each(|(name, tensor)| g.constant(name, tensor.clone()));
        g.node(op, &names.join(" "), "z", []);
        let mut graph = g.outputs("z");
        let inferred = infer(&mut graph);
        let found = graph.value(graph.outputs[0]).static_shape();
        if inferred.is_err() || found.as_deref() != Some(expected) {
            wrong.push(format!("{op}: {inferred:?}, {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_rank_that_no_tensor_has_is_unknown() {
    let mut wrong = Vec::new();
    for (op, inputs) in [("Reshape", "x to"), ("Expand", "x to"), ("ConstantOfShape", "to")] {
        let mut g = Build::at(13);
        g.fed("x", DType::F32, "4");
        g.fed("to", DType::I64, "1099511627776");
        g.node(op, inputs, "y", []);
        let mut graph = g.outputs("y");
        if infer(&mut graph).is_err() || graph.value(graph.outputs[0]).shape.is_some() {
            wrong.push(op);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
