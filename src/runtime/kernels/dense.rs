//! Weight gradient between blocks of channels: a tile of filters times channels stays in registers while all pixels of
//! a patch go by, for up to three kernel positions (or blocks of channels) at a time.

use super::instructions::Kind;
use super::lanes::Lanes;
use super::pieces::{Patch, Piece, Pieces, add_up, covered, patches, signed, signed_range};
use super::{Convolution, Execution, Instructions};

/// Blocked tensors, in which every group of channels fills whole blocks.
pub(super) struct Blocked<'a> {
    pub convolution: &'a Convolution,
    /// `[N, group · in_blocks, H, W, b]`.
    pub x: &'a [f32],
    /// `[N, group · out_blocks, OH, OW, b]`.
    pub dy: &'a [f32],
    pub block: usize,
    /// Blocks of channels in a group.
    pub in_blocks: usize,
    /// Blocks of filters in a group.
    pub out_blocks: usize,
}

/// The taps of one tile: up to three pairs of a block of channels and a column of the kernel, in one row.
struct Taps {
    count: usize,
    blocks: [usize; 3],
    columns: [usize; 3],
    row: usize,
}

impl Blocked<'_> {
    /// Returns the number of sums for a block of filters: `[in_blocks, kh, kw, b filters, b channels]`.
    fn sums(&self) -> usize {
        let [kh, kw] = self.convolution.window.kernel;
        self.in_blocks * kh * kw * self.block * self.block
    }

    /// Panics unless both tensors have the lengths of their shapes, which makes pointers into them valid.
    pub(super) fn check(&self) {
        let (c, group) = (self.convolution, self.convolution.window.group);
        let [x, dy] = [(self.in_blocks, c.input), (self.out_blocks, c.output)]
            .map(|(blocks, size)| c.batch * group * blocks * size[0] * size[1] * self.block);
        assert!(self.x.len() == x && self.dy.len() == dy, "tensors are as long as their shapes say");
    }

    /// Returns the number of filters in block `block`, without padding.
    pub(super) fn filters_in(&self, block: usize) -> usize {
        let all = self.convolution.window.filters / self.convolution.window.group;
        (all - block % self.out_blocks * self.block).min(self.block)
    }
}

/// Writes the gradient, `[O, C/group, kh, kw]`.
pub(super) fn dense(b: &Blocked, dw: &mut [f32], scratch: &mut Vec<f32>, execution: Execution) {
    b.check();
    let window = &b.convolution.window;
    let blocks = window.group * b.out_blocks;
    let pieces = Pieces { patches: patches(b.convolution), blocks, sums: b.sums() };
    let taps = taps(b, most_taps(execution.instructions));
    add_up(&pieces, scratch, execution.spread, &|piece| add(b, &taps, execution.instructions, piece));
    for (block, sums) in scratch.chunks(b.sums()).take(blocks).enumerate() {
        let first = block / b.out_blocks * (window.filters / window.group) + block % b.out_blocks * b.block;
        let row = window.channels / window.group * window.kernel[0] * window.kernel[1];
        for (o, dw) in dw[first * row..].chunks_exact_mut(row).take(b.filters_in(block)).enumerate() {
            unpack(b, o, sums, dw);
        }
    }
}

/// Writes the gradient of filter `o` of a block, `[C/group, kh, kw]`.
fn unpack(b: &Blocked, o: usize, sums: &[f32], dw: &mut [f32]) {
    let kernel = b.sums() / (b.in_blocks * b.block * b.block);
    for (block, dw) in dw.chunks_mut(b.block * kernel).enumerate() {
        for k in 0..kernel {
            let from = &sums[((block * kernel + k) * b.block + o) * b.block..][..dw.len() / kernel];
            if kernel == 1 {
                dw.copy_from_slice(from);
                continue;
            }
            for (to, from) in dw[k..].iter_mut().step_by(kernel).zip(from) {
                *to = *from;
            }
        }
    }
}

/// Returns the most taps of a tile: sums, channels and a filter stay in registers, of which AVX-512 has 32 and others
/// 16. Twelve sums of three taps and four filters would fill those, and compilers spill one of them.
fn most_taps(best: Instructions) -> usize {
    match best.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => 3,
        _ => 2,
    }
}

/// Returns the tiles of up to `most` taps that cover the kernel and all blocks of channels of a group.
fn taps(b: &Blocked, most: usize) -> Vec<Taps> {
    let [kh, kw] = b.convolution.window.kernel;
    let mut taps = Vec::new();
    for row in 0..kh {
        if kw == 1 {
            for (first, count) in runs(b.in_blocks, most) {
                taps.push(Taps { count, blocks: [first, first + 1, first + 2], columns: [0; 3], row });
            }
            continue;
        }
        for block in 0..b.in_blocks {
            for (first, count) in runs(kw, most) {
                taps.push(Taps { count, blocks: [block; 3], columns: [first, first + 1, first + 2], row });
            }
        }
    }
    taps.sort_by_key(|taps| (taps.blocks[0], taps.row));
    taps
}

/// Returns starts and lengths of runs of up to `most` that cover `0..n`; of three, only 1 is covered by a single one.
fn runs(n: usize, most: usize) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut first = 0;
    while first < n {
        let count = if most > 2 && n - first == 4 { 2 } else { most.min(n - first) };
        runs.push((first, count));
        first += count;
    }
    runs
}

#[allow(unsafe_code)]
fn add(b: &Blocked, taps: &[Taps], instructions: Instructions, piece: Piece) {
    let Piece { patches, block, sums } = piece;
    let job = Job { b, taps, patches, block };
    // SAFETY: `Instructions` are there by construction, and `dense` checked the lengths of both tensors; vectors are as
    // long as a block.
    match (instructions.0, b.block) {
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx512, 16) => unsafe { avx512(&job, sums) },
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx2 | Kind::Avx512, 8) => unsafe { avx2(&job, sums) },
        (_, 16) => unsafe { job.run::<[f32; 16], 4, 4>(sums) },
        (_, 8) => unsafe { job.run::<[f32; 8], 4, 8>(sums) },
        (_, other) => unreachable!("blocks of {other} channels are refused"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn avx512(job: &Job, sums: &mut [f32]) {
    // SAFETY: as the caller's.
    unsafe { job.run::<std::arch::x86_64::__m512, 8, 16>(sums) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)]
unsafe fn avx2(job: &Job, sums: &mut [f32]) {
    // SAFETY: as the caller's.
    unsafe { job.run::<std::arch::x86_64::__m256, 4, 8>(sums) }
}

struct Job<'a> {
    b: &'a Blocked<'a>,
    taps: &'a [Taps],
    patches: &'a [Patch],
    block: usize,
}

#[allow(unsafe_code)]
impl Job<'_> {
    /// Adds to `sums` by tiles of `FEW` filters where there are several taps, else of `MANY`.
    ///
    /// # Safety
    /// The machine has the instructions of `L`, which is as long as a block, and the tensors are as long as checked.
    #[inline(always)]
    unsafe fn run<L: Lanes, const FEW: usize, const MANY: usize>(&self, sums: &mut [f32]) {
        let filters = self.b.filters_in(self.block);
        for patch in self.patches {
            for taps in self.taps {
                let step = if taps.count == 1 { MANY } else { FEW };
                for o in (0..filters).step_by(step) {
                    // SAFETY: as the caller's; `o + step` is no more than a block, which `step` divides.
                    match taps.count {
                        3 => unsafe { self.tile::<L, FEW, 3>(patch, taps, o, sums) },
                        2 => unsafe { self.tile::<L, FEW, 2>(patch, taps, o, sums) },
                        _ => unsafe { self.tile::<L, MANY, 1>(patch, taps, o, sums) },
                    }
                }
            }
        }
    }

    /// Adds what filters `o..o + FILTERS` of the block sum up over a patch with `TAPS` taps.
    ///
    /// # Safety
    /// As [`Job::run`].
    #[inline(always)]
    unsafe fn tile<L: Lanes, const FILTERS: usize, const TAPS: usize>(
        &self,
        patch: &Patch,
        taps: &Taps,
        o: usize,
        sums: &mut [f32],
    ) {
        let b = self.b;
        let (c, window) = (b.convolution, &b.convolution.window);
        let ([h, w], [oh, ow]) = (c.input.map(signed), c.output.map(signed));
        let ([stride_y, stride_x], lanes) = (window.strides.map(signed), signed(L::N));
        let group = self.block / b.out_blocks;
        let plane = |blocks: usize, block: usize, size: isize, image: usize| {
            signed(image * window.group * blocks + group * blocks + block) * size * lanes
        };
        let shift = |axis: usize, k: usize| signed(k * window.dilations[axis]) - signed(window.pads[axis]);
        let (shift_y, shifts) = (shift(0, taps.row), taps.columns.map(|k| shift(1, k)));
        let rows = covered(signed_range(&patch.rows), shift_y, stride_y, h);
        let columns = signed_range(&patch.columns);
        let reach: [_; TAPS] = std::array::from_fn(|j| covered(columns.clone(), shifts[j], stride_x, w));
        let start = reach.iter().fold(columns.start, |most, r| most.max(r.start));
        let inner = start..reach.iter().fold(columns.end, |least, r| least.min(r.end)).max(start);
        // SAFETY: rows and columns are those whose pixels lie in x, and every group, block and image is one of the
        // tensor's; pointers that would lie outside are not read.
        unsafe {
            let mut sum = [[L::zero(); TAPS]; FILTERS];
            for image in patch.images.clone() {
                let dy = b.dy.as_ptr().offset(plane(b.out_blocks, self.block % b.out_blocks, oh * ow, image)).add(o);
                let x: [_; TAPS] = std::array::from_fn(|j| {
                    let plane = plane(b.in_blocks, taps.blocks[j], h * w, image);
                    b.x.as_ptr().wrapping_offset(plane + shifts[j] * lanes)
                });
                for y in rows.clone() {
                    let dy = dy.offset(y * ow * lanes);
                    let x = x.map(|x| x.wrapping_offset((y * stride_y + shift_y) * w * lanes));
                    for column in columns.start..inner.start {
                        let at = column * stride_x * lanes;
                        let near: [_; TAPS] = std::array::from_fn(|j| {
                            if reach[j].contains(&column) { L::load(x[j].wrapping_offset(at)) } else { L::zero() }
                        });
                        add_pixel(&mut sum, dy.offset(column * lanes), near);
                    }
                    for column in inner.clone() {
                        let at = column * stride_x * lanes;
                        add_pixel(&mut sum, dy.offset(column * lanes), x.map(|x| L::load(x.wrapping_offset(at))));
                    }
                    for column in inner.end..columns.end {
                        let at = column * stride_x * lanes;
                        let near: [_; TAPS] = std::array::from_fn(|j| {
                            if reach[j].contains(&column) { L::load(x[j].wrapping_offset(at)) } else { L::zero() }
                        });
                        add_pixel(&mut sum, dy.offset(column * lanes), near);
                    }
                }
            }
            let [kh, kw] = window.kernel;
            for j in 0..TAPS {
                let tap = (taps.blocks[j] * kh + taps.row) * kw + taps.columns[j];
                let tile = &mut sums[(tap * L::N + o) * L::N..][..FILTERS * L::N];
                for (sum, to) in sum.iter().zip(tile.chunks_exact_mut(L::N)) {
                    L::load(to.as_ptr()).add(sum[j]).store(to.as_mut_ptr());
                }
            }
        }
    }
}

/// Adds the product of `FILTERS` floats at `dy` with each vector of channels.
///
/// # Safety
/// The machine has the instructions of `L`, and `dy` is good for `FILTERS` floats.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add_pixel<L: Lanes, const FILTERS: usize, const TAPS: usize>(
    sum: &mut [[L; TAPS]; FILTERS],
    dy: *const f32,
    x: [L; TAPS],
) {
    for (o, sum) in sum.iter_mut().enumerate() {
        // SAFETY: as the caller's.
        unsafe {
            let factor = L::broadcast(*dy.add(o));
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum = sum.multiply_add(factor, x);
            }
        }
    }
}
