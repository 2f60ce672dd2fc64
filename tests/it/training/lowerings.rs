//! A training step as it is written for ONNX Runtime on the CPU, in blocks and with kernels of our own, against the same
//! step in standard operators.

use dfq_onnx::expr::{Lowering, STANDARD};
use dfq_onnx::ir::{Attr, DType, Graph, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;
use dfq_onnx::runtime::{Engine, SessionOptions};
use dfq_onnx::train::{Distillation, Student};

use super::forward::cases;
use crate::support::build::Build;
use crate::support::net::{layer, pads, with_dynamic_batch};
use crate::support::quantized::{Quantized, quantized};
use crate::support::{fixture, ort, random_inputs, relative_rms};

/// Sums in another order.
const TOLERANCE: f64 = 1e-4;
/// Where integers cancel, a sum is zero in one order and nearly zero in another, and a Relu passes one gradient more or
/// less; at few bits that happens in small nets.
const AT_KINKS: f64 = 3e-2;
const BATCH: usize = 3;

/// Convolutions of every form that blocked kernels know and do not know, with operators between them that keep blocks,
/// that do not, and that fill them with other numbers than zeros.
fn wide() -> Graph {
    let two = || Attr::Ints(vec![2, 2]);
    let strided = |pad: i64| [("pads", Attr::Ints(vec![pad; 4])), ("strides", two())];
    let groups = |n: i64| [("pads", Attr::Ints(vec![1; 4])), ("group", n.into())];
    let mut g = Build::at(17);
    g.input("x", &[2, 3, 12, 12]);
    layer(&mut g, "Conv", "x", "c1", &[20, 3, 3, 3], 20, pads(1));
    g.node("LeakyRelu", "c1", "r1", [("alpha", 0.2.into())]);
    layer(&mut g, "Conv", "r1", "c2", &[32, 20, 3, 3], 32, strided(1));
    g.node("HardSwish", "c2", "h2", []);
    layer(&mut g, "Conv", "h2", "e2", &[32, 32, 1, 1], 32, []);
    g.node("Sigmoid", "e2", "s2", []);
    layer(&mut g, "Conv", "s2", "c3", &[32, 1, 3, 3], 32, groups(32));
    g.node("Relu", "c3", "r3", []);
    layer(&mut g, "Conv", "r3", "c4", &[32, 16, 3, 3], 32, groups(2));
    g.node("Add", "c4 r3", "a4", []);
    g.node("Relu", "a4", "r4", []);
    layer(&mut g, "Conv", "r4", "c5", &[32, 8, 3, 3], 32, groups(4));
    g.node("HardSwish", "c5", "h5", []);
    layer(&mut g, "Conv", "h5", "c6", &[18, 32, 1, 1], 18, []);
    layer(
        &mut g,
        "Conv",
        "r4",
        "d6",
        &[18, 32, 3, 3],
        18,
        [("dilations", two()), ("pads", Attr::Ints(vec![2, 1, 2, 3]))],
    );
    g.node("Mul", "c6 d6", "m6", []);
    g.node("MaxPool", "m6", "p6", [("kernel_shape", two()), ("strides", two())]);
    layer(&mut g, "Conv", "p6", "c7", &[6, 18, 3, 3], 6, pads(1));
    g.node("GlobalAveragePool", "c7", "p7", []);
    g.node("Flatten", "p7", "y", []);
    with_dynamic_batch(g.outputs("y"))
}

/// One image whose channels are scaled by what they squeeze to, a single value on the way.
fn squeezed() -> Graph {
    let mut g = Build::at(17);
    g.fed("losses", DType::F32, "1, 3, 8, 8");
    layer(&mut g, "Conv", "losses", "c1", &[16, 3, 3, 3], 16, pads(1));
    g.node("Relu", "c1", "r1", []);
    g.node("GlobalAveragePool", "r1", "p", []);
    layer(&mut g, "Conv", "p", "c2", &[1, 16, 1, 1], 1, []);
    g.constant("zero", Tensor::from_f32(&[], &[0.0]));
    g.constant("six", Tensor::from_f32(&[], &[6.0]));
    g.node("Clip", "c2 zero six", "r2", []);
    layer(&mut g, "Conv", "r2", "c3", &[16, 1, 1, 1], 16, []);
    g.node("Sigmoid", "c3", "s3", []);
    g.node("Mul", "r1 s3", "m", []);
    layer(&mut g, "Conv", "m", "y", &[4, 16, 3, 3], 4, pads(1));
    g.outputs("y")
}

/// Returns the state after one step.
fn stepped(
    distillation: &Distillation,
    lowering: &Lowering,
    inputs: &[Tensor],
) -> dfq_onnx::Result<Vec<(String, Tensor)>> {
    let step = distillation.step(batch(distillation), lowering)?;
    let mut session = ort().load_steps(&[&step.graph], &step.state, &SessionOptions::default())?;
    session.step(0, &[inputs, &[step.rates(&[1e-3], 0)]].concat())?;
    step.state.iter().enumerate().map(|(i, (name, _))| Ok((name.clone(), session.read(i)?))).collect()
}

fn batch(distillation: &Distillation) -> usize {
    distillation.teacher().fixed_batch().unwrap_or(BATCH)
}

/// Returns the largest difference of an entry of the state, relative to its size, and which it is, on the batch of three
/// where that is least.
fn difference(made: &Quantized) -> dfq_onnx::Result<(f64, String)> {
    let student = Student::new(&made.float, &made.plan, &made.solution)?;
    let distillation = Distillation::new(&made.float, student)?;
    let lowering = ort().lowering();
    let one = |seed: u64| -> dfq_onnx::Result<(f64, String)> {
        let inputs = random_inputs(distillation.teacher(), batch(&distillation), seed);
        let [found, expected] = [&lowering, &STANDARD].map(|lowering| stepped(&distillation, lowering, &inputs));
        let pairs = found?.into_iter().zip(expected?);
        let apart = pairs.map(|((name, found), (_, expected))| (relative_rms(&found, &expected), name));
        Ok(apart.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap())
    };
    // The last bit of a sum is the processor's; a batch on which it moves an activation to the next step of its grid says
    // nothing, and what is written wrongly differs on all of them.
    let batches = (5..8).map(one).collect::<dfq_onnx::Result<Vec<_>>>()?;
    Ok(batches.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap())
}

#[test]
fn a_step_on_the_cpu_is_the_step_in_standard_operators() {
    if ort().lowering().block() == STANDARD.block() {
        eprintln!("skipped: ONNX Runtime has no blocked kernels on this processor");
        return;
    }
    let policy = |weight_bits, activation_bits| Policy { weight_bits, activation_bits, ..Policy::default() };
    let mut cases = cases();
    for model in ["digits_resnet8", "digits_mobilenet"] {
        let graph = onnx::load(&fixture(&format!("{model}.onnx"))).unwrap();
        cases.push((format!("{model} w8a8"), graph.clone(), policy(8, 8)));
        cases.push((format!("{model} w4a4"), graph, policy(4, 4)));
    }
    cases.push(("every form of convolution".to_owned(), wide(), policy(8, 8)));
    let affine = Policy { symmetric: false, ..policy(4, 8) };
    cases.push(("every form of convolution, affine weights".to_owned(), wide(), affine));
    cases.push(("a single value, and an input called losses".to_owned(), squeezed(), policy(8, 8)));
    let (mut failed, mut equal, all) = (Vec::new(), 0, cases.len());
    for (name, graph, policy) in cases {
        match quantized(&graph, &policy).and_then(|made| difference(&made)) {
            Ok((apart, entry)) => {
                equal += usize::from(apart <= TOLERANCE);
                if apart.is_nan() || apart > AT_KINKS {
                    failed.push(format!("{name}: {entry} by {apart:.1e}"));
                }
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(equal > all / 2, "{equal} of {all} cases differ by no more than sums in another order");
}
