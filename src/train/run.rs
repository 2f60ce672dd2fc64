//! What all stages of a run have in common: which run it is, and where its checkpoints go.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::settings::CHECKPOINT;
use super::{Checkpoints, Identity, Settings, fingerprint};
use crate::digest::{sha256, sha256_of_file};
use crate::error::{Error, Result};
use crate::onnx;
use crate::runtime::Engine;

/// Time between two checkpoints.
const INTERVAL: Duration = Duration::from_secs(10);

/// A run of stages that are trained.
#[derive(Clone)]
pub struct Run<'a> {
    /// The file of the float model.
    pub model: &'a Path,
    /// Everything random follows from it.
    pub seed: u64,
    /// What the user says.
    pub settings: &'a Settings,
    /// Runs steps.
    pub engine: &'a dyn Engine,
    /// Whether stages are prepared and no step is made.
    pub dry_run: bool,
    /// The digest of the model, once it was needed.
    digest: OnceCell<String>,
}

impl<'a> Run<'a> {
    /// Returns a run of stages on the model in the file `model`.
    pub fn new(model: &'a Path, seed: u64, settings: &'a Settings, engine: &'a dyn Engine, dry_run: bool) -> Self {
        Self { model, seed, settings, engine, dry_run, digest: OnceCell::new() }
    }

    fn digest(&self) -> Result<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let digest = model_sha256(self.model)?;
        Ok(self.digest.get_or_init(|| digest).clone())
    }

    /// Returns where the checkpoints of `stage` go. Resumed is what has an equal `key` (all that the stage's steps depend on
    /// beside model, seed, engine and version) and `batch`.
    ///
    /// # Errors
    /// Models that cannot be read.
    pub fn checkpoints(&self, stage: &str, batch: usize, key: &impl Serialize) -> Result<Option<Checkpoints>> {
        let Some(folder) = &self.settings.folder else { return Ok(None) };
        // Another engine or version adds up in another order: other bytes.
        let runs = (env!("CARGO_PKG_VERSION"), self.engine.name(), self.engine.lowering().block());
        let settings = fingerprint(&(key, runs));
        let run = Identity {
            stage: stage.to_owned(),
            seed: self.seed,
            model: self.digest()?,
            // The batch may be what memory allows, and has to be given where that differs.
            settings: format!("b{batch}:{settings}"),
        };
        let path = folder.path.join(format!("{stage}.{CHECKPOINT}"));
        Ok(Some(Checkpoints { path, run, resume: folder.resume, interval: INTERVAL }))
    }

    /// Makes the folder of checkpoints, where there is to be one.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn make_folder(&self) -> Result<()> {
        let Some(folder) = self.settings.folder.as_ref().filter(|_| !self.dry_run) else { return Ok(()) };
        std::fs::create_dir_all(&folder.path).map_err(Error::write(&folder.path))
    }
}

/// Returns the sha256 of a model's file, or that of those of all of its files.
fn model_sha256(model: &Path) -> Result<String> {
    let mut digests = Vec::new();
    for path in onnx::files_of(model)? {
        digests.push(sha256_of_file(&path).map_err(Error::read(&path))?);
    }
    Ok(match digests.as_slice() {
        [only] => only.clone(),
        several => sha256(several.iter().map(String::as_bytes)),
    })
}
