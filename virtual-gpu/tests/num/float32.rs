//! `.f32` operations in all rounding modes against exact arithmetic.

use crate::reference::{Dyadic, F32, ROUNDINGS, Random, zero_sum_sign};
use virtual_gpu::num::{Rounding, float32};

fn assert_bits(got: f32, want: u64, what: std::fmt::Arguments) {
    assert_eq!(
        got.to_bits(),
        want as u32,
        "{what}: got {got:e}, want {:e}",
        f32::from_bits(want as u32)
    );
}

/// The bits that the host's operation gives where operands are not finite: modes do not matter there.
fn special(x: f32) -> u64 {
    if x.is_nan() {
        0x7fff_ffff
    } else {
        x.to_bits().into()
    }
}

#[test]
fn sums_products_and_fma_are_exact_in_every_mode() {
    let mut random = Random(1);
    for _ in 0..12_000 {
        let (a, b, mut c) = (random.single(), random.single(), random.single());
        if random.below(4) == 0 {
            // Cancellation leaves only the rounding error of the product.
            c = -(a * b);
        }
        for rounding in ROUNDINGS {
            let (sum, product, fused) = (
                float32::add(a, c, rounding),
                float32::mul(a, b, rounding),
                float32::fma(a, b, c, rounding),
            );
            let (mut want_sum, mut want_product, mut want_fused) =
                (special(a + c), special(a * b), special(a.mul_add(b, c)));
            let [sa, sb, sc] = [a, b, c].map(f32::is_sign_negative);
            let exact = |x: f32| Dyadic::of(x.into());
            if a.is_finite() && c.is_finite() {
                want_sum = F32.round(
                    &exact(a).add(&exact(c)),
                    zero_sum_sign(sa, sc, rounding),
                    rounding,
                );
            }
            if a.is_finite() && b.is_finite() {
                let product = exact(a).mul(&exact(b));
                want_product = F32.round(&product, sa != sb, rounding);
                if c.is_finite() {
                    let zero = zero_sum_sign(sa != sb, sc, rounding);
                    want_fused = F32.round(&product.add(&exact(c)), zero, rounding);
                }
            }
            assert_bits(sum, want_sum, format_args!("{a:e} + {c:e} {rounding:?}"));
            assert_bits(
                product,
                want_product,
                format_args!("{a:e} * {b:e} {rounding:?}"),
            );
            assert_bits(
                fused,
                want_fused,
                format_args!("{a:e} * {b:e} + {c:e} {rounding:?}"),
            );
        }
    }
}

#[test]
fn quotients_and_roots_are_exact_in_every_mode() {
    let mut random = Random(2);
    for _ in 0..12_000 {
        let (mut a, b) = (random.single(), random.single());
        if random.below(8) == 0 {
            a = (a.to_bits() >> 16 << 16) as f32 * b;
        }
        for rounding in ROUNDINGS {
            let mut want = special(a / b);
            if a.is_finite() && b.is_finite() && a != 0.0 && b != 0.0 {
                let (x, y) = (Dyadic::of(a.into()).abs(), Dyadic::of(b.into()).abs());
                want = F32.round_by((a < 0.0) != (b < 0.0), rounding, |candidate| {
                    candidate.mul(&y).compare(&x)
                });
            }
            assert_bits(
                float32::div(a, b, rounding),
                want,
                format_args!("{a:e} / {b:e} {rounding:?}"),
            );
            let mut want = special(1.0 / b);
            if b.is_finite() && b != 0.0 {
                let (x, y) = (Dyadic::new(1, 0), Dyadic::of(b.into()).abs());
                want = F32.round_by(b < 0.0, rounding, |candidate| candidate.mul(&y).compare(&x));
            }
            assert_bits(
                float32::rcp(b, rounding),
                want,
                format_args!("1 / {b:e} {rounding:?}"),
            );
            let mut want = special(a.sqrt());
            if a.is_finite() && a > 0.0 {
                let x = Dyadic::of(a.into());
                want = F32.round_by(false, rounding, |candidate| {
                    candidate.mul(candidate).compare(&x)
                });
            }
            assert_bits(
                float32::sqrt(a, rounding),
                want,
                format_args!("sqrt {a:e} {rounding:?}"),
            );
        }
    }
}

#[test]
fn an_exact_zero_is_negative_only_downwards() {
    for (a, b) in [(1.5f32, -1.5f32), (0.0, -0.0), (-0.0, 0.0)] {
        assert_eq!(float32::add(a, b, Rounding::Down).to_bits(), 0x8000_0000);
        assert_eq!(float32::add(a, b, Rounding::Up).to_bits(), 0);
        assert_eq!(float32::add(a, b, Rounding::Nearest).to_bits(), 0);
    }
    assert_eq!(float32::add(0.0, 0.0, Rounding::Down).to_bits(), 0);
}

#[test]
fn extrema_order_zeros_and_treat_nan_as_told() {
    let nan = f32::from_bits(0xffc0_1234);
    let canonical = 0x7fff_ffff;
    assert_eq!(float32::min(0.0, -0.0).to_bits(), 0x8000_0000);
    assert_eq!(float32::min(-0.0, 0.0).to_bits(), 0x8000_0000);
    assert_eq!(float32::max(0.0, -0.0).to_bits(), 0);
    assert_eq!(float32::max(-0.0, 0.0).to_bits(), 0);
    for (a, b) in [(nan, 2.0), (2.0, nan)] {
        assert_eq!(float32::min(a, b), 2.0);
        assert_eq!(float32::max(a, b), 2.0);
        assert_eq!(float32::min_nan(a, b).to_bits(), canonical);
        assert_eq!(float32::max_nan(a, b).to_bits(), canonical);
    }
    assert_eq!(float32::min(nan, nan).to_bits(), canonical);
    assert_eq!(float32::max(nan, nan).to_bits(), canonical);
    let mut random = Random(3);
    for _ in 0..10_000 {
        let (a, b) = (random.single(), random.single());
        if a.is_nan() || b.is_nan() || a == b {
            continue;
        }
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        assert_eq!([float32::min(a, b), float32::min_nan(a, b)], [low; 2]);
        assert_eq!([float32::max(a, b), float32::max_nan(a, b)], [high; 2]);
    }
}

#[test]
fn clamps_flushes_and_signs() {
    assert_eq!(float32::saturate(f32::NAN).to_bits(), 0);
    assert_eq!(float32::saturate(-0.0).to_bits(), 0);
    assert_eq!(float32::saturate(-3.0).to_bits(), 0);
    assert_eq!(float32::saturate(0.25), 0.25);
    assert_eq!(float32::saturate(f32::INFINITY), 1.0);
    assert_eq!(
        float32::ftz(f32::from_bits(0x807f_ffff)).to_bits(),
        0x8000_0000
    );
    assert_eq!(float32::ftz(f32::from_bits(0x0000_0001)).to_bits(), 0);
    assert_eq!(float32::ftz(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    assert_eq!(float32::ftz(f32::from_bits(0xff80_0000)), f32::NEG_INFINITY);
    assert_eq!(float32::copysign(-1.0, 3.0), -3.0);
    assert_eq!(float32::xor_sign(2.0, -2.0, 3.0), -2.0);
    assert_eq!(
        float32::canonical(f32::from_bits(0xff80_0001)).to_bits(),
        0x7fff_ffff
    );
}

#[test]
fn doubles_narrow_in_every_mode() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let x = random.double();
        for rounding in ROUNDINGS {
            let want = if x.is_finite() {
                F32.round(&Dyadic::of(x), x.is_sign_negative(), rounding)
            } else {
                special(x as f32)
            };
            assert_bits(
                float32::from_f64(x, rounding),
                want,
                format_args!("{x:e} {rounding:?}"),
            );
        }
    }
}
