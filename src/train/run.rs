//! The identity of a training run and its checkpoints, shared by all stages.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::settings::CHECKPOINT;
use super::{Checkpoints, Identity, Settings, fingerprint};
use crate::digest::{sha256, sha256_of_file};
use crate::error::Result;
use crate::onnx;
use crate::runtime::Engine;

/// The least time between two checkpoints.
const INTERVAL: Duration = Duration::from_secs(10);

/// A run of training stages.
#[derive(Clone)]
pub struct Run<'a> {
    /// The path of the float model.
    pub model: &'a Path,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The user's settings.
    pub settings: &'a Settings,
    /// The engine that runs steps.
    pub engine: &'a dyn Engine,
    /// Whether stages are only prepared, without any step.
    pub dry_run: bool,
    /// The digest of the model, computed on first use.
    digest: OnceCell<String>,
}

impl<'a> Run<'a> {
    /// Returns a run of stages on the model at the path `model`.
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

    /// Returns the checkpoints of `stage`, if any. A checkpoint is resumed where its `key` (everything the stage's
    /// steps depend on besides model, seed, engine and version) and `batch` are equal.
    ///
    /// # Errors
    /// Models that cannot be read.
    pub fn checkpoints(&self, stage: &str, batch: usize, key: &impl Serialize) -> Result<Option<Checkpoints>> {
        let Some(folder) = &self.settings.folder else { return Ok(None) };
        // Another engine or version may sum in another order and give other bytes.
        let runs = (env!("CARGO_PKG_VERSION"), self.engine.name(), self.engine.lowering().block());
        let settings = fingerprint(&(key, runs));
        let run = Identity {
            stage: stage.to_owned(),
            seed: self.seed,
            model: self.digest()?,
            // The batch size may depend on the available memory; on another machine it must be given.
            settings: format!("b{batch}:{settings}"),
        };
        let path = folder.path.join(format!("{stage}.{CHECKPOINT}"));
        Ok(Some(Checkpoints { path, run, resume: folder.resume, interval: INTERVAL }))
    }
}

/// Returns the sha256 of a model's file, or the digest of the digests of its several files.
fn model_sha256(model: &Path) -> Result<String> {
    let mut digests = Vec::new();
    for path in onnx::files_of(model)? {
        digests.push(sha256_of_file(&path)?);
    }
    Ok(match digests.as_slice() {
        [only] => only.clone(),
        several => sha256(several.iter().map(String::as_bytes)),
    })
}
