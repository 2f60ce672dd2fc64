//! Vectors of floats. Kernels are generic over them and compiled once for each set of instructions.

#![allow(unsafe_code)]

use super::Instructions;
use super::instructions::Kind;
use super::pieces::Piece;

/// A vector of [`Lanes::N`] floats. Every method is inlined into a function that has the instructions enabled.
///
/// # Safety
/// Methods may be called only where the machine has the vector's instructions, and pointers must be good for
/// [`Lanes::N`] floats.
pub(super) trait Lanes: Copy {
    const N: usize;
    unsafe fn zero() -> Self;
    unsafe fn broadcast(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// Returns `self + a · b`.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;
}

/// A job that is generic over vectors.
pub(super) trait InLanes {
    /// Adds what a block of channels sums up over some patches.
    ///
    /// # Safety
    /// The machine has the instructions of `L`, which is as long as a block, and tensors are as long as was checked.
    unsafe fn run<L: Lanes>(&self, piece: Piece);
}

/// Runs a piece of `job` on blocks of 8 or 16 channels; the lengths of its tensors must be checked before.
pub(super) fn in_lanes(job: &impl InLanes, instructions: Instructions, block: usize, piece: Piece) {
    // SAFETY: `Instructions` are there by construction, vectors are as long as a block, and lengths were checked.
    match (instructions.0, block) {
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx512, 16) => unsafe { avx512(job, piece) },
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx2 | Kind::Avx512, 8) => unsafe { avx2(job, piece) },
        (_, 16) => unsafe { job.run::<[f32; 16]>(piece) },
        (_, 8) => unsafe { job.run::<[f32; 8]>(piece) },
        (_, other) => unreachable!("blocks of {other} channels are refused"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(job: &impl InLanes, piece: Piece) {
    // SAFETY: as the caller's.
    unsafe { job.run::<std::arch::x86_64::__m512>(piece) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: &impl InLanes, piece: Piece) {
    // SAFETY: as the caller's.
    unsafe { job.run::<std::arch::x86_64::__m256>(piece) }
}

impl<const WIDTH: usize> Lanes for [f32; WIDTH] {
    const N: usize = WIDTH;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; WIDTH]
    }

    #[inline(always)]
    unsafe fn broadcast(value: f32) -> Self {
        [value; WIDTH]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has `N` floats there; an array of floats needs no more alignment than one.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<Self>().write(self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] + a[i] * b[i])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::Lanes;

    // SAFETY of all blocks: the caller vouches for AVX2 and FMA, and for the pointers.
    impl Lanes for __m256 {
        const N: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn broadcast(value: f32) -> Self {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm256_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
    }

    // SAFETY of all blocks: the caller vouches for AVX-512F, and for the pointers.
    impl Lanes for __m512 {
        const N: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn broadcast(value: f32) -> Self {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
    }
}
