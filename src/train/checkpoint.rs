//! The state of a stage as a safetensors file: named tensors, and the run they belong to.
//!
//! Equal contents give equal bytes, a damaged file is rejected, and a file is replaced atomically.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::files;
use crate::ir::{DType, Tensor};
use crate::runtime::machine::memory_limit;

/// The version of the format.
const FORMAT: u32 = 2;
/// The only metadata entry: safetensors writes several entries in random order.
const KEY: &str = "dfq-onnx";
/// The name that safetensors reserves for its metadata.
const RESERVED: &str = "__metadata__";

/// The element types that both formats support.
const DTYPES: &[(DType, Dtype)] = &[
    (DType::Bool, Dtype::BOOL),
    (DType::U8, Dtype::U8),
    (DType::I8, Dtype::I8),
    (DType::F8E5M2, Dtype::F8_E5M2),
    (DType::F8E4M3FN, Dtype::F8_E4M3),
    (DType::F8E8M0, Dtype::F8_E8M0),
    (DType::F8E4M3FNUZ, Dtype::F8_E4M3FNUZ),
    (DType::F8E5M2FNUZ, Dtype::F8_E5M2FNUZ),
    (DType::U16, Dtype::U16),
    (DType::I16, Dtype::I16),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::U32, Dtype::U32),
    (DType::I32, Dtype::I32),
    (DType::F32, Dtype::F32),
    (DType::Complex64, Dtype::C64),
    (DType::U64, Dtype::U64),
    (DType::I64, Dtype::I64),
    (DType::F64, Dtype::F64),
];

/// Identifies a run and its stage: a checkpoint is usable only where all fields are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The pipeline stage.
    pub stage: String,
    /// The seed of the run.
    pub seed: u64,
    /// The [`sha256`] of the float model.
    pub model: String,
    /// The [`fingerprint`] of the settings.
    pub settings: String,
}

/// The metadata of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The version of the format.
    pub format: u32,
    /// The version of the tool that wrote the file.
    pub tool: String,
    /// The run.
    pub run: Identity,
    /// Completed steps of the stage.
    pub steps: u64,
    /// Further state as text, such as that of a schedule.
    pub notes: BTreeMap<String, String>,
}

impl About {
    /// Returns the metadata of a checkpoint after `steps` steps, written by this version of the tool.
    pub fn new(run: Identity, steps: u64) -> Self {
        Self { format: FORMAT, tool: env!("CARGO_PKG_VERSION").to_owned(), run, steps, notes: BTreeMap::new() }
    }
}

/// The contents of a checkpoint file.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Their metadata.
    pub about: About,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    about: About,
    /// The checksum of everything else.
    sha256: String,
}

impl Checkpoint {
    /// Writes the file atomically: to a temporary file beside it that is flushed to disk and renamed, so that an
    /// interrupted write leaves the old file intact.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Unsupported`] for an element type that safetensors lacks.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<(&String, &Tensor)> = self.tensors.iter().collect();
        // Wide elements first, so that all of them are aligned.
        tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().bits()));
        let header = self.header(&tensors)?;
        files::replace(path, |file| {
            file.write_all(&u64::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
            file.write_all(&header)?;
            tensors.iter().try_for_each(|(_, tensor)| file.write_all(tensor.bytes()))
        })
    }

    fn header(&self, tensors: &[(&String, &Tensor)]) -> Result<Vec<u8>> {
        let stored = Stored { about: self.about.clone(), sha256: self.digest() };
        let metadata = HashMap::from([(KEY.to_owned(), json(&stored))]);
        let mut offset = 0;
        let info = |(name, tensor): &(&String, &Tensor)| {
            let place = || format!("tensor \"{name}\"");
            let Some((_, dtype)) = DTYPES.iter().find(|row| row.0 == tensor.dtype()) else {
                let message = format!("{} cannot be kept in a checkpoint; unpack it to int8 first", tensor.dtype());
                return Err(Error::unsupported(place(), message));
            };
            if *name == RESERVED {
                return Err(Error::unsupported(place(), "the name is taken by the file format; choose another one"));
            }
            let start = offset;
            offset += tensor.bytes().len();
            let (shape, data_offsets) = (tensor.shape().to_vec(), (start, offset));
            Ok(((*name).clone(), TensorInfo { dtype: *dtype, shape, data_offsets }))
        };
        let infos = tensors.iter().map(info).collect::<Result<_>>()?;
        let metadata =
            Metadata::new(Some(metadata), infos).map_err(|e| Error::malformed("checkpoint", e.to_string()))?;
        let mut header = json(&metadata).into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }

    /// Returns the sha256 over the metadata and the name, type, shape and bytes of every tensor.
    fn digest(&self) -> String {
        let describe =
            |(name, tensor): (&'_ String, &'_ Tensor)| (name.clone(), tensor.dtype().code(), tensor.shape().to_vec());
        let described: Vec<(String, i32, Vec<usize>)> = self.tensors.iter().map(describe).collect();
        let described = json(&(&self.about, described));
        sha256(std::iter::once(described.as_bytes()).chain(self.tensors.values().map(|tensor| &tensor.bytes()[..])))
    }

    /// Reads a checkpoint file.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Malformed`] for a file that is damaged or no checkpoint; [`Error::Unsupported`] for a
    /// checkpoint of another format version.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = Bytes::from(files::read(path, memory_limit().unwrap_or(u64::MAX))?);
        let place = path.display().to_string();
        let damaged = |what: &dyn std::fmt::Display| {
            let advice = "delete the file, and what it holds is computed again";
            Error::malformed(place.clone(), format!("is no intact checkpoint ({what}); {advice}"))
        };
        let wrong = |e: SafeTensorError| damaged(&e);
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
        let text = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
        let text = text.ok_or_else(|| damaged(&"it does not say of which run"))?;
        refuse_other_format(&place, text)?;
        let stored: Stored = serde_json::from_str(text).map_err(|e| damaged(&e))?;
        // The offsets were checked against the length of the file.
        let data = bytes.slice(size_of::<u64>() + header..);
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let dtype = DTYPES.iter().find(|row| row.1 == info.dtype).map(|row| row.0);
            let dtype = dtype.ok_or_else(|| damaged(&format!("tensor \"{name}\" is of the type {:?}", info.dtype)))?;
            let values = data.slice(info.data_offsets.0..info.data_offsets.1);
            tensors.insert(name, Tensor::new(dtype, info.shape.clone(), values)?);
        }
        let found = Self { tensors, about: stored.about };
        match found.digest() == stored.sha256 {
            true => Ok(found),
            false => Err(damaged(&"its contents do not match their checksum")),
        }
    }

    /// Checks that the checkpoint at `path` belongs to the `expected` run and stage.
    ///
    /// # Errors
    /// [`Error::Usage`] that names every difference.
    pub fn check(&self, path: &Path, expected: &Identity) -> Result<()> {
        let run = &self.about.run;
        let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
        let seeds = (run.seed.to_string(), expected.seed.to_string());
        let rows = [
            ("its stage is", (run.stage.clone(), expected.stage.clone()), run.stage == expected.stage),
            ("its model has the sha256", (short(&run.model), short(&expected.model)), run.model == expected.model),
            ("its seed is", seeds, run.seed == expected.seed),
            (
                "its settings have the fingerprint",
                (short(&run.settings), short(&expected.settings)),
                run.settings == expected.settings,
            ),
        ];
        let differs = rows.iter().filter(|row| !row.2);
        let differences: Vec<String> =
            differs.map(|(what, (found, expected), _)| format!("{what} {found}, expected {expected}")).collect();
        if differences.is_empty() {
            return Ok(());
        }
        let (place, what) = (path.display(), differences.join("; "));
        let advice = "give the model and the options of that run to resume it, or name another folder to start anew";
        Err(Error::Usage(format!("{place} belongs to another run: {what}; {advice}")))
    }
}

/// Returns a short hash of settings: equal settings have equal hashes. Maps among them must be sorted.
pub fn fingerprint(settings: &impl Serialize) -> String {
    sha256([json(settings).as_bytes()])
}

fn json(plain: &impl Serialize) -> String {
    serde_json::to_string(plain).expect("plain data can be written as JSON")
}

fn refuse_other_format(place: &str, text: &str) -> Result<()> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let (format, tool) = (&value["about"]["format"], &value["about"]["tool"]);
    match (format.as_u64(), tool.as_str()) {
        (Some(format), Some(tool)) if format != u64::from(FORMAT) => {
            let message =
                format!("has format {format} of dfq-onnx {tool}, expected {FORMAT}; resume it with that version");
            Err(Error::unsupported(place, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_have_equal_fingerprints() {
        assert_eq!(fingerprint(&("w4a4", 0.1)), fingerprint(&("w4a4", 0.1)));
        assert_ne!(fingerprint(&("w4a4", 0.1)), fingerprint(&("w4a4", 0.2)));
    }
}
