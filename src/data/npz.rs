//! NumPy files: the arrays of an `.npz` (stored or deflated) or the one array of an `.npy`.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::WriteNpyExt;
use ndarray_npy::npy::header::Header;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipArchive, ZipWriter};

use crate::error::{Error, Result};
use crate::ir::{DType, Tensor, element_count};
use crate::onnx::kind_of;

/// One array of a file under its name (without `.npy`; the file's own stem for a plain `.npy`).
pub type Array = (String, Tensor);

/// Bytes that a file of another kind is told by.
const TOLD_BY: u64 = 4096;

/// NumPy type descriptors and the element types they stand for.
const DESCRIPTORS: &[(&str, DType)] = &[
    ("|b1", DType::Bool),
    ("|u1", DType::U8),
    ("|i1", DType::I8),
    ("<u2", DType::U16),
    ("<i2", DType::I16),
    ("<u4", DType::U32),
    ("<i4", DType::I32),
    ("<u8", DType::U64),
    ("<i8", DType::I64),
    ("<f2", DType::F16),
    ("<f4", DType::F32),
    ("<f8", DType::F64),
];

/// Returns every array of the `.npz` or `.npy` file at `path`, in the order of the file.
///
/// # Errors
/// Files that cannot be read, are neither format, or hold element types without an ONNX counterpart; names file and member.
pub fn read_arrays(path: &Path) -> Result<Vec<Array>> {
    if path.is_dir() {
        let found = io::Error::other("is a directory; pack arrays into one file with numpy.savez");
        return Err(Error::read(path)(found));
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::read(path))?;
    file.take(TOLD_BY).read_to_end(&mut start).map_err(Error::read(path))?;
    let file = BufReader::new(File::open(path).map_err(Error::read(path))?);
    if start.starts_with(b"\x93NUMPY") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tensor = read_npy(&path.display().to_string(), file)?;
        return Ok(vec![(name, tensor)]);
    }
    let place = path.display().to_string();
    let found = kind_of(&start).filter(|_| !start.starts_with(b"PK")).map(|found| format!("it is {}", found.what));
    let broken = |e: zip::result::ZipError| {
        let found = found.clone().unwrap_or_else(|| e.to_string());
        Error::malformed(&place, format!("is no .npz or .npy file ({found}); save arrays with numpy.savez"))
    };
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    let mut arrays = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let member = archive.by_index(i).map_err(broken)?;
        let name = member.name().map_err(broken)?.to_string();
        let Some(stem) = name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(Error::malformed(&place, format!("member \"{name}\" is no .npy array; is this an .npz file?")));
        };
        arrays.push((stem, read_npy(&format!("{place}: member \"{name}\""), member)?));
    }
    if arrays.is_empty() {
        return Err(Error::malformed(&place, "holds no array"));
    }
    Ok(arrays)
}

/// Returns the array called by one of `names` (the first that exists).
///
/// # Errors
/// When none exists; lists what does.
pub fn find_array<'a>(path: &Path, arrays: &'a [Array], names: &[&str]) -> Result<&'a Tensor> {
    let found = names.iter().find_map(|name| arrays.iter().find(|(n, _)| n == name));
    found.map(|(_, tensor)| tensor).ok_or_else(|| {
        let present: Vec<String> = arrays.iter().map(|(n, t)| format!("{n} {} {:?}", t.dtype(), t.shape())).collect();
        Error::malformed(
            path.display().to_string(),
            format!("expected an array called {}, found {}", names.join(" or "), present.join(", ")),
        )
    })
}

/// Returns the bytes of an `.npz` file of `arrays`, deflated; the same arrays give the same bytes.
///
/// # Errors
/// [`Error::Unsupported`] for other element types than float32, uint8 and int64.
pub fn npz_bytes(arrays: &[(&str, &Tensor)]) -> Result<Vec<u8>> {
    // Without a time of writing.
    let options = SimpleFileOptions::default().last_modified_time(DateTime::default()).large_file(true);
    let mut file = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        let failed = |e: &dyn std::fmt::Display| Error::malformed(format!("array \"{name}\""), e.to_string());
        let bytes = npy_bytes(name, tensor)?;
        file.start_file(format!("{name}.npy"), options).map_err(|e| failed(&e))?;
        file.write_all(&bytes).map_err(|e| failed(&e))?;
    }
    let written = file.finish().map_err(|e| Error::malformed("npz file", e.to_string()))?;
    Ok(written.into_inner())
}

fn npy_bytes(name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    let shape = IxDyn(tensor.shape());
    let mut bytes = Vec::new();
    let written = match tensor.dtype() {
        DType::F32 => tensor.to_array()?.write_npy(&mut bytes),
        DType::U8 => array(shape, tensor.bytes().to_vec()).write_npy(&mut bytes),
        DType::I64 => array(shape, tensor.to_i64()?).write_npy(&mut bytes),
        other => {
            let message = format!("{other} is not written to .npz files; make float32 of it");
            return Err(Error::unsupported(format!("array \"{name}\""), message));
        }
    };
    written.map_err(|e| Error::malformed(format!("array \"{name}\""), e.to_string()))?;
    Ok(bytes)
}

fn array<T>(shape: IxDyn, values: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(shape, values).expect("a tensor has as many values as its shape says")
}

fn read_npy(place: &str, mut reader: impl Read) -> Result<Tensor> {
    let header = Header::from_reader(&mut reader).map_err(|e| Error::malformed(place, e.to_string()))?;
    let descriptor = header.type_descriptor.to_string();
    let plain = descriptor.trim_matches(['\'', '"']);
    let dtype = DESCRIPTORS.iter().find(|(name, _)| *name == plain).map(|(_, dtype)| *dtype).ok_or_else(|| {
        let message =
            format!("element type {descriptor} is not read; save little-endian numbers (array.astype('<f4'))");
        Error::unsupported(place, message)
    })?;
    let expected = element_count(&header.shape).and_then(|n| dtype.byte_len(n));
    let expected =
        expected.ok_or_else(|| Error::malformed(place, format!("shape {:?} overflows memory", header.shape)))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(expected).unwrap_or(u64::MAX);
    reader
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::malformed(place, format!("cannot be unpacked ({e})")))?;
    if bytes.len() != expected {
        let message = format!("{dtype} {:?} needs {expected} bytes, found {}", header.shape, bytes.len());
        return Err(Error::malformed(place, message));
    }
    if header.layout.is_fortran() {
        bytes = row_major(&header.shape, dtype.bits() / 8, bytes);
    }
    Tensor::new(dtype, header.shape, bytes.into())
}

fn row_major(shape: &[usize], width: usize, bytes: Vec<u8>) -> Vec<u8> {
    let elements: Vec<&[u8]> = bytes.chunks(width).collect();
    let array = ArrayD::from_shape_vec(IxDyn(shape).f(), elements).expect("the byte count was checked");
    array.iter().flat_map(|element| element.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ShapeBuilder, array};
    use ndarray_npy::WriteNpyExt;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn npz(members: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn npy<T: ndarray_npy::WritableElement>(array: &Array2<T>) -> Vec<u8> {
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn reads_stored_and_deflated_members_in_both_memory_orders() {
        let plain = array![[1.5f32, 2.0, 3.0], [4.0, 5.0, 6.5]];
        let mut fortran = Array2::<f32>::zeros((2, 3).f());
        fortran.assign(&plain);
        let ints = array![[-1i16, 2, 300]];
        let members = [("a.npy", npy(&plain)), ("b.npy", npy(&fortran)), ("c.npy", npy(&ints))];
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let file = npz(&members, method);
            let arrays = read_arrays(file.path()).unwrap();
            assert_eq!(arrays[0].1.to_array().unwrap(), plain.clone().into_dyn(), "{method:?}");
            assert_eq!(arrays[1].1, arrays[0].1, "{method:?}: the array in Fortran order");
            assert_eq!(arrays[2].1.to_i64().unwrap(), [-1, 2, 300], "{method:?}");
            assert_eq!(arrays[2].1.dtype(), DType::I16);
        }
    }

    #[test]
    fn reads_half_precision_and_plain_npy() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len() + 1).unwrap().to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(b"\n\x00\x3c\x00\xc0");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let arrays = read_arrays(file.path()).unwrap();
        assert_eq!(arrays[0].1.dtype(), DType::F16);
        assert_eq!(arrays[0].1.to_f32().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn errors_name_file_and_member() {
        let file = npz(&[("x.npy", npy(&array![[1u8, 2]])), ("y.npy", vec![1, 2, 3])], zip::CompressionMethod::Stored);
        let error = read_arrays(file.path()).unwrap_err().to_string();
        assert!(error.contains("member \"y.npy\"") && error.contains(&file.path().display().to_string()), "{error}");
        let mut short = npy(&array![[1.0f64, 2.0]]);
        short.pop();
        let file = npz(&[("x.npy", short)], zip::CompressionMethod::Stored);
        let error = read_arrays(file.path()).unwrap_err().to_string();
        assert!(error.contains("needs 16 bytes, found 15"), "{error}");
    }
}
