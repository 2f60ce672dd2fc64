//! Splits a sum over all pixels into fixed pieces and adds their results in a fixed order.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::{Convolution, Spread};

/// Pixels in a patch: those of 16 channels of x and dy stay in a first-level cache.
const PATCH: usize = 256;
/// The fewest pieces, if there are as many patches.
const PIECES: usize = 16;

/// Some pixels of dy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub images: Range<usize>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// One piece of work.
pub(super) struct Piece<'a> {
    pub patches: &'a [Patch],
    /// The index of a block of filters.
    pub block: usize,
    /// The sums of this block, to be added to.
    pub sums: &'a mut [f32],
}

/// The pieces of a gradient: sums for each block of filters.
pub(super) struct Pieces {
    pub patches: Vec<Patch>,
    pub blocks: usize,
    /// Sums in a block.
    pub sums: usize,
}

/// Returns all pixels of dy in patches of about [`PATCH`].
pub(super) fn patches(convolution: &Convolution) -> Vec<Patch> {
    let ([oh, ow], batch) = (convolution.output, convolution.batch);
    let columns = ow.clamp(1, PATCH);
    let rows = if columns < ow { 1 } else { (PATCH / columns).clamp(1, oh.max(1)) };
    let images = if rows < oh { 1 } else { PATCH / (rows * columns) };
    let parts = |all: usize, step: usize| (0..all).step_by(step.max(1)).map(move |i| i..(i + step.max(1)).min(all));
    let mut patches = Vec::new();
    for images in parts(batch, images) {
        for rows in parts(oh, rows) {
            for columns in parts(ow, columns) {
                patches.push(Patch { images: images.clone(), rows: rows.clone(), columns });
            }
        }
    }
    patches
}

/// Adds the sums of each block by `work` over all patches; `scratch` then begins with the sums of all blocks in order.
pub(super) fn add_up(pieces: &Pieces, scratch: &mut Vec<f32>, spread: Spread, work: &(dyn Fn(Piece) + Sync)) {
    let Pieces { patches, blocks, sums } = pieces;
    let parts = PIECES.div_ceil(*blocks).clamp(1, patches.len().max(1));
    let all = blocks * sums;
    scratch.clear();
    scratch.resize(parts * all, 0.0);
    let chunks: Vec<Mutex<&mut [f32]>> = scratch.chunks_mut(*sums).map(Mutex::new).collect();
    spread(chunks.len(), &|piece| {
        let (part, block) = (piece / blocks, piece % blocks);
        let patches = &patches[part * patches.len() / parts..(part + 1) * patches.len() / parts];
        let mut sums = chunks[piece].lock().unwrap_or_else(PoisonError::into_inner);
        work(Piece { patches, block, sums: &mut sums });
    });
    let (first, others) = scratch.split_at_mut(all);
    let chunks: Vec<Mutex<&mut [f32]>> = first.chunks_mut(*sums).map(Mutex::new).collect();
    spread(chunks.len(), &|block| {
        let mut sum = chunks[block].lock().unwrap_or_else(PoisonError::into_inner);
        for part in others.chunks(all) {
            for (sum, other) in sum.iter_mut().zip(&part[block * sums..(block + 1) * sums]) {
                *sum += other;
            }
        }
    });
}

/// Returns those of `range` at which `at · stride + shift` lies in `0..size`.
pub(super) fn covered(range: Range<isize>, shift: isize, stride: isize, size: isize) -> Range<isize> {
    let first = if shift < 0 { (stride - 1 - shift) / stride } else { 0 };
    let behind = if shift < size { (size - 1 - shift) / stride + 1 } else { 0 };
    let start = first.clamp(range.start, range.end);
    start..behind.clamp(start, range.end)
}

/// Returns a checked size as a signed number.
pub(super) fn signed(n: usize) -> isize {
    isize::try_from(n).expect("sizes were checked")
}

/// Returns a signed range.
pub(super) fn signed_range(range: &Range<usize>) -> Range<isize> {
    signed(range.start)..signed(range.end)
}
