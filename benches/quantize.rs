//! Wall time and peak memory of `quantize` on models of three sizes: `cargo bench --bench quantize [-- GIGABYTES]`.

#![allow(missing_docs)]

mod resident;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dfq_onnx::ir::{Attr, DType, Dim, Graph, Node, Tensor, ValueId};
use dfq_onnx::onnx;

/// Side of the square weights of the generated model: 64 MiB each.
const WIDTH: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo itself adds `--bench`.
    let gigabytes = std::env::args().skip(1).find_map(|a| a.parse::<f64>().ok()).unwrap_or(1.0);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::Builder::new().prefix("dfq-onnx-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!("{:<28} {:>6} {:>9} {:>9} {:>9} {:>6}", "model", "bits", "MB", "seconds", "peak MB", "ratio");
    for name in ["resnet20_cifar10", "mobilenetv1_025_224"] {
        for bits in ["8", "4"] {
            measure(&root.join(format!("../shared/data/{name}.onnx")), bits, folder.path())?;
        }
    }
    let large = generate(gigabytes, folder.path())?;
    for bits in ["8", "4"] {
        measure(&large, bits, folder.path())?;
    }
    Ok(())
}

fn measure(model: &Path, bits: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    if !model.exists() {
        println!("{name:<28} SKIPPED: no {}", model.display());
        return Ok(());
    }
    let output = folder.join("quantized.onnx");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfq-onnx"));
    command.args(["quantize".as_ref(), model.as_os_str(), "--bits".as_ref(), bits.as_ref()]);
    command.args(["--effort", "fast"]);
    command.args(["-o".as_ref(), output.as_os_str()]).stdout(Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn()?;
    let mut peak = None;
    let status = loop {
        // The system keeps the highest value, so the last look before the end tells it.
        peak = resident::peak(&child.id().to_string()).or(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = started.elapsed().as_secs_f64();
    let size = onnx::stored_bytes(model)? as f64;
    let (peak, ratio) = match peak {
        Some(bytes) => (format!("{:.0}", bytes as f64 / 1e6), format!("{:.2}", bytes as f64 / size)),
        None => ("unknown".to_owned(), "-".to_owned()),
    };
    let failed = if status.success() { String::new() } else { format!("  FAILED: {status}") };
    println!("{name:<28} {bits:>6} {:>9.1} {seconds:>9.2} {peak:>9} {ratio:>6}{failed}", size / 1e6);
    Ok(())
}

/// Writes a network of a convolution, MatMuls and Gemms with about so many gigabytes of weights as external data.
fn generate(gigabytes: f64, folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let mut graph = Graph::default();
    (graph.name, graph.ir_version) = ("large".to_owned(), 8);
    graph.set_opset(17);
    let image = graph.add_value("image");
    graph.value_mut(image).dtype = Some(DType::F32);
    graph.value_mut(image).shape =
        Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(3), Dim::Known(16), Dim::Known(16)]);
    graph.inputs.push(image);
    let mut random = Random(1);
    let kernel = random.weight(&mut graph, "conv_weight", &[WIDTH / 64, 3, 3, 3]);
    let pads = ("pads", Attr::Ints(vec![1, 1, 1, 1]));
    let strides = ("strides", Attr::Ints(vec![2, 2]));
    let mut x = push(&mut graph, "Conv", &[image, kernel], [pads, strides].into());
    x = push(&mut graph, "Relu", &[x], [].into());
    x = push(&mut graph, "Flatten", &[x], [].into());
    let layers = (gigabytes * 1e9 / (4 * WIDTH * WIDTH) as f64).round() as usize;
    for i in 0..layers.max(1) {
        let weight = random.weight(&mut graph, &format!("weight_{i}"), &[WIDTH, WIDTH]);
        x = match i % 2 {
            0 => push(&mut graph, "MatMul", &[x, weight], [].into()),
            _ => {
                let bias = random.weight(&mut graph, &format!("bias_{i}"), &[WIDTH]);
                push(&mut graph, "Gemm", &[x, weight, bias], [("transB", Attr::Int(1))].into())
            }
        };
        x = push(&mut graph, "Relu", &[x], [].into());
    }
    let head = random.weight(&mut graph, "head", &[WIDTH, 10]);
    let logits = push(&mut graph, "MatMul", &[x, head], [].into());
    graph.value_mut(logits).dtype = Some(DType::F32);
    graph.outputs.push(logits);
    Ok(onnx::save(&graph, &folder.join(format!("generated_{gigabytes}_gb.onnx")), 0)?.model)
}

fn push(graph: &mut Graph, op: &str, inputs: &[ValueId], attrs: dfq_onnx::ir::Attrs) -> ValueId {
    let output = graph.add_value(&format!("{}_{}", op.to_lowercase(), graph.nodes.len()));
    graph.nodes.push(Node::new(op, inputs.iter().copied(), [output], attrs));
    output
}

/// A multiplicative generator (splitmix64): a gigabyte of weights in a second.
struct Random(u64);

impl Random {
    /// Adds an initializer with values about normal, of variance 2 / fan-in.
    fn weight(&mut self, graph: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
        let fan_in = shape.iter().product::<usize>() / shape[0];
        let std = (2.0 / fan_in.max(WIDTH / 64) as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| std * self.normal()).collect();
        graph.add_constant(name, Tensor::from_f32(shape, &values))
    }

    /// The sum of four uniform numbers, scaled to variance 1.
    fn normal(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sum: f32 =
            (z ^ (z >> 31)).to_le_bytes().chunks(2).map(|b| f32::from(u16::from_le_bytes([b[0], b[1]]))).sum();
        (sum / 65536.0 - 2.0) * 3f32.sqrt()
    }
}
