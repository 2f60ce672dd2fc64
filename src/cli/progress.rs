//! Progress on stderr (bars on a terminal, lines elsewhere), and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::error::{Error, Result};
use crate::observe::{Observer, Progress};
use crate::train::LOSS;

/// The time between two lines of progress without a terminal.
const INTERVAL: Duration = Duration::from_secs(10);
/// A stage that takes longer is announced.
const LONG: Duration = Duration::from_secs(3600);
/// The exit code of an interrupted run.
const STOPPED: i32 = 130;

/// Reports the progress of a run.
pub(super) struct Reporter {
    interrupted: Arc<AtomicBool>,
    is_terminal: bool,
    steps: Option<Steps>,
}

/// The current stage.
struct Steps {
    stage: String,
    bar: Option<ProgressBar>,
    told: Instant,
    /// The time of the first report of progress, and the steps done by then.
    began: Instant,
    done_before: u64,
    /// Whether its duration was estimated.
    is_weighed: bool,
}

impl Steps {
    /// Prints a line above the bar, if there is one.
    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say(text),
        }
    }
}

impl Reporter {
    /// Returns a reporter and handles Ctrl-C: the first stops the run where it can be resumed, the second at once.
    ///
    /// # Errors
    /// When the signal handler cannot be set.
    pub(super) fn start() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let heard = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(STOPPED);
            }
            say("stopping where the run can be resumed; Ctrl-C once more stops it at once");
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
        let (stage, done_before) = (progress.stage.to_owned(), progress.done);
        Steps { stage, bar, told: now, began: now, done_before, is_weighed: false }
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
        let left = seconds_left(progress, steps.done_before, steps.began.elapsed());
        if let Some(left) = left.filter(|_| !steps.is_weighed && steps.began.elapsed() >= INTERVAL) {
            steps.is_weighed = true;
            if left > LONG.as_secs_f64() {
                steps.note(&takes_long(progress.stage, left));
            }
        }
        let losses = losses(progress);
        if let Some(bar) = &steps.bar {
            bar.set_position(progress.done);
            bar.set_message(losses);
            return;
        }
        if steps.told.elapsed() >= INTERVAL || progress.done == progress.steps {
            let Progress { stage, done, steps: all, .. } = progress;
            let left = left.filter(|_| done < all).map_or(String::new(), |left| format!("{left:.0} s left"));
            let told = [format!("{stage}: step {done} of {all}"), losses, left];
            say(&told.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "));
            steps.told = Instant::now();
        }
    }

    fn note(&mut self, text: &str) {
        match &self.steps {
            Some(steps) => steps.note(text),
            None => say(text),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// Returns the latest loss, with its terms where there are several; of a game with several losses, all of them.
fn losses(progress: &Progress) -> String {
    let all: Vec<String> = progress.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    let several = progress.losses.iter().filter(|(name, _)| name.ends_with(LOSS)).count() > 1;
    match all.as_slice() {
        all if several => all.join(", "),
        [] => String::new(),
        [loss] | [loss, _] => loss.clone(),
        [loss, terms @ ..] => format!("{loss} ({})", terms.join(", ")),
    }
}

/// Returns the estimated seconds left, where `elapsed` went by since there were `before` steps done; none before the
/// next step.
fn seconds_left(progress: &Progress, before: u64, elapsed: Duration) -> Option<f64> {
    let (done, left) = (progress.done.saturating_sub(before), progress.steps.saturating_sub(progress.done));
    (done > 0).then(|| elapsed.as_secs_f64() / done as f64 * left as f64)
}

/// Returns the message about a stage that takes so many seconds.
fn takes_long(stage: &str, seconds: f64) -> String {
    let hours = seconds / 3600.0;
    format!("{stage} takes {hours:.1} hours at this pace; --max-minutes N ends the run before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_steps_since_it_began() {
        let left = |done, steps, before| {
            let progress = Progress { stage: "distil", done, steps, losses: &[] };
            seconds_left(&progress, before, Duration::from_secs(3600)).map(f64::round)
        };
        let cases = [
            ("a half", left(5, 10, 0), Some(3600.0)),
            ("resumed", left(5, 10, 4), Some(18_000.0)),
            ("the end", left(10, 10, 0), Some(0.0)),
            ("nothing known", left(4, 10, 4), None),
        ];
        let failed: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(takes_long("distil", 5400.0).starts_with("distil takes 1.5 hours"));
    }

    #[test]
    fn terms_stand_behind_their_sum_where_there_are_several() {
        let of = |losses: &[(&str, f32)]| super::losses(&Progress { stage: "synthesis", done: 1, steps: 2, losses });
        assert_eq!(of(&[("loss", 0.5)]), "loss 0.5000");
        assert_eq!(of(&[("loss", 0.5), ("bn", 0.5)]), "loss 0.5000");
        assert_eq!(of(&[("loss", 0.5), ("bn", 0.25), ("tv", 2.5)]), "loss 0.5000 (bn 0.2500, tv 2.5000)");
        let game = [("generator loss", 0.5), ("generator bn", 0.25), ("student loss", 2.5)];
        assert_eq!(of(&game), "generator loss 0.5000, generator bn 0.2500, student loss 2.5000");
    }
}
