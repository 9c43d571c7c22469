//! The commonest forms, `m16n8k16` of bf16 or f16 with f32 sums, by vectors of 8 singles.
//!
//! The same sums as in `fast`, operation by operation. What the compiler makes of the general code depends on where it
//! is inlined, and costs three to six times as much.

mod exact;
mod whole;

pub(crate) use exact::add_products_of_16_exactly;
pub(crate) use whole::add_whole_products_of_16;

use std::arch::x86_64::*;

use crate::num::float32::NAN_BITS;

type Register = [u32; 32];

/// A and B as singles: A by rows, and B by rows.
struct Operands {
    a: [[f32; 16]; 16],
    b: [[f32; 8]; 16],
}

/// `d = a * b + c` in [`Fast`](super::MmaMode::Fast) mode, for f16 where `HALF`, else for bf16.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn add_products_of_16<const HALF: bool>(
    a: &[&Register; 4],
    b: &[&Register; 2],
    c: &[&Register; 4],
    d: &mut [Register; 4],
) {
    let mut operands = Operands {
        a: [[0.0; 16]; 16],
        b: [[0.0; 8]; 16],
    };
    unpack::<HALF>(a, b, &mut operands);
    for half in 0..2 {
        add_rows(
            operands.a.as_chunks::<8>().0[half].each_ref(),
            &operands.b,
            [c[2 * half], c[2 * half + 1]],
            &mut d.as_chunks_mut::<2>().0[half],
        );
    }
}

/// Out of line, so that the compiler does not take numbers out of vectors that it could load one by one.
#[inline(never)]
#[target_feature(enable = "avx2,f16c")]
fn unpack<const HALF: bool>(a: &[&Register; 4], b: &[&Register; 2], to: &mut Operands) {
    for (r, register) in a.iter().enumerate() {
        let (groups, _) = register.as_chunks::<4>();
        for (row, words) in to.a[8 * (r % 2)..][..8].iter_mut().zip(groups) {
            // Four words are 8 neighbouring elements of a row.
            let values = decode::<HALF>(load_four(words));
            store(&mut row.as_chunks_mut::<8>().0[r / 2], values);
        }
    }
    for (register, rows) in b.iter().zip(to.b.as_chunks_mut::<8>().0) {
        for (words, rows) in transpose(register)
            .into_iter()
            .zip(rows.as_chunks_mut::<2>().0)
        {
            let (low, high) = if HALF {
                let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
                (narrow(low), narrow(_mm256_srli_epi32::<16>(words)))
            } else {
                // Upper halves are bf16 numbers where they stand.
                let high = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
                let low = _mm256_slli_epi32::<16>(words);
                (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
            };
            store(&mut rows[0], low);
            store(&mut rows[1], high);
        }
    }
}

/// Adds the products of eight rows to `c`; registers of C hold even columns or odd ones.
#[inline(never)]
#[target_feature(enable = "avx2,f16c")]
fn add_rows(a: [&[f32; 16]; 8], b: &[[f32; 8]; 16], c: [&Register; 2], d: &mut [Register; 2]) {
    let mut sums = rows(c);
    for (k, b) in b.iter().enumerate() {
        let b = load_row(b);
        for (sum, a) in sums.iter_mut().zip(&a) {
            // Not fused: a product may leave the range of a single.
            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(_mm256_set1_ps(a[k]), b));
        }
    }
    columns(&sums.map(|sum| canonical(sum)), d);
}

/// Eight rows of C out of the registers that hold their even columns and their odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn rows(c: [&Register; 2]) -> [__m256; 8] {
    let mut rows = [_mm256_setzero_ps(); 8];
    let (evens, odds) = (c[0].as_chunks::<8>().0, c[1].as_chunks::<8>().0);
    for ((rows, even), odd) in rows.as_chunks_mut::<2>().0.iter_mut().zip(evens).zip(odds) {
        let (even, odd) = (load(even), load(odd));
        let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
        rows[0] = _mm256_permute2f128_ps::<0x20>(low, high);
        rows[1] = _mm256_permute2f128_ps::<0x31>(low, high);
    }
    rows
}

/// The other way.
#[inline]
#[target_feature(enable = "avx2")]
fn columns(rows: &[__m256; 8], d: &mut [Register; 2]) {
    let [even, odd] = d;
    let (evens, odds) = (even.as_chunks_mut::<8>().0, odd.as_chunks_mut::<8>().0);
    for ((rows, even), odd) in rows.as_chunks::<2>().0.iter().zip(evens).zip(odds) {
        let low = _mm256_permute2f128_ps::<0x20>(rows[0], rows[1]);
        let high = _mm256_permute2f128_ps::<0x31>(rows[0], rows[1]);
        store_bits(even, _mm256_shuffle_ps::<0x88>(low, high));
        store_bits(odd, _mm256_shuffle_ps::<0xdd>(low, high));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn canonical(x: __m256) -> __m256 {
    let nan = _mm256_castsi256_ps(_mm256_set1_epi32(NAN_BITS as i32));
    _mm256_blendv_ps(x, nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
}

/// Eight 16-bit numbers as singles.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn decode<const HALF: bool>(elements: __m128i) -> __m256 {
    if HALF {
        _mm256_cvtph_ps(elements)
    } else {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(elements)))
    }
}

/// Eight f16 numbers, each in the lower half of a word, as singles.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn narrow(words: __m256i) -> __m256 {
    let (low, high) = (
        _mm256_castsi256_si128(words),
        _mm256_extracti128_si256::<1>(words),
    );
    decode::<true>(_mm_packus_epi32(low, high))
}

/// Words of lanes 4 g + t: for each t those of all g.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(register: &Register) -> [__m256i; 4] {
    let quarters = register.as_chunks::<8>().0;
    let at = |quarter: usize| _mm256_castps_si256(load(&quarters[quarter]));
    let (a, b, c, d) = (at(0), at(1), at(2), at(3));
    let (first, second) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (third, fourth) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    // Even g are in the lower half now, odd ones in the upper.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let sorted = |words| _mm256_permutevar8x32_epi32(words, order);
    [
        sorted(_mm256_unpacklo_epi64(first, second)),
        sorted(_mm256_unpackhi_epi64(first, second)),
        sorted(_mm256_unpacklo_epi64(third, fourth)),
        sorted(_mm256_unpackhi_epi64(third, fourth)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u32; 8]) -> __m256 {
    // SAFETY: 32 bytes lie behind the reference.
    unsafe { _mm256_loadu_ps(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_row(row: &[f32; 8]) -> __m256 {
    // SAFETY: 32 bytes lie behind the reference.
    unsafe { _mm256_loadu_ps(row.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_four(words: &[u32; 4]) -> __m128i {
    // SAFETY: 16 bytes lie behind the reference.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [f32; 8], values: __m256) {
    // SAFETY: 32 bytes lie behind the reference.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_bits(to: &mut [u32; 8], values: __m256) {
    // SAFETY: 32 bytes lie behind the reference.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr().cast(), values) }
}

#[cfg(test)]
mod tests {
    use super::super::{Mma, MmaMode, MmaShape};
    use super::*;
    use crate::num::ScalarType;
    use proptest::prelude::*;

    fn general(ty: ScalarType, registers: &[Register; 10]) -> [Register; 4] {
        let (c, d) = (ScalarType::F32, ScalarType::F32);
        let shape = MmaShape { m: 16, n: 8, k: 16 };
        let mma = Mma {
            shape,
            a: ty,
            b: ty,
            c,
            d,
            satfinite: false,
        };
        let [a, b, c] = [&registers[..4], &registers[4..6], &registers[6..]];
        let mut sums = [[0; 32]; 4];
        mma.run(MmaMode::Fast, a, b, c, &mut sums);
        sums
    }

    fn by_vectors<const HALF: bool>(registers: &[Register; 10]) -> [Register; 4] {
        let [a0, a1, a2, a3, b0, b1, c0, c1, c2, c3] = registers;
        let mut sums = [[0; 32]; 4];
        // SAFETY: the test asks for the instructions first.
        unsafe {
            let (a, b, c) = ([a0, a1, a2, a3], [b0, b1], [c0, c1, c2, c3]);
            add_products_of_16::<HALF>(&a, &b, &c, &mut sums);
        }
        sums
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_general_code(
            words in prop::collection::vec(any::<u32>(), 320),
            kept in prop::sample::select(vec![u32::MAX, 0xbf7f_bf7f, 0x3fff_3fff, 0x8fff_8fff]),
        ) {
            if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
                return Ok(());
            }
            // All bit patterns, and operands that leave more of the sums finite or make them subnormal.
            let registers: [Register; 10] = std::array::from_fn(|register| {
                std::array::from_fn(|lane| words[32 * register + lane] & kept)
            });
            prop_assert_eq!(by_vectors::<false>(&registers), general(ScalarType::BF16, &registers));
            prop_assert_eq!(by_vectors::<true>(&registers), general(ScalarType::F16, &registers));
        }
    }
}
