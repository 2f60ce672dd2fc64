//! Converts between host tensors and values of ONNX Runtime.

use std::ffi::CString;
use std::ptr::NonNull;

use bytes::Bytes;
use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, MemoryInfo};
use ort::session::builder::SessionBuilder;
use ort::value::{DynTensor, DynTensorValueType, DynValue, TensorElementType};

use crate::ir::{DType, Tensor};

const TYPES: &[(DType, TensorElementType)] = &[
    (DType::F32, TensorElementType::Float32),
    (DType::U8, TensorElementType::Uint8),
    (DType::I8, TensorElementType::Int8),
    (DType::U16, TensorElementType::Uint16),
    (DType::I16, TensorElementType::Int16),
    (DType::I32, TensorElementType::Int32),
    (DType::I64, TensorElementType::Int64),
    (DType::Bool, TensorElementType::Bool),
    (DType::F16, TensorElementType::Float16),
    (DType::F64, TensorElementType::Float64),
    (DType::U32, TensorElementType::Uint32),
    (DType::U64, TensorElementType::Uint64),
    (DType::BF16, TensorElementType::Bfloat16),
    (DType::F8E4M3FN, TensorElementType::Float8E4M3FN),
    (DType::F8E4M3FNUZ, TensorElementType::Float8E4M3FNUZ),
    (DType::F8E5M2, TensorElementType::Float8E5M2),
    (DType::F8E5M2FNUZ, TensorElementType::Float8E5M2FNUZ),
    (DType::U4, TensorElementType::Uint4),
    (DType::I4, TensorElementType::Int4),
    (DType::F4E2M1, TensorElementType::Float4E2M1),
    (DType::F8E8M0, TensorElementType::Float8E8M0),
    (DType::U2, TensorElementType::Uint2),
    (DType::I2, TensorElementType::Int2),
];

fn element_type(dtype: DType) -> ort::Result<TensorElementType> {
    let row = TYPES.iter().find(|row| row.0 == dtype);
    row.map(|row| row.1).ok_or_else(|| ort::Error::new(format!("has no tensors of type {dtype}")))
}

/// Returns a tensor of ONNX Runtime in the memory of `allocator`.
pub fn allocate(dtype: DType, shape: &[usize], allocator: &Allocator) -> ort::Result<DynTensor> {
    DynTensor::new(allocator, element_type(dtype)?, shape)
}

/// Returns a value with a copy of the contents of `tensor`.
pub fn to_value(tensor: &Tensor) -> ort::Result<DynTensor> {
    let mut value = allocate(tensor.dtype(), tensor.shape(), &Allocator::default())?;
    put(tensor, &mut value)?;
    Ok(value)
}

/// Copies the contents of `tensor` into `value`, wherever that lies, which is of the same type and shape.
pub fn put(tensor: &Tensor, value: &mut DynTensor) -> ort::Result<()> {
    let bytes = tensor.bytes();
    if bytes.is_empty() {
        return Ok(());
    }
    if value.size() != Some(bytes.len()) {
        return Err(ort::Error::new(format!("holds {:?} bytes where {} are given", value.size(), bytes.len())));
    }
    if !value.memory_info().is_cpu_accessible() {
        return to_value(tensor)?.copy_into(value);
    }
    // SAFETY: the value lies in host memory, nothing reads it during the call, and it holds as many bytes as are
    // copied.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.data_ptr_mut().cast::<u8>(), bytes.len());
    }
    Ok(())
}

/// Copies the contents of one value into another of the same type and shape, without a way through the host where both
/// lie on a device.
pub fn copy(from: &DynTensor, to: &mut DynTensor) -> ort::Result<()> {
    match from.size() {
        None | Some(0) => Ok(()),
        Some(_) if from.memory_info().is_cpu_accessible() => put(&from_tensor(from)?, to),
        Some(_) => from.copy_into(to),
    }
}

/// Returns a tensor with a copy of the contents of `value`.
pub fn from_value(value: &DynValue) -> ort::Result<Tensor> {
    from_tensor(&*value.view().downcast::<DynTensorValueType>()?)
}

/// Returns a tensor with a copy of the contents of `value`, wherever that lies.
pub fn from_tensor(value: &DynTensor) -> ort::Result<Tensor> {
    let row = TYPES.iter().find(|row| row.1 == *value.data_type());
    let dtype = row.ok_or_else(|| ort::Error::new(format!("gives a tensor of type {}", value.data_type())))?.0;
    let shape: Vec<usize> = value
        .shape()
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<_, _>>()
        .map_err(|_| ort::Error::new(format!("gives a tensor of shape {:?}", value.shape())))?;
    if !value.memory_info().is_cpu_accessible() && value.size() != Some(0) {
        return from_tensor(&value.to(AllocationDevice::CPU, 0)?);
    }
    let bytes = match value.size() {
        None | Some(0) => Bytes::new(),
        // SAFETY: the value lives in host memory, holds `len` initialized bytes, and is borrowed for the copy.
        #[allow(unsafe_code)]
        Some(len) => unsafe { Bytes::copy_from_slice(std::slice::from_raw_parts(value.data_ptr().cast::<u8>(), len)) },
    };
    Tensor::new(dtype, shape, bytes).map_err(|e| ort::Error::new(e.to_string()))
}

/// An initializer that a session reads in place; it must outlive the session.
pub struct Initializer {
    value: NonNull<ort::sys::OrtValue>,
    _bytes: Bytes,
}

// SAFETY: the value is owned by this struct alone, its bytes are never written, and the library's release function may
// be called from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Initializer {}

impl Initializer {
    /// Returns a value over the bytes of `tensor`; they are copied only where their type needs another alignment.
    pub fn new(tensor: &Tensor) -> ort::Result<Self> {
        let bytes = aligned(tensor);
        let shape: Vec<i64> = tensor
            .shape()
            .iter()
            .map(|&d| i64::try_from(d))
            .collect::<Result<_, _>>()
            .map_err(|_| ort::Error::new(format!("refuses an initializer of shape {:?}", tensor.shape())))?;
        let element_type = element_type(tensor.dtype())?;
        let info = MemoryInfo::default();
        let mut value = std::ptr::null_mut();
        // SAFETY: pointers and lengths describe live buffers; the library only reads initializers, and the bytes are
        // kept beside the value.
        #[allow(unsafe_code)]
        unsafe {
            ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len(),
                shape.as_ptr(),
                shape.len(),
                element_type.into(),
                &mut value,
            ))?;
        }
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new("made no value of an initializer"))?;
        Ok(Self { value, _bytes: bytes })
    }

    /// Hands the initializer to the session that `builder` will make, in place of the external one called `name`.
    pub fn hand_over(&self, name: &str, builder: &mut SessionBuilder) -> ort::Result<()> {
        let name = CString::new(name).map_err(|e| ort::Error::new(e.to_string()))?;
        let value = self.value.as_ptr().cast_const();
        // SAFETY: one name and one value, both alive during the call; the library copies the name and shares the value.
        #[allow(unsafe_code)]
        unsafe {
            ort::Error::result_from_status((ort::api().AddExternalInitializers)(
                builder.ptr_mut(),
                &name.as_ptr(),
                &value,
                1,
            ))
        }
    }
}

impl Drop for Initializer {
    fn drop(&mut self) {
        // SAFETY: the value is released once, here.
        #[allow(unsafe_code)]
        unsafe {
            (ort::api().ReleaseValue)(self.value.as_ptr());
        }
    }
}

fn aligned(tensor: &Tensor) -> Bytes {
    struct Words(Vec<u64>, usize);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            &bytemuck::cast_slice(&self.0)[..self.1]
        }
    }
    let bytes = tensor.bytes();
    let alignment = (tensor.dtype().bits() / 8).clamp(1, 8);
    if bytes.as_ptr().addr().is_multiple_of(alignment) {
        return bytes.clone();
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Words(words, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_only_when_misaligned() {
        let words: Vec<u64> = vec![0x0807_0605_0403_0201; 3];
        let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(&words));
        let base = bytes.as_ptr().addr().next_multiple_of(4) - bytes.as_ptr().addr();
        for (offset, copied) in [(base, false), (base + 1, true)] {
            let tensor = Tensor::new(DType::F32, vec![2], bytes.slice(offset..offset + 8)).unwrap();
            let ready = aligned(&tensor);
            assert_eq!(&ready, tensor.bytes());
            assert!(ready.as_ptr().addr().is_multiple_of(4));
            assert_eq!(ready.as_ptr() != tensor.bytes().as_ptr(), copied, "offset {offset}");
        }
    }
}
