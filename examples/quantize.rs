//! Quantizes a model to 4-bit weights without data, by `gdfq` where it can be trained, and says what became of it:
//!
//!     cargo run --release --example quantize -- model.onnx model.w4a8.onnx

use std::path::Path;
use std::process::ExitCode;

use dfq_onnx::{
    Config, EngineRequest, Observer, Places, Policy, Progress, Report, Result, TrainingSettings, engines, find_recipe,
    quantize,
};

/// Prints what a run does.
struct Lines;

impl Observer for Lines {
    fn stage(&mut self, name: &str) {
        eprintln!("{name} ...");
    }

    fn progress(&mut self, progress: &Progress) {
        if progress.done.is_multiple_of(100) {
            eprintln!("{}: step {} of {}", progress.stage, progress.done, progress.steps);
        }
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

fn run(model: &Path, output: &Path) -> Result<Report> {
    let recipe = find_recipe("gdfq")?;
    let config = Config {
        output: Some(output.to_owned()),
        recipe,
        stages: recipe.stages.to_vec(),
        // A model that gradients cannot pass is quantized without training, with a warning.
        trains_where_it_can: true,
        policy: Policy { weight_bits: 4, ..Policy::default() },
        training: TrainingSettings { steps: Some(200), ..TrainingSettings::default() },
        ..Config::of_model(model)
    };
    quantize(&config, &engines(&EngineRequest::default(), &Places::of_this_process(None))?, &mut Lines)
}

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [model, output] = paths.as_slice() else {
        eprintln!("usage: quantize MODEL OUTPUT");
        return ExitCode::from(2);
    };
    match run(Path::new(model), Path::new(output)) {
        Ok(report) => {
            report.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            println!("{} -> {} bytes", report.bytes.float, report.bytes.quantized);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
