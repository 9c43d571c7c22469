//! `.f16` and `.bf16`: every value, every neighbourhood, and fused arithmetic against exact arithmetic.

use crate::reference::{BF16, Dyadic, F16, Model, ROUNDINGS, Random, zero_sum_sign};
use virtual_gpu::num::half::{self, HalfMode};
use virtual_gpu::num::{Rounding, float32};

const PLAIN: HalfMode = HalfMode {
    ftz: false,
    sat: false,
    relu: false,
};

#[test]
fn every_half_and_brain_float_has_its_value() {
    for bits in 0..=u16::MAX {
        for (model, wide) in [
            (F16, half::f16_to_f32(bits)),
            (BF16, half::bf16_to_f32(bits)),
        ] {
            if model.is_nan(bits.into()) {
                assert!(wide.is_nan(), "{bits:#06x}");
            } else if u64::from(bits & 0x7fff) == model.infinity() {
                assert_eq!(
                    wide,
                    if bits >> 15 == 0 {
                        f32::INFINITY
                    } else {
                        f32::NEG_INFINITY
                    }
                );
            } else {
                let value = model.signed_value(bits.into());
                assert!(
                    value.compare(&Dyadic::of(wide.into())).is_eq(),
                    "{bits:#06x} {wide:e}"
                );
                assert_eq!(wide.is_sign_negative(), bits >> 15 != 0);
            }
        }
    }
    assert_eq!(half::f16_to_f32(0xfc01).to_bits(), float32::NAN_BITS);
}

/// Checks the numbers at, between and just beside all neighbours of a 16-bit format.
fn check_neighbourhoods(
    model: Model,
    narrow: fn(f32, Rounding) -> u16,
    narrow64: fn(f64, Rounding) -> u16,
) {
    let value = |bits: u64| {
        let v = model.value(bits);
        let mantissa: i64 = v.mantissa.try_into().unwrap();
        mantissa as f64 * 2f64.powi(v.exponent / 2) * 2f64.powi(v.exponent - v.exponent / 2)
    };
    for low in 0..model.infinity() {
        let (x, y) = (value(low), value(low + 1));
        let middle = (x + y) / 2.0;
        let narrow_middle = middle as f32;
        assert!(
            f64::from(narrow_middle) == middle || narrow_middle.is_infinite(),
            "a middle is a single"
        );
        let below = narrow_middle.next_down();
        let above = narrow_middle.next_up();
        let even = (low + low % 2) as u16;
        let (low, high) = (low as u16, low as u16 + 1);
        let infinity = model.infinity() as u16;
        // Beyond the largest number there is no higher neighbour but infinity.
        for (x, nearest, floor, ceil) in [
            (x as f32, low, low, low),
            (below, low, low, high),
            (narrow_middle, even, low, high),
            (above, high, low, high),
        ] {
            if !x.is_finite() || (f64::from(x) == value(low.into()) && nearest != low) {
                continue;
            }
            let (floor, ceil) = if f64::from(x) == value(low.into()) {
                (low, low)
            } else {
                (floor, ceil)
            };
            let negative = |bits: u16| bits | 0x8000;
            assert_eq!(narrow(x, Rounding::Nearest), nearest, "{x:e}");
            assert_eq!(narrow(x, Rounding::Zero), floor, "{x:e}");
            assert_eq!(narrow(x, Rounding::Down), floor, "{x:e}");
            assert_eq!(narrow(x, Rounding::Up), ceil, "{x:e}");
            assert_eq!(narrow(-x, Rounding::Nearest), negative(nearest), "-{x:e}");
            assert_eq!(narrow(-x, Rounding::Zero), negative(floor), "-{x:e}");
            assert_eq!(narrow(-x, Rounding::Down), negative(ceil), "-{x:e}");
            assert_eq!(narrow(-x, Rounding::Up), negative(floor), "-{x:e}");
        }
        for (x, nearest) in [
            (middle.next_down(), low),
            (middle, even),
            (middle.next_up(), high),
        ] {
            assert_eq!(narrow64(x, Rounding::Nearest), nearest, "{x:e}");
            assert_eq!(narrow64(x, Rounding::Zero), low, "{x:e}");
            assert_eq!(narrow64(-x, Rounding::Down), high | 0x8000, "{x:e}");
            assert_eq!(narrow64(-x, Rounding::Up), low | 0x8000, "{x:e}");
        }
        assert!(high <= infinity);
    }
    for rounding in ROUNDINGS {
        assert_eq!(narrow(f32::from_bits(0xff80_0001), rounding), 0x7fff);
        assert_eq!(narrow64(f64::NAN, rounding), 0x7fff);
        assert_eq!(
            narrow(f32::NEG_INFINITY, rounding),
            model.infinity() as u16 | 0x8000
        );
        assert_eq!(narrow(-0.0, rounding), 0x8000);
    }
    assert_eq!(
        narrow(f32::MAX, Rounding::Zero),
        model.infinity() as u16 - 1
    );
    assert_eq!(narrow(f32::MAX, Rounding::Nearest), model.infinity() as u16);
    assert_eq!(narrow(f32::from_bits(1), Rounding::Nearest), 0);
    assert_eq!(narrow(f32::from_bits(1), Rounding::Up), 1);
}

#[test]
fn narrowing_to_f16_is_right_around_every_value() {
    check_neighbourhoods(F16, half::f32_to_f16, half::f64_to_f16);
}

#[test]
fn narrowing_to_bf16_is_right_around_every_value() {
    check_neighbourhoods(BF16, half::f32_to_bf16, half::f64_to_bf16);
}

struct Operations {
    model: Model,
    widen: fn(u16) -> f32,
    add: fn(u16, u16, HalfMode) -> u16,
    sub: fn(u16, u16, HalfMode) -> u16,
    mul: fn(u16, u16, HalfMode) -> u16,
    fma: fn(u16, u16, u16, HalfMode) -> u16,
    near_one: u16,
}

fn check_arithmetic(ops: &Operations, seed: u64) {
    let mut random = Random(seed);
    let nearest = Rounding::Nearest;
    let operand = |random: &mut Random| {
        let bits = random.next() as u16;
        match random.below(4) {
            // Exponents around one, where sums overlap.
            0 | 1 => (bits & 0x83ff).wrapping_add(ops.near_one),
            2 => bits & 0x81ff,
            _ => bits,
        }
    };
    for _ in 0..40_000 {
        let (a, b) = (operand(&mut random), operand(&mut random));
        let c = match random.below(3) {
            // Near the negated product, or so far below it that only a tie notices.
            0 => (ops.mul)(a, b, PLAIN) ^ 0x8000,
            1 => operand(&mut random) & 0x800f,
            _ => operand(&mut random),
        };
        let [x, y, z] = [a, b, c].map(ops.widen);
        let got = [
            (ops.add)(a, c, PLAIN),
            (ops.sub)(a, c, PLAIN),
            (ops.mul)(a, b, PLAIN),
            (ops.fma)(a, b, c, PLAIN),
        ];
        let want = if x.is_finite() && y.is_finite() && z.is_finite() {
            let [u, v, w] = [a, b, c].map(|bits| ops.model.signed_value(bits.into()));
            let [sa, sb, sc] = [a, b, c].map(|bits| bits >> 15 != 0);
            let minus = Dyadic {
                mantissa: -&w.mantissa,
                exponent: w.exponent,
            };
            [
                ops.model
                    .round(&u.add(&w), zero_sum_sign(sa, sc, nearest), nearest),
                ops.model
                    .round(&u.add(&minus), zero_sum_sign(sa, !sc, nearest), nearest),
                ops.model.round(&u.mul(&v), sa != sb, nearest),
                ops.model.round(
                    &u.mul(&v).add(&w),
                    zero_sum_sign(sa != sb, sc, nearest),
                    nearest,
                ),
            ]
        } else {
            // Only infinities and NaN come out, and they are the same in any precision, but for a finite sum.
            let [x, y, z] = [x, y, z].map(f64::from);
            let infinite = |v: f64| {
                assert!(!v.is_finite() || x.is_finite() || y.is_finite() || z.is_finite());
                match v {
                    _ if v.is_nan() => 0x7fff,
                    _ if v == f64::INFINITY => ops.model.infinity(),
                    _ if v == f64::NEG_INFINITY => ops.model.infinity() | 0x8000,
                    _ => u64::MAX,
                }
            };
            [x + z, x - z, x * y, x.mul_add(y, z)].map(infinite)
        };
        for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
            if want != u64::MAX {
                assert_eq!(
                    u64::from(got),
                    want,
                    "operation {i}: {a:#06x} {b:#06x} {c:#06x}"
                );
            }
        }
    }
}

const F16_OPERATIONS: Operations = Operations {
    model: F16,
    widen: half::f16_to_f32,
    add: half::f16_add,
    sub: half::f16_sub,
    mul: half::f16_mul,
    fma: half::f16_fma,
    near_one: 0x3800,
};

const BF16_OPERATIONS: Operations = Operations {
    model: BF16,
    widen: half::bf16_to_f32,
    add: half::bf16_add,
    sub: half::bf16_sub,
    mul: half::bf16_mul,
    fma: half::bf16_fma,
    near_one: 0x3e00,
};

#[test]
fn f16_arithmetic_rounds_once() {
    check_arithmetic(&F16_OPERATIONS, 5);
}

#[test]
fn bf16_arithmetic_rounds_once() {
    check_arithmetic(&BF16_OPERATIONS, 6);
}

#[test]
fn single_precision_gives_the_same_or_says_that_it_may_not() {
    let mut random = Random(8);
    let (mut right, mut near_limits, mut fused) = (0, 0, 0);
    for round in 0..400_000 {
        let mut operand = || {
            let bits = random.next() as u16;
            match round % 4 {
                // All patterns; exponents about 0, so that addends meet; and few bits, so that sums are ties.
                0 => bits,
                1 => bits & 0x83ff | 0x3c00,
                2 => bits & 0x878f | 0x3c00,
                _ => bits & 0xbfff,
            }
        };
        let (a, b, c) = (operand(), operand(), operand());
        let (found, fits) = half::bf16_fma_in_single(a, b, c);
        if fits {
            assert_eq!(found, half::bf16_fma(a, b, c, PLAIN), "{a:x} {b:x} {c:x}");
            right += 1;
        } else {
            near_limits += 1;
        }
        assert!(fits || !matches!(round % 4, 1 | 2), "{a:x} {b:x} {c:x}");
        let (found, fits) = half::bf16_fma_fused(a, b, c);
        if fits {
            assert_eq!(found, half::bf16_fma(a, b, c, PLAIN), "{a:x} {b:x} {c:x}");
            fused += 1;
        }
    }
    assert!(fused > 20_000, "{fused}");
    assert!(
        right > 200_000 && near_limits > 50_000,
        "{right} {near_limits}"
    );
}

#[test]
fn a_product_that_ends_above_a_tie_is_not_rounded_twice() {
    // 1 + 2^-11 + 2^-24: in single precision the last term would be lost and the tie go to even.
    let tiny = half::f32_to_f16(2f32.powi(-24), Rounding::Nearest);
    let a = half::f32_to_f16(1.0 + 2f32.powi(-10), Rounding::Nearest);
    let b = half::f32_to_f16(1.0 - 2f32.powi(-11), Rounding::Nearest);
    // a * b = 1 + 2^-11 - 2^-21
    assert_eq!(half::f16_fma(a, b, tiny, PLAIN), 0x3c00);
    let three = half::f32_to_f16(2f32.powi(-21) + 2f32.powi(-24), Rounding::Nearest);
    assert_eq!(half::f16_fma(a, b, three, PLAIN), 0x3c01);
}

#[test]
fn modes_clamp_and_flush() {
    let mode = |ftz, sat, relu| HalfMode { ftz, sat, relu };
    assert_eq!(half::f16_add(0xbc00, 0, mode(false, false, true)), 0);
    assert_eq!(half::f16_add(0x8000, 0x8000, mode(false, false, true)), 0);
    assert_eq!(half::f16_add(0x7e01, 0, mode(false, false, true)), 0x7fff);
    assert_eq!(half::f16_add(0x7e01, 0, mode(false, true, false)), 0);
    assert_eq!(half::f16_add(0x4000, 0, mode(false, true, false)), 0x3c00);
    assert_eq!(half::f16_mul(0xc000, 0x3c00, mode(false, true, false)), 0);
    assert_eq!(half::f16_add(0x3800, 0, mode(false, true, false)), 0x3800);
    assert_eq!(
        half::f16_add(0x83ff, 0x8000, mode(true, false, false)),
        0x8000
    );
    assert_eq!(half::f16_mul(0x0400, 0x3800, mode(true, false, false)), 0);
    assert_eq!(half::f16_mul(0x0400, 0x3800, PLAIN), 0x0200);
    assert_eq!(
        half::bf16_fma(0xbf80, 0x3f80, 0, mode(false, false, true)),
        0
    );
    assert_eq!(half::bf16_add(0x4000, 0, mode(false, true, false)), 0x3f80);
    assert_eq!(half::bf16_mul(0x0080, 0x3f00, mode(true, false, false)), 0);
}

#[test]
fn extrema_agree_with_f32() {
    let mut random = Random(7);
    for _ in 0..50_000 {
        let (a, b) = (random.next() as u16, random.next() as u16);
        let n16 = |x| half::f32_to_f16(x, Rounding::Nearest);
        let (x, y) = (half::f16_to_f32(a), half::f16_to_f32(b));
        assert_eq!(half::f16_min(a, b, PLAIN), n16(float32::min(x, y)));
        assert_eq!(half::f16_max(a, b, PLAIN), n16(float32::max(x, y)));
        assert_eq!(half::f16_min_nan(a, b, PLAIN), n16(float32::min_nan(x, y)));
        assert_eq!(half::f16_max_nan(a, b, PLAIN), n16(float32::max_nan(x, y)));
        let nbf = |x| half::f32_to_bf16(x, Rounding::Nearest);
        let (x, y) = (half::bf16_to_f32(a), half::bf16_to_f32(b));
        assert_eq!(half::bf16_min(a, b, PLAIN), nbf(float32::min(x, y)));
        assert_eq!(half::bf16_max(a, b, PLAIN), nbf(float32::max(x, y)));
        assert_eq!(half::bf16_min_nan(a, b, PLAIN), nbf(float32::min_nan(x, y)));
        assert_eq!(half::bf16_max_nan(a, b, PLAIN), nbf(float32::max_nan(x, y)));
    }
    assert_eq!(half::f16_min(0, 0x8000, PLAIN), 0x8000);
    assert_eq!(half::bf16_max(0x8000, 0, PLAIN), 0);
}

#[test]
fn words_carry_two_values() {
    let add = |a, b| half::f16_add(a, b, PLAIN);
    assert_eq!(half::packed2(0x3c00_4000, 0x3c00_3c00, add), 0x4000_4200);
    assert_eq!(half::packed1(0x3c00_bc00, half::neg), 0xbc00_3c00);
    assert_eq!(half::packed1(0x3c00_bc00, half::abs), 0x3c00_3c00);
    let fma = |a, b, c| half::bf16_fma(a, b, c, PLAIN);
    assert_eq!(
        half::packed3(0x4000_3f80, 0x4040_3f80, 0x3f80_0000, fma),
        0x40e0_3f80
    );
    assert_eq!(half::xor_sign(0x3c00, 0xbc00, 0x4000), 0xbc00);
    assert_eq!(half::xor_sign(0x7fff, 0xbc00, 0x4000), 0x7fff);
}

#[test]
fn ex2_and_tanh_are_the_nearest_of_their_format() {
    for bits in 0..=u16::MAX {
        for (format, ex2, tanh) in [
            (true, half::ex2_f16(bits), half::tanh_f16(bits)),
            (false, half::ex2_bf16(bits), half::tanh_bf16(bits)),
        ] {
            let (x, narrow): (f32, fn(f64, Rounding) -> u16) = if format {
                (half::f16_to_f32(bits), half::f64_to_f16)
            } else {
                (half::bf16_to_f32(bits), half::f64_to_bf16)
            };
            let mut want = narrow(f64::from(x).exp2(), Rounding::Nearest);
            if !format {
                want = half::bf16_ftz(want);
            }
            // Rounding through single precision may pick the other neighbour of a near tie.
            assert!(ex2.abs_diff(want) <= 1, "ex2 {x:e}: {ex2:#06x} {want:#06x}");
            let want = narrow(f64::from(x).tanh(), Rounding::Nearest);
            assert!(
                tanh.abs_diff(want) <= 1,
                "tanh {x:e}: {tanh:#06x} {want:#06x}"
            );
        }
    }
    assert_eq!(half::ex2_f16(0), 0x3c00);
    assert_eq!(half::ex2_bf16(0xff80), 0);
}
