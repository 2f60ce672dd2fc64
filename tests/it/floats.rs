//! Models in other floating-point types than float32.

use dfq_onnx::ir::{Attr, DType, Graph, Tensor, text};
use dfq_onnx::onnx;
use dfq_onnx::passes::convert_floats;

use crate::support::nets::{net_of, net_with_a_middle_of};
use crate::support::program::run;
use crate::support::{build::Build, fixture};

/// Returns `graph` with every float32 tensor in `dtype`.
fn converted(mut graph: Graph, dtype: DType) -> Graph {
    for id in graph.value_ids().collect::<Vec<_>>() {
        let constant = graph.constant_of(id).filter(|t| t.dtype() == DType::F32);
        let constant = constant.map(|t| Tensor::from_floats(dtype, t.shape(), &t.to_f32().unwrap()).unwrap());
        let value = graph.value_mut(id);
        value.dtype = value.dtype.map(|old| if old == DType::F32 { dtype } else { old });
        if constant.is_some() {
            value.constant = constant;
        }
    }
    graph
}

fn edge_types(graph: &Graph) -> Vec<Option<DType>> {
    graph.inputs.iter().chain(&graph.outputs).map(|&id| graph.value(id).dtype).collect()
}

#[test]
fn casts_at_the_edges_and_converts_within() {
    let mut b = Build::at(13);
    b.input("x", &[2, 4]);
    b.constant("w", Tensor::from_floats(DType::F16, &[4], &[1.0, 2.0, 0.5, -1.0]).unwrap());
    b.node("Mul", "x w", "a", []);
    b.node("Cast", "a", "b", [("to", Attr::Int(DType::F64.code().into()))]);
    b.node("Neg", "b", "c", []);
    b.node("Cast", "c", "y", [("to", Attr::Int(DType::F16.code().into()))]);
    b.node("Cast", "x", "z", [("to", Attr::Int(DType::F32.code().into()))]);
    b.node("Relu", "a", "u", []);
    for (name, dtype) in [("x", DType::F16), ("y", DType::F16), ("u", DType::F16), ("z", DType::F32), ("b", DType::F64)]
    {
        b.declare(name, dtype);
    }
    let mut graph = b.outputs("y z u");
    assert!(convert_floats(&mut graph).unwrap() > 0);
    let dump = "inputs %x: float16[2, 4]
%x_float32 = Cast(%x) to=1
%a = Mul(%x_float32, float32[4])
%b = Cast(%a) to=1
%c = Neg(%b)
%y = Cast(%c) to=10
%z = Cast(%x) to=1
%u_float32 = Relu(%a)
%u = Cast(%u_float32) to=10
outputs %y: float16[…], %z: float32[…], %u: float16[…]
";
    assert_eq!(text(&graph), dump);
    assert_eq!(convert_floats(&mut graph).unwrap(), 0, "a second time changes nothing");
}

#[test]
fn finite_numbers_stay_finite() {
    let mut b = Build::at(13);
    b.input("x", &[2, 3]);
    let wide = [f64::MIN, f64::INFINITY, 0.1].into_iter().flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
    b.constant("w", Tensor::new(DType::F64, vec![3], wide.into()).unwrap());
    b.node("Mul", "x w", "y", []);
    let mut graph = b.outputs("y");
    convert_floats(&mut graph).unwrap();
    let w = graph.constant_of(graph.find("w").unwrap()).unwrap().to_f32().unwrap();
    assert_eq!(w, [f32::MIN, f32::INFINITY, 0.1]);
}

#[test]
fn a_float16_classifier_is_quantized_as_its_float32_original_is() {
    let folder = tempfile::tempdir().unwrap();
    let model = onnx::load(&fixture("digits_resnet8.onnx")).unwrap();
    onnx::save(&model, &folder.path().join("single.onnx"), usize::MAX).unwrap();
    onnx::save(&converted(model, DType::F16), &folder.path().join("half.onnx"), usize::MAX).unwrap();
    let flags = "--bits 8 --eval {fixtures}/digits_test.npz --mean 0.3 --std 0.34 --format json";
    let correct = ["single", "half"].map(|name| {
        let ran = run(folder.path(), &format!("quantize {name}.onnx -o {name}.q.onnx {flags}"));
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        let report = ran.json();
        let sqnr = report["verification"]["outputs"][0]["sqnr_db"].as_f64().unwrap();
        assert!(sqnr > 20.0, "{name}: {sqnr} dB against the original");
        let notes = report["verification"]["notes"].as_array().unwrap();
        assert!(notes.is_empty(), "{name}: {notes:?}");
        let said = report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "floats_converted");
        assert_eq!(said, name == "half", "{}", report["warnings"]);
        let emitted = onnx::load(&folder.path().join(format!("{name}.q.onnx"))).unwrap();
        let dtype = if name == "half" { DType::F16 } else { DType::F32 };
        assert_eq!(edge_types(&emitted), [Some(dtype); 2], "{name}");
        let others = emitted.value_ids().filter_map(|id| emitted.constant_of(id));
        assert!(others.into_iter().all(|t| t.dtype() != DType::F16), "{name}");
        let ranges = report["ranges"].as_array().unwrap().iter().filter(|r| r["source"] == "synthetic_inputs").count();
        (report["evaluation"]["quantized_correct"].as_i64().unwrap(), ranges)
    });
    let [(single, from_inputs), (half, half_from_inputs)] = correct;
    assert!((single - half).abs() <= 2, "right answers: {single} and {half}");
    assert_eq!(from_inputs, half_from_inputs, "statistics reach as far in both");
}

#[test]
fn models_of_other_types_or_of_several_are_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    // ONNX Runtime's CPU kernels convolve neither float64 nor bfloat16: those are compared with their float32 form.
    for (name, bytes, edges, replaced) in [
        ("double", net_of(DType::F64), DType::F64, true),
        ("bfloat", net_with_a_middle_of(DType::BF16), DType::F32, true),
        ("half", net_of(DType::F16), DType::F16, false),
        ("mixed", net_with_a_middle_of(DType::F16), DType::F32, false),
    ] {
        std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        let ran = run(folder.path(), &format!("quantize model.onnx -o {name}.q.onnx --format json"));
        if ran.code != Some(0) {
            failed.push(format!("{name}: exit {:?}: {}", ran.code, ran.stderr));
            continue;
        }
        let report = ran.json();
        let said = |kind: &str| report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == kind);
        if !said("floats_converted") || said("original_not_run") != replaced || said("layers_stay_float") {
            failed.push(format!("{name}: {}", report["warnings"]));
        }
        let after = onnx::load(&folder.path().join(format!("{name}.q.onnx"))).unwrap();
        if edge_types(&after) != [Some(edges); 2] {
            failed.push(format!("{name}: {:?}", edge_types(&after)));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
