//! Host tensors: element type, shape and little-endian bytes that may be slices of a mapped file.

use bytes::{Bytes, BytesMut};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::DType;
use crate::error::{Error, Result};

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// Returns a tensor over `data` (little-endian, packed below 8 bits, first element in the low bits).
    ///
    /// # Errors
    /// When the byte count does not fit `dtype` and `shape`.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Self> {
        let expected = element_count(&shape).and_then(|n| dtype.byte_len(n));
        if expected != Some(data.len()) {
            return Err(Error::malformed(
                "tensor data",
                format!(
                    "{dtype} {shape:?} needs {} bytes, found {}",
                    expected.map_or("more than memory holds".to_owned(), |n| n.to_string()),
                    data.len()
                ),
            ));
        }
        Ok(Self { dtype, shape, data })
    }

    /// Returns a float tensor. The product of `shape` must be the length of `values`.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(element_count(shape), Some(values.len()), "shape fits values");
        Self::pack(DType::F32, shape, f32_bytes(values))
    }

    /// Returns a tensor of floating-point type `dtype` with `values` rounded to it.
    ///
    /// # Errors
    /// When `dtype` is not a floating-point type of 16 to 64 bits.
    pub fn from_floats(dtype: DType, shape: &[usize], values: &[f32]) -> Result<Self> {
        assert_eq!(element_count(shape), Some(values.len()), "shape fits values");
        let v = values.iter();
        Ok(match dtype {
            DType::F32 => Self::pack(dtype, shape, f32_bytes(values)),
            DType::F64 => Self::pack(dtype, shape, v.flat_map(|v| f64::from(*v).to_le_bytes()).collect()),
            DType::F16 => Self::pack(dtype, shape, v.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
            DType::BF16 => Self::pack(dtype, shape, v.flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
            other => {
                return Err(Error::unsupported(
                    "tensor data",
                    format!("expected a floating-point type, found {other}"),
                ));
            }
        })
    }

    /// Returns an int64 tensor. The product of `shape` must be the length of `values`.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Self {
        assert_eq!(element_count(shape), Some(values.len()), "shape fits values");
        Self::pack(DType::I64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Returns a tensor of any integer type up to 32 bits, packed as in ONNX.
    ///
    /// # Errors
    /// When `dtype` is not such a type or a value lies outside its range.
    pub fn from_ints(dtype: DType, shape: &[usize], values: &[i32]) -> Result<Self> {
        assert_eq!(element_count(shape), Some(values.len()), "shape fits values");
        let (lo, hi) =
            dtype.int_range().ok_or_else(|| Error::unsupported("tensor data", format!("{dtype} holds no integers")))?;
        if let Some(v) = values.iter().find(|&&v| i64::from(v) < lo || i64::from(v) > hi) {
            return Err(Error::malformed("tensor data", format!("{v} does not fit {dtype} ({lo}..={hi})")));
        }
        let bits = dtype.bits();
        if bits < 8 {
            let mask = (1u8 << bits) - 1;
            let packed = values.chunks(8 / bits).map(|chunk| {
                chunk.iter().enumerate().fold(0u8, |byte, (i, v)| byte | ((v.to_le_bytes()[0] & mask) << (i * bits)))
            });
            return Ok(Self::pack(dtype, shape, packed.collect()));
        }
        let bytes = match bits {
            8 => values.iter().map(|v| v.to_le_bytes()[0]).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(bits / 8)).collect(),
        };
        Ok(Self::pack(dtype, shape, bytes))
    }

    fn pack(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self { dtype, shape: shape.to_vec(), data: bytes.into() }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the little-endian bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// Returns the number of samples, along axis 0, of the first of `inputs`.
    pub fn samples_of(inputs: &[Self]) -> usize {
        inputs.first().and_then(|tensor| tensor.shape.first()).copied().unwrap_or(0)
    }

    /// Returns rows `range` of axis 0, without copying; a number without axes is the same for all rows.
    ///
    /// # Errors
    /// When the rows do not exist or do not begin at whole bytes.
    pub fn rows(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if self.shape.is_empty() {
            return Ok(self.clone());
        }
        let outside = || Error::shape("tensor data", format!("rows {range:?} of {:?}", self.shape));
        let rows = *self.shape.first().filter(|&&n| range.end <= n && range.start <= range.end).ok_or_else(outside)?;
        let row_bits = self.len() / rows.max(1) * self.dtype.bits();
        if !(row_bits * range.start).is_multiple_of(8) {
            return Err(outside());
        }
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        let data = self.data.slice(row_bits * range.start / 8..(row_bits * range.end).div_ceil(8));
        Self::new(self.dtype, shape, data)
    }

    /// Returns the given rows of axis 0 in their order; a number without axes is the same for all rows.
    ///
    /// # Errors
    /// When a row does not exist, or rows are not whole bytes.
    pub fn picked(&self, rows: &[usize]) -> Result<Self> {
        let Some(&all) = self.shape.first() else { return Ok(self.clone()) };
        let row_bits = self.len() / all.max(1) * self.dtype.bits();
        if !row_bits.is_multiple_of(8) || rows.iter().any(|&row| row >= all) {
            return Err(Error::shape("tensor data", format!("rows {rows:?} of {:?}", self.shape)));
        }
        let row = row_bits / 8;
        let mut bytes = BytesMut::with_capacity(row * rows.len());
        rows.iter().for_each(|&i| bytes.extend_from_slice(&self.data[i * row..(i + 1) * row]));
        Self::new(self.dtype, [&[rows.len()], &self.shape[1..]].concat(), bytes.freeze())
    }

    /// Returns `parts` concatenated along axis 0; scalars become a vector.
    ///
    /// # Errors
    /// When types or the other dimensions differ.
    pub fn joined(parts: &[&Self]) -> Result<Self> {
        let first = parts.first().ok_or_else(|| Error::shape("tensor data", "no parts to join"))?;
        let fits = |t: &&&Self| {
            let same_rank = t.shape.len() == first.shape.len();
            t.dtype == first.dtype && same_rank && t.shape.get(1..) == first.shape.get(1..)
        };
        if let Some(other) = parts.iter().find(|t| !fits(t)) {
            return Err(Error::shape("tensor data", format!("{:?} and {:?} do not join", first.shape, other.shape)));
        }
        let rows = parts.iter().map(|t| t.shape.first().copied().unwrap_or(1)).sum();
        let inner = first.shape.iter().skip(1).copied();
        let shape = std::iter::once(rows).chain(inner).collect();
        Self::new(first.dtype, shape, parts.iter().map(|t| &t.data[..]).collect::<Vec<_>>().concat().into())
    }

    /// Returns the values of a floating-point tensor as `f32`.
    ///
    /// # Errors
    /// When the type is not a floating-point type of 16 to 64 bits.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let bytes = &self.data[..];
        Ok(match self.dtype {
            DType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            DType::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            DType::BF16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            other => {
                return Err(Error::unsupported(
                    "tensor data",
                    format!("expected floating-point values, found {other}"),
                ));
            }
        })
    }

    /// Returns the values of a floating-point tensor as an array.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn to_array(&self) -> Result<ArrayD<f32>> {
        Ok(ArrayD::from_shape_vec(IxDyn(&self.shape), self.to_f32()?)
            .expect("the byte count was checked against the shape"))
    }

    /// Returns the values of a floating-point tensor as another number type; integers are rounded to, halves to even.
    ///
    /// # Errors
    /// When the values cannot be read, or the type holds no such numbers.
    pub fn to_type(&self, dtype: DType) -> Result<Self> {
        let values = self.to_f32()?;
        if dtype.int_range().is_none() {
            return Self::from_floats(dtype, self.shape(), &values);
        }
        let integers: Vec<i32> = values.iter().map(|v| v.round_ties_even() as i32).collect();
        Self::from_ints(dtype, self.shape(), &integers)
    }

    /// Returns the values of an integer or boolean tensor.
    ///
    /// # Errors
    /// When the type holds no integers, or a uint64 does not fit.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        let bytes = &self.data[..];
        Ok(match self.dtype {
            DType::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            DType::U64 => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::try_from(u64::from_le_bytes(*b)))
                .collect::<Result<_, _>>()
                .map_err(|_| Error::unsupported("tensor data", "uint64 value above 2^63"))?,
            DType::I32 => bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
            DType::U32 => bytes.as_chunks::<4>().0.iter().map(|b| i64::from(u32::from_le_bytes(*b))).collect(),
            DType::I16 => bytes.as_chunks::<2>().0.iter().map(|b| i64::from(i16::from_le_bytes(*b))).collect(),
            DType::U16 => bytes.as_chunks::<2>().0.iter().map(|b| i64::from(u16::from_le_bytes(*b))).collect(),
            DType::I8 => bytes.iter().map(|b| i64::from(b.cast_signed())).collect(),
            DType::U8 | DType::Bool => bytes.iter().map(|b| i64::from(*b)).collect(),
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => self.unpack(),
            other => {
                return Err(Error::unsupported("tensor data", format!("expected integers, found {other}")));
            }
        })
    }

    fn unpack(&self) -> Vec<i64> {
        let bits = self.dtype.bits();
        let per_byte = 8 / bits;
        let signed = matches!(self.dtype, DType::I4 | DType::I2);
        (0..self.len())
            .map(|i| {
                let high = self.data[i / per_byte] << (8 - bits - (i % per_byte) * bits);
                if signed { i64::from(high.cast_signed() >> (8 - bits)) } else { i64::from(high >> (8 - bits)) }
            })
            .collect()
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice(values).to_vec();
    }
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Bytes of an element at most: of a complex number of two float64.
const WIDEST: usize = 16;

/// Returns the product of `shape`, `None` on overflow, of bytes too.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // Sizes beside a zero count too: what steps over them overflows wherever the zero stands.
    let others = shape.iter().filter(|&&d| d > 0).try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let fits = others <= isize::MAX.unsigned_abs() / WIDEST;
    fits.then_some(if shape.contains(&0) { 0 } else { others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_low_bits_first_and_pads_with_zero() {
        let t = Tensor::from_ints(DType::I4, &[3], &[-8, 7, -1]).unwrap();
        assert_eq!(&t.bytes()[..], &[0x78, 0x0f]);
        let t = Tensor::from_ints(DType::U2, &[5], &[3, 0, 1, 2, 3]).unwrap();
        assert_eq!(&t.bytes()[..], &[0b10_01_00_11, 0b11]);
    }

    #[test]
    fn integers_survive_packing_in_every_type() {
        let mut failed = Vec::new();
        for dtype in
            [DType::I2, DType::U2, DType::I4, DType::U4, DType::I8, DType::U8, DType::I16, DType::U16, DType::I32]
        {
            let (lo, hi) = dtype.int_range().unwrap();
            let (lo, hi) = (i32::try_from(lo).unwrap(), i32::try_from(hi).unwrap());
            let values = [lo, hi, 0, 1, lo];
            let tensor = Tensor::from_ints(dtype, &[5], &values).unwrap();
            if tensor.to_i64().unwrap() != values.map(i64::from) {
                failed.push(dtype);
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(Tensor::from_ints(DType::I4, &[1], &[8]).is_err());
        assert!(Tensor::new(DType::F32, vec![2], Bytes::from_static(&[0; 7])).is_err());
        assert!(Tensor::new(DType::F32, vec![usize::MAX, 2], Bytes::new()).is_err());
    }
}
