//! An engine that computes something else is found node by node, one that rounds differently is not.

use dfq_onnx::ir::{Attr, Attrs, Graph, Node, Tensor, is_quantize};
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::runtime::{Engine, Optimisation, Session, SessionOptions, StepSession, TractEngine};
use dfq_onnx::verify::{Check, Engines, Verification, VerifyOptions, cut, find_quantizers, verify};
use dfq_onnx::{Error, Result, onnx};

use super::{INT4, INT8, change, failed, named};
use crate::support::optimised::optimised;
use crate::support::qdq::{Qdq, U8};
use crate::support::qdq_net::{float_net, quantized_net};
use crate::support::quantized::quantized;
use crate::support::{fixture, ort};

/// An engine that runs another graph than the one it is given, where it optimises.
struct Faulty<'a> {
    engine: &'a dyn Engine,
    fault: &'a (dyn Fn(&mut Graph) + Send + Sync),
}

impl Faulty<'_> {
    fn spoilt(&self, graph: &Graph, options: &SessionOptions) -> Graph {
        let mut graph = graph.clone();
        // The float model and the reference run as they are.
        if options.optimisation == Optimisation::Default && graph.nodes.iter().any(is_quantize) {
            (self.fault)(&mut graph);
        }
        graph
    }
}

impl Engine for Faulty<'_> {
    fn name(&self) -> String {
        format!("faulty {}", self.engine.name())
    }

    fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>> {
        self.engine.load(&self.spoilt(graph, options), options)
    }

    fn load_steps(
        &self,
        graphs: &[&Graph],
        state: &[(String, Tensor)],
        options: &SessionOptions,
    ) -> Result<Box<dyn StepSession>> {
        self.engine.load_steps(graphs, state, options)
    }
}

fn scaled(name: &'static str, factor: f32) -> impl Fn(&mut Graph) + Send + Sync {
    move |graph| {
        change(graph, name, |t| {
            let values: Vec<f32> = t.to_f32().unwrap().iter().map(|v| v * factor).collect();
            Tensor::from_f32(t.shape(), &values)
        });
    }
}

/// Moves one integer towards zero.
fn shifted(name: &'static str, at: usize, by: i32) -> impl Fn(&mut Graph) + Send + Sync {
    move |graph| {
        change(graph, name, |t| {
            let mut values: Vec<i32> = t.to_i64().unwrap().iter().map(|&v| i32::try_from(v).unwrap()).collect();
            values[at] -= values[at].signum() * by;
            Tensor::from_ints(t.dtype(), t.shape(), &values).unwrap()
        });
    }
}

/// Adds `offset` steps to what the quantizer of `tensor` reads.
fn before_quantizer(tensor: &'static str, offset: f32) -> impl Fn(&mut Graph) + Send + Sync {
    move |graph| {
        let scale = graph.constant_of(graph.find(&format!("{tensor}_scale")).unwrap()).unwrap().to_f32().unwrap()[0];
        add_before(graph, tensor, offset * scale);
    }
}

fn add_before(graph: &mut Graph, tensor: &str, by: f32) {
    let by = graph.add_constant("by", Tensor::from_f32(&[], &[by]));
    let x = graph.find(tensor).unwrap();
    let Some(at) = graph.nodes.iter().position(|n| is_quantize(n) && n.input(0) == Some(x)) else { return };
    let moved = graph.add_value("moved");
    graph.nodes[at].inputs[0] = Some(moved);
    graph.nodes.insert(at, Node::new("Add", [x, by], [moved], Attrs::default()));
}

fn other_operator(name: &'static str, op: &'static str) -> impl Fn(&mut Graph) + Send + Sync {
    move |graph| {
        let at = graph.nodes.iter().position(|n| n.name == name).unwrap();
        graph.nodes[at].op_type = op.to_owned();
    }
}

type Fault = Box<dyn Fn(&mut Graph) + Send + Sync>;

fn checked(engine: &dyn Engine, fault: &Fault, is_second: bool) -> Verification {
    let faulty = Faulty { engine, fault: fault.as_ref() };
    let engines = match is_second {
        true => Engines { ort: Some(ort()), tract: Some(&faulty) },
        false => Engines { ort: Some(&faulty), tract: Some(&TractEngine) },
    };
    let options = VerifyOptions { samples: 8, ..VerifyOptions::default() };
    verify(&float_net(), &quantized_net(INT8), &engines, None, &options).unwrap()
}

#[test]
fn every_fault_of_an_engine_is_found_node_by_node_in_kernels_of_floats_and_of_integers() {
    let faults: [(&str, Fault); 12] = [
        ("scale of an activation, 1 % up", Box::new(scaled("relu1_scale", 1.01))),
        ("scale of a weight, 1 % down", Box::new(scaled("conv2.weight_scale", 0.99))),
        ("zero point of an activation", Box::new(shifted("conv2_zero_point", 0, 1))),
        ("one bias", Box::new(shifted("conv1.bias_integers", 2, 40))),
        ("one weight", Box::new(shifted("conv1.weight_integers", 20, 5))),
        ("upper bound of 4 bits", Box::new(shifted("bound_1", 0, 10))),
        ("rounds down", Box::new(before_quantizer("conv2", -0.5))),
        ("rounds a twentieth of a step too late", Box::new(before_quantizer("relu1", -0.05))),
        ("rounds a hundredth of a step too late", Box::new(before_quantizer("conv2", -0.01))),
        ("another activation", Box::new(other_operator("relu1", "Abs"))),
        ("another pooling", Box::new(other_operator("pool", "AveragePool"))),
        ("bias of the last layer, which nothing quantizes", Box::new(shifted("gemm.bias_integers", 1, 200))),
    ];
    let mut missed = Vec::new();
    for (name, fault) in &faults {
        for (engine, is_second) in [(ort() as &dyn Engine, false), (&TractEngine, true)] {
            let result = checked(engine, fault, is_second);
            let of_the_engine = |c: &Check| c.name.starts_with("node by node") && c.engine.contains("faulty");
            if !result.checks.iter().any(|c| !c.passed && of_the_engine(c)) {
                missed.push(format!("{name} in {}: {:#?}", engine.name(), result.checks));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn another_rounding_of_float_arithmetic_is_no_fault() {
    let sound: [(&str, Fault); 3] = [
        ("scale of a weight, two ulps up", Box::new(scaled("conv2.weight_scale", 1.0 + 2.4e-7))),
        ("a step's 10,000th before rounding", Box::new(before_quantizer("conv2", 1e-4))),
        ("scale of the last layer, two ulps down", Box::new(scaled("gemm.weight_scale", 1.0 - 2.4e-7))),
    ];
    let mut refused = Vec::new();
    for (name, fault) in &sound {
        for (engine, is_second) in [(ort() as &dyn Engine, false), (&TractEngine, true)] {
            let result = checked(engine, fault, is_second);
            if !result.passed() {
                refused.push(format!("{name} in {}: {:?}", engine.name(), failed(&result)));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The mean of four neighbours, in floats and on one grid: a quarter of all means lies exactly on a tie.
fn mean_of_four() -> [Graph; 2] {
    [false, true].map(|is_quantized| {
        let mut q = Qdq::new(21);
        let pair = |q: &mut Qdq, x| if is_quantized { q.pair(x, U8) } else { x };
        let mut at = q.input("x", &[1, 4, 16, 16]);
        at = pair(&mut q, at);
        let two = || Attr::Ints(vec![2, 2]);
        at = q.node("mean", "AveragePool", &[at], [("kernel_shape", two()), ("strides", two())]);
        at = pair(&mut q, at);
        at = q.node("y", "Neg", &[at], []);
        named(q.finish(&[at]))
    })
}

#[test]
fn exact_ties_may_fall_either_way_in_any_number() {
    let [float, low] = mean_of_four();
    // Half up in place of half to even: a hair above every tie.
    let half_up: Fault = Box::new(|graph: &mut Graph| add_before(graph, "mean", U8.scale * 1e-4));
    let faulty = Faulty { engine: &TractEngine, fault: half_up.as_ref() };
    let engines = Engines { ort: Some(ort()), tract: Some(&faulty) };
    let result = verify(&float, &low, &engines, None, &VerifyOptions::default()).unwrap();
    assert!(result.passed(), "{:?}", failed(&result));
    let mean = result.integers.iter().find(|a| a.tensor == "mean" && a.engine.contains("faulty")).unwrap();
    assert!(mean.differing * 20 > mean.count && mean.ties == mean.differing, "{mean:?}");
}

#[test]
fn the_cut_graph_has_the_kernels_of_the_whole_model() {
    let kernels = |graph: &Graph| {
        let mut found: Vec<String> = optimised(graph).nodes.iter().map(|n| n.op_type.clone()).collect();
        found.retain(|op| op.starts_with('Q') && op != "QuantizeLinear");
        found.sort();
        found
    };
    let mut wrong = Vec::new();
    let mut graphs = vec![("int8", quantized_net(INT8)), ("int4", quantized_net(INT4))];
    for name in ["digits_resnet8.onnx", "digits_mobilenet.onnx"] {
        let float = onnx::load(&fixture(name)).unwrap();
        let policy = Policy { target: Target::OrtCpu, ..Policy::default() };
        graphs.push((name, quantized(&float, &policy).unwrap().emitted));
    }
    for (name, graph) in &graphs {
        let (whole, pieces) = (kernels(graph), kernels(&cut(graph, &find_quantizers(graph).quantizers).graph));
        if whole != pieces || whole.is_empty() {
            wrong.push(format!("{name}: {whole:?}, in pieces {pieces:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_engine_that_refuses_the_pieces_is_held_to_its_ends() {
    struct RefusesPieces;
    impl Engine for RefusesPieces {
        fn name(&self) -> String {
            "whole".to_owned()
        }
        fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>> {
            let is_cut = graph.fed_inputs().len() > 1;
            if is_cut {
                return Err(Error::runtime("whole", "takes one input"));
            }
            let mut graph = graph.clone();
            if graph.find("gemm.bias_integers").is_some_and(|id| graph.constant_of(id).is_some()) {
                shifted("gemm.bias_integers", 1, 20_000)(&mut graph);
            }
            TractEngine.load(&graph, options)
        }
        fn load_steps(
            &self,
            graphs: &[&Graph],
            state: &[(String, Tensor)],
            options: &SessionOptions,
        ) -> Result<Box<dyn StepSession>> {
            TractEngine.load_steps(graphs, state, options)
        }
    }
    let engines = Engines { ort: Some(ort()), tract: Some(&RefusesPieces) };
    let result = verify(&float_net(), &quantized_net(INT8), &engines, None, &VerifyOptions::default()).unwrap();
    let refused = failed(&result);
    assert!(refused.iter().any(|(name, _)| name.starts_with("end to end")), "{refused:?}");
    assert!(result.notes.iter().any(|note| note.contains("takes one input")), "{:?}", result.notes);
}
