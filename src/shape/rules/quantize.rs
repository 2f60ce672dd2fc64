//! QuantizeLinear and its kin.

use super::source::code;
use crate::error::Result;
use crate::ir::DType;
use crate::shape::{Call, Fact};

/// QuantizeLinear: element type of the zero point, else `output_dtype`, else uint8.
pub fn quantize_linear(call: &Call) -> Result<Vec<Fact>> {
    let dtype = match call.input(2) {
        Some(zero_point) => zero_point.dtype,
        None => code(call, "output_dtype")?.or(Some(DType::U8)),
    };
    Ok(vec![Fact::new(dtype, call.shape(0).cloned())])
}

/// DequantizeLinear: element type of the scale, or `output_dtype`.
pub fn dequantize_linear(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![Fact::new(code(call, "output_dtype")?.or(call.dtype(1)), call.shape(0).cloned())])
}

/// DynamicQuantizeLinear: integers, scale, zero point.
pub fn dynamic_quantize_linear(call: &Call) -> Result<Vec<Fact>> {
    Ok(vec![
        Fact::new(Some(DType::U8), call.shape(0).cloned()),
        Fact::of_shape(DType::F32, &[]),
        Fact::of_shape(DType::U8, &[]),
    ])
}
