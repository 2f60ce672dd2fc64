//! NumPy files: the arrays of an `.npz` (stored or deflated) or the one array of an `.npy`.

use std::fs::File;
use std::io::{BufReader, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ndarray::{ArrayD, IxDyn};
use ndarray_npy::WriteNpyExt;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipArchive, ZipWriter};

use super::npy::read_form;
use crate::error::{Error, Result};
use crate::files;
use crate::ir::{DType, Tensor};
use crate::onnx::kind_of;

/// One array of a file under its name (without `.npy`; the file's own stem for a plain `.npy`).
pub type Array = (String, Tensor);

/// Bytes that identify the format of a file.
const TOLD_BY: u64 = 4096;

/// The names, types and shapes of the arrays of a file, in order. Contents are read on request, so unused arrays are
/// not unpacked.
#[derive(Clone, Debug)]
pub struct Arrays {
    path: PathBuf,
    is_npz: bool,
    members: Vec<Member>,
}

/// An array of a file.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name, without `.npy`.
    pub name: String,
    /// Type and shape; `None` for members that are not arrays of numbers.
    pub form: Option<(DType, Vec<usize>)>,
    contents: Arc<OnceLock<Tensor>>,
}

impl Member {
    fn new(name: &str, form: Option<(DType, Vec<usize>)>) -> Self {
        Self { name: name.to_owned(), form, contents: Arc::default() }
    }

    /// Returns the number of axes; `None` for members that are not arrays of numbers.
    pub fn rank(&self) -> Option<usize> {
        self.form.as_ref().map(|(_, shape)| shape.len())
    }
}

impl Arrays {
    /// Returns the arrays of the `.npz` or `.npy` file at `path`.
    ///
    /// # Errors
    /// Files that cannot be read or are neither format; a plain `.npy` file whose array cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let found = std::io::Error::other("is a directory; pack arrays into one file with numpy.savez");
            return Err(Error::read(path)(found));
        }
        let start = files::start_of(path, TOLD_BY)?;
        if start.starts_with(b"\x93NUMPY") {
            let form = read_form(&path.display().to_string(), &mut files::open(path)?)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let members = vec![Member::new(&name, Some((form.dtype, form.shape)))];
            return Ok(Self { path: path.to_owned(), is_npz: false, members });
        }
        let place = path.display().to_string();
        let found = kind_of(&start).filter(|_| !start.starts_with(b"PK")).map(|found| format!("it is {}", found.what));
        let broken = |e: ZipError| {
            let found = found.clone().unwrap_or_else(|| e.to_string());
            Error::malformed(&place, format!("is not an .npz or .npy file ({found}); save arrays with numpy.savez"))
        };
        let mut archive = ZipArchive::new(BufReader::new(files::open(path)?)).map_err(broken)?;
        let members = (0..archive.len()).map(|i| member(&place, &mut archive, i)).collect::<Result<Vec<_>>>()?;
        match members.is_empty() {
            true => Err(Error::malformed(place, "holds no array")),
            false => Ok(Self { path: path.to_owned(), is_npz: true, members }),
        }
    }

    /// Returns the file, for messages.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns all arrays, in the order of the file.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the first array with one of `names`, in the order of `names`.
    pub fn find(&self, names: &[&str]) -> Option<&Member> {
        names.iter().find_map(|name| self.members.iter().find(|member| member.name == *name))
    }

    /// Returns the contents of an array.
    ///
    /// # Errors
    /// When the member is damaged, larger than this machine's memory, or has an element type that ONNX lacks; names
    /// file and member.
    pub fn tensor(&self, member: &Member) -> Result<Tensor> {
        if let Some(tensor) = member.contents.get() {
            return Ok(tensor.clone());
        }
        let tensor = if self.is_npz { self.unpacked(&member.name)? } else { self.plain()? };
        Ok(member.contents.get_or_init(|| tensor).clone())
    }

    fn plain(&self) -> Result<Tensor> {
        let (place, mut file) = (self.place(), BufReader::new(files::open(&self.path)?));
        read_form(&place, &mut file)?.read(&place, file, None)
    }

    fn unpacked(&self, name: &str) -> Result<Tensor> {
        let place = format!("{}: member \"{name}.npy\"", self.place());
        let broken = |e: ZipError| Error::malformed(&place, format!("cannot be unpacked ({e})"));
        let mut archive = ZipArchive::new(BufReader::new(files::open(&self.path)?)).map_err(broken)?;
        let mut member = archive.by_name(&format!("{name}.npy")).map_err(broken)?;
        let held = member.size();
        read_form(&place, &mut member)?.read(&place, member, Some(held))
    }
}

/// Returns the description of member `i` of an archive; unpacks only its header.
fn member(place: &str, archive: &mut ZipArchive<BufReader<File>>, i: usize) -> Result<Member> {
    let name = archive.name_for_index(i).transpose().map_err(|e| Error::malformed(place, e.to_string()))?;
    let name = name.unwrap_or_default();
    let Some(stem) = name.strip_suffix(".npy").map(str::to_owned) else {
        return Err(Error::malformed(place, format!("member \"{name}\" is not an .npy array; is this an .npz file?")));
    };
    // What cannot be read is an error where it is asked for.
    let mut member = archive.by_index(i).ok();
    let form = member.as_mut().and_then(|member| read_form(place, member).ok());
    Ok(Member::new(&stem, form.map(|form| (form.dtype, form.shape))))
}

/// Returns every array of the `.npz` or `.npy` file at `path`, in the order of the file.
///
/// # Errors
/// As [`Arrays::open`] and [`Arrays::tensor`].
pub fn read_arrays(path: &Path) -> Result<Vec<Array>> {
    let arrays = Arrays::open(path)?;
    arrays.members().iter().map(|member| Ok((member.name.clone(), arrays.tensor(member)?))).collect()
}

/// Returns the array called by one of `names` (the first that exists).
///
/// # Errors
/// When none exists; lists the arrays that do.
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
            let message = format!("{other} cannot be written to .npz files; convert it to float32");
            return Err(Error::unsupported(format!("array \"{name}\""), message));
        }
    };
    written.map_err(|e| Error::malformed(format!("array \"{name}\""), e.to_string()))?;
    Ok(bytes)
}

fn array<T>(shape: IxDyn, values: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(shape, values).expect("a tensor has as many values as its shape says")
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
