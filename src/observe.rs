//! Who hears how a run goes on.

/// How far a stage of steps is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The stage.
    pub stage: &'a str,
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub steps: u64,
    /// The loss that was read last and its terms, by name; none before any was.
    pub losses: &'a [(&'a str, f32)],
}

/// Hears how a run goes on, and may ask it to stop.
pub trait Observer {
    /// A stage begins.
    fn stage(&mut self, name: &str);

    /// Steps of a stage were made.
    fn progress(&mut self, progress: &Progress);

    /// Something happened that the user wants to know now.
    fn note(&mut self, text: &str);

    /// Returns whether the run is to stop as soon as it can be taken up again.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn stage(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn note(&mut self, _: &str) {}
}
