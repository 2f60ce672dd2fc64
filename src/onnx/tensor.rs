//! `TensorProto` in every encoding (raw, typed fields, external data) to and from [`Tensor`].

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::foreign;
use super::proto::TensorProto;
use super::proto::tensor_proto::DataLocation;
use crate::error::{Error, Result};
use crate::files;
use crate::ir::{DType, Tensor, element_count};

/// The files beside a model that hold external data, each mapped once.
pub struct ExternalData {
    folder: Option<PathBuf>,
    files: HashMap<String, Bytes>,
}

impl ExternalData {
    /// Returns an empty set for a model in `folder`; with `None`, external data is refused.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), files: HashMap::new() }
    }

    fn slice(&mut self, place: &str, proto: &TensorProto, byte_len: usize) -> Result<Bytes> {
        let entry = |key: &str| {
            let found = proto.external_data.iter().find(|e| e.key() == key);
            found.map(|e| e.value().to_owned())
        };
        let number = |key: &str| {
            let parse = |text: String| {
                let refused = format!("external data: {key} is \"{text}\", expected a byte count");
                text.parse::<usize>().map_err(|_| Error::malformed(place, refused))
            };
            entry(key).map(parse).transpose()
        };
        let location = entry("location").ok_or_else(|| Error::malformed(place, "external data without a location"))?;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(byte_len);
        if length != byte_len {
            return Err(Error::malformed(
                place,
                format!("external data of {length} bytes, the tensor's type and shape need {byte_len}"),
            ));
        }
        let file = self.file(place, &location)?;
        let end = offset.checked_add(byte_len).filter(|&end| end <= file.len());
        let end = end.ok_or_else(|| {
            Error::malformed(
                place,
                format!(
                    "external file \"{location}\" is {} bytes, the tensor needs {byte_len} from {offset}; copy the whole file beside the model",
                    file.len()
                ),
            )
        })?;
        Ok(file.slice(offset..end))
    }

    fn file(&mut self, place: &str, location: &str) -> Result<Bytes> {
        if let Some(bytes) = self.files.get(location) {
            return Ok(bytes.clone());
        }
        let folder = self
            .folder
            .as_ref()
            .ok_or_else(|| Error::malformed(place, "external data, but the model was not loaded from a file"))?;
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let path = folder.join(location);
        let refused = || {
            Error::malformed(
                place,
                format!("external data path \"{location}\" leaves the model's folder; move the file beside the model"),
            )
        };
        if !inside {
            return Err(refused());
        }
        let unreadable = |e: std::io::Error| {
            let message = format!("external file \"{location}\" cannot be read ({e}); copy it beside the model");
            Error::malformed(place, message)
        };
        let real = path.canonicalize().map_err(unreadable)?;
        let real_folder = folder.canonicalize().map_err(Error::read(folder))?;
        if !real.starts_with(&real_folder) {
            return Err(refused());
        }
        let bytes = map_file(&real).map_err(|error| match error {
            Error::Read { source, .. } => unreadable(source),
            other => other,
        })?;
        self.files.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// All mapped files, for [`release_pages`].
static MAPS: Mutex<Vec<Weak<memmap2::Mmap>>> = Mutex::new(Vec::new());

/// Releases the memory of all read pages of mapped model files; the next use reads them again.
pub fn release_pages() {
    let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    maps.retain(|map| match map.upgrade() {
        Some(map) => {
            // SAFETY: the map is read-only and backed by its file, so a dropped page comes back with the same contents.
            #[cfg(unix)]
            #[allow(unsafe_code)]
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            true
        }
        None => false,
    });
}

/// A mapped file, kept by its tensors.
struct Mapped(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the contents of a file, memory-mapped.
///
/// # Errors
/// [`Error::Read`].
pub fn map_file(path: &Path) -> Result<Bytes> {
    if path.is_dir() {
        return Err(Error::read(path)(std::io::Error::other(foreign::folder(path))));
    }
    let file = files::open(path)?;
    // SAFETY: the map is private and read-only; as with every mapped input, another process that shortens the
    // file meanwhile can end ours with SIGBUS, which is documented behaviour and not memory unsafety of ours.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::read(path))?;
    let map = Arc::new(map);
    MAPS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&map));
    Ok(Bytes::from_owner(Mapped(map)))
}

/// Returns the tensor behind `proto`; `place` names it in errors.
///
/// # Errors
/// Malformed shapes and sizes, strings, segments, unknown types, external data that is missing, short or outside.
pub fn from_proto(place: &str, proto: &TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let dtype = DType::from_code(proto.data_type()).ok_or_else(|| match proto.data_type() {
        8 => Error::unsupported(place, "string tensors are not handled; remove the text branch of the model"),
        0 => Error::malformed(place, "tensor without an element type"),
        code => Error::unsupported(place, format!("element type {code} is not known")),
    })?;
    if proto.segment.is_some() {
        return Err(Error::unsupported(place, "segmented tensors are not handled"));
    }
    let shape = proto
        .dims
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::malformed(place, format!("negative dimension in {:?}", proto.dims)))?;
    let count = element_count(&shape);
    let byte_len = count.and_then(|n| dtype.byte_len(n));
    let (Some(count), Some(byte_len)) = (count, byte_len) else {
        return Err(Error::malformed(place, format!("shape {shape:?} overflows memory")));
    };
    let data = if proto.data_location() == DataLocation::External {
        external.slice(place, proto, byte_len)?
    } else if let Some(raw) = &proto.raw_data {
        raw.clone()
    } else {
        typed(place, proto, dtype, count)?
    };
    if data.len() != byte_len {
        return Err(Error::malformed(place, format!("{dtype} {shape:?} needs {byte_len} bytes, found {}", data.len())));
    }
    Tensor::new(dtype, shape, data)
}

fn typed(place: &str, proto: &TensorProto, dtype: DType, count: usize) -> Result<Bytes> {
    let elements_per_entry = if dtype.bits() < 8 { 8 / dtype.bits() } else { 1 };
    let entries = count.div_ceil(elements_per_entry);
    let check = |found: usize, field: &str, expected: usize| {
        let message = || format!("{field} holds {found} entries, the shape {:?} needs {expected}", proto.dims);
        if found == expected { Ok(()) } else { Err(Error::malformed(place, message())) }
    };
    let bytes: Vec<u8> = match dtype {
        DType::F32 | DType::Complex64 => {
            let per = dtype.bits() / 32;
            check(proto.float_data.len(), "float_data", count.saturating_mul(per))?;
            proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::F64 | DType::Complex128 => {
            let per = dtype.bits() / 64;
            check(proto.double_data.len(), "double_data", count.saturating_mul(per))?;
            proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::I64 => {
            check(proto.int64_data.len(), "int64_data", count)?;
            proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::U32 | DType::U64 => {
            check(proto.uint64_data.len(), "uint64_data", count)?;
            let width = dtype.bits() / 8;
            let bytes = proto.uint64_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width));
            bytes.collect()
        }
        _ => {
            check(proto.int32_data.len(), "int32_data", entries)?;
            let width = (dtype.bits() / 8).max(1);
            let bytes = proto.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width));
            bytes.collect()
        }
    };
    Ok(bytes.into())
}

/// Returns `tensor` under `name` with its bytes as raw data.
pub fn to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto { raw_data: Some(tensor.bytes().clone()), ..header(name, tensor) }
}

/// Returns `tensor` under `name` without its bytes.
pub fn header(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: (!name.is_empty()).then(|| name.to_owned()),
        data_type: Some(tensor.dtype().code()),
        dims: tensor
            .shape()
            .iter()
            .map(|&d| i64::try_from(d).expect("a shape whose bytes fit in memory fits in i64"))
            .collect(),
        ..TensorProto::default()
    }
}
