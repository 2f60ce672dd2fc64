//! Training steps of quantized models, or of generators, in ONNX Runtime and tract, from the same start on the same
//! batches: losses, times, nodes, memory. `cargo bench --bench steps -- --help` lists what can be chosen; `steps.py`
//! compares losses with PyTorch's, and `turns.py` times.

#![allow(missing_docs)]

#[path = "steps/generator.rs"]
mod generator;
#[path = "steps/prepare.rs"]
mod prepare;
#[path = "steps/process.rs"]
mod process;
mod resident;

use std::path::{Path, PathBuf};

use clap::Parser;

use dfq_onnx::runtime::Device;
use prepare::{Kind, Prepared, Settings, prepare};
use process::{End, Place, Runner, Steps};
use tracing_subscriber::EnvFilter;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MODELS: &[&str] = &["resnet20_cifar10", "dwstiny_cifar10", "mobilenetv1_025_224"];
/// Steps whose losses are printed, from 1.
const SHOWN: &[usize] = &[1, 2, 5, 10, 20, 50, 100, 200];
/// Relative differences of losses that are looked for.
const LIMITS: [f64; 2] = [1e-3, 1e-2];

#[derive(Parser)]
struct Options {
    /// Models [default: three of ../shared/data]
    models: Vec<PathBuf>,
    /// What is trained
    #[arg(long, default_value = "student")]
    kind: Kind,
    /// Samples of a step, where the model does not fix them [default: 32, 8 of large images]
    #[arg(long)]
    batch: Option<usize>,
    /// Steps
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Bits of weights and activations
    #[arg(long, default_value = "w4a4", value_parser = bits)]
    precision: (u32, u32),
    /// Learning rates of a student's weights and biases, and of the logarithms of quantizers' steps: so small that engines part by
    /// what they compute more than by ties of rounding
    #[arg(long, num_args = 2, value_names = ["WEIGHTS", "SCALES"], default_values_t = [1e-5, 1e-4])]
    rates: Vec<f32>,
    /// Where graphs, state, batches and losses are left for steps.py, a folder for each model
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What runs steps; the others are compared with the first [default: ort,ort-standard,tract, with --device
    /// ort-standard,device-float32,device-regular,device]
    #[arg(long, value_delimiter = ',')]
    engine: Vec<Runner>,
    /// Where engines run that are named after it: cpu, cuda, cuda:INDEX, tensorrt or tensorrt:INDEX
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Fail where an engine is missing, or a loss is further than this from the first engine's (relative)
    #[arg(long)]
    within: Option<f64>,
    /// Threads of each engine; tract takes one
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The engine that this process is for
    #[arg(long, hide = true)]
    child: Option<Runner>,
    /// Cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn rates(&self) -> [f32; 2] {
        [self.rates[0], self.rates[1]]
    }

    fn place(&self) -> Place {
        Place { device: self.device, threads: self.threads }
    }

    fn engines(&self) -> Vec<Runner> {
        match (self.engine.as_slice(), self.device) {
            ([], Device::Cpu) => vec![Runner::Ort, Runner::OrtStandard, Runner::Tract],
            ([], _) => vec![Runner::OrtStandard, Runner::DeviceFloat32, Runner::DeviceRegular, Runner::Device],
            (given, _) => given.to_vec(),
        }
    }
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    let log = EnvFilter::new("warn,ort=error,tract=off");
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).without_time().with_ansi(false).init();
    if let (Some(engine), Some(folder)) = (options.child, &options.folder) {
        return process::serve(engine, folder, options.place());
    }
    if options.models.is_empty() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        options.models = MODELS.iter().map(|name| shared.join(format!("{name}.onnx"))).collect();
    }
    let (weights, activations) = options.precision;
    let rates = options.rates();
    let what = match options.kind {
        Kind::Student => {
            let [weights_rate, scales_rate] = rates;
            format!(
                "w{weights}a{activations}, learning rates of weights {weights_rate:e} and of scales {scales_rate:e}"
            )
        }
        Kind::Generator => "generator at its default learning rate".to_owned(),
    };
    println!(
        "{what}, Adam, constant rates, threads: {}. Engines step in turn. Other work on the machine makes times noisy: the \
         ratio counts.",
        options.threads
    );
    let mut failed = 0;
    for model in &options.models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        if !model.exists() {
            println!("\n{name}: SKIPPED: no {}", model.display());
        } else if let Err(error) = measure(model, &name, &options) {
            println!("\n{name}: FAILED: {error}");
            failed += 1;
        }
    }
    if failed > 0 { Err(format!("{failed} model(s) failed").into()) } else { Ok(()) }
}

fn bits(text: &str) -> std::result::Result<(u32, u32), String> {
    let parsed = text.strip_prefix('w').and_then(|rest| {
        let (weights, activations) = rest.split_once('a')?;
        Some((weights.parse().ok()?, activations.parse().ok()?))
    });
    parsed.ok_or_else(|| "expected such as w4a8".to_owned())
}

fn measure(model: &Path, name: &str, options: &Options) -> Result<()> {
    // A binary may run elsewhere than where it was built.
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    let scratch = tempfile::Builder::new().prefix("dfq-onnx-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = options.folder.as_deref().unwrap_or(scratch.path()).join(name);
    let Options { kind, precision, batch, steps, .. } = *options;
    let settings = Settings { kind, precision, batch, steps, rates: options.rates() };
    let make = || prepare(model, &settings);
    let prepared = make()?;
    let is_same = prepared.is_same(&make()?)?;
    prepared.write(&folder)?;
    let [weights, others] = prepared.trained();
    let [first, second] = match options.kind {
        Kind::Student => ["weights and biases", "quantizer steps"],
        Kind::Generator => ["weights", "latents"],
    };
    let [written, for_cpu] = [&prepared.step, &prepared.cpu].map(|step| step.graph.nodes.len());
    let optimised = prepared.optimised_nodes(scratch.path())?.map_or("unknown".to_owned(), |n| n.to_string());
    println!("\n{name}: batch {}, {weights} {first}, {others} {second}", prepared.batch);
    println!(
        "  nodes of the step: {written} in standard operators, {optimised} as ONNX Runtime optimises that, {for_cpu} as it is \
         written for ONNX Runtime on the CPU"
    );
    println!("  graphs, start and batches, prepared twice: {}", if is_same { "same bytes" } else { "OTHER BYTES" });
    let mut engines = Vec::new();
    for engine in options.engines() {
        match Steps::start(engine, &folder, options.place()) {
            Ok(steps) => engines.push(steps),
            Err(error) if options.within.is_some() => return Err(format!("{engine:?}: {error}").into()),
            Err(error) => println!("  {engine:?}: SKIPPED: {error}"),
        }
    }
    for _ in 0..options.steps {
        engines.iter_mut().try_for_each(Steps::step)?;
    }
    let ends = engines.iter_mut().map(Steps::end).collect::<Result<Vec<_>>>()?;
    print(&prepared, &engines, &ends);
    let median = |steps: &Steps| (steps.name.clone(), steps.losses.clone(), median(&steps.milliseconds));
    let about = prepared.about(name, &engines.iter().map(median).collect::<Vec<_>>())?;
    std::fs::write(folder.join("run.json"), serde_json::to_string_pretty(&about)?)?;
    match (options.within, engines.as_slice()) {
        (Some(limit), [first, others @ ..]) => others.iter().try_for_each(|other| check(first, other, limit)),
        _ => Ok(()),
    }
}

fn print(prepared: &Prepared, engines: &[Steps], ends: &[End]) {
    let width = engines.iter().map(|steps| steps.name.len() + 2).max().unwrap_or(0);
    let names = engines.iter().map(|steps| format!("{:>width$}", steps.name)).collect::<String>();
    println!("  {:<28}{names}", "loss in step");
    let last = engines.first().map_or(0, |steps| steps.losses.len());
    for &step in SHOWN.iter().filter(|step| **step <= last) {
        let losses = engines.iter().map(|steps| format!("{:>width$.7e}", steps.losses[step - 1])).collect::<String>();
        println!("  {step:<28}{losses}");
    }
    let row = |what: &str, cell: &dyn Fn(usize) -> String| {
        println!("  {what:<28}{}", (0..engines.len()).map(|i| format!("{:>width$}", cell(i))).collect::<String>());
    };
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    row("losses from the start again", &|i| if ends[i].repeats { "same" } else { "OTHER" }.to_owned());
    row("ms a step (median)", &|i| format!("{:.1}", median(&engines[i].milliseconds)));
    row("peak MB of its process", &|i| ends[i].peak.map_or("unknown".to_owned(), megabytes));
    println!(
        "  (VmHWM with library, model, batches and loading; the step's tensors: {} MB by estimate)",
        megabytes(prepared.estimate() as u64)
    );
    if let [first, others @ ..] = engines {
        others.iter().for_each(|other| compare(first, other));
    }
}

/// Returns how far the losses of two engines are apart in each step, relative to the first's.
fn apart(first: &Steps, other: &Steps) -> Vec<f64> {
    let pairs = first.losses.iter().zip(&other.losses).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1e-12)).collect()
}

fn check(first: &Steps, other: &Steps, limit: f64) -> Result<()> {
    match apart(first, other).iter().position(|&one| one > limit) {
        Some(step) => {
            let names = [&first.name, &other.name];
            Err(format!("losses of {} and {} are more than {limit:e} apart in step {}", names[0], names[1], step + 1)
                .into())
        }
        None => Ok(()),
    }
}

/// Prints how far the losses of two engines are apart, and how much slower one is.
fn compare(first: &Steps, other: &Steps) {
    let apart = apart(first, other);
    let most = apart.iter().copied().fold(0.0, f64::max);
    let at = apart.iter().position(|&one| one >= most).unwrap_or(0) + 1;
    let beyond = LIMITS.map(|limit| match apart.iter().position(|&one| one > limit) {
        Some(step) => format!("first above {limit:e} in step {}", step + 1),
        None => format!("never above {limit:e}"),
    });
    println!("  losses apart by {most:.1e} at most (step {at}, relative); {}", beyond.join(", "));
    let ratios: Vec<f64> = other.milliseconds.iter().zip(&first.milliseconds).map(|(b, a)| b / a).collect();
    println!("  {} takes {:.2} times as long as {} (median over steps)", other.name, median(&ratios), first.name);
}

/// Returns the median of what follows the first steps, which warm up.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values[values.len().min(values.len() / 10 + 1)..].to_vec();
    if sorted.is_empty() {
        sorted = values.to_vec();
    }
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
