//! Inner loops, compiled for several instruction sets and chosen at run time.
//!
//! Every loop fixes its order of operations in terms of K, positions and a lane count of 16, never of the width
//! of a register or the number of rows, so that all instruction sets and all batches give the same bits.

// Lanes are indexed in lockstep over several arrays, which vectorises and reads better than nested zips.
#![allow(clippy::needless_range_loop)]

pub mod affine;
pub mod attend;
pub mod dense;
mod isa;
mod q8;
#[cfg(target_arch = "x86_64")]
mod q8_avx2;
#[cfg(target_arch = "x86_64")]
mod q8_avx512;
mod q8_portable;
pub mod row;
#[cfg(test)]
mod tests;
pub mod widen;

pub use isa::Isa;
pub(super) use isa::on_isa;
pub use q8::{Q8_BLOCK, Q8Block, Q8Group, q8_tile};

/// Lanes of every reduction.
pub const LANES: usize = 16;

/// Asks for the cache line at an address, which may be any.
#[inline(always)]
pub fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of an address that cannot be read does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Sums 16 lanes pairwise: lane i with i + 8, then + 4, + 2, + 1.
#[inline(always)]
pub fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
