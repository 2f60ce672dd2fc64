//! Names and times stages.

use std::time::Instant;

/// Tells which stage begins, and how long each took.
pub(super) struct Clock<'a> {
    progress: &'a mut dyn FnMut(&str),
    started: Instant,
    current: Option<&'static str>,
    seconds: Vec<(&'static str, f64)>,
}

impl<'a> Clock<'a> {
    pub fn new(progress: &'a mut dyn FnMut(&str)) -> Self {
        Self { progress, started: Instant::now(), current: None, seconds: Vec::new() }
    }

    pub fn stage(&mut self, name: &'static str) {
        self.close();
        self.current = Some(name);
        (self.progress)(name);
    }

    /// Tells how far the stage is.
    pub fn tell(&mut self, text: &str) {
        (self.progress)(text);
    }

    /// Returns the stages and their seconds.
    pub fn finish(mut self) -> Vec<(&'static str, f64)> {
        self.close();
        self.seconds
    }

    fn close(&mut self) {
        if let Some(name) = self.current.take() {
            self.seconds.push((name, self.started.elapsed().as_secs_f64()));
        }
        self.started = Instant::now();
    }
}
