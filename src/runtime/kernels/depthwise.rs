//! Weight gradient where every channel has a filter of its own: vectors are of channels, and nine kernel positions stay
//! in registers while all pixels of a patch go by.

use super::Execution;
use super::dense::Blocked;
use super::lanes::{InLanes, Lanes, in_lanes};
use super::pieces::{Patch, Piece, Pieces, add_up, covered, patches, signed, signed_range};

/// Rows and columns of the kernel that are summed together.
const SIDE: usize = 3;

/// Writes the gradient, `[C, 1, kh, kw]`; `in_blocks` and `out_blocks` of `b` are those of all channels.
pub(super) fn depthwise(b: &Blocked, dw: &mut [f32], scratch: &mut Vec<f32>, execution: Execution) {
    let c = b.convolution;
    let [x, dy] = [c.input, c.output].map(|size| c.batch * b.in_blocks * size[0] * size[1] * b.block);
    assert!(b.x.len() == x && b.dy.len() == dy, "tensors are as long as their shapes say");
    let window = &c.window;
    let kernel = window.kernel[0] * window.kernel[1];
    let sums = kernel * b.block;
    let pieces = Pieces { patches: patches(c), blocks: b.in_blocks, sums };
    let zeros = vec![0.0; c.input[1] * b.block];
    let job = Job { b, zeros: &zeros };
    add_up(&pieces, scratch, execution.spread, &|piece| in_lanes(&job, execution.instructions, b.block, piece));
    for (channel, row) in dw.chunks_exact_mut(kernel).enumerate() {
        let sums = &scratch[channel / b.block * sums..];
        for (k, value) in row.iter_mut().enumerate() {
            *value = sums[k * b.block + channel % b.block];
        }
    }
}

struct Job<'a> {
    b: &'a Blocked<'a>,
    /// A row of x that is padding.
    zeros: &'a [f32],
}

/// Rows and columns of the kernel; the last is repeated where there are fewer.
type Taps = [[usize; SIDE]; 2];

#[allow(unsafe_code)]
impl InLanes for Job<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, piece: Piece) {
        let Piece { patches, block, sums } = piece;
        let [kh, kw] = self.b.convolution.window.kernel;
        for patch in patches {
            for row in (0..kh).step_by(SIDE) {
                for column in (0..kw).step_by(SIDE) {
                    let from = |first: usize, all: usize| std::array::from_fn(|i| (first + i).min(all - 1));
                    let taps = [from(row, kh), from(column, kw)];
                    // SAFETY: as the caller's.
                    let sum = unsafe { self.nine::<L>(patch, taps, block) };
                    for (y, sum) in sum.iter().enumerate().take(kh - row) {
                        for (x, sum) in sum.iter().enumerate().take(kw - column) {
                            let to = &mut sums[((row + y) * kw + column + x) * L::N..][..L::N];
                            // SAFETY: `to` is as long as a vector.
                            unsafe { L::load(to.as_ptr()).add(*sum).store(to.as_mut_ptr()) };
                        }
                    }
                }
            }
        }
    }
}

#[allow(unsafe_code)]
impl Job<'_> {
    /// Returns the sums over one patch for nine taps.
    ///
    /// # Safety
    /// As [`Job::run`].
    #[inline(always)]
    unsafe fn nine<L: Lanes>(&self, patch: &Patch, taps: Taps, block: usize) -> [[L; SIDE]; SIDE] {
        let (b, c) = (self.b, self.b.convolution);
        let window = &c.window;
        let ([h, w], [oh, ow]) = (c.input.map(signed), c.output.map(signed));
        let ([stride_y, stride_x], lanes) = (window.strides.map(signed), signed(L::N));
        let shift = |axis: usize, k: usize| signed(k * window.dilations[axis]) - signed(window.pads[axis]);
        let down = taps[0].map(|k| shift(0, k));
        let right = taps[1].map(|k| shift(1, k));
        let columns = signed_range(&patch.columns);
        let reach = right.map(|shift| covered(columns.clone(), shift, stride_x, w));
        let start = reach.iter().fold(columns.start, |most, r| most.max(r.start));
        let inner = start..reach.iter().fold(columns.end, |least, r| least.min(r.end)).max(start);
        // SAFETY: rows outside x are replaced by one of zeros, columns outside it are not read.
        unsafe {
            let mut sum = [[L::zero(); SIDE]; SIDE];
            for image in patch.images.clone() {
                let plane = signed(image * b.in_blocks + block);
                let x = b.x.as_ptr().offset(plane * h * w * lanes);
                let dy = b.dy.as_ptr().offset(plane * oh * ow * lanes);
                for y in signed_range(&patch.rows) {
                    let dy = dy.offset(y * ow * lanes);
                    let rows = down.map(|shift| match y * stride_y + shift {
                        row if (0..h).contains(&row) => x.offset(row * w * lanes),
                        _ => self.zeros.as_ptr(),
                    });
                    let near = |column: isize, row: *const f32, j: usize| match reach[j].contains(&column) {
                        true => L::load(row.wrapping_offset((column * stride_x + right[j]) * lanes)),
                        false => L::zero(),
                    };
                    for column in (columns.start..inner.start).chain(inner.end..columns.end) {
                        let dy = L::load(dy.offset(column * lanes));
                        for (sum, row) in sum.iter_mut().zip(rows) {
                            for (j, sum) in sum.iter_mut().enumerate() {
                                *sum = sum.multiply_add(dy, near(column, row, j));
                            }
                        }
                    }
                    for column in inner.clone() {
                        let dy = L::load(dy.offset(column * lanes));
                        let at = right.map(|shift| (column * stride_x + shift) * lanes);
                        for (sum, row) in sum.iter_mut().zip(rows) {
                            for (sum, at) in sum.iter_mut().zip(at) {
                                *sum = sum.multiply_add(dy, L::load(row.offset(at)));
                            }
                        }
                    }
                }
            }
            sum
        }
    }
}
