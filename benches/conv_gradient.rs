//! Milliseconds of the weight gradient of convolutions on one thread, best of several: `cargo bench --bench
//! conv_gradient [-- RUNS [PYTHON]]`. With the path of a Python that has PyTorch the same shapes run there too, in
//! turn.

#![allow(missing_docs)]

use std::process::Command;
use std::time::Instant;

use dfq_onnx::runtime::kernels::{
    ConvAttributes, Convolution, Execution, Instructions, WeightGradient, in_turn, weight_gradient,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Batch, channels, filters, side of x, of the kernel, stride, padding, groups.
const SHAPES: &[[usize; 8]] = &[
    // ResNet-20.
    [64, 3, 16, 32, 3, 1, 1, 1],
    [64, 16, 16, 32, 3, 1, 1, 1],
    [64, 16, 32, 32, 3, 2, 1, 1],
    [64, 16, 32, 32, 1, 2, 0, 1],
    [64, 32, 32, 16, 3, 1, 1, 1],
    [64, 32, 64, 16, 3, 2, 1, 1],
    [64, 32, 64, 16, 1, 2, 0, 1],
    [64, 64, 64, 8, 3, 1, 1, 1],
    // A wide layer, and one in groups.
    [64, 128, 128, 16, 3, 1, 1, 1],
    [64, 64, 64, 16, 3, 1, 1, 4],
    // Depthwise and pointwise on small images.
    [64, 32, 32, 32, 3, 1, 1, 32],
    [64, 64, 64, 16, 3, 2, 1, 64],
    [64, 32, 64, 32, 1, 1, 0, 1],
    // MobileNetV1 0.25 at 224.
    [8, 3, 8, 224, 3, 2, 1, 1],
    [8, 8, 8, 112, 3, 1, 1, 8],
    [8, 8, 16, 112, 1, 1, 0, 1],
    [8, 16, 16, 112, 3, 2, 1, 16],
    [8, 16, 32, 56, 1, 1, 0, 1],
    [8, 32, 32, 56, 3, 1, 1, 32],
    [8, 32, 32, 56, 1, 1, 0, 1],
    [8, 64, 64, 28, 3, 1, 1, 64],
    [8, 64, 64, 28, 1, 1, 0, 1],
    [8, 128, 128, 14, 3, 1, 1, 128],
    [8, 128, 128, 14, 1, 1, 0, 1],
    [8, 256, 256, 7, 3, 1, 1, 256],
    [8, 256, 256, 7, 1, 1, 0, 1],
];

fn main() -> Result<()> {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let runs = arguments.first().map_or(Ok(20), |runs| runs.parse::<u32>())?;
    println!("{:<40} {:>9} {:>9} {:>6}", "batch, in x out @ side, kernel", "ms", "torch ms", "ratio");
    for shape in SHAPES {
        let [batch, channels, filters, side, kernel, stride, _, group] = shape;
        let name = format!("{batch}, {channels}x{filters} @ {side}, {kernel}x{kernel} / {stride}, group {group}");
        // Twice in turn, so that what slows the machine down for a while slows both down.
        let ours = |runs: u32| milliseconds(*shape, runs);
        let torch = |runs: u32| arguments.get(1).map(|python| torch(python, *shape, runs)).transpose();
        let (a, b, c, d) = (ours(runs)?, torch(runs)?, ours(runs)?, torch(runs)?);
        let ms = a.min(c);
        match b.zip(d) {
            Some((b, d)) => println!("{name:<40} {ms:>9.3} {:>9.3} {:>6.2}", b.min(d), ms / b.min(d)),
            None => println!("{name:<40} {ms:>9.3}"),
        }
    }
    Ok(())
}

fn milliseconds([n, c, o, side, k, stride, pad, group]: [usize; 8], runs: u32) -> Result<f64> {
    let best = Instructions::best();
    let block = best.block();
    let window = ConvAttributes {
        kernel: [k, k],
        strides: [stride; 2],
        pads: [pad; 4],
        dilations: [1, 1],
        group,
        channels: c,
        filters: o,
        block,
        x_blocked: c > 4,
        dy_blocked: true,
    };
    let out = (side + 2 * pad - k) / stride + 1;
    let channels = if window.x_blocked { c.next_multiple_of(block) } else { c };
    let shapes = [[n, channels, side, side], [n, o.next_multiple_of(block), out, out]];
    let convolution = Convolution::new(&window, &shapes[0], &shapes[1])?;
    let [x, dy] = shapes.map(|shape| (0..shape.iter().product()).map(|i: usize| (i % 97) as f32 / 97.0).collect());
    let (x, dy): (Vec<f32>, Vec<f32>) = (x, dy);
    let mut dw = vec![0.0; window.gradient_shape().iter().product()];
    let mut scratch = Default::default();
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        let tensors = WeightGradient { x: &x, dy: &dy, dw: &mut dw };
        let execution = Execution { instructions: best, spread: &in_turn };
        weight_gradient(&convolution, tensors, &mut scratch, execution)?;
        least = least.min(1e3 * start.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn torch(python: &str, shape: [usize; 8], runs: u32) -> Result<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/conv_gradient.py");
    let output = Command::new(python).arg(script).arg(runs.to_string()).args(shape.map(|n| n.to_string())).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
