//! The flags that say how a recipe trains.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::arguments::whole;
use super::destination::Folder;
use crate::error::{Error, Result};
use crate::recipes::{RECIPES, Recipe, STAGES, Stage};
use crate::train::{CHECKPOINT, RunFolder, STEP_GRAPH, Settings};

#[derive(Args)]
pub(super) struct TrainingArguments {
    /// Number of training steps per stage
    #[arg(long, value_name = "N", value_parser = whole(1..=1_000_000_000u64))]
    steps: Option<u64>,
    /// Samples per training step [default: 32, or as many as memory allows]
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Option<usize>,
    /// Initial learning rate, in units of the weights' scales
    #[arg(long, value_name = "RATE", value_parser = rate)]
    learning_rate: Option<f64>,
    /// Number of generators of the recipe choi2020 [default: 1]
    #[arg(long, value_name = "N", value_parser = whole(1..=16u64))]
    generators: Option<u64>,
    /// Number of students of the recipe choi2020; the first is the result [default: 1]
    #[arg(long, value_name = "N", value_parser = whole(1..=16u64))]
    students: Option<u64>,
    /// Keep the result of every training stage, even where it is farther from the float model on held-out inputs
    #[arg(long)]
    keep_trained: bool,
    /// Write the graphs of the training steps to a folder
    #[arg(long, value_name = "DIR")]
    save_graphs: Option<PathBuf>,
    /// Write checkpoints to a folder
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    run_folder: Option<PathBuf>,
    /// Stop training after this many minutes; the report says how many steps were done [default: 10 with --effort auto]
    #[arg(long, value_name = "N", value_parser = minutes)]
    max_minutes: Option<f64>,
    /// Resume a run from its checkpoints; the result has the same bytes as without the interruption
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
}

impl TrainingArguments {
    /// Returns whether any of these flags is given.
    pub(super) fn is_given(&self) -> bool {
        let Self { steps, batch, learning_rate, generators, students, keep_trained, .. } = self;
        let Self { save_graphs, run_folder, max_minutes, resume, .. } = self;
        let folders = [save_graphs, run_folder, resume];
        let counts = [steps, generators, students].into_iter().any(Option::is_some);
        let numbers = counts || batch.is_some() || learning_rate.is_some() || max_minutes.is_some();
        numbers || *keep_trained || folders.into_iter().any(Option::is_some)
    }

    /// Returns the folders that files are written to.
    pub(super) fn folders(&self) -> Vec<Folder<'_>> {
        let folders = [
            ("--run-folder", &self.run_folder, CHECKPOINT),
            ("--resume", &self.resume, CHECKPOINT),
            ("--save-graphs", &self.save_graphs, STEP_GRAPH),
        ];
        let named = |(flag, path, ending)| {
            let path: &Option<PathBuf> = path;
            path.as_deref().map(|path| Folder { flag, path, ending })
        };
        folders.into_iter().filter_map(named).collect()
    }

    /// Returns the settings; the time limit begins now.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is nothing to resume.
    pub(super) fn plain_settings(&self) -> Result<Settings> {
        let Self { steps, batch, learning_rate, generators, students, keep_trained, .. } = self;
        let Self { save_graphs, run_folder, max_minutes, resume, .. } = self;
        if let Some(folder) = resume.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Error::Usage(format!("--resume {}: there is no such folder", folder.display())));
        }
        let folder = |path: &PathBuf, resume| RunFolder { path: path.clone(), resume };
        let continued = resume.as_ref().map(|path| folder(path, true));
        Ok(Settings {
            steps: *steps,
            batch: *batch,
            learning_rate: *learning_rate,
            generators: *generators,
            students: *students,
            keeps_all: *keep_trained,
            save_graphs: save_graphs.clone(),
            folder: continued.or_else(|| run_folder.as_ref().map(|path| folder(path, false))),
            deadline: max_minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes)),
        })
    }

    /// Refuses numbers of generators and students where no stage uses them.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the stages that have.
    pub(super) fn refuse_unused_players(&self, stages: &[&Stage]) -> Result<()> {
        let flags = [("--generators", self.generators), ("--students", self.students)];
        let given = flags.into_iter().find(|(_, number)| number.is_some());
        match given.filter(|_| !stages.iter().any(|stage| stage.counts_players)) {
            None => Ok(()),
            Some((flag, _)) => {
                let known: Vec<&str> = STAGES.iter().filter(|stage| stage.counts_players).map(|s| s.name).collect();
                Err(Error::Usage(format!("{flag} applies only to --recipe or --stages {}", known.join(" or "))))
            }
        }
    }

    /// Returns what these flags say, with an end after `budget` unless they name one.
    ///
    /// # Errors
    /// As [`TrainingArguments::plain_settings`].
    pub(super) fn within(&self, budget: Duration) -> Result<Settings> {
        let settings = self.plain_settings()?;
        Ok(Settings { deadline: settings.deadline.or_else(|| Some(Instant::now() + budget)), ..settings })
    }

    /// Returns the settings for a recipe.
    ///
    /// # Errors
    /// [`Error::Usage`] as for [`TrainingArguments::plain_settings`], and where the recipe does not train.
    pub(super) fn settings(&self, recipe: &Recipe) -> Result<Settings> {
        let settings = self.plain_settings()?;
        if recipe.stages.is_empty() && settings != Settings::default() {
            let training: Vec<&str> = RECIPES.iter().filter(|r| !r.stages.is_empty()).map(|r| r.name).collect();
            return Err(Error::Usage(format!(
                "recipe \"{}\" does not train; flags of training go with --recipe {}",
                recipe.name,
                training.join(" or ")
            )));
        }
        Ok(settings)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| (0.0..=1e6).contains(minutes));
    minutes.ok_or_else(|| "expected a number of minutes, such as 10 or 0.5".to_owned())
}

fn batch(text: &str) -> Result<usize, String> {
    let batch = text.parse::<usize>().ok().filter(|&batch| batch > 0);
    batch.ok_or_else(|| "expected a number of samples, at least 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0, such as 3e-4".to_owned())
}
