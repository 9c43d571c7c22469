//! exp and log in f32 as fixed sequences of correctly rounded operations.
//!
//! No table, no call of a system library: only add, multiply, divide, fused multiply-add, bit operations
//! and selects, each with one rounding, so the same lines in CUDA (`__fmaf_rn`, `__fmul_rn`, ...;
//! no flush to zero) give the same bits. Both functions are free of branches, so a loop over them
//! vectorises; [`wide`] compiles such a loop for the vector unit that the machine has.
//!
//! Measured against f64 over every f32 (the ignored test `every_float`): exp at most 1.02 ulp,
//! log at most 0.86 ulp.

/// 1.5 * 2^23: adding it rounds a float below 2^22 to an integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
/// ln 2 cut to 15 bits: its products with exponents are exact.
const LN_2_HI: f32 = f32::from_bits(0x3f31_7200);
/// ln 2 - `LN_2_HI`.
const LN_2_LO: f32 = 1.428_606_8e-6;

/// (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, a minimax fit of degree 4 (relative error of e^r below 2^-28).
const EXP: [f32; 5] = [
    0.499_999_94,
    0.166_665_2,
    0.041_668_396,
    0.008_368_797,
    0.001_381_443_1,
];

/// (log(1 + f) - f + f^2/2) / f^3 on [sqrt(1/2) - 1, sqrt(2) - 1], a minimax fit of degree 8 (below 2^-30).
const LOG: [f32; 9] = [
    0.333_333_13,
    -0.250_000_1,
    0.200_021_24,
    -0.166_680_08,
    0.142_194_51,
    -0.124_052_79,
    0.118_886_456,
    -0.116_778_77,
    0.067_483_09,
];

/// `x` as n ln 2 + rest with |rest| <= ln(2) / 2, for |x| up to 2^20.
#[inline(always)]
pub fn reduced(x: f32) -> (i32, f32) {
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    (n, without(x, rounded - ROUND))
}

/// `x` - n ln 2, in two steps: of the first the product is exact where n has up to 9 bits.
#[inline(always)]
pub fn without(x: f32, n: f32) -> f32 {
    n.mul_add(-LN_2_LO, n.mul_add(-LN_2_HI, x))
}

/// e to the power `r`, |r| <= ln(2) / 2.
#[inline(always)]
pub fn exp_of_rest(r: f32) -> f32 {
    let p = EXP[4].mul_add(r, EXP[3]);
    let p = p.mul_add(r, EXP[2]);
    let p = p.mul_add(r, EXP[1]);
    let p = p.mul_add(r, EXP[0]);
    (r * r).mul_add(p, r) + 1.0
}

/// e to the power `x`. exp(0) is 1, exp(-inf) is 0, exp(inf) is inf, NaN stays NaN; subnormal results are
/// rounded once.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Selects instead of min and max, which would lose a NaN. Outside of these bounds the result is 0 or inf.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let (n, rest) = reduced(x);
    let p = exp_of_rest(rest);
    // 2^n in two factors, both normal: n itself may leave the range of exponents at either end.
    let half = n >> 1;
    let pow2 = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * pow2(half) * pow2(n.wrapping_sub(half))
}

/// Natural logarithm of `x`. log(0) is -inf, log(inf) is inf, NaN and negative numbers give NaN; subnormals
/// count with their value.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let shift = if subnormal { -23.0 } else { 0.0 };
    // x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = scaled.to_bits().wrapping_sub(SQRT_HALF);
    let k = ((bits as i32) >> 23) as f32 + shift;
    let f = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    let p = LOG[8].mul_add(f, LOG[7]);
    let p = p.mul_add(f, LOG[6]);
    let p = p.mul_add(f, LOG[5]);
    let p = p.mul_add(f, LOG[4]);
    let p = p.mul_add(f, LOG[3]);
    let p = p.mul_add(f, LOG[2]);
    let p = p.mul_add(f, LOG[1]);
    let p = p.mul_add(f, LOG[0]);
    let tail = (f * f) * f.mul_add(p, -0.5);
    let y = k.mul_add(LN_2_HI, f + k.mul_add(LN_2_LO, tail));
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    // False for NaN as well.
    if x >= 0.0 { y } else { f32::NAN }
}

/// -log(1 - v) for `v` in (0, 1), precise for small `v`, where 1 - v would lose all that distinguishes it.
#[inline(always)]
pub fn neg_log_one_minus(v: f32) -> f32 {
    let w = 1.0 - v;
    // What rounding took from 1 - v; exact. log(w - lost) = log(w) - lost / w, to first order.
    let lost = v - (1.0 - w);
    lost / w - log(w)
}

/// Runs `work` compiled for the best instruction set that the machine has. The operations are the same on all, and so
/// are the results: without it a fused multiply-add would be a function call on x86-64.
#[inline(always)]
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    crate::host::Isa::detect().run(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Error of `got` in ulps of the exact value's binade.
    fn ulps(got: f32, exact: f64) -> f64 {
        if f64::from(got) == exact || (got.is_infinite() && exact.abs() > f64::from(f32::MAX)) {
            return 0.0;
        }
        let exponent = ((exact.to_bits() >> 52 & 2047) as i32 - 1023).max(-126);
        (f64::from(got) - exact).abs() * 2f64.powi(23 - exponent)
    }

    fn worst(
        stride: usize,
        function: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        negative: bool,
    ) -> f64 {
        let signs: &[u32] = if negative { &[0, 1 << 31] } else { &[0] };
        let mut worst = 0.0f64;
        for sign in signs {
            for bits in (0..0x7f80_0000u32).step_by(stride) {
                let x = f32::from_bits(bits | sign);
                if x != 0.0 {
                    worst = worst.max(ulps(function(x), exact(f64::from(x))));
                }
            }
        }
        worst
    }

    #[test]
    fn within_bounds() {
        let exp_worst = wide(|| worst(997, exp, f64::exp, true));
        let log_worst = wide(|| worst(997, log, f64::ln, false));
        assert!(exp_worst <= 1.02, "{exp_worst}");
        assert!(log_worst <= 0.86, "{log_worst}");
    }

    #[test]
    #[ignore = "minutes: every f32"]
    fn every_float() {
        let exp_worst = worst(1, exp, f64::exp, true);
        let log_worst = worst(1, log, f64::ln, false);
        println!("exp {exp_worst} ulp, log {log_worst} ulp");
        assert!(exp_worst <= 1.02 && log_worst <= 0.86);
    }

    #[test]
    fn small_complement() {
        for i in 1..100_000u32 {
            for v in [
                i as f32 * 1e-5 * 0.999_99,
                i as f32 * 2.0f32.powi(-32),
                i as f32 * 1e-9,
            ] {
                let error = ulps(neg_log_one_minus(v), -(-f64::from(v)).ln_1p());
                assert!(error <= 3.0, "{v}: {error}");
            }
        }
    }

    #[test]
    fn special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(1e-45), 1.0);
        assert_eq!(exp(-103.0), f32::from_bits(1));
        assert_eq!(log(1.0).to_bits(), 0);
        assert_eq!(log(0.0), f32::NEG_INFINITY);
        assert_eq!(log(-0.0), f32::NEG_INFINITY);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
        assert!(log(f32::NAN).is_nan());
        assert!(log(-1.0).is_nan());
        assert!(log(-1e-45).is_nan());
        assert!(log(f32::NEG_INFINITY).is_nan());
    }

    #[test]
    fn vectors_agree_with_scalars() {
        let xs: Vec<f32> = (0..10_000).map(|i| (i as f32 - 5000.0) * 0.0213).collect();
        let vectors: Vec<u32> = wide(|| xs.iter().map(|&x| exp(x).to_bits()).collect());
        let scalars: Vec<u32> = xs.iter().map(|&x| exp(x).to_bits()).collect();
        assert_eq!(vectors, scalars);
    }
}
