//! A process of its own for each engine, so that its memory is that engine's: it makes a step for every line that it
//! reads, and answers with the loss and the milliseconds.

use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::ValueEnum;

use dfq_onnx::ir::Tensor;
use dfq_onnx::onnx;
use dfq_onnx::runtime::{Device, Engine, OrtEngine, Places, SessionOptions, StepSession, TractEngine, locate};
use dfq_onnx::train::Checkpoint;

use crate::{Result, resident};

/// What runs steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Runner {
    /// ONNX Runtime, steps as the program writes them for it.
    Ort,
    /// ONNX Runtime, steps in standard operators.
    OrtStandard,
    /// ONNX Runtime on --device, as training runs there.
    Device,
    /// The same without CUDA graphs.
    DeviceRegular,
    /// The same in float32, without TF32.
    DeviceFloat32,
    /// tract.
    Tract,
}

/// The file of the step in standard operators, and that of the step as it is written for ONNX Runtime on the CPU.
pub const FILES: [&str; 2] = ["step.onnx", "step.cpu.onnx"];

/// Steps that are made again from the start.
const REPEATED: usize = 20;

/// Where steps run.
#[derive(Clone, Copy)]
pub struct Place {
    /// That of the runners that are named after it.
    pub device: Device,
    pub threads: usize,
}

/// A process that steps.
pub struct Steps {
    pub name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub losses: Vec<f32>,
    pub milliseconds: Vec<f64>,
}

/// What a process says at its end.
pub struct End {
    pub peak: Option<u64>,
    /// Whether the first steps, made again, had the same losses to the bit.
    pub repeats: bool,
}

impl Steps {
    /// Starts a process for the step in `folder`.
    pub fn start(runner: Runner, folder: &Path, place: Place) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(name(runner)).arg("--folder").arg(folder);
        command.args(["--threads", &place.threads.to_string(), "--device", &place.device.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or("no pipe")?);
        let mut steps = Self {
            name: String::new(),
            child,
            input,
            output: BufReader::new(output),
            losses: Vec::new(),
            milliseconds: Vec::new(),
        };
        steps.name = steps.answer()?;
        Ok(steps)
    }

    /// Makes the next step.
    pub fn step(&mut self) -> Result<()> {
        writeln!(self.input.as_mut().ok_or("no pipe")?)?;
        let answer = self.answer()?;
        let (loss, milliseconds) = answer.split_once(' ').ok_or("expected two numbers")?;
        self.losses.push(loss.parse()?);
        self.milliseconds.push(milliseconds.parse()?);
        Ok(())
    }

    /// Ends the process.
    pub fn end(&mut self) -> Result<End> {
        self.input = None;
        let answer = self.answer()?;
        let (peak, repeats) = answer.split_once(' ').ok_or("expected two words")?;
        self.child.wait()?;
        Ok(End { peak: peak.parse().ok(), repeats: repeats.parse()? })
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("the process ended: {}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // Fails where the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a runner as it is typed.
fn name(runner: Runner) -> String {
    runner.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Makes a step for every line of stdin.
pub fn serve(runner: Runner, folder: &Path, place: Place) -> Result<()> {
    let (engine, mut run) = Run::load(runner, folder, place)?;
    println!("{engine}");
    let mut losses = Vec::new();
    for line in stdin().lines() {
        line?;
        let (loss, milliseconds) = run.step(losses.len())?;
        losses.push(loss);
        println!("{loss} {milliseconds}");
    }
    let peak = resident::peak("self");
    for (index, (_, value)) in run.start.iter().enumerate() {
        run.session.write(index, value)?;
    }
    let mut repeats = true;
    for (number, loss) in losses.iter().enumerate().take(REPEATED) {
        repeats &= run.step(number)?.0.to_bits() == loss.to_bits();
    }
    println!("{} {repeats}", peak.map_or("unknown".to_owned(), |bytes| bytes.to_string()));
    Ok(())
}

struct Run {
    session: Box<dyn StepSession>,
    start: Vec<(String, Tensor)>,
    losses: usize,
    /// What each input is fed, in order; used up, they come again.
    feeds: Vec<Vec<Tensor>>,
}

impl Run {
    /// Returns the engine's name, and the step in `folder` about to run in it.
    fn load(runner: Runner, folder: &Path, place: Place) -> Result<(String, Self)> {
        let (device, what) = match runner {
            Runner::Ort | Runner::Tract => (Device::Cpu, String::new()),
            Runner::OrtStandard => (Device::Cpu, " standard".to_owned()),
            Runner::Device => (place.device, format!(" {}", place.device)),
            Runner::DeviceRegular => (place.device, format!(" {}, no graphs", place.device)),
            Runner::DeviceFloat32 => (place.device, format!(" {}, no TF32", place.device)),
        };
        let engine: Box<dyn Engine> = match runner {
            Runner::Tract => Box::new(TractEngine),
            _ => {
                let places = Places::of_this_process(None);
                let engine = OrtEngine::open(&locate(&places, false)?.path, device)?;
                Box::new(engine.with_cache(places.cache))
            }
        };
        let graph = onnx::load(&folder.join(FILES[usize::from(runner == Runner::Ort)]))?;
        let read = |name: &str| Ok::<_, dfq_onnx::Error>(Checkpoint::read(&folder.join(name))?.tensors);
        let (mut state, batches) = (read("state.safetensors")?, read("batches.safetensors")?);
        let (inputs, entries) = (graph.fed_inputs(), graph.outputs.len());
        let names: Vec<&str> = inputs.iter().map(|&id| graph.name_of(id)).collect();
        let start = names[..entries].iter().map(|name| Some(((*name).to_owned(), state.remove(*name)?)));
        let start: Vec<(String, Tensor)> = start.collect::<Option<_>>().ok_or("the state is not that of the step")?;
        let feeds = |name: &&str| (0..).map_while(|i| batches.get(&format!("{name}.{i}")).cloned()).collect();
        let losses = names.iter().position(|name| *name == "losses").ok_or("the step keeps no losses")?;
        let options = SessionOptions {
            threads: Some(place.threads),
            cuda_graphs: runner != Runner::DeviceRegular,
            tf32: runner != Runner::DeviceFloat32,
            ..SessionOptions::default()
        };
        let session = engine.load_steps(&[&graph], &start, &options)?;
        Ok((
            engine.name() + &what,
            Self { session, start, losses, feeds: names[entries..].iter().map(feeds).collect() },
        ))
    }

    /// Returns loss and milliseconds of a step.
    fn step(&mut self, number: usize) -> Result<(f32, f64)> {
        let feeds: Vec<Tensor> = self.feeds.iter().map(|each| each[number % each.len()].clone()).collect();
        let started = Instant::now();
        self.session.step(0, &feeds)?;
        let milliseconds = 1e3 * started.elapsed().as_secs_f64();
        let losses = self.session.read(self.losses)?;
        // The newest is the last row; the terms of the loss stand behind it.
        let terms = losses.shape().get(1).copied().unwrap_or(1);
        let loss = losses.to_f32()?.iter().nth_back(terms - 1).copied().unwrap_or(f32::NAN);
        if !loss.is_finite() {
            return Err(format!("the loss became {loss} in step {}", number + 1).into());
        }
        Ok((loss, milliseconds))
    }
}
