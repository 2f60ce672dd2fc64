//! Graphs as exporters write them: control flow, open dimensions, states, operators without a rule or of other domains.

mod control_flow;
mod foreign;
mod open_axes;
mod set_inputs;
mod types;

use std::path::Path;

use dfq_onnx::ir::{Graph, Tensor, ValueId};
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::net::run;
use crate::support::program::run as run_program;
use crate::support::relative_rms;

/// Sums of quantized layers, relative to the float model's, that small nets with made-up weights stay below.
const TOLERANCE: f64 = 0.1;

/// A quantized file and its report.
#[derive(Debug)]
struct Quantized {
    graph: Graph,
    report: Value,
}

impl Quantized {
    fn layers(&self) -> usize {
        self.report["plan"]["layers"].as_array().unwrap().len()
    }

    fn has(&self, op: &str) -> bool {
        self.graph.nodes.iter().any(|node| node.op_type == op)
    }

    fn warns(&self, kind: &str) -> bool {
        self.report["warnings"].as_array().unwrap().iter().any(|warning| warning["kind"] == kind)
    }

    /// The dimensions of the first input and output, as the file declares them.
    fn declared(&self) -> String {
        let shown = |id: ValueId| {
            let dims = self.graph.value(id).shape.as_ref().map(|shape| shape.iter().map(ToString::to_string).collect());
            dims.map_or("…".to_owned(), |dims: Vec<String>| dims.join(","))
        };
        format!("{} -> {}", shown(self.graph.inputs[0]), shown(self.graph.outputs[0]))
    }
}

fn quantize(graph: &Graph, flags: &str) -> Result<Quantized, String> {
    let folder = tempfile::tempdir().unwrap();
    quantize_in(folder.path(), graph, flags)
}

fn quantize_in(folder: &Path, graph: &Graph, flags: &str) -> Result<Quantized, String> {
    onnx::save(graph, &folder.join("model.onnx"), usize::MAX).unwrap();
    let flags = format!("--bits 8 --samples 8 --threads 1 --input-range=-4:4 --accept broken --format json {flags}");
    let ran = run_program(folder, &format!("quantize model.onnx -o out.onnx {flags}"));
    match ran.code {
        Some(0) => Ok(Quantized { graph: onnx::load(&folder.join("out.onnx")).unwrap(), report: ran.json() }),
        code => Err(format!("exit {code:?}: {} {}", ran.stderr, ran.stdout)),
    }
}

/// Returns where the quantized file makes something else of `inputs` than the float model, in ONNX Runtime.
fn differs(float: &Graph, quantized: &Graph, inputs: &[Tensor]) -> Option<String> {
    let made = run(float, inputs).and_then(|expected| Ok((expected, run(quantized, inputs)?)));
    let (expected, found) = match made {
        Ok(made) => made,
        Err(error) => return Some(error),
    };
    let errors: Vec<f64> = found.iter().zip(&expected).map(|(f, e)| relative_rms(f, e)).collect();
    errors.iter().any(|&e| e.is_nan() || e > TOLERANCE).then(|| format!("outputs differ by {errors:?}"))
}
