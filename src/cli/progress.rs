//! What a person sees of a run while it goes on, on stderr: bars on a terminal, a line now and then elsewhere; and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::error::{Error, Result};
use crate::observe::{Observer, Progress};
use crate::train::LOSS;

/// Time between two lines of progress where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);
/// A stage that takes longer is told of when it begins.
const LONG: Duration = Duration::from_secs(3600);
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
    /// Whether how long it takes was weighed.
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
        Steps { stage: progress.stage.to_owned(), bar, told: now, began: (now, progress.done), is_weighed: false }
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
        let left = seconds_left(progress, steps.began);
        if let Some(left) = left.filter(|_| !steps.is_weighed && steps.began.0.elapsed() >= INTERVAL) {
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

/// Returns the newest loss, and its terms where there are several; of a game with several losses, all of them.
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

/// Returns the seconds that are left, as far as can be told.
fn seconds_left(progress: &Progress, (since, from): (Instant, u64)) -> Option<f64> {
    let (done, left) = (progress.done.saturating_sub(from), progress.steps.saturating_sub(progress.done));
    (done > 0).then(|| since.elapsed().as_secs_f64() / done as f64 * left as f64)
}

/// Returns what is said of a stage that takes so many seconds.
fn takes_long(stage: &str, seconds: f64) -> String {
    let hours = seconds / 3600.0;
    format!("{stage} takes {hours:.1} hours at this pace; --max-minutes N ends the run before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_steps_since_it_began() {
        let hour_ago = Instant::now().checked_sub(Duration::from_secs(3600)).unwrap();
        let left = |done, steps, from| {
            seconds_left(&Progress { stage: "distil", done, steps, losses: &[] }, (hour_ago, from)).map(f64::round)
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
