use half::{bf16, f16};

/// A stored element type and its exact widening to f32.
///
/// The widening is spelled out in bits so that it vectorises on every instruction set.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// Exact value.
    fn widen(self) -> f32;
    /// Nearest value, ties to even.
    fn narrow(x: f32) -> Self;
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
        F16(f16::from_f32(x).to_bits())
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
