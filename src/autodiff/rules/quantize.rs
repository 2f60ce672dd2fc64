//! Quantizers.

use crate::autodiff::{BackwardCall, Gradients};
use crate::expr::FAKE_QUANTIZE_GRADIENT;

/// y = s·round(clip(x/s)): dy to x inside the clipping range, and the LSQ gradient to s (Esser et al. 2020, equations 1
/// to 3).
pub fn fake_quantize<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let gradients = s.builder().own(FAKE_QUANTIZE_GRADIENT, &[s.x(0)?, s.x(1)?, s.dy()?], s.attrs.clone(), 2);
    Ok(gradients.into_iter().map(Some).collect())
}
