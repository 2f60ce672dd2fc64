//! The one error type of the library: a variant per thing that a user can act on, and the exit code that goes with it.

use std::path::{Path, PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The input contradicts itself or its format.
    #[error("{place}: {message}")]
    Malformed {
        /// File, node or tensor.
        place: String,
        /// Expected, found, and what to do.
        message: String,
    },
    /// The input is valid, but of a kind that is not handled.
    #[error("{place}: {message}")]
    Unsupported {
        /// File, node or tensor.
        place: String,
        /// What is not handled and what to do instead.
        message: String,
    },
    /// Tensor shapes do not fit together.
    #[error("{place}: {message}")]
    Shape {
        /// Node or tensor.
        place: String,
        /// Expected and found.
        message: String,
    },
    /// What was asked for cannot be planned for this model.
    #[error("{0}")]
    Plan(String),
    /// What was typed contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// An inference engine refused a model or failed to run it.
    #[error("{engine}: {message}")]
    Runtime {
        /// `ONNX Runtime` or `tract`, with its mode.
        engine: String,
        /// The engine's own message and what to do.
        message: String,
    },
    /// Training did not go well: its loss grew without end, or left what numbers can hold.
    #[error("training: {0}")]
    Diverged(String),
    /// A device, a library, memory or time is missing.
    #[error("{0}")]
    Resources(String),
    /// The user stopped the run.
    #[error("{0}")]
    Interrupted(String),
    /// A check of the emitted model, or a threshold that the user set, was missed.
    #[error("{0}")]
    Verification(String),
}

impl Error {
    /// Returns a [`Error::Malformed`] at `place` (file, node or tensor).
    pub fn malformed(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), message: message.into() }
    }

    /// Returns an [`Error::Unsupported`] at `place`.
    pub fn unsupported(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unsupported { place: place.into(), message: message.into() }
    }

    /// Returns an [`Error::Shape`] at `place`.
    pub fn shape(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Shape { place: place.into(), message: message.into() }
    }

    /// Returns an [`Error::Runtime`] of `engine`, its message on one line.
    pub fn runtime(engine: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self::Runtime { engine: engine.into(), message: lines.join(" ") }
    }

    /// Returns the error as one of the model file at `path`, which its message then names.
    pub fn in_model(self, path: &Path) -> Self {
        let file = path.display().to_string();
        let within = |place: String| match place.as_str() {
            "model" => file.clone(),
            named if named.starts_with(&file) => place,
            _ => format!("{file}: {place}"),
        };
        match self {
            Self::Malformed { place, message } => Self::Malformed { place: within(place), message },
            Self::Unsupported { place, message } => Self::Unsupported { place: within(place), message },
            Self::Shape { place, message } => Self::Shape { place: within(place), message },
            Self::Plan(message) => Self::Plan(within(message)),
            Self::Runtime { engine, message } => Self::Runtime { engine, message: within(message) },
            Self::Resources(message) => Self::Resources(within(message)),
            other => other,
        }
    }

    /// Returns a closure for `map_err` that adds the path which could not be read.
    pub fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Read { path: path.to_owned(), source }
    }

    /// Returns a closure for `map_err` that adds the path which could not be written.
    pub fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Write { path: path.to_owned(), source }
    }

    /// Returns the name of the variant, as JSON documents have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Malformed { .. } => "malformed",
            Self::Unsupported { .. } => "unsupported",
            Self::Shape { .. } => "shape",
            Self::Plan(_) => "plan",
            Self::Diverged(_) => "diverged",
            Self::Usage(_) => "usage",
            Self::Runtime { .. } => "runtime",
            Self::Resources(_) => "resources",
            Self::Interrupted(_) => "interrupted",
            Self::Verification(_) => "verification",
        }
    }

    /// Returns the process exit code that the documentation promises for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Read { .. }
            | Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::Shape { .. }
            | Self::Plan(_)
            | Self::Diverged(_)
            // An engine that was opened refuses what it is given: the operators or the data of the model.
            | Self::Runtime { .. } => 3,
            Self::Verification(_) => 4,
            Self::Write { .. } | Self::Resources(_) => 5,
            Self::Interrupted(_) => 130,
        }
    }
}
