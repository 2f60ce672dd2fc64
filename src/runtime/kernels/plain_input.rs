//! Weight gradient from few channels in plain NCHW, such as those of images: vectors are of filters, and several kernel
//! positions stay in registers over all pixels of a patch.

use super::Execution;
use super::dense::Blocked;
use super::lanes::{InLanes, Lanes, in_lanes};
use super::pieces::{Piece, Pieces, add_up, patches, signed, signed_range};

/// Kernel positions (of one channel each) that are summed together.
const TAPS: usize = 9;

/// Writes the gradient, `[O, C/group, kh, kw]`; x of `b` is `[N, C, H + pads, W + pads]`.
pub(super) fn plain_input(b: &Blocked, dw: &mut [f32], scratch: &mut Vec<f32>, execution: Execution) {
    let (c, window) = (b.convolution, &b.convolution.window);
    let padded = padded_size(b);
    let image = window.channels * padded[0] * padded[1];
    let dy = c.batch * window.group * b.out_blocks * c.output[0] * c.output[1] * b.block;
    assert!(b.x.len() == c.batch * image && b.dy.len() == dy, "tensors are as long as their shapes say");
    let channels = window.channels / window.group;
    let taps = channels * window.kernel[0] * window.kernel[1];
    let blocks = window.group * b.out_blocks;
    let sums = taps.next_multiple_of(TAPS) * b.block;
    let pieces = Pieces { patches: patches(c), blocks, sums };
    let offsets = offsets(b, padded);
    let job = Job { b, offsets: &offsets, padded };
    add_up(&pieces, scratch, execution.spread, &|piece| in_lanes(&job, execution.instructions, b.block, piece));
    for (block, sums) in scratch.chunks(sums).take(blocks).enumerate() {
        let first = block / b.out_blocks * (window.filters / window.group) + block % b.out_blocks * b.block;
        for o in 0..b.filters_in(block) {
            for (tap, value) in dw[(first + o) * taps..][..taps].iter_mut().enumerate() {
                *value = sums[tap * b.block + o];
            }
        }
    }
}

/// Returns height and width of x with its padding.
pub(super) fn padded_size(b: &Blocked) -> [usize; 2] {
    let (c, pads) = (b.convolution, b.convolution.window.pads);
    [c.input[0] + pads[0] + pads[2], c.input[1] + pads[1] + pads[3]]
}

/// Returns the offset of each tap from the first, padded by repeating the last one.
fn offsets(b: &Blocked, padded: [usize; 2]) -> Vec<isize> {
    let window = &b.convolution.window;
    let mut offsets = Vec::new();
    for c in 0..window.channels / window.group {
        for y in 0..window.kernel[0] {
            for x in 0..window.kernel[1] {
                let row = c * padded[0] + y * window.dilations[0];
                offsets.push(signed(row * padded[1] + x * window.dilations[1]));
            }
        }
    }
    let last = offsets.last().copied().unwrap_or(0);
    offsets.resize(offsets.len().next_multiple_of(TAPS), last);
    offsets
}

struct Job<'a> {
    b: &'a Blocked<'a>,
    offsets: &'a [isize],
    padded: [usize; 2],
}

#[allow(unsafe_code)]
impl InLanes for Job<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, piece: Piece) {
        let Piece { patches, block, sums } = piece;
        let (b, c) = (self.b, self.b.convolution);
        let window = &c.window;
        let [oh, ow] = c.output.map(signed);
        let ([stride_y, stride_x], lanes) = (window.strides.map(signed), signed(L::N));
        let [height, width] = self.padded.map(signed);
        let channel = block / b.out_blocks * (window.channels / window.group);
        for patch in patches {
            let columns = signed_range(&patch.columns);
            for (offsets, sums) in self.offsets.as_chunks::<TAPS>().0.iter().zip(sums.chunks_exact_mut(TAPS * L::N)) {
                // SAFETY: with the padding that x has here every tap of every pixel lies in it.
                unsafe {
                    let mut sum = [L::zero(); TAPS];
                    for image in patch.images.clone() {
                        let x = b.x.as_ptr().offset(signed(image * window.channels + channel) * height * width);
                        let plane = signed(image * window.group * b.out_blocks + block);
                        let dy = b.dy.as_ptr().offset(plane * oh * ow * lanes);
                        for y in signed_range(&patch.rows) {
                            let (x, dy) = (x.offset(y * stride_y * width), dy.offset(y * ow * lanes));
                            for column in columns.clone() {
                                let filters = L::load(dy.offset(column * lanes));
                                let x = x.offset(column * stride_x);
                                for (sum, &offset) in sum.iter_mut().zip(offsets) {
                                    *sum = sum.multiply_add(L::broadcast(*x.offset(offset)), filters);
                                }
                            }
                        }
                    }
                    for (sum, to) in sum.into_iter().zip(sums.chunks_exact_mut(L::N)) {
                        L::load(to.as_ptr()).add(sum).store(to.as_mut_ptr());
                    }
                }
            }
        }
    }
}
