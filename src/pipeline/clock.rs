//! Reports and times stages.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::observe::Observer;

/// Reports the beginning of each stage, and records its duration.
pub(super) struct Clock<'a> {
    observer: &'a mut dyn Observer,
    started: Instant,
    current: Option<&'static str>,
    seconds: Vec<(&'static str, f64)>,
}

impl<'a> Clock<'a> {
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self { observer, started: Instant::now(), current: None, seconds: Vec::new() }
    }

    /// Begins a stage.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer requests a stop.
    pub fn stage(&mut self, name: &'static str) -> Result<()> {
        self.close();
        if self.observer.is_interrupted() {
            return Err(Error::Interrupted(format!("stopped before the stage \"{name}\"; nothing was written")));
        }
        self.current = Some(name);
        self.observer.stage(name);
        Ok(())
    }

    /// Returns the observer of the stage's progress.
    pub fn observer(&mut self) -> &mut dyn Observer {
        self.observer
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
