//! Between masks, a bit for each lane, and vectors of lanes.

use super::lanes::{CHUNK, CHUNKS};
use super::row::LANES;

/// All ones in the lanes whose bits are set, for each byte of a mask.
static LANES_OF_BYTE: [[u32; CHUNK]; 256] = {
    let mut table = [[0; CHUNK]; 256];
    let mut at = 0;
    while at < 256 * CHUNK {
        if (at / CHUNK) >> (at % CHUNK) & 1 != 0 {
            table[at / CHUNK][at % CHUNK] = u32::MAX;
        }
        at += 1;
    }
    table
};

#[inline(always)]
pub fn lanes_of<const AVX2: bool>(mask: u32, chunk: usize) -> [u32; CHUNK] {
    #[cfg(target_arch = "x86_64")]
    if AVX2 {
        // SAFETY: the processor has the instructions.
        return unsafe { avx2::lanes_of(mask, chunk) };
    }
    opaque(&LANES_OF_BYTE)[usize::from(mask.to_le_bytes()[chunk])]
}

/// The same reference, of which the compiler does not know what it points at. Where it knows that lanes are bits of a
/// mask, it tests the bits one by one instead of selecting by vectors.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // There is no instruction that could use it.
fn opaque<T>(reference: &'static T) -> &'static T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut pointer = std::ptr::from_ref(reference);
        // SAFETY: no instruction at all; the pointer stays what it is.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(reg) pointer,
                options(pure, nomem, nostack, preserves_flags)
            );
            &*pointer
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::hint::black_box(reference)
    }
}

/// Whether a lane of `lanes_of` is all ones. Its sign is what selections of vectors look at.
#[inline(always)]
pub fn is_set(lane: u32) -> bool {
    (lane as i32) < 0
}

/// The lanes for which `test` holds.
#[inline(always)]
pub fn lanes_where(test: impl Fn(usize) -> bool) -> u32 {
    let mut bytes = [0; LANES];
    for lane in 0..LANES {
        bytes[lane] = if test(lane) { u8::MAX } else { 0 };
    }
    bits_of(bytes)
}

/// Bit i tells whether lane i of all chunks is all ones.
#[inline(always)]
pub fn bits_of_chunks<const AVX2: bool>(lanes: &[[u32; CHUNK]; CHUNKS]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if AVX2 {
        // SAFETY: the processor has the instructions.
        return unsafe { avx2::bits_of(lanes) };
    }
    lanes_where(|lane| lanes[lane / CHUNK][lane % CHUNK] != 0)
}

/// What the compiler does not find by itself.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::lanes::{CHUNK, CHUNKS};
    use std::arch::x86_64::*;

    /// Signs, and no more, tell the lanes of a chunk whose bits are set.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn lanes_of(mask: u32, chunk: usize) -> [u32; CHUNK] {
        let last = 31 - (CHUNK * chunk) as i32;
        let steps = _mm256_sub_epi32(
            _mm256_set1_epi32(last),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        );
        let lanes = _mm256_sllv_epi32(_mm256_set1_epi32(mask as i32), steps);
        // SAFETY: both types are 32 plain bytes.
        unsafe { std::mem::transmute(lanes) }
    }

    /// Bit i tells whether lane i is all ones.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn bits_of(lanes: &[[u32; CHUNK]; CHUNKS]) -> u32 {
        // SAFETY: both types are 32 plain bytes.
        let at = |chunk: usize| unsafe { std::mem::transmute::<[u32; 8], __m256i>(lanes[chunk]) };
        let (low, high) = (
            _mm256_packs_epi32(at(0), at(1)),
            _mm256_packs_epi32(at(2), at(3)),
        );
        // Fours of lanes of the chunks in turn, first the lower ones.
        let fours = _mm256_packs_epi16(low, high);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_movemask_epi8(_mm256_permutevar8x32_epi32(fours, order)) as u32
    }
}

/// Bit i tells whether byte i is all ones.
#[inline(always)]
fn bits_of(bytes: [u8; LANES]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_movemask_epi8};
        // SAFETY: every processor of this kind has the instruction; both types are 32 plain bytes.
        let [low, high] = unsafe {
            let halves: [__m128i; 2] = std::mem::transmute(bytes);
            halves.map(|half| _mm_movemask_epi8(half) as u32)
        };
        low | high << 16
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let lanes = bytes.iter().enumerate();
        lanes.fold(0, |bits, (lane, byte)| bits | u32::from(byte & 1) << lane)
    }
}
