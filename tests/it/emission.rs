//! What the emitted file looks like, and that it computes what its grids say.

mod fake_quantized;
mod float_paths;
mod models;
mod names;

use dfq_onnx::ir::{DType, Dim, Graph, Node, Tensor};
use dfq_onnx::plan::{Policy, Target};

use crate::support::build::Build;
use crate::support::net::{layer, pads, with_dynamic_batch};
use crate::support::quantized::{Quantized, quantized};

/// Returns a network with all that emission treats in its own way; channel 1 of `c1` has no weights, channel 2 of `c3`
/// next to none.
pub fn network() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[2, 3, 8, 8]);
    layer(&mut g, "Conv", "x", "c1", &[6, 3, 3, 3], 6, pads(1));
    g.constant("zero", Tensor::from_f32(&[], &[0.0]));
    g.constant("six", Tensor::from_f32(&[], &[6.0]));
    g.node("Clip", "c1 zero six", "r1", []);
    layer(&mut g, "Conv", "r1", "c2", &[4, 6, 1, 1], 0, []);
    g.node("Relu", "c2", "r2", []);
    let side = |n: i64| vec![n, n].into();
    g.node("MaxPool", "r1", "p1", [("kernel_shape", side(3)), ("strides", side(1)), ("pads", vec![1; 4].into())]);
    g.node("Concat", "r2 p1", "j", [("axis", 1.into())]);
    layer(&mut g, "Conv", "j", "c3", &[10, 10, 3, 3], 10, pads(1));
    g.node("Add", "c3 j", "s", []);
    g.node("Relu", "s", "r3", []);
    layer(
        &mut g,
        "Conv",
        "r3",
        "c4",
        &[12, 5, 3, 3],
        12,
        [("strides", side(2)), ("pads", vec![1; 4].into()), ("group", 2.into())],
    );
    for (name, values) in [("from", [0, 0]), ("to", [99, 99]), ("axes", [2, 3]), ("steps", [2, 2])] {
        g.constant(name, Tensor::from_i64(&[2], &values));
    }
    g.constant("wider", Tensor::from_i64(&[8], &[0, 1, 0, 0, 0, 1, 0, 0]));
    g.node("Slice", "r3 from to axes steps", "half", []);
    g.node("Pad", "half wider", "wide", []);
    g.node("Add", "c4 wide", "s2", []);
    g.node("Relu", "s2", "r4", []);
    g.node("GlobalAveragePool", "r4", "m", []);
    g.node("Flatten", "m", "f", []);
    layer(&mut g, "Gemm", "f", "y", &[5, 12], 5, [("transB", 1.into())]);
    let mut graph = with_dynamic_batch(g.outputs("y"));
    scale_channel(&mut graph, "c1_w", 1, 0.0);
    scale_channel(&mut graph, "c3_w", 2, 1e-12);
    graph
}

fn scale_channel(graph: &mut Graph, weight: &str, channel: usize, by: f32) {
    let id = graph.find(weight).unwrap();
    let tensor = graph.constant_of(id).unwrap().clone();
    let mut values = tensor.to_f32().unwrap();
    let inner = values.len() / tensor.shape()[0];
    values[channel * inner..][..inner].iter_mut().for_each(|v| *v *= by);
    graph.value_mut(id).constant = Some(Tensor::from_f32(tensor.shape(), &values));
}

/// Every precision, granularity and target with unsigned activations that files differ by.
fn policies() -> Vec<(String, Policy)> {
    let mut policies = Vec::new();
    let named = |kind: &str, policy: Policy| {
        let Policy { target, weight_bits, activation_bits, .. } = policy;
        (format!("w{weight_bits}a{activation_bits} {target:?}{kind}"), policy)
    };
    let at =
        |target, (weight_bits, activation_bits)| Policy { target, weight_bits, activation_bits, ..Policy::default() };
    for target in [Target::Onnx, Target::OrtCpu] {
        for bits in [(8, 8), (4, 4), (2, 3), (3, 5), (8, 4)] {
            policies.push(named("", at(target, bits)));
        }
        for bits in [(8, 8), (4, 4)] {
            policies.push(named(" per tensor", Policy { per_channel: false, ..at(target, bits) }));
            policies.push(named(" affine", Policy { symmetric: false, ..at(target, bits) }));
        }
    }
    for target in [Target::OpenVino, Target::Portable] {
        policies.push(named("", at(target, (4, 4))));
        policies.push(named(" in a reduced range", Policy { reduce_range: true, ..at(target, (8, 8)) }));
    }
    policies
}

fn constant(graph: &Graph, node: &Node, input: usize) -> Option<Tensor> {
    graph.constant_of(node.input(input)?).cloned()
}

fn maker<'a>(graph: &'a Graph, node: &Node, input: usize) -> Option<&'a Node> {
    let id = node.input(input)?;
    graph.nodes.iter().find(|n| n.outputs.contains(&Some(id)))
}

fn ints(tensor: &Tensor) -> Vec<i64> {
    tensor.to_i64().unwrap()
}

/// Returns what is wrong with the look of an emitted graph.
fn structure_errors(made: &Quantized, policy: &Policy) -> Vec<String> {
    let graph = &made.emitted;
    let mut wrong = Vec::new();
    let packs = made.plan.weights.iter().any(|w| w.packed);
    if packs != (policy.target == Target::Onnx && policy.weight_bits <= 4) {
        wrong.push(format!("packed: {packs}"));
    }
    let expected = if packs { (21, 10) } else { (13, 7) };
    if (graph.opset(), graph.ir_version) < expected {
        wrong.push(format!("opset {} in file format {}", graph.opset(), graph.ir_version));
    }
    let mut names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).filter(|n| !n.is_empty()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() != count {
        wrong.push("two nodes of one name".to_owned());
    }
    let first = graph.value(graph.inputs[0]).shape.as_ref().map(|shape| shape[0].clone());
    if first != Some(Dim::Symbol("N".to_owned())) {
        wrong.push(format!("batch {first:?}"));
    }
    for node in graph.nodes.iter().filter(|n| n.is("QuantizeLinear")) {
        if constant(graph, node, 2).is_none_or(|zero| zero.dtype() != DType::U8 || !zero.shape().is_empty()) {
            wrong.push(format!("{}: not uint8 with a zero point", graph.describe(node)));
        }
    }
    wrong.extend(grid_errors(made, policy));
    wrong.extend(layer_errors(made, policy));
    wrong
}

/// Checks that roots below 8 bits are clipped as integers, and that one grid is one scale.
fn grid_errors(made: &Quantized, policy: &Policy) -> Vec<String> {
    let graph = &made.emitted;
    let mut wrong = Vec::new();
    for activation in &made.plan.activations {
        let mut scales = Vec::new();
        for name in &activation.quantized {
            let read = |id| graph.nodes.iter().find(move |n| n.input(0) == Some(id) && n.is("QuantizeLinear"));
            // What was parted from a tensor is read behind the grid of that, or from it where it has none.
            let sources = match name.strip_suffix("_narrowed") {
                Some(whole) => vec![format!("{whole}_dequantized"), whole.to_owned()],
                None => vec![name.clone()],
            };
            let Some(q) = sources.iter().find_map(|source| graph.find(source).and_then(read)) else {
                wrong.push(format!("{name} is not quantized"));
                continue;
            };
            scales.push((q.input(1), q.input(2)));
            let clip = graph.nodes.iter().find(|n| n.is("Clip") && n.input(0) == q.output(0));
            let narrow = activation.scheme.bits < 8 && activation.roots.contains(name);
            let top = clip.map(|clip| ints(&constant(graph, clip, 2).unwrap())[0]);
            let end = (1 << activation.scheme.bits) - 1;
            // Integer kernels want a ReLU6 in integers too.
            let own = policy.target.choices().clips_in_integers && top.is_some_and(|top| top <= end);
            if top != narrow.then_some(end) && !own {
                wrong.push(format!("{name} at {} bits: clipped to {top:?}", activation.scheme.bits));
            }
        }
        scales.dedup();
        if scales.len() > 1 {
            wrong.push(format!("{:?} of {:?} has several scales", activation.quantized, policy.target));
        }
    }
    wrong
}

/// Checks how weights and biases are stored.
fn layer_errors(made: &Quantized, policy: &Policy) -> Vec<String> {
    let graph = &made.emitted;
    let mut wrong = Vec::new();
    for layer in &made.plan.layers {
        let node = graph.nodes.iter().find(|n| {
            let weight = maker(graph, n, 1).and_then(|dq| dq.input(0)).map(|id| graph.name_of(id).to_owned());
            n.op_type == layer.op_type
                && weight == layer.weight.map(|w| format!("{}_quantized", made.plan.weights[w].tensor))
        });
        let (Some(node), Some(index)) = (node, layer.weight) else {
            wrong.push(format!("{}: no such layer", layer.name));
            continue;
        };
        let solved = &made.solution.weights[index];
        let scheme = solved.grid.scheme;
        let dq = maker(graph, node, 1).unwrap();
        let (stored, scale) = (constant(graph, dq, 0).unwrap(), constant(graph, dq, 1).unwrap());
        let dtype = match (scheme.bits <= 4 && policy.target == Target::Onnx, policy.symmetric) {
            (true, true) => DType::I4,
            (true, false) => DType::U4,
            (false, true) => DType::I8,
            (false, false) => DType::U8,
        };
        let channels = if policy.per_channel { stored.shape()[0] } else { 1 };
        let axis = dq.attrs.get("axis").is_some();
        if stored.dtype() != dtype || scale.len() != channels || axis != policy.per_channel {
            wrong.push(format!("{}: {} with {} scales, axis {axis}", layer.name, stored.dtype(), scale.len()));
        }
        wrong.extend(nearest_errors(made, &layer.name, index, &stored, &scale, &constant(graph, dq, 2).unwrap()));
        let Some(bias) = maker(graph, node, 2) else { continue };
        let x_scale = made.solution.activations[layer.input].scale[0];
        let product: Vec<f32> = scale.to_f32().unwrap().iter().map(|w| x_scale * w).collect();
        let bias_scale = constant(graph, bias, 1).unwrap().to_f32().unwrap();
        let integers = constant(graph, bias, 0).unwrap();
        if bias_scale != product || integers.dtype() != DType::I32 || bias.inputs.len() != 2 {
            wrong.push(format!("{}: bias {} with scale {bias_scale:?}", layer.name, integers.dtype()));
        }
        let overflown = ints(&integers).iter().any(|q| q.abs() > 1 << 30);
        if overflown {
            wrong.push(format!("{}: the bias leaves no room in int32", layer.name));
        }
    }
    wrong
}

/// Checks integer by integer that the stored weight is the nearest one of its grid.
fn nearest_errors(
    made: &Quantized,
    layer: &str,
    index: usize,
    stored: &Tensor,
    scale: &Tensor,
    zero: &Tensor,
) -> Vec<String> {
    let student = &made.float;
    let float = student.constant_of(student.find(&made.plan.weights[index].tensor).unwrap()).unwrap().to_f32().unwrap();
    let (lo, hi) = made.solution.weights[index].grid.scheme.int_range();
    let (scale, zero) = (scale.to_f32().unwrap(), ints(zero));
    let inner = float.len() / scale.len();
    let mut wrong = Vec::new();
    for (i, (&q, &w)) in ints(stored).iter().zip(&float).enumerate() {
        let (s, z) = (f64::from(scale[i / inner]), zero[i / inner]);
        let error = |q: i64| ((q - z) as f64 * s - f64::from(w)).abs();
        // A tie has two nearest integers, and f32 may see a tie where f64 sees none.
        let slack = 1e-6 * f64::from(w).abs().max(s);
        let inside = q >= i64::from(lo) && q <= i64::from(hi);
        let better =
            [q - 1, q + 1].into_iter().any(|n| n >= i64::from(lo) && n <= i64::from(hi) && error(n) + slack < error(q));
        if better || !inside {
            wrong.push(format!("{layer}: integer {i} is {q} for {w} on scale {s}"));
        }
    }
    wrong.truncate(3);
    if let Some(dead) = scale.iter().position(|s| !s.is_normal() || *s <= 0.0) {
        wrong.push(format!("{layer}: scale {dead} is {}", scale[dead]));
    }
    wrong
}

#[test]
fn emitted_graphs_have_the_look_that_their_target_wants() {
    let mut failed = Vec::new();
    let graph = network();
    for (name, policy) in policies() {
        let made = quantized(&graph, &policy).unwrap();
        failed.extend(structure_errors(&made, &policy).into_iter().map(|message| format!("{name}: {message}")));
        let planned = made.plan.weights.iter().any(|weight| weight.tensor == "c1_w");
        if policy.per_channel && planned {
            let scale = made.emitted.find("c1_w_scale").and_then(|id| made.emitted.constant_of(id).cloned());
            let scale = scale.unwrap().to_f32().unwrap();
            // The bias of a channel without weights still has to fit int32, which scale 1 allows.
            if scale[1] != 1.0 {
                failed.push(format!("{name}: a channel of zeros has scale {}", scale[1]));
            }
            if made.solution.enlarged != [("c3_w".to_owned(), 1)] {
                failed.push(format!("{name}: enlarged {:?}", made.solution.enlarged));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
