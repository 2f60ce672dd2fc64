//! The two engines against each other, and the search for the library.

use std::path::Path;

use bytes::Bytes;
use dfq_onnx::Error;
use dfq_onnx::ir::{DType, Dim, Graph, Node, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::runtime::{
    Device, Engine, EngineChoice, EngineRequest, Optimisation, Origin, OrtEngine, Places, Session, SessionOptions,
    TractEngine, doctor, engines, locate,
};

use crate::support::{fixture, models, ort, random_inputs, relative_rms};

/// Float engines differ by the order of their sums only.
const SAME_FLOAT: f64 = 1e-4;

fn options(optimisation: Optimisation) -> SessionOptions {
    SessionOptions { optimisation, ..SessionOptions::default() }
}

/// Returns a graph of one input `x`, `nodes` made by `build`, and one output `y`.
fn graph_of(opset: i64, input: (DType, &[usize]), build: impl FnOnce(&mut Graph)) -> Graph {
    let mut graph = Graph::default();
    graph.name = "case".to_owned();
    graph.ir_version = 10;
    graph.set_opset(opset);
    let x = graph.add_value("x");
    graph.value_mut(x).dtype = Some(input.0);
    graph.value_mut(x).shape = Some(input.1.iter().map(|&d| Dim::Known(d)).collect());
    let y = graph.add_value("y");
    graph.value_mut(y).dtype = Some(input.0);
    graph.inputs.push(x);
    graph.outputs.push(y);
    build(&mut graph);
    graph
}

#[test]
fn every_model_gives_the_same_in_both_engines() {
    let engines: [(&str, &dyn Engine, Optimisation); 3] = [
        ("ONNX Runtime without optimisation", ort(), Optimisation::None),
        ("tract", &TractEngine, Optimisation::Default),
        ("tract without optimisation", &TractEngine, Optimisation::None),
    ];
    let mut failed = Vec::new();
    for path in models() {
        let graph = onnx::load(&path).unwrap();
        let dynamic = graph.fed_inputs().iter().any(|&id| graph.value(id).static_shape().is_none());
        let batches: &[usize] = if dynamic { &[1, 3] } else { &[1] };
        let mut reference = ort().load(&graph, &options(Optimisation::Default)).unwrap();
        let mut sessions: Vec<Box<dyn Session>> =
            engines.iter().map(|(_, engine, how)| engine.load(&graph, &options(*how)).unwrap()).collect();
        for &batch in batches {
            let inputs = random_inputs(&graph, batch, 1);
            let expected = reference.run(&inputs).unwrap();
            assert_eq!(expected.len(), graph.outputs.len());
            for ((name, ..), session) in engines.iter().zip(&mut sessions) {
                let found = session.run(&inputs).unwrap();
                for (f, e) in found.iter().zip(&expected) {
                    let error = relative_rms(f, e);
                    if error > SAME_FLOAT || f.dtype() != e.dtype() {
                        failed.push(format!("{} at batch {batch} in {name}: {error:.1e}", path.display()));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_model_gives_the_same_whole_and_in_pieces() {
    let engines: [(&str, &dyn Engine); 2] = [("ONNX Runtime", ort()), ("tract", &TractEngine)];
    let mut failed = Vec::new();
    for (path, batch) in models().into_iter().zip([2, 1].into_iter().cycle()) {
        let graph = onnx::load(&path).unwrap();
        let inputs = random_inputs(&graph, batch, 1);
        for (name, engine) in engines {
            let run = |piece_bytes| {
                let options = SessionOptions { piece_bytes, ..options(Optimisation::None) };
                engine.load(&graph, &options).unwrap().run(&inputs).unwrap()
            };
            let whole = run(None);
            for limit in [1, 30_000] {
                let errors: Vec<f64> = run(Some(limit)).iter().zip(&whole).map(|(f, e)| relative_rms(f, e)).collect();
                if errors.len() != whole.len() || errors.iter().any(|&error| error > SAME_FLOAT) {
                    failed.push(format!("{} in pieces of {limit} bytes in {name}: {errors:?}", path.display()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn tensors_of_every_type_pass_through_both_engines() {
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::Bool,
    ];
    let mut failed = Vec::new();
    for dtype in types {
        let graph = graph_of(21, (dtype, &[2, 3]), |graph| {
            let (x, y) = (graph.inputs[0], graph.outputs[0]);
            graph.nodes.push(Node::new("Identity", [x], [y], []));
        });
        // Bytes 0 and 1 alone are valid in every type; as floats they are small numbers.
        let bytes: Vec<u8> = (0..6 * dtype.bits() / 8).map(|i| u8::from(i % 3 == 0)).collect();
        let input = Tensor::new(dtype, vec![2, 3], Bytes::from(bytes)).unwrap();
        let engines: [&dyn Engine; 2] = [ort(), &TractEngine];
        for engine in engines {
            let output =
                engine.load(&graph, &SessionOptions::default()).and_then(|mut s| s.run(std::slice::from_ref(&input)));
            let same = output.as_ref().is_ok_and(|found| *found == [input.clone()]);
            let known_missing = dtype == DType::BF16 && engine.name().starts_with("tract");
            if same == known_missing {
                failed.push(format!("{dtype} in {}: {output:?}", engine.name()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn large_weights_handed_over_give_what_inline_weights_give() {
    let (rows, columns) = (512, 640);
    let weight: Vec<f32> = (0..rows * columns).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect();
    let mut shifted = vec![0u8];
    shifted.extend(weight.iter().flat_map(|v| v.to_le_bytes()));
    let whole = Bytes::from(shifted);
    let misaligned = Tensor::new(DType::F32, vec![rows, columns], whole.slice(1..)).unwrap();
    let input = Tensor::from_f32(&[1, rows], &vec![0.5; rows]);
    let folder = tempfile::tempdir().unwrap();
    let mut outputs = Vec::new();
    for (weight, written) in [
        (Tensor::from_f32(&[rows, columns], &weight), None),
        (misaligned, None),
        (Tensor::from_f32(&[rows, columns], &weight), Some(folder.path().join("optimised.onnx"))),
    ] {
        let graph = graph_of(21, (DType::F32, &[1, rows]), |graph| {
            let (x, y) = (graph.inputs[0], graph.outputs[0]);
            let w = graph.add_constant("w", weight);
            graph.nodes.push(Node::new("MatMul", [x, w], [y], []));
        });
        let options = SessionOptions { optimised_model: written, ..SessionOptions::default() };
        let mut session = ort().load(&graph, &options).unwrap();
        drop(graph);
        outputs.push(session.run(std::slice::from_ref(&input)).unwrap());
    }
    assert_eq!(outputs[0], outputs[2], "handed over against inline");
    assert_eq!(outputs[1], outputs[2], "handed over from misaligned bytes against inline");
    let optimised = onnx::load(&folder.path().join("optimised.onnx")).unwrap();
    assert_eq!(optimised.nodes.len(), 1);
}

/// Returns `y = x · dequantized(w)` with the weight stored as `dtype`.
fn dequantized_matmul(dtype: DType, rows: usize, columns: usize) -> Graph {
    graph_of(21, (DType::F32, &[2, rows]), |graph| {
        let (x, y) = (graph.inputs[0], graph.outputs[0]);
        let weight: Vec<i32> = (0..rows * columns).map(|i| i32::try_from((i * 31) % 16).unwrap() - 8).collect();
        let scale: Vec<f32> = (0..columns).map(|c| 0.01 + c as f32 * 1e-5).collect();
        let w = graph.add_constant("w", Tensor::from_ints(dtype, &[rows, columns], &weight).unwrap());
        let s = graph.add_constant("s", Tensor::from_f32(&[columns], &scale));
        let d = graph.add_value("d");
        graph.nodes.push(Node::new("DequantizeLinear", [w, s], [d], [("axis", 1i64.into())]));
        graph.nodes.push(Node::new("MatMul", [x, d], [y], []));
    })
}

#[test]
fn large_4_bit_weights_give_what_the_same_integers_in_int8_give() {
    let (rows, columns) = (1024, 2048);
    let (narrow, wide) = (dequantized_matmul(DType::I4, rows, columns), dequantized_matmul(DType::I8, rows, columns));
    let inputs = random_inputs(&wide, 1, 2);
    let expected = TractEngine.load(&wide, &options(Optimisation::Default)).unwrap().run(&inputs).unwrap();
    let mut failed = Vec::new();
    for (name, graph) in [("int4", &narrow), ("int8", &wide)] {
        for optimisation in [Optimisation::Default, Optimisation::None] {
            let found = ort().load(graph, &options(optimisation)).unwrap().run(&inputs).unwrap();
            let error = relative_rms(&found[0], &expected[0]);
            if error > SAME_FLOAT {
                failed.push(format!("{name} {optimisation:?}: {error:.1e}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn tract_refuses_4_bit_weights_by_name() {
    let refused = TractEngine.load(&dequantized_matmul(DType::I4, 4, 4), &SessionOptions::default());
    let Err(error @ Error::Runtime { .. }) = refused.map(|_| ()) else { panic!("expected a refusal") };
    let text = error.to_string();
    assert!(text.contains("initializer \"w\" is int4, which tract cannot read"), "{text}");
}

#[test]
fn errors_keep_the_engine_s_own_message() {
    let unknown = graph_of(21, (DType::F32, &[2]), |graph| {
        let (x, y) = (graph.inputs[0], graph.outputs[0]);
        graph.nodes.push(Node::new("NoSuchOperator", [x], [y], []));
    });
    let fine = graph_of(21, (DType::F32, &[2]), |graph| {
        let (x, y) = (graph.inputs[0], graph.outputs[0]);
        graph.nodes.push(Node::new("Relu", [x], [y], []));
    });
    let engines: [&dyn Engine; 2] = [ort(), &TractEngine];
    for engine in engines {
        let error = engine.load(&unknown, &SessionOptions::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&engine.name()) && error.contains("NoSuchOperator"), "{error}");
        let mut session = engine.load(&fine, &SessionOptions::default()).unwrap();
        for wrong in [vec![], vec![Tensor::from_f32(&[3], &[0.0; 3])], vec![Tensor::from_i64(&[2], &[0, 0])]] {
            let what = format!("{} fed {wrong:?}", engine.name());
            assert!(matches!(session.run(&wrong), Err(Error::Runtime { .. })), "{what}");
        }
        let input = Tensor::from_f32(&[2], &[-1.0, 1.0]);
        assert_eq!(session.run(&[input]).unwrap(), [Tensor::from_f32(&[2], &[0.0, 1.0])], "{}", engine.name());
    }
}

#[test]
fn a_file_that_is_no_library_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so.1.31.1");
    std::fs::write(&text, "not a library").unwrap();
    for path in [text.as_path(), Path::new("/no/such/libonnxruntime.so")] {
        let error = OrtEngine::open(path, Device::Cpu).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Resources(_)), "{error}");
        let named = Places { argument: Some(path.to_owned()), ..Places::default() };
        let error = locate(&named, true).unwrap_err();
        assert!(matches!(&error, Error::Resources(text) if text.contains("--ort-lib")), "{error}");
    }
    let beside = Places { executable_folder: Some(folder.path().to_owned()), ..Places::default() };
    assert_eq!(beside.search().unwrap(), None);
}

#[test]
fn offline_with_nothing_installed_tells_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let places = Places { cache: Some(cache.path().to_owned()), ..Places::default() };
    let error = locate(&places, true).unwrap_err();
    assert!(matches!(&error, Error::Resources(text) if text.contains("--offline") && text.contains("--ort-lib")));
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is written");

    let request = |choice| EngineRequest { choice, offline: true, ..EngineRequest::default() };
    let engines_for = |choice| engines(&request(choice), &places);
    assert!(matches!(engines_for(EngineChoice::Ort), Err(Error::Resources(_))));
    let auto = engines_for(EngineChoice::Auto).unwrap();
    assert!(auto.main().name().starts_with("tract") && auto.warning.is_some());
    let tract = engines_for(EngineChoice::Tract).unwrap();
    assert!(tract.main().name().starts_with("tract") && tract.warning.is_none());
}

#[test]
fn auto_takes_onnx_runtime_where_it_is() {
    let places = Places { argument: Some(ort().library().to_owned()), ..Places::default() };
    let chosen = engines(&EngineRequest { threads: Some(1), ..EngineRequest::default() }, &places).unwrap();
    assert_eq!(chosen.main().name(), ort().name());
    let graph = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    let mut session = chosen.main().load(&graph, &SessionOptions::default()).unwrap();
    let outputs = session.run(&random_inputs(&graph, 2, 3)).unwrap();
    assert_eq!(outputs[0].shape(), [2, 10]);
    assert_eq!(chosen.library.unwrap().origin, Origin::Argument);
}

#[test]
fn a_missing_provider_is_an_error_with_advice() {
    let gpus = doctor::examine(&Places { argument: Some(ort().library().to_owned()), ..Places::default() });
    if gpus.providers.iter().any(|name| name.starts_with("CUDA")) {
        eprintln!("skipped: this library has the CUDA provider");
        return;
    }
    for device in [Device::Cuda(0), Device::Cuda(99), Device::TensorRt(0)] {
        let error = OrtEngine::open(ort().library(), device).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Resources(_)) && text.contains("onnxruntime-gpu==1.31.1"), "{text}");
        assert!(
            text.starts_with(&format!("device {device} cannot be used: ")) && text.contains("--device cpu"),
            "{text}"
        );
        let told = gpus.devices.iter().find(|state| state.device == device.to_string());
        assert!(told.is_none_or(|state| state.problem.as_ref() == Some(&text)), "{told:?}");
    }
}

#[test]
fn doctor_reports_every_place_and_fetches_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let beside = tempfile::tempdir().unwrap();
    let broken = beside.path().join("libonnxruntime.so.1.31.1");
    std::fs::write(&broken, "not a library").unwrap();
    let places = Places {
        executable_folder: Some(beside.path().to_owned()),
        cache: Some(cache.path().to_owned()),
        ..Places::default()
    };
    let report = doctor::examine(&places);
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is fetched");
    assert!(report.devices.is_empty());
    assert!(report.used.is_none() && report.candidates.len() == 1 && report.candidates[0].problem.is_some());
    assert!(report.advice.iter().any(|line| line.starts_with("ONNX Runtime")), "{:?}", report.advice);

    let named = doctor::examine(&Places { argument: Some(broken.clone()), ..places.clone() });
    assert!(named.advice[0].contains("--ort-lib") && !named.advice.iter().any(|line| line.contains("fetches")));

    let places = Places { argument: Some(ort().library().to_owned()), ..places };
    let report = doctor::examine(&places);
    assert_eq!(report.used.as_ref().unwrap().version, ort().version());
    assert_eq!(report.candidates.len(), 2);
    assert!(report.providers.iter().any(|name| name == "CPUExecutionProvider"), "{:?}", report.providers);
    assert!(
        report.devices.iter().any(|state| state.device == "cpu" && state.problem.is_none()),
        "{:?}",
        report.devices
    );
    let text = report.to_string();
    assert!(text.contains("device cpu can be used") && text.contains("device cuda:0"), "{text}");
    assert!(text.contains(&broken.display().to_string()) && text.contains("tract 0.23.9"), "{text}");
    assert!(serde_json::to_value(&report).unwrap()["machine"]["cores"].as_u64().unwrap() >= 1);
}

#[test]
fn two_threads_that_miss_the_library_fetch_it_once() {
    let cache = tempfile::tempdir().unwrap();
    let places = Places { cache: Some(cache.path().to_owned()), ..Places::default() };
    let found = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| locate(&places, false)));
        threads.map(|thread| thread.join().unwrap())
    });
    let found = match found {
        [Ok(first), Ok(second)] => [first, second],
        [Err(why), _] | [_, Err(why)] => {
            let text = why.to_string();
            assert!(["pip could not fetch", "no wheel", "not installed"].iter().any(|s| text.contains(s)), "{text}");
            eprintln!("skipped: {text}");
            return;
        }
    };
    assert_eq!(found[0].path, found[1].path);
    assert_eq!(found[0].version, "1.31.1");
    let left: Vec<_> = std::fs::read_dir(found[0].path.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left.len(), 3, "the library, what is recorded of it, and the lock, found {left:?}");
    assert_eq!(locate(&places, true).unwrap().origin, Origin::Cache);
}
