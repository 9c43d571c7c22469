use super::isa::Kind;
use super::{Isa, LANES};
use half::bf16;

/// A stored element type and its exact widening to f32.
///
/// The widening is spelled out in bits so that it vectorises on every instruction set.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// Exact value.
    fn widen(self) -> f32;
    /// Nearest value, ties to even.
    fn narrow(x: f32) -> Self;

    /// Exact values of 16, with an instruction for it where `isa` has one.
    #[inline(always)]
    fn widen_lanes(_isa: Isa, x: &[Self; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| x[lane].widen())
    }
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }
}

/// bf16 as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Bf16(bf16::from_f32(x).to_bits())
    }
}

/// f16 as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F16(pub u16);

impl Element for F16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.0);
        let sign = (bits & 0x8000) << 16;
        // The f16 exponent bias is 15 and that of f32 is 127: shift the fields into place and make up for the difference
        // with a multiplication, which also normalises subnormals.
        let shifted = (bits & 0x7fff) << 13;
        let finite = (f32::from_bits(shifted) * f32::from_bits((127 + 112) << 23)).to_bits();
        let special = shifted | 0x7f80_0000;
        let is_special = bits & 0x7c00 == 0x7c00;
        f32::from_bits(sign | if is_special { special } else { finite })
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let sign = x.to_bits() >> 16 & 0x8000;
        let bits = x.to_bits() & 0x7fff_ffff;
        // From 2^-14 on: the exponent's bias changes from 127 to 15, and 13 bits of mantissa are rounded away. A carry
        // runs into the exponent, up to infinity.
        let ties_to_even = 0xfff + (bits >> 13 & 1);
        let normal = bits.wrapping_sub(112 << 23).wrapping_add(ties_to_even) >> 13;
        // Below: in the sum with 1/2 the last bit of mantissa is 2^-24, as it is in a subnormal f16.
        let subnormal = (f32::from_bits(bits) + 0.5)
            .to_bits()
            .wrapping_sub(0.5f32.to_bits());
        let finite = if bits < 113 << 23 { subnormal } else { normal };
        let beyond = if bits >= 143 << 23 { 0x7c00 } else { finite };
        let nan = 0x7e00 | (bits >> 13 & 0x3ff);
        let rounded = if bits > 0x7f80_0000 { nan } else { beyond };
        F16((sign | rounded) as u16)
    }

    #[inline(always)]
    fn widen_lanes(isa: Isa, x: &[Self; LANES]) -> [f32; LANES] {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::*;
            let from = x.as_ptr().cast::<u8>();
            let mut out = [0f32; LANES];
            let to = out.as_mut_ptr();
            // SAFETY: an `Isa` is made only where its features are; both arrays have 16 elements.
            unsafe {
                match isa.kind() {
                    Kind::Portable => {}
                    Kind::Avx2 => {
                        for half in 0..2 {
                            let x = _mm_loadu_si128(from.add(16 * half).cast());
                            _mm256_storeu_ps(to.add(8 * half), _mm256_cvtph_ps(x));
                        }
                        return out;
                    }
                    Kind::Avx512 => {
                        let x = _mm256_loadu_si256(from.cast());
                        _mm512_storeu_ps(to, _mm512_cvtph_ps(x));
                        return out;
                    }
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        std::array::from_fn(|lane| x[lane].widen())
    }
}

/// `x` rounded to bf16, as f32.
#[inline(always)]
pub fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    if x.is_nan() {
        return x;
    }
    let ties_to_even = 0x7fff + (bits >> 16 & 1);
    f32::from_bits(bits.wrapping_add(ties_to_even) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn widening_is_exact_for_every_pattern() {
        for bits in 0..=u16::MAX {
            let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(
                same(F16(bits).widen(), f16::from_bits(bits).to_f32()),
                "f16 {bits:#x}"
            );
            assert!(
                same(Bf16(bits).widen(), bf16::from_bits(bits).to_f32()),
                "bf16 {bits:#x}"
            );
        }
    }

    #[test]
    fn lanes_are_widened_alike_on_every_instruction_set() {
        for start in (0..=u16::MAX).step_by(LANES) {
            let x: [F16; LANES] = std::array::from_fn(|lane| F16(start + lane as u16));
            for isa in Isa::available() {
                for (found, x) in F16::widen_lanes(isa, &x).iter().zip(x) {
                    let expected = x.widen();
                    let same = found.to_bits() == expected.to_bits();
                    assert!(same || found.is_nan() && expected.is_nan(), "{isa} {x:?}");
                }
            }
        }
    }

    #[test]
    fn narrowing_agrees_with_the_type() {
        // Every pattern of the upper half, with lower halves at and around the ties of both kinds of f16.
        for upper in 0..=u16::MAX {
            for lower in [
                0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0x8000, 0xffff,
            ] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                let (found, expected) = (F16::narrow(x).0, f16::from_f32(x));
                let nan = expected.is_nan() && f16::from_bits(found).is_nan();
                assert!(
                    found == expected.to_bits() || nan,
                    "{x:e}: {found:#x} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn rounding_to_bf16_agrees_with_the_type() {
        for i in 0..200_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2_654_435_761));
            if x.is_nan() {
                continue;
            }
            assert_eq!(round_bf16(x), bf16::from_f32(x).to_f32(), "{x}");
        }
    }
}
