//! Progress reports and interruption of a run.

/// The progress of a stage with steps.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The stage.
    pub stage: &'a str,
    /// Completed steps.
    pub done: u64,
    /// Total number of steps.
    pub steps: u64,
    /// The latest loss and its terms, by name; empty before the first reading.
    pub losses: &'a [(&'a str, f32)],
}

/// Receives the progress of a run, and may request it to stop.
pub trait Observer {
    /// Called when a stage begins.
    fn stage(&mut self, name: &str);

    /// Called after steps of a stage.
    fn progress(&mut self, progress: &Progress);

    /// Called with a message for the user.
    fn note(&mut self, text: &str);

    /// Returns whether the run shall stop as soon as it can be resumed later.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Ignores all reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn stage(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn note(&mut self, _: &str) {}
}
