//! What differences of a function cannot show: kinks, ties, element types, and what is refused.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{Attr, DType, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};

use super::cases::cases;
use super::{Case, floats};
use crate::support::ort;

/// Makes one result of one operand.
type Make = for<'b> fn(Expr<'b>) -> Expr<'b>;

/// A function, the shape and elements of its operand, and the gradient of its sum.
type Row = (&'static str, Make, &'static [usize], &'static [f32], &'static [f32]);

#[test]
fn kinks_and_ties_have_the_gradient_that_is_documented() {
    let rows: &[Row] = &[
        ("Relu at zero", |x| x.relu(), &[3], &[-1.0, 0.0, 1.0], &[0.0, 0.0, 1.0]),
        ("Clip at its bounds", |x| x.clip(-1.0, 1.0), &[4], &[-1.0, 1.0, 1.5, 0.0], &[1.0, 1.0, 0.0, 1.0]),
        ("Abs at zero", |x| x.abs(), &[2], &[0.0, -2.0], &[0.0, -1.0]),
        ("ReduceMax shares", |x| x.largest(&[0], true), &[4], &[2.0, 1.0, 2.0, 0.0], &[0.5, 0.0, 0.5, 0.0]),
        ("Max takes the first", |x| x.max(x * 1.0), &[2], &[2.0, 1.0], &[1.0, 1.0]),
        ("MaxPool shares in blocks", |x| pool(x, 2, 2), &[1, 1, 4], &[3.0, 3.0, 1.0, 0.0], &[0.5, 0.5, 1.0, 0.0]),
        ("MaxPool takes the first", |x| pool(x, 2, 1), &[1, 1, 3], &[3.0, 3.0, 1.0], &[1.0, 1.0, 0.0]),
        ("Pow of zero", |x| x.powf(1.0), &[2], &[0.0, 2.0], &[1.0, 1.0]),
        ("Pow to zero", |x| x.powf(0.0), &[2], &[0.0, 2.0], &[0.0, 0.0]),
        ("Pow of less than zero", |x| x.powf(2.0), &[2], &[0.0, -3.0], &[0.0, -6.0]),
    ];
    let mut failed = Vec::new();
    for (name, make, shape, values, expected) in rows {
        let builder = Builder::new("kink");
        let x = builder.input("x", DType::F32, shape);
        let dx = gradients(make(x).sum(&[], false), &[x]).unwrap()[0];
        let graph = builder.finish(&[("dx", dx.unary("Identity"))]).unwrap();
        for engine in [ort() as &dyn Engine, &TractEngine] {
            let mut session = engine.load(&graph, &SessionOptions::default()).unwrap();
            let found = floats(&session.run(&[Tensor::from_f32(shape, values)]).unwrap()[0]);
            if found != *expected {
                failed.push(format!("{name} in {}: expected {expected:?}, found {found:?}", engine.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_pool_tells_its_places_only_where_its_gradient_is_read() {
    let builder = Builder::new("pool");
    let x = builder.input("x", DType::F32, &[1, 1, 6]);
    let y = pool(x, 3, 2);
    let dx = gradients((y * y).sum(&[], false), &[x]).unwrap()[0];
    for (outputs, told) in [(&[("y", y), ("dx", dx)][..], 2), (&[("y", y)], 1)] {
        let graph = builder.finish(outputs).unwrap();
        let pools: Vec<_> = graph.nodes.iter().filter(|node| node.op_type == "MaxPool").collect();
        assert_eq!(pools.iter().map(|node| node.outputs.len()).collect::<Vec<_>>(), [told]);
    }
}

fn pool(x: Expr<'_>, kernel: i64, stride: i64) -> Expr<'_> {
    let attrs = [("kernel_shape", Attr::Ints(vec![kernel])), ("strides", Attr::Ints(vec![stride]))];
    x.builder().apply("MaxPool", &[x], attrs)
}

/// Returns an error unless the gradients of a case whose operands have the type `dtype` make a valid graph.
fn check_types(case: &Case, dtype: DType) -> Result<(), String> {
    let builder = Builder::new("typed");
    let inputs: Vec<Expr> = case.operands.iter().map(|(shape, _)| builder.input("x", dtype, shape)).collect();
    let terms = (case.build)(&inputs).into_iter().map(|y| (y * 2.0).sum(&[], false));
    let loss = terms.reduce(|sum, term| sum + term).ok_or("makes no result")?;
    let found = gradients(loss, &inputs).map_err(|e| e.to_string())?;
    if let Some(other) = found.iter().find(|e| e.dtype() != dtype) {
        return Err(format!("a gradient is {other:?}"));
    }
    let outputs: Vec<Expr> = found.iter().map(|e| e.unary("Identity")).collect();
    let names: Vec<String> = (0..outputs.len()).map(|i| format!("d{i}")).collect();
    let pairs: Vec<(&str, Expr)> = names.iter().map(String::as_str).zip(outputs).collect();
    let graph = builder.finish(&pairs).map_err(|e| e.to_string())?;
    ort().load(&graph, &SessionOptions::default()).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn rules_keep_half_precision() {
    let failed: Vec<String> = cases()
        .iter()
        .filter_map(|case| Some(format!("{} {}: {}", case.op_type, case.form, check_types(case, DType::F16).err()?)))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_a_rule_does_not_handle_is_refused_by_name() {
    let rows: &[(&str, Make)] = &[
        ("mode cubic", |x| resize(x, "mode", "cubic")),
        ("antialias 1", |x| {
            let sizes = x.builder().ints(&[1, 2, 6, 6]);
            x.builder().call(
                "Resize",
                &[Some(x), None, None, Some(sizes)],
                [("antialias", Attr::Int(1)), ("mode", "linear".into())],
                1,
            )[0]
        }),
        ("tf_half_pixel_for_nn", |x| resize(x, "coordinate_transformation_mode", "tf_half_pixel_for_nn")),
        ("only its first output has a gradient", |x| {
            let scale = x.builder().constant("scale", Tensor::from_f32(&[4], &[1.0; 4]));
            let made = x.builder().call("LayerNormalization", &[Some(x), Some(scale)], [], 2);
            made[0] + made[1]
        }),
        ("no gradient with respect to its input 2", |x| {
            let widths = x.builder().ints(&[0, 0, 0, 0, 0, 0, 1, 1]);
            x.builder().apply("Pad", &[x, widths, x.sum(&[], false)], [])
        }),
        ("mode is wrap", |x| padded(x, "wrap", 1)),
        ("mode is reflect with the widths [0, -1]", |x| padded(x, "reflect", -1)),
        ("mode is edge with the widths [0, -1]", |x| padded(x, "edge", -1)),
        ("storage_order", |x| {
            let mut attrs = dfq_onnx::ir::Attrs::from([("kernel_shape", Attr::Ints(vec![2, 2]))]);
            attrs.set("storage_order", 1);
            x.builder().call("MaxPool", &[Some(x)], attrs, 2)[0]
        }),
        ("bounds are trained", |x| x.builder().apply("Clip", &[x, x.sum(&[], false)], [])),
    ];
    let mut failed = Vec::new();
    for (expected, make) in rows {
        let builder = Builder::new("refused");
        let x = builder.input("x", DType::F32, &[1, 2, 4, 4]);
        match gradients(make(x).sum(&[], false), &[x]) {
            Err(error) if error.to_string().contains(expected) => {}
            Err(error) => failed.push(format!("{expected}: found {error}")),
            Ok(_) => failed.push(format!("{expected}: found a gradient ({:?})", builder.finish(&[]).err())),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn padded<'b>(x: Expr<'b>, mode: &str, width: i64) -> Expr<'b> {
    let widths = x.builder().ints(&[0, 0, 0, 0, 0, 0, width, 0]);
    x.builder().apply("Pad", &[x, widths], [("mode", mode.into())])
}

fn resize<'b>(x: Expr<'b>, name: &str, value: &str) -> Expr<'b> {
    let sizes = x.builder().ints(&[1, 2, 6, 6]);
    x.builder().call("Resize", &[Some(x), None, None, Some(sizes)], [(name, value.into())], 1)[0]
}
