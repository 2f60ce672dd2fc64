//! The layout of channels in a tensor, and sums per channel.

use std::ops::Range;

/// Elements in a piece of work: whole lanes.
pub(super) const PIECE: usize = 1 << 14;
/// Sums that run beside each other: whole blocks.
pub(super) const LANES: usize = 16;

/// The memory layout of the channels of a tensor `[N, C, …]`.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    /// Channels without padding; the padding of the last block is zero.
    count: usize,
    /// Channels of a block, 1 in plain layout.
    pub(super) block: usize,
    /// Blocks in an image.
    pub(super) blocks: usize,
    /// Elements of a block in one image.
    inner: usize,
    pub(super) len: usize,
}

impl Channels {
    /// Returns the layout of `count` channels in a tensor of `shape`, in blocks of 8 or 16, or of 1 in plain layout.
    ///
    /// # Errors
    /// When the arguments do not fit together.
    pub fn new(shape: &[usize], count: usize, block: usize) -> Result<Self, String> {
        if !matches!(block, 1 | 8 | 16) {
            return Err(format!("expected blocks of 1, 8 or 16 channels, found {block}"));
        }
        let [_, channels, pixels @ ..] = shape else { return Err(format!("expected 2 axes or more, found {shape:?}")) };
        if *channels != count.next_multiple_of(block) {
            return Err(format!("expected {count} channels in blocks of {block}, found the shape {shape:?}"));
        }
        let inner = block * pixels.iter().product::<usize>();
        Ok(Self { count, block, blocks: channels / block, inner, len: shape.iter().product() })
    }

    /// Returns the number of the block and the range of every run of elements in a piece that belong to one.
    pub(super) fn runs(&self, piece: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (first, channels) = (piece * PIECE, *self);
        let mut at = 0;
        std::iter::from_fn(move || {
            let row = (first + at) / channels.inner.max(1);
            let run = at..len.min((row + 1) * channels.inner - first);
            at = run.end;
            (!run.is_empty()).then_some((row % channels.blocks, run))
        })
    }

    /// Returns one number for each lane, those of the channels in a block again and again.
    #[inline(always)]
    pub(super) fn lanes(&self, numbers: &[f32], block: usize) -> [f32; LANES] {
        if self.block == 1 {
            return [numbers[block]; LANES];
        }
        let own = &numbers[(block * self.block).min(numbers.len())..];
        let mut lanes = [0.0; LANES];
        for lanes in lanes.chunks_exact_mut(self.block) {
            lanes.iter_mut().zip(own).for_each(|(lane, number)| *lane = *number);
        }
        lanes
    }

    /// Adds lanes that belong to one channel and puts its sums behind those of others.
    #[inline(always)]
    pub(super) fn keep(&self, sums: [[f64; LANES]; 2], kept: &mut Vec<f64>) {
        for lanes in sums {
            if self.block == 1 {
                kept.push(lanes.iter().sum());
                continue;
            }
            let mut of_channels = [0.0; LANES];
            for lanes in lanes.chunks_exact(self.block) {
                of_channels.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += lane);
            }
            kept.extend_from_slice(&of_channels[..self.block]);
        }
    }

    /// Returns both sums of every channel from the sums of all pieces.
    pub(super) fn totals(&self, pieces: impl Iterator<Item = Vec<f64>>) -> [Vec<f64>; 2] {
        let mut totals = [vec![0.0; self.blocks * self.block], vec![0.0; self.blocks * self.block]];
        for (piece, kept) in pieces.enumerate() {
            let runs = self.runs(piece, PIECE.min(self.len - piece * PIECE));
            for ((block, _), sums) in runs.zip(kept.chunks(2 * self.block)) {
                for (totals, sums) in totals.iter_mut().zip(sums.chunks(self.block)) {
                    let totals = &mut totals[block * self.block..];
                    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            }
        }
        totals
    }

    pub(super) fn check(&self, tensors: &[usize], numbers: &[usize]) -> Result<(), String> {
        if tensors.iter().any(|&len| len != self.len) || numbers.iter().any(|&len| len != self.count) {
            let (len, count) = (self.len, self.count);
            return Err(format!("expected {len} elements and {count} channels, found {tensors:?} and {numbers:?}"));
        }
        Ok(())
    }
}
