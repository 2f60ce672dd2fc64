//! Element types of tensors and their ONNX codes.

/// Every fixed-size element type of ONNX (strings are refused at loading).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    U8,
    I8,
    U16,
    I16,
    I32,
    I64,
    Bool,
    F16,
    F64,
    U32,
    U64,
    Complex64,
    Complex128,
    BF16,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    U4,
    I4,
    F4E2M1,
    F8E8M0,
    U2,
    I2,
}

/// Name, ONNX code (`TensorProto.DataType`) and bits per element of each type.
const TABLE: &[(DType, &str, i32, usize)] = &[
    (DType::F32, "float32", 1, 32),
    (DType::U8, "uint8", 2, 8),
    (DType::I8, "int8", 3, 8),
    (DType::U16, "uint16", 4, 16),
    (DType::I16, "int16", 5, 16),
    (DType::I32, "int32", 6, 32),
    (DType::I64, "int64", 7, 64),
    (DType::Bool, "bool", 9, 8),
    (DType::F16, "float16", 10, 16),
    (DType::F64, "float64", 11, 64),
    (DType::U32, "uint32", 12, 32),
    (DType::U64, "uint64", 13, 64),
    (DType::Complex64, "complex64", 14, 64),
    (DType::Complex128, "complex128", 15, 128),
    (DType::BF16, "bfloat16", 16, 16),
    (DType::F8E4M3FN, "float8e4m3fn", 17, 8),
    (DType::F8E4M3FNUZ, "float8e4m3fnuz", 18, 8),
    (DType::F8E5M2, "float8e5m2", 19, 8),
    (DType::F8E5M2FNUZ, "float8e5m2fnuz", 20, 8),
    (DType::U4, "uint4", 21, 4),
    (DType::I4, "int4", 22, 4),
    (DType::F4E2M1, "float4e2m1", 23, 4),
    (DType::F8E8M0, "float8e8m0", 24, 8),
    (DType::U2, "uint2", 25, 2),
    (DType::I2, "int2", 26, 2),
];

impl DType {
    fn row(self) -> &'static (DType, &'static str, i32, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("every element type has a row")
    }

    /// Returns the type with this ONNX code, if supported.
    pub fn from_code(code: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == code).map(|row| row.0)
    }

    /// Returns the ONNX code (`TensorProto.DataType`).
    pub fn code(self) -> i32 {
        self.row().2
    }

    /// Returns the bits that one element takes in packed storage.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// Returns the bytes that `elements` take in packed storage, `None` on overflow.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        Some(elements.checked_mul(self.bits())?.div_ceil(8))
    }

    /// Returns whether this is one of `f16`, `bf16`, `f32`, `f64`.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Returns the inclusive integer range of the type, `None` for other than integers up to 32 bits.
    pub fn int_range(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::I2 => (-2, 1),
            Self::U2 => (0, 3),
            Self::I4 => (-8, 7),
            Self::U4 => (0, 15),
            Self::I8 => (-128, 127),
            Self::U8 => (0, 255),
            Self::I16 => (-32768, 32767),
            Self::U16 => (0, 65535),
            Self::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Self::U32 => (0, i64::from(u32::MAX)),
            _ => return None,
        })
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for row in TABLE {
            assert_eq!(DType::from_code(row.0.code()), Some(row.0), "{}", row.1);
        }
    }

    #[test]
    fn packed_sizes_round_up() {
        assert_eq!(DType::I4.byte_len(3), Some(2));
        assert_eq!(DType::U2.byte_len(5), Some(2));
        assert_eq!(DType::F32.byte_len(usize::MAX), None);
    }
}
