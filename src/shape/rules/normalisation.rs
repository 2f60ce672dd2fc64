//! Normalisations: output as input, and statistics if requested.

use crate::error::Result;
use crate::ir::{DType, Dim};
use crate::shape::{Call, Fact};

/// BatchNormalization: parameters `[C]`; further outputs are statistics `[C]`.
pub fn batch_normalization(call: &Call) -> Result<Vec<Fact>> {
    let channels = call.shape(0).and_then(|x| x.get(1));
    // With `spatial = 0` (before operator set 9) the parameters have the shape of one whole image.
    let per_channel = call.opset >= 9 || call.attrs.int("spatial", 1) == 1;
    if let (Some(channels), true) = (channels, per_channel) {
        for i in 1..5 {
            match call.shape(i).map(Vec::as_slice) {
                Some([c]) => call.expect_dim(&format!("channels of input {i}"), channels, c)?,
                Some(shape) => return Err(call.error(format!("input {i} has rank {}, expected 1", shape.len()))),
                None => {}
            }
        }
    }
    let mut facts = vec![call.same()];
    facts.resize(call.outputs.max(1), Fact::new(call.dtype(3), call.shape(3).cloned()));
    Ok(facts)
}

/// InstanceNormalization and GroupNormalization.
pub fn channel_normalization(call: &Call) -> Result<Vec<Fact>> {
    if let Some([_, channels, ..]) = call.shape(0).map(Vec::as_slice) {
        // GroupNormalization before operator set 21 has one parameter per group.
        let per_channel = call.op_type == "InstanceNormalization" || call.opset >= 21;
        for i in 1..3 {
            if let (Some([c]), true) = (call.shape(i).map(Vec::as_slice), per_channel) {
                call.expect_dim(&format!("channels of input {i}"), channels, c)?;
            }
        }
    }
    Ok(vec![call.same()])
}

/// LayerNormalization: mean and inverse deviation have size 1 from `axis` on.
pub fn layer_normalization(call: &Call) -> Result<Vec<Fact>> {
    let mut statistics = Fact::new(Some(DType::F32), None);
    if let Some(x) = call.shape(0) {
        let axis = call.axis(call.attrs.int("axis", -1), x.len())?;
        let one = |(i, d): (usize, &Dim)| if i < axis { d.clone() } else { Dim::Known(1) };
        statistics.shape = Some(x.iter().enumerate().map(one).collect());
    }
    Ok(vec![call.same(), statistics.clone(), statistics])
}
