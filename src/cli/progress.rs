//! What a person sees of a run while it goes on, on stderr: bars on a terminal, a line now and then elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::error::{Error, Result};
use crate::observe::{Observer, Progress};

/// Time between two lines of progress where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);
/// The exit code of a run that was stopped.
const STOPPED: i32 = 130;

/// Tells how a run goes on.
pub(super) struct Reporter {
    interrupted: Arc<AtomicBool>,
    is_terminal: bool,
    steps: Option<Steps>,
}

/// The stage of steps that is told of.
struct Steps {
    stage: String,
    bar: Option<ProgressBar>,
    told: Instant,
    /// When it was first heard of, and with how many steps done.
    began: (Instant, u64),
}

impl Reporter {
    /// Returns a reporter, and listens for Ctrl-C from now on: the first asks the run to stop where it can be taken up
    /// again, the second stops it at once.
    ///
    /// # Errors
    /// Where signals cannot be listened for.
    pub(super) fn start() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let heard = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(STOPPED);
            }
            say("stopping where the run can be taken up again; Ctrl-C once more stops it at once");
        };
        ctrlc::set_handler(heard).map_err(|e| Error::Resources(format!("cannot listen for Ctrl-C: {e}")))?;
        Ok(Self { interrupted, is_terminal: std::io::stderr().is_terminal(), steps: None })
    }

    fn begin(&self, progress: &Progress) -> Steps {
        let bar = self.is_terminal.then(|| {
            let bar = ProgressBar::new(progress.steps);
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} left  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(progress.stage.to_owned());
            bar.set_position(progress.done);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Steps { stage: progress.stage.to_owned(), bar, told: now, began: (now, progress.done) }
    }

    fn end(&mut self) {
        if let Some(bar) = self.steps.take().and_then(|steps| steps.bar) {
            bar.finish();
        }
    }
}

impl Observer for Reporter {
    fn stage(&mut self, name: &str) {
        self.end();
        match self.is_terminal {
            true => say(&format!("{name} ...")),
            false => tracing::info!("{name}"),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if self.steps.as_ref().is_some_and(|steps| steps.stage != progress.stage) {
            self.end();
        }
        let steps = match self.steps.take() {
            Some(steps) => steps,
            None => self.begin(progress),
        };
        let steps = self.steps.insert(steps);
        let losses = losses(progress);
        if let Some(bar) = &steps.bar {
            bar.set_position(progress.done);
            bar.set_message(losses);
            return;
        }
        if steps.told.elapsed() >= INTERVAL || progress.done == progress.steps {
            let Progress { stage, done, steps: all, .. } = progress;
            let left = left(progress, steps.began);
            say(&format!("{stage}: step {done} of {all}, {losses}{left}"));
            steps.told = Instant::now();
        }
    }

    fn note(&mut self, text: &str) {
        match self.steps.as_ref().and_then(|steps| steps.bar.as_ref()) {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// Returns the newest loss, and its terms where there are several.
fn losses(progress: &Progress) -> String {
    let all: Vec<String> = progress.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    match all.as_slice() {
        [] => String::new(),
        [loss] | [loss, _] => loss.clone(),
        [loss, terms @ ..] => format!("{loss} ({})", terms.join(", ")),
    }
}

/// Returns the seconds that are left, as far as can be told.
#[allow(clippy::cast_precision_loss)]
fn left(progress: &Progress, (since, from): (Instant, u64)) -> String {
    let (done, left) = (progress.done.saturating_sub(from), progress.steps.saturating_sub(progress.done));
    match done {
        0 => String::new(),
        _ if left == 0 => String::new(),
        _ => format!(", {:.0} s left", since.elapsed().as_secs_f64() / done as f64 * left as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_stand_behind_their_sum_where_there_are_several() {
        let of = |losses: &[(&str, f32)]| super::losses(&Progress { stage: "synthesis", done: 1, steps: 2, losses });
        assert_eq!(of(&[("loss", 0.5)]), "loss 0.5000");
        assert_eq!(of(&[("loss", 0.5), ("bn", 0.5)]), "loss 0.5000");
        assert_eq!(of(&[("loss", 0.5), ("bn", 0.25), ("tv", 2.5)]), "loss 0.5000 (bn 0.2500, tv 2.5000)");
    }
}
