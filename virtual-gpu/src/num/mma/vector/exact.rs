//! The sums of `exact`, for operands that leave singles and 32-bit integers enough room.
//!
//! A product of two 11-bit significands is exact in a single, and scaling it by a power of two is too, or leaves less
//! than 1, which is truncated to nothing. Truncated addends are below 2^27, so that 32-bit integers add eight of them
//! and the accumulator, and doubles the two halves of a sum.

use std::arch::x86_64::*;

use super::super::Arch;
use super::{Operands, Register, columns, load_row, rows, unpack};

/// Exponents of numbers other than zero that an operand may hold, so that nothing but truncation rounds. With two groups
/// the first one's sum is an addend of the second, and its last bit lies 24 bits lower.
const LARGEST: i32 = 40;
const SMALLEST: i32 = -50;
const SMALLEST_OF_TWO_GROUPS: i32 = -38;
const LARGEST_SUM: i32 = 100;

/// No power of two below this is scaled up: 2^(25 + 100) is a single, and all addends are zero there.
const LOWEST: i32 = -100;

/// Rows that share what they load of B.
const ROWS: usize = 4;

/// `d = a * b + c` in [`Exact`](super::super::MmaMode::Exact) mode, for f16 where `HALF`, else for bf16. False, with
/// nothing written, where an operand has another size, or is no number.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(crate) fn add_products_of_16_exactly<const HALF: bool>(
    arch: Arch,
    a: &[&Register; 4],
    b: &[&Register; 2],
    c: &[&Register; 4],
    d: &mut [Register; 4],
) -> bool {
    let mut operands = Operands {
        a: [[0.0; 16]; 16],
        b: [[0.0; 8]; 16],
    };
    unpack::<HALF>(a, b, &mut operands);
    let halved = matches!(arch, Arch::Ampere | Arch::Ada);
    let smallest = if halved {
        SMALLEST_OF_TWO_GROUPS
    } else {
        SMALLEST
    };
    let sums = [rows([c[0], c[1]]), rows([c[2], c[3]])];
    let mut sizes = Sizes::none();
    for row in operands.a.as_flattened().as_chunks::<8>().0 {
        sizes.add(load_row(row));
    }
    for row in &operands.b {
        sizes.add(load_row(row));
    }
    let mut sizes_of_sums = Sizes::none();
    for sum in sums.as_flattened() {
        sizes_of_sums.add(*sum);
    }
    if !sizes.are_within(smallest, LARGEST) || !sizes_of_sums.are_within(2 * smallest, LARGEST_SUM)
    {
        return false;
    }
    add::<HALF>(halved, &operands, sums, d);
    true
}

/// Out of line, as `add_rows` is.
#[inline(never)]
#[target_feature(enable = "avx2,f16c")]
fn add<const HALF: bool>(
    halved: bool,
    operands: &Operands,
    mut sums: [[__m256; 8]; 2],
    d: &mut [Register; 4],
) {
    let mut a_exponents = [[0; 16]; 16];
    let from = operands.a.as_flattened().as_chunks::<8>().0;
    let to = a_exponents.as_flattened_mut().as_chunks_mut::<8>().0;
    for (to, from) in to.iter_mut().zip(from) {
        store(to, exponents::<HALF>(load_row(from)));
    }
    let mut b_exponents = [_mm256_setzero_si256(); 16];
    for (to, from) in b_exponents.iter_mut().zip(&operands.b) {
        *to = exponents::<HALF>(load_row(from));
    }
    let quarters = sums.as_flattened_mut().as_chunks_mut::<ROWS>().0;
    let a = operands.a.as_chunks::<ROWS>().0.iter();
    let a = a.zip(a_exponents.as_chunks::<ROWS>().0);
    for (sums, (a, a_exponents)) in quarters.iter_mut().zip(a) {
        let group = Rows {
            a,
            a_exponents,
            b: &operands.b,
            b_exponents: &b_exponents,
        };
        if halved {
            group.add::<0, 8, 24>(sums);
            group.add::<8, 16, 24>(sums);
        } else {
            group.add::<0, 16, 25>(sums);
        }
    }
    for (d, sums) in d.as_chunks_mut::<2>().0.iter_mut().zip(&sums) {
        columns(sums, d);
    }
}

/// Some rows of A, and B.
struct Rows<'a> {
    a: &'a [[f32; 16]; ROWS],
    a_exponents: &'a [[i32; 16]; ROWS],
    b: &'a [[f32; 8]; 16],
    b_exponents: &'a [__m256i; 16],
}

impl Rows<'_> {
    /// Adds products `FROM..TO`, at most 16, of which addends keep `FRACTION` bits below the largest exponent.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add<const FROM: usize, const TO: usize, const FRACTION: i32>(
        &self,
        sums: &mut [__m256; ROWS],
    ) {
        let mut largest = [_mm256_setzero_si256(); ROWS];
        for (largest, sum) in largest.iter_mut().zip(sums.iter()) {
            *largest = exponents::<false>(*sum);
        }
        for l in FROM..TO {
            let b = self.b_exponents[l];
            for (largest, a) in largest.iter_mut().zip(self.a_exponents) {
                let exponent = _mm256_add_epi32(_mm256_set1_epi32(a[l]), b);
                *largest = _mm256_max_epi32(*largest, exponent);
            }
        }
        let (mut scale, mut low) = ([_mm256_setzero_ps(); ROWS], [_mm256_setzero_si256(); ROWS]);
        for row in 0..ROWS {
            largest[row] = _mm256_max_epi32(largest[row], _mm256_set1_epi32(LOWEST));
            let exponent = _mm256_sub_epi32(_mm256_set1_epi32(127 + FRACTION), largest[row]);
            scale[row] = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
            low[row] = _mm256_cvttps_epi32(_mm256_mul_ps(sums[row], scale[row]));
        }
        let mut high = [_mm256_setzero_si256(); ROWS];
        for l in FROM..FROM + 8 {
            self.add_one(l, &scale, &mut low);
        }
        for l in FROM + 8..TO {
            self.add_one(l, &scale, &mut high);
        }
        for (row, sum) in sums.iter_mut().enumerate() {
            let exponent = _mm256_sub_epi32(largest[row], _mm256_set1_epi32(FRACTION));
            *sum = truncated(low[row], high[row], exponent);
        }
    }

    /// Adds products `l`, scaled and truncated.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_one(&self, l: usize, scale: &[__m256; ROWS], to: &mut [__m256i; ROWS]) {
        let b = load_row(&self.b[l]);
        for row in 0..ROWS {
            let product = _mm256_mul_ps(_mm256_set1_ps(self.a[row][l]), b);
            let addend = _mm256_cvttps_epi32(_mm256_mul_ps(product, scale[row]));
            to[row] = _mm256_add_epi32(to[row], addend);
        }
    }
}

/// `(low + high) * 2^exponent`, truncated to a single. No result is subnormal or overflows.
#[inline]
#[target_feature(enable = "avx2")]
fn truncated(low: __m256i, high: __m256i, exponent: __m256i) -> __m256 {
    let half = |low, high, exponent| {
        let sum = _mm256_add_pd(_mm256_cvtepi32_pd(low), _mm256_cvtepi32_pd(high));
        let biased = _mm256_add_epi64(_mm256_cvtepi32_epi64(exponent), _mm256_set1_epi64x(1023));
        let power = _mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased));
        let kept = _mm256_castsi256_pd(_mm256_set1_epi64x(!((1 << 29) - 1)));
        _mm256_cvtpd_ps(_mm256_and_pd(_mm256_mul_pd(sum, power), kept))
    };
    let first = half(
        _mm256_castsi256_si128(low),
        _mm256_castsi256_si128(high),
        _mm256_castsi256_si128(exponent),
    );
    let second = half(
        _mm256_extracti128_si256::<1>(low),
        _mm256_extracti128_si256::<1>(high),
        _mm256_extracti128_si256::<1>(exponent),
    );
    _mm256_set_m128(second, first)
}

/// Exponents as the adder sees them: of subnormal numbers of f16, where `HALF`, that of its smallest normal one.
#[inline]
#[target_feature(enable = "avx2")]
fn exponents<const HALF: bool>(x: __m256) -> __m256i {
    let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
    let field = _mm256_srli_epi32::<23>(magnitude);
    let exponent = _mm256_sub_epi32(field, _mm256_set1_epi32(127));
    let zero = _mm256_set1_epi32(-126);
    if !HALF {
        return _mm256_max_epi32(exponent, zero);
    }
    let exponent = _mm256_max_epi32(exponent, _mm256_set1_epi32(-14));
    let is_zero = _mm256_cmpeq_epi32(magnitude, _mm256_setzero_si256());
    _mm256_blendv_epi8(exponent, zero, is_zero)
}

/// The least and the largest magnitude of numbers other than zero.
struct Sizes {
    /// Less one, so that zero is the largest of all.
    least: __m256i,
    largest: __m256i,
}

impl Sizes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn none() -> Self {
        Self {
            least: _mm256_set1_epi32(-1),
            largest: _mm256_setzero_si256(),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(&mut self, x: __m256) {
        let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
        self.largest = _mm256_max_epi32(self.largest, magnitude);
        let less = _mm256_add_epi32(magnitude, _mm256_set1_epi32(-1));
        self.least = _mm256_min_epu32(self.least, less);
    }

    /// Whether all exponents are in `smallest..=largest`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn are_within(&self, smallest: i32, largest: i32) -> bool {
        let least = _mm256_set1_epi32(((127 + smallest) << 23) - 1);
        let enough = _mm256_cmpeq_epi32(_mm256_max_epu32(self.least, least), self.least);
        let beyond = _mm256_set1_epi32((128 + largest) << 23);
        let inside = _mm256_and_si256(enough, _mm256_cmpgt_epi32(beyond, self.largest));
        _mm256_movemask_epi8(inside) == -1
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [i32; 8], values: __m256i) {
    // SAFETY: 32 bytes lie behind the reference.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), values) }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Mma, MmaMode, MmaShape};
    use super::*;
    use crate::num::ScalarType;
    use proptest::prelude::*;

    /// What the general code makes of the registers.
    fn general(ty: ScalarType, arch: Arch, registers: &[Register; 10]) -> [Register; 4] {
        let mma = Mma {
            shape: MmaShape { m: 16, n: 8, k: 16 },
            a: ty,
            b: ty,
            c: ScalarType::F32,
            d: ScalarType::F32,
            satfinite: false,
        };
        let [a, b, c] = [&registers[..4], &registers[4..6], &registers[6..]];
        let mut sums = [[0; 32]; 4];
        mma.run(MmaMode::Exact(arch), a, b, c, &mut sums);
        sums
    }

    fn by_vectors<const HALF: bool>(
        arch: Arch,
        registers: &[Register; 10],
    ) -> Option<[Register; 4]> {
        let [a0, a1, a2, a3, b0, b1, c0, c1, c2, c3] = registers;
        let mut sums = [[0; 32]; 4];
        // SAFETY: the test asks for the instructions first.
        let fits = unsafe {
            let (a, b, c) = ([a0, a1, a2, a3], [b0, b1], [c0, c1, c2, c3]);
            add_products_of_16_exactly::<HALF>(arch, &a, &b, &c, &mut sums)
        };
        fits.then_some(sums)
    }

    /// A number whose exponent is `exponent`, or zero for one of 8 `bits`.
    fn number(bits: u32, exponent: i32) -> f32 {
        if bits & 7 == 0 {
            return 0.0;
        }
        f32::from_bits(bits & 0x807f_ffff | ((127 + exponent) as u32) << 23)
    }

    fn pair(ty: ScalarType, low: f32, high: f32) -> u32 {
        let half = |x: f32| match ty {
            ScalarType::F16 => crate::num::half::f32_to_f16(x, crate::num::Rounding::Zero),
            _ => (x.to_bits() >> 16) as u16,
        };
        u32::from(half(high)) << 16 | u32::from(half(low))
    }

    proptest! {
        /// Spreads of exponents from narrow to as wide as it goes, to the limits and past them.
        #[test]
        fn sums_are_those_of_the_general_code(
            words in prop::collection::vec(any::<u32>(), 3 * 320),
            arch in prop::sample::select(vec![Arch::Ampere, Arch::Ada, Arch::Hopper, Arch::Blackwell]),
            half in any::<bool>(),
            (centre, spread) in (-60i32..45, 1i32..60),
            (sum_centre, sum_spread) in (-110i32..110, 1i32..40),
        ) {
            if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
                return Ok(());
            }
            let ty = if half { ScalarType::F16 } else { ScalarType::BF16 };
            let within = |word: u32, centre: i32, spread: i32| {
                (centre + (word % (2 * spread as u32)) as i32 - spread).clamp(-126, 127)
            };
            let registers: [Register; 10] = std::array::from_fn(|register| {
                std::array::from_fn(|lane| {
                    let at = 3 * (32 * register + lane);
                    let [x, y, word] = [words[at], words[at + 1], words[at + 2]];
                    if register >= 6 {
                        return number(x, within(word, sum_centre, sum_spread)).to_bits();
                    }
                    let (low, high) = (within(word >> 16, centre, spread), within(word, centre, spread));
                    pair(ty, number(x, low), number(y, high))
                })
            });
            let found = match half {
                true => by_vectors::<true>(arch, &registers),
                false => by_vectors::<false>(arch, &registers),
            };
            if let Some(found) = found {
                prop_assert_eq!(found, general(ty, arch, &registers));
            }
        }
    }

    #[test]
    fn usual_numbers_fit_and_others_do_not() {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
            return;
        }
        let word = |low: f32, high: f32| pair(ScalarType::BF16, low, high);
        let mut registers = [[word(0.37, -1e-9); 32]; 10];
        registers[6..].fill([1e-3f32.to_bits(); 32]);
        for arch in [Arch::Ada, Arch::Hopper] {
            let found = by_vectors::<false>(arch, &registers);
            assert_eq!(found, Some(general(ScalarType::BF16, arch, &registers)));
        }
        for (register, special) in [
            (0, word(f32::NAN, 0.0)),
            (5, word(1.0, f32::INFINITY)),
            (3, word(1e-30, 1.0)),
            (6, f32::INFINITY.to_bits()),
            (9, 1e-38f32.to_bits()),
        ] {
            let mut registers = registers;
            registers[register][17] = special;
            assert_eq!(by_vectors::<false>(Arch::Hopper, &registers), None);
        }
    }
}
