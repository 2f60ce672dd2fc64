//! One NumPy array, as an `.npy` file or a member of an `.npz` file holds it.

use std::io::{self, Read};

use ndarray_npy::npy::header::Header;

use crate::error::{Error, Result};
use crate::ir::{DType, Tensor, element_count};
use crate::runtime::machine::memory_limit;

/// Bytes that a header has at most; NumPy itself reads 10,000.
const LONGEST_HEADER: usize = 1 << 16;
/// Brackets that open in a header at most: that of an array of numbers has two.
const MOST_BRACKETS: usize = 64;
/// Where the length of the header stands: behind the magic string and the version.
const LENGTH_AT: usize = 8;

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

/// What stands before the values of an array.
pub(super) struct Form {
    pub dtype: DType,
    pub shape: Vec<usize>,
    is_fortran: bool,
    /// Bytes of the values.
    expected: usize,
    /// What was read behind the header.
    start: Vec<u8>,
    /// Bytes of the header.
    len: usize,
}

/// Returns the form of the array that begins in `reader`.
///
/// # Errors
/// [`Error::Malformed`] and [`Error::Unsupported`] at `place`, for damaged headers and for types without an ONNX counterpart.
pub(super) fn read_form(place: &str, reader: &mut impl Read) -> Result<Form> {
    let broken = |what: &dyn std::fmt::Display| Error::malformed(place, what.to_string());
    let mut start = Vec::new();
    let most = u64::try_from(LONGEST_HEADER).map_err(|e| broken(&e))?;
    reader.take(most).read_to_end(&mut start).map_err(|e| damaged(place, &e))?;
    refuse_odd(place, &start)?;
    let mut rest = &start[..];
    let header = Header::from_reader(&mut rest).map_err(|e| broken(&e))?;
    let len = start.len() - rest.len();
    let descriptor = header.type_descriptor.to_string();
    let plain = descriptor.trim_matches(['\'', '"']);
    let dtype = DESCRIPTORS.iter().find(|(name, _)| *name == plain).map(|(_, dtype)| *dtype).ok_or_else(|| {
        let message =
            format!("element type {descriptor} is not read; save little-endian numbers (array.astype('<f4'))");
        Error::unsupported(place, message)
    })?;
    let expected = element_count(&header.shape).and_then(|n| dtype.byte_len(n));
    let expected = expected.ok_or_else(|| broken(&format!("shape {:?} overflows memory", header.shape)))?;
    start.drain(..len);
    Ok(Form { dtype, is_fortran: header.layout.is_fortran(), shape: header.shape, expected, start, len })
}

fn damaged(place: &str, e: &io::Error) -> Error {
    Error::malformed(place, format!("cannot be unpacked, or does not match its CRC-32 ({e}); copy the file again"))
}

/// Refuses a header of a length or a depth that no array of numbers has, which would take memory or time to read.
fn refuse_odd(place: &str, start: &[u8]) -> Result<()> {
    let length = start.get(LENGTH_AT..).unwrap_or_default();
    let length = match (start.get(LENGTH_AT - 2), length) {
        (Some(1), &[a, b, ..]) => Some((u32::from(u16::from_le_bytes([a, b])), 2)),
        (_, &[a, b, c, d, ..]) => Some((u32::from_le_bytes([a, b, c, d]), 4)),
        _ => None,
    };
    // What is too short is refused where the header is read.
    let Some((length, width)) = length else { return Ok(()) };
    let end =
        usize::try_from(length).ok().map(|length| LENGTH_AT + width + length).filter(|&end| end <= LONGEST_HEADER);
    let header = end.map(|end| &start[LENGTH_AT..end.min(start.len())]);
    let brackets = |header: &&[u8]| header.iter().filter(|byte| b"([{".contains(byte)).count() <= MOST_BRACKETS;
    match header.filter(brackets) {
        Some(_) => Ok(()),
        None => Err(Error::malformed(place, "has a header that no array of numbers has; save plain arrays of numbers")),
    }
}

impl Form {
    /// Returns the array, whose values go on in `reader`; `held` is how many bytes the whole of it has, header included,
    /// where more than the array would be a mistake.
    ///
    /// # Errors
    /// [`Error::Malformed`] at `place` for fewer bytes than the shape needs, or others than their checksum says;
    /// [`Error::Resources`] for more than this machine holds.
    pub fn read(self, place: &str, mut reader: impl Read, held: Option<u64>) -> Result<Tensor> {
        let Self { dtype, shape, is_fortran, expected, start, len } = self;
        let needs =
            |found: u64| Error::malformed(place, format!("{dtype} {shape:?} needs {expected} bytes, found {found}"));
        let (Ok(bytes), Ok(header)) = (u64::try_from(expected), u64::try_from(len)) else { return Err(needs(0)) };
        if let Some(values) = held.map(|held| held.saturating_sub(header)).filter(|&values| values != bytes) {
            return Err(needs(values));
        }
        let too_much =
            || Error::Resources(format!("{place}: {expected} bytes are more than this machine has memory for"));
        let mut values = Vec::new();
        if memory_limit().is_some_and(|limit| bytes > limit) || values.try_reserve_exact(expected).is_err() {
            return Err(too_much());
        }
        let mut all = start.chain(&mut reader);
        all.by_ref().take(bytes).read_to_end(&mut values).map_err(|e| damaged(place, &e))?;
        if values.len() != expected {
            return Err(needs(u64::try_from(values.len()).unwrap_or(u64::MAX)));
        }
        if held.is_some() {
            // The checksum is compared where the end is met.
            let wrong =
                |e| Error::malformed(place, format!("its bytes do not match their CRC-32 ({e}); copy it again"));
            all.read(&mut [0]).map_err(wrong)?;
        }
        if is_fortran {
            values = row_major(&shape, dtype.bits() / 8, &values);
        }
        Tensor::new(dtype, shape, values.into())
    }
}

/// Returns elements of `width` bytes that lie first index fastest with the last index fastest.
fn row_major(shape: &[usize], width: usize, bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut step = width;
    let mut steps = Vec::with_capacity(shape.len());
    for &n in shape {
        steps.push(step);
        step *= n;
    }
    let (mut index, mut at) = (vec![0; shape.len()], 0);
    let mut sorted = Vec::with_capacity(bytes.len());
    while sorted.len() < bytes.len() {
        sorted.extend_from_slice(&bytes[at..at + width]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    sorted
}
