//! The sums of `exact`, for operands of which nothing is truncated but the result.
//!
//! Weights of few bits are small integers, and activations of one column seldom differ by more than some fifteen
//! binades. Then no product and no accumulator has bits below those that the adder keeps, and the sum is the exact one,
//! truncated to a single. That needs no exponent for each product: the processor's own dot product of bf16 pairs adds
//! without rounding as long as 24 bits hold the sum. Where they do not, B is split by its exponents into two
//! matrices, whose sums they hold.
//!
//! With e_a the largest exponent of A, whose elements are integers, and e_min and e_max those of a column of B, products
//! are multiples of 2^(e_min - 7), and no exponent is above e_a + e_max, but perhaps that of the accumulator. The adder of
//! a single group keeps 25 bits below the largest.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::Register;

/// Bits below the largest exponent that the adder keeps.
const FRACTION: i32 = 25;

/// A largest exponent of A and the spread of a column, `e_max - e_min`, with which 24 bits hold 16 products.
const ONE_SUM: i32 = 11;

/// Exponents of B: no result overflows or is subnormal.
const LARGEST: i32 = 17;
const SMALLEST: i32 = -50;

/// Largest exponent of A. Integers of bf16 have no more bits.
const LARGEST_OF_A: i32 = 7;

/// Both halves of a register.
type Halves = [__m512i; 2];

/// `d = a * b + c` as [`Exact`](super::super::MmaMode::Exact) on Hopper and Blackwell, for bf16. False, with nothing
/// written, for other operands than this file is about.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
pub(crate) fn add_whole_products_of_16(
    a: &[&Register; 4],
    b: &[&Register; 2],
    c: &[&Register; 4],
    d: &mut [Register; 4],
) -> bool {
    // No closures and no `array::map`: what is not inlined would miss the instructions, or return vectors in memory.
    let a = [load(a[0]), load(a[1]), load(a[2]), load(a[3])];
    let Some(e_a) = largest_exponent(&a) else {
        return false;
    };
    let columns = Columns::new([load(b[0]), load(b[1])], e_a);
    if !columns.fit() {
        return false;
    }
    let c = [load(c[0]), load(c[1]), load(c[2]), load(c[3])];
    let mut any = _mm512_setzero_si512();
    for words in c.as_flattened() {
        any = _mm512_or_si512(any, *words);
    }
    // Not so if there are zeros with a sign, which are then like any other number.
    let from_zero = _mm512_test_epi32_mask(any, any) == 0;
    let mut sums = [_mm512_setzero_ps(); 8];
    if !from_zero {
        let (evens, odds) = (transpose([c[0], c[2]]), transpose([c[1], c[3]]));
        for t in 0..4 {
            sums[2 * t] = _mm512_castsi512_ps(evens[t]);
            sums[2 * t + 1] = _mm512_castsi512_ps(odds[t]);
        }
        if !columns.hold(&sums) {
            return false;
        }
    }
    let [low, high] = [transpose([a[0], a[1]]), transpose([a[2], a[3]])];
    let a = [
        low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3],
    ];
    if columns.need_one_sum() {
        let products = multiply(&a, b);
        for j in 0..8 {
            sums[j] = _mm512_add_round_ps::<TRUNCATE>(sums[j], products[j]);
        }
    } else {
        let [large, small] = columns.split();
        let large = multiply(&a, &[&large[0], &large[1]]);
        let small = multiply(&a, &[&small[0], &small[1]]);
        for j in 0..8 {
            sums[j] = add_three(sums[j], large[j], small[j]);
        }
    }
    let (mut evens, mut odds) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
    for t in 0..4 {
        evens[t] = _mm512_castps_si512(sums[2 * t]);
        odds[t] = _mm512_castps_si512(sums[2 * t + 1]);
    }
    let ([d0, d2], [d1, d3]) = (transpose_back(evens), transpose_back(odds));
    for (to, from) in d.iter_mut().zip([d0, d1, d2, d3]) {
        store(to, from);
    }
    true
}

const TRUNCATE: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// The largest exponent of numbers other than zero, at least 0, if all are integers of at most 8 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn largest_exponent(a: &[Halves; 4]) -> Option<i32> {
    let mut largest = _mm512_setzero_si512();
    let mut fractions = 0;
    for words in a.as_flattened() {
        let magnitude = _mm512_and_si512(*words, _mm512_set1_epi16(0x7fff));
        largest = _mm512_max_epu16(largest, magnitude);
        // How many of the significand's 8 bits stand before the point.
        let exponent = _mm512_srli_epi16::<7>(magnitude);
        let count = _mm512_subs_epu16(exponent, _mm512_set1_epi16(126));
        let behind = _mm512_srlv_epi16(_mm512_set1_epi16(0xff), count);
        let significand = _mm512_or_si512(magnitude, _mm512_set1_epi16(0x80));
        let significand = _mm512_and_si512(significand, behind);
        fractions |= _mm512_mask_test_epi16_mask(
            _mm512_test_epi16_mask(magnitude, magnitude),
            significand,
            significand,
        );
    }
    let limit = _mm512_set1_epi16(((127 + LARGEST_OF_A + 1) << 7) as i16);
    if fractions | _mm512_cmpge_epu16_mask(largest, limit) != 0 {
        return None;
    }
    // Below the limit bits of exponents are never the sign, and pairs are ordered by their upper numbers.
    let pairs = _mm512_max_epu16(largest, _mm512_slli_epi32::<16>(largest));
    let exponent = (_mm512_reduce_max_epi32(pairs) as u32 >> 23) as i32;
    Some((exponent - 127).max(0))
}

/// B with the exponents of its columns. Vectors are of words that stand for four lanes of a column; the first has
/// columns 0 to 3.
struct Columns {
    b: [Halves; 2],
    e_a: i32,
    /// Exponents with their bias; 0 and 512 of a column of zeros.
    largest: Halves,
    smallest: Halves,
}

impl Columns {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(b: [Halves; 2], e_a: i32) -> Self {
        let (mut largest, mut smallest) =
            ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
        for half in 0..2 {
            let x = _mm512_and_si512(b[0][half], _mm512_set1_epi16(0x7fff));
            let y = _mm512_and_si512(b[1][half], _mm512_set1_epi16(0x7fff));
            let zero = _mm512_setzero_si512();
            let most = _mm512_max_epu16(x, y);
            // Negated, the smallest is the largest, and zero stays below all others.
            let least = _mm512_max_epu16(_mm512_sub_epi16(zero, x), _mm512_sub_epi16(zero, y));
            let most = _mm512_max_epu16(most, _mm512_rol_epi32::<16>(most));
            let least = _mm512_max_epu16(least, _mm512_rol_epi32::<16>(least));
            let both = _mm512_mask_blend_epi16(0xaaaa_aaaa, most, least);
            let both = _mm512_max_epu16(both, _mm512_shuffle_epi32::<0b10_11_00_01>(both));
            let both = _mm512_max_epu16(both, _mm512_shuffle_epi32::<0b01_00_11_10>(both));
            let most = _mm512_and_si512(both, _mm512_set1_epi32(0xffff));
            let least = _mm512_srli_epi32::<16>(both);
            largest[half] = _mm512_srli_epi32::<7>(most);
            let least = _mm512_sub_epi32(_mm512_set1_epi32(0x10000), least);
            smallest[half] = _mm512_srli_epi32::<7>(least);
        }
        Self {
            b,
            e_a,
            largest,
            smallest,
        }
    }

    /// Whether `largest - smallest` is at most `limit` everywhere.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn spread_within(&self, limit: i32) -> bool {
        let mut beyond = 0;
        for (largest, smallest) in self.largest.iter().zip(&self.smallest) {
            let spread = _mm512_sub_epi32(*largest, *smallest);
            beyond |= _mm512_cmpgt_epi32_mask(spread, _mm512_set1_epi32(limit));
        }
        beyond == 0
    }

    /// Whether products keep all their bits, and the sums of the two matrices of [`split`](Self::split) too.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fit(&self) -> bool {
        let mut outside = 0;
        for (largest, smallest) in self.largest.iter().zip(&self.smallest) {
            outside |= _mm512_cmpgt_epi32_mask(*largest, _mm512_set1_epi32(127 + LARGEST))
                | _mm512_cmplt_epi32_mask(*smallest, _mm512_set1_epi32(127 + SMALLEST));
        }
        let kept = FRACTION - 7 - self.e_a;
        let held = 2 * ONE_SUM + 1 - 2 * self.e_a;
        outside == 0 && self.spread_within(kept.min(held))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn need_one_sum(&self) -> bool {
        self.spread_within(ONE_SUM - self.e_a)
    }

    /// Whether accumulators keep all their bits, and are not so large that products lose some.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn hold(&self, sums: &[__m512; 8]) -> bool {
        let (mut scales, mut bounds) = ([0; 32], [0; 32]);
        for half in 0..2 {
            // No product's exponent is larger, with a bias; smaller ones than this have no power of two to scale them.
            let exponent = _mm512_add_epi32(self.largest[half], _mm512_set1_epi32(self.e_a));
            let exponent = _mm512_max_epi32(exponent, _mm512_set1_epi32(127 - 75));
            let scale = _mm512_sub_epi32(_mm512_set1_epi32(2 * 127 + FRACTION), exponent);
            // Products are multiples of 2^(smallest - 127 - 7), and keep their bits below 2^26 times that.
            let bound = _mm512_add_epi32(self.smallest[half], _mm512_set1_epi32(FRACTION + 1 - 7));
            let bound = _mm512_min_epi32(bound, _mm512_set1_epi32(127 + 60));
            let at = 16 * half..16 * half + 16;
            for (to, exponent) in [(&mut scales, scale), (&mut bounds, bound)] {
                let to: &mut [u32; 16] = (&mut to[at.clone()]).try_into().unwrap();
                // SAFETY: 64 bytes lie behind the reference.
                unsafe {
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_slli_epi32::<23>(exponent));
                }
            }
        }
        let mut outside = 0;
        for (j, sum) in sums.iter().enumerate() {
            let scale = _mm512_set1_ps(f32::from_bits(scales[4 * j]));
            let bound = _mm512_set1_ps(f32::from_bits(bounds[4 * j]));
            let scaled = _mm512_mul_ps(*sum, scale);
            let whole = _mm512_roundscale_ps::<TRUNCATE>(scaled);
            outside |= _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(scaled, whole)
                | _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(*sum), bound);
        }
        outside == 0
    }

    /// The sum of two matrices, with exponents in the upper part of what columns have and in the lower one.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn split(&self) -> [[Register; 2]; 2] {
        let mut parts = [[[0; 32]; 2]; 2];
        for (register, b) in self.b.iter().enumerate() {
            let mut split = [[_mm512_setzero_si512(); 2]; 2];
            for half in 0..2 {
                let lowest = _mm512_set1_epi32(self.e_a - ONE_SUM);
                let lowest = _mm512_add_epi32(self.largest[half], lowest);
                let lowest = _mm512_max_epi32(lowest, _mm512_setzero_si512());
                let lowest = _mm512_slli_epi32::<7>(lowest);
                let lowest = _mm512_or_si512(lowest, _mm512_slli_epi32::<16>(lowest));
                let magnitude = _mm512_and_si512(b[half], _mm512_set1_epi16(0x7fff));
                let large = _mm512_cmpge_epu16_mask(magnitude, lowest);
                split[0][half] = _mm512_maskz_mov_epi16(large, b[half]);
                split[1][half] = _mm512_maskz_mov_epi16(!large, b[half]);
            }
            store(&mut parts[0][register], split[0]);
            store(&mut parts[1][register], split[1]);
        }
        parts
    }
}

/// Columns of the product of A, whose pairs of columns `a` has, and B. No sum needs more than 24 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply(a: &[__m512i; 8], b: &[&Register; 2]) -> [__m512; 8] {
    let mut sums = [_mm512_setzero_ps(); 8];
    for (p, a) in a.iter().enumerate() {
        for (j, sum) in sums.iter_mut().enumerate() {
            let b = _mm512_set1_epi32(b[p / 4][4 * j + p % 4] as i32);
            *sum = _mm512_dpbf16_ps(*sum, brain_floats(*a), brain_floats(b));
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn brain_floats(words: __m512i) -> __m512bh {
    // SAFETY: vectors of the same size, of which any bits are values.
    unsafe { transmute::<__m512i, __m512bh>(words) }
}

/// The sum of three numbers, which doubles hold, truncated to a single.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn add_three(x: __m512, y: __m512, z: __m512) -> __m512 {
    let part = |x, y, z| {
        let sum = _mm512_add_pd(_mm512_cvtps_pd(y), _mm512_cvtps_pd(z));
        _mm512_cvt_roundpd_ps::<TRUNCATE>(_mm512_add_pd(_mm512_cvtps_pd(x), sum))
    };
    let low = part(
        _mm512_castps512_ps256(x),
        _mm512_castps512_ps256(y),
        _mm512_castps512_ps256(z),
    );
    let high = part(
        _mm512_extractf32x8_ps::<1>(x),
        _mm512_extractf32x8_ps::<1>(y),
        _mm512_extractf32x8_ps::<1>(z),
    );
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
}

/// Words of lanes 4 g + t of two registers: for each t those of all g, of the first register and then of the second.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose([x, y]: [Halves; 2]) -> [__m512i; 4] {
    let first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    let two = |from: Halves, which| _mm512_permutex2var_epi32(from[0], which, from[1]);
    let (x01, x23, y01, y23) = (two(x, first), two(x, second), two(y, first), two(y, second));
    [
        _mm512_shuffle_i64x2::<0b01_00_01_00>(x01, y01),
        _mm512_shuffle_i64x2::<0b11_10_11_10>(x01, y01),
        _mm512_shuffle_i64x2::<0b01_00_01_00>(x23, y23),
        _mm512_shuffle_i64x2::<0b11_10_11_10>(x23, y23),
    ]
}

/// The other way.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_back(columns: [__m512i; 4]) -> [Halves; 2] {
    let [a, b, c, d] = columns;
    let first = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
    let halves = |ab, cd| {
        [
            _mm512_permutex2var_epi32(ab, first, cd),
            _mm512_permutex2var_epi32(ab, second, cd),
        ]
    };
    [
        halves(
            _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
            _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d),
        ),
        halves(
            _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
            _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d),
        ),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(register: &Register) -> Halves {
    let [low, high] = register.as_chunks::<16>().0 else {
        unreachable!("a register has 32 words");
    };
    // SAFETY: 64 bytes lie behind each of the references.
    unsafe {
        [
            _mm512_loadu_si512(low.as_ptr().cast()),
            _mm512_loadu_si512(high.as_ptr().cast()),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut Register, halves: Halves) {
    for (to, half) in to.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
        // SAFETY: 64 bytes lie behind the reference.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), half) };
    }
}

#[cfg(test)]
mod tests;
