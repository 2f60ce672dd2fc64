//! Copies of tensors in other layouts.

use std::sync::{Mutex, PoisonError};

use super::{Convolution, Spread};

/// A tensor in plain NCHW.
pub(super) struct Plain<'a> {
    pub values: &'a [f32],
    pub channels: usize,
    pub size: [usize; 2],
}

/// Writes the tensor in blocks to `packed`, `[N, groups · blocks, H, W, block]`; the channels of each of `groups` begin
/// a block, and the rest of its last block is zero.
pub(super) fn to_blocks(plain: &Plain, groups: usize, block: usize, packed: &mut Vec<f32>, spread: Spread) {
    let pixels = plain.size[0] * plain.size[1];
    let channels = plain.channels / groups;
    let blocks = channels.div_ceil(block);
    let images = if pixels == 0 { 0 } else { plain.values.len() / (plain.channels * pixels) };
    packed.clear();
    packed.resize(images * groups * blocks * pixels * block, 0.0);
    let planes: Vec<Mutex<&mut [f32]>> = packed.chunks_mut((pixels * block).max(1)).map(Mutex::new).collect();
    spread(planes.len(), &|plane| {
        let (image, group, first) = (plane / (groups * blocks), plane / blocks % groups, plane % blocks * block);
        let mut to = planes[plane].lock().unwrap_or_else(PoisonError::into_inner);
        for lane in 0..block.min(channels - first) {
            let channel = image * plain.channels + group * channels + first + lane;
            let from = &plain.values[channel * pixels..][..pixels];
            for (to, from) in to.chunks_exact_mut(block).zip(from) {
                to[lane] = *from;
            }
        }
    });
}

/// Writes the plain x of a convolution with its padding to `padded`.
pub(super) fn with_padding(convolution: &Convolution, x: &[f32], padded: &mut Vec<f32>, spread: Spread) {
    let ([h, w], pads) = (convolution.input, convolution.window.pads);
    let [height, width] = [h + pads[0] + pads[2], w + pads[1] + pads[3]];
    padded.clear();
    padded.resize(convolution.batch * convolution.window.channels * height * width, 0.0);
    if h * w == 0 {
        return;
    }
    let planes: Vec<Mutex<&mut [f32]>> = padded.chunks_mut(height * width).map(Mutex::new).collect();
    spread(planes.len(), &|plane| {
        let mut to = planes[plane].lock().unwrap_or_else(PoisonError::into_inner);
        let rows = to[pads[0] * width..].chunks_exact_mut(width);
        for (to, from) in rows.zip(x[plane * h * w..][..h * w].chunks_exact(w)) {
            to[pads[1]..][..w].copy_from_slice(from);
        }
    });
}
