//! Verification passes what is right in every runtime, and the check that should fail fails for what is not.

mod commands;
mod faults;
mod signals;
mod voters;

use dfq_onnx::data::{Dataset, Preprocess, evaluate};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, Session, SessionOptions, StepSession, TractEngine};
use dfq_onnx::verify::{Engines, IntegerAgreement, Verification, VerifyOptions, find_quantizers, verify};
use dfq_onnx::{Result, onnx};

use crate::support::qdq_net::{WeightGrid, float_net, quantized_net};
use crate::support::{fixture, ort};

const INT4: WeightGrid = WeightGrid { bits: 4, container: DType::I4 };
const INT8: WeightGrid = WeightGrid { bits: 8, container: DType::I8 };

fn both() -> Engines<'static> {
    Engines { ort: Some(ort()), tract: Some(&TractEngine) }
}

fn failed(result: &Verification) -> Vec<(&str, &str)> {
    let failed = result.checks.iter().filter(|check| !check.passed);
    failed.map(|check| (check.name.as_str(), check.message.as_str())).collect()
}

/// Returns `graph` with a name of its own for every node, without which ONNX Runtime refuses it.
fn named(mut graph: Graph) -> Graph {
    graph.rename_duplicate_nodes();
    graph
}

fn change(graph: &mut Graph, name: &str, change: impl FnOnce(&Tensor) -> Tensor) {
    let id = graph.find(name).unwrap();
    let tensor = change(graph.constant_of(id).unwrap());
    graph.value_mut(id).constant = Some(tensor);
}

fn with_zero_point(tensor: &Tensor, offset: i64) -> Tensor {
    let zero = i32::try_from(tensor.to_i64().unwrap()[0] + offset).unwrap();
    Tensor::from_ints(tensor.dtype(), tensor.shape(), &[zero]).unwrap()
}

#[test]
fn a_sound_model_passes_in_all_runtimes_whatever_its_weights_are_stored_in() {
    let mut wrong = Vec::new();
    for (name, grid) in [("int4", INT4), ("int8", INT8)] {
        let quantized = quantized_net(grid);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quantized.onnx");
        onnx::save(&quantized, &path, onnx::INLINE_LIMIT).unwrap();
        let options = VerifyOptions { shipped: Some(path), ..VerifyOptions::default() };
        let result = verify(&float_net(), &quantized, &both(), None, &options).unwrap();
        let found = (result.engines.len(), result.second_runtime, result.lowest_bits, result.quantizers);
        if !result.passed() || found != (3, true, 4, 5) || result.checks.len() != 12 {
            wrong.push(format!("{name}: {found:?} {:#?}", result.checks));
        }
        let top1 = result.outputs[0].top1_agreement.unwrap();
        if top1 < 0.7 || result.outputs[0].sqnr_db < 10.0 || result.outputs[0].sqnr_db > 60.0 {
            wrong.push(format!("{name}: {:?}", result.outputs));
        }
        if result.blame.len() != 6 || result.blame.iter().any(|b| !b.isolated || b.local > 0.3) {
            wrong.push(format!("{name}: {:#?}", result.blame));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_differs_from_what_was_checked_fails_the_decoding_and_nothing_else() {
    let quantized = quantized_net(INT4);
    let nudged = |t: &Tensor| {
        let mut values: Vec<i32> = t.to_i64().unwrap().iter().map(|&v| i32::try_from(v).unwrap()).collect();
        values[5] = if values[5] > 0 { values[5] - 1 } else { values[5] + 1 };
        Tensor::from_ints(t.dtype(), t.shape(), &values).unwrap()
    };
    let next_up = |t: &Tensor| {
        let values: Vec<f32> = t.to_f32().unwrap().iter().map(|v| v.next_up()).collect();
        Tensor::from_f32(t.shape(), &values)
    };
    type Change = Box<dyn Fn(&Tensor) -> Tensor>;
    let cases: [(&str, Change); 4] = [
        ("conv2.weight_integers", Box::new(nudged)),
        ("conv1.bias_integers", Box::new(nudged)),
        ("relu1_scale", Box::new(next_up)),
        ("x_zero_point", Box::new(|t| with_zero_point(t, 1))),
    ];
    let mut wrong = Vec::new();
    for (name, sabotage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quantized.onnx");
        let mut shipped = quantized.clone();
        change(&mut shipped, name, sabotage);
        onnx::save(&shipped, &path, onnx::INLINE_LIMIT).unwrap();
        let options = VerifyOptions { shipped: Some(path), samples: 4, ..VerifyOptions::default() };
        let result = verify(&float_net(), &quantized, &both(), None, &options).unwrap();
        match failed(&result)[..] {
            [("shipped bytes", message)] if message.contains(name) => {}
            ref other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// tract, with one initializer read wrongly.
struct Misreads {
    name: &'static str,
    offset: i64,
}

impl Engine for Misreads {
    fn name(&self) -> String {
        "misreading engine".to_owned()
    }

    fn load(&self, graph: &Graph, options: &SessionOptions) -> Result<Box<dyn Session>> {
        TractEngine.load(&self.misread(graph), options)
    }

    fn load_steps(
        &self,
        graphs: &[&Graph],
        state: &[(String, Tensor)],
        options: &SessionOptions,
    ) -> Result<Box<dyn StepSession>> {
        let misread: Vec<Graph> = graphs.iter().map(|graph| self.misread(graph)).collect();
        TractEngine.load_steps(&misread.iter().collect::<Vec<_>>(), state, options)
    }
}

impl Misreads {
    fn misread(&self, graph: &Graph) -> Graph {
        let mut graph = graph.clone();
        if graph.find(self.name).is_some() {
            change(&mut graph, self.name, |t| with_zero_point(t, self.offset));
        }
        graph
    }
}

#[test]
fn a_runtime_that_reads_a_zero_point_wrongly_is_found_node_by_node() {
    let misreads = Misreads { name: "relu1_zero_point", offset: 1 };
    let engines = Engines { ort: Some(ort()), tract: Some(&misreads) };
    let options = VerifyOptions { samples: 8, ..VerifyOptions::default() };
    let result = verify(&float_net(), &quantized_net(INT8), &engines, None, &options).unwrap();
    let failed = failed(&result);
    let node_by_node = failed.iter().find(|(name, _)| *name == "node by node: integers");
    assert!(node_by_node.is_some_and(|(_, message)| message.contains("exceed the limit")), "{failed:?}");
    let many = |a: &&IntegerAgreement| a.engine == misreads.name() && a.differing > a.count / 50;
    let many: Vec<&str> = result.integers.iter().filter(many).map(|a| a.tensor.as_str()).collect();
    assert!(many.starts_with(&["relu1", "conv2"]), "the quantizer itself and the convolution that reads it: {many:?}");
    let untouched = |a: &&IntegerAgreement| a.engine == misreads.name() && a.differing == 0;
    let untouched: Vec<&str> = result.integers.iter().filter(untouched).map(|a| a.tensor.as_str()).collect();
    assert_eq!(untouched, ["x", "flat"], "errors do not travel from one quantizer to the next");
}

#[test]
fn a_wrong_zero_point_in_the_model_agrees_everywhere_and_is_blamed_against_the_float_model() {
    let mut quantized = quantized_net(INT8);
    // All that is positive lies beyond the grid.
    change(&mut quantized, "conv2_zero_point", |t| Tensor::from_ints(t.dtype(), t.shape(), &[255]).unwrap());
    let options = VerifyOptions { min_sqnr: Some(15.0), min_agreement: Some(0.99), ..VerifyOptions::default() };
    let result = verify(&float_net(), &quantized, &both(), None, &options).unwrap();
    assert!(result.passed(), "{:?}", failed(&result));
    assert!(!result.gates_passed(), "{:?}", result.gates);
    assert_eq!(result.blame[0].tensor, "conv2", "{:#?}", result.blame);
}

#[test]
fn blame_ranks_the_layer_whose_weights_were_coarsened_first() {
    let quantized = quantized_net(WeightGrid { bits: 2, container: DType::I8 });
    let result = verify(&float_net(), &quantized, &both(), None, &VerifyOptions::default()).unwrap();
    assert_eq!(result.blame[0].layers, ["conv2"], "{:#?}", result.blame);
    assert_eq!(result.lowest_bits, 2);
    assert!(result.blame[0].local > 2.0 * result.blame[1].local, "{:#?}", result.blame);
}

#[test]
fn with_tract_alone_the_result_says_that_no_second_runtime_ran() {
    let engines = Engines { ort: None, tract: Some(&TractEngine) };
    let options = VerifyOptions { min_agreement: Some(0.5), min_sqnr: Some(1.0), ..VerifyOptions::default() };
    let result = verify(&float_net(), &quantized_net(INT4), &engines, None, &options).unwrap();
    assert!(result.passed() && result.gates_passed() && !result.second_runtime, "{result:#?}");
    assert!(result.notes.iter().any(|note| note.contains("no second runtime")), "{:?}", result.notes);
    let text = serde_json::to_string(&result).unwrap().to_lowercase();
    assert!(!text.contains("accuracy"), "agreement is not accuracy: {text}");
}

#[test]
fn blocked_scales_are_refused_with_the_node_and_what_to_do() {
    let mut quantized = quantized_net(INT8);
    let at = quantized.nodes.iter().position(|n| n.name == "gemm.weight_dequantized").unwrap();
    quantized.nodes[at].set("block_size", 4i64);
    quantized.nodes[at].set("axis", 1i64);
    for name in ["gemm.weight_scale", "gemm.weight_zero_point"] {
        change(&mut quantized, name, |t| match t.dtype() {
            DType::F32 => Tensor::from_f32(&[5, 2], &t.to_f32().unwrap().repeat(2)),
            dtype => Tensor::from_ints(dtype, &[5, 2], &[0; 10]).unwrap(),
        });
    }
    let result = verify(&float_net(), &quantized, &both(), None, &VerifyOptions::default()).unwrap();
    match failed(&result)[..] {
        [("loads and runs", message)] => {
            assert!(message.contains("gemm.weight_dequantized") && message.contains("block_size"), "{message}");
        }
        ref other => panic!("{other:?}"),
    }
    assert!(!result.second_runtime);
}

#[test]
fn quantizers_are_found_with_the_bounds_of_their_clip() {
    let graph = quantized_net(INT4);
    let structure = find_quantizers(&graph);
    let found: Vec<_> = structure
        .quantizers
        .iter()
        .map(|q| (graph.name_of(q.input), graph.name_of(q.integers), q.grid.as_ref().unwrap().bits()))
        .collect();
    let expected = [
        ("x", "x_quantized", 8),
        ("relu1", "relu1_quantized", 8),
        ("conv2", "conv2_quantized", 8),
        ("relu2", "relu2_clipped", 4),
        ("flat", "flat_quantized", 8),
    ];
    assert_eq!(found, expected);
    let mut bits: Vec<_> = structure.weights.iter().map(|w| w.bits).collect();
    bits.sort_unstable();
    assert_eq!(bits, [None, None, None, Some(4), Some(8), Some(8)]);
}

#[test]
fn top1_of_the_fixtures_is_as_their_readme_says() {
    let data = Dataset::read(&fixture("digits_test.npz")).unwrap();
    let preprocess = Preprocess { mean: vec![0.3], std: vec![0.34], ..Preprocess::default() };
    let mut wrong = Vec::new();
    for (model, correct) in [("digits_resnet8.onnx", 500), ("digits_mobilenet.onnx", 498)] {
        let graph = onnx::load(&fixture(model)).unwrap();
        for engine in [ort() as &dyn Engine, &TractEngine] {
            let result = evaluate(engine, &graph, &data, &preprocess, 64).unwrap();
            let sound = result.n == 500 && result.predictions.len() == 500;
            let top5 = result.correct_top5.is_some_and(|top5| top5 >= correct);
            if result.correct != correct || !sound || !top5 {
                let (n, top5) = (result.n, result.correct_top5);
                wrong.push(format!("{model} in {}: {} of {n}, top-5 {top5:?}", engine.name(), result.correct));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
