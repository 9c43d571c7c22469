//! `.f64` operations in all rounding modes against exact arithmetic.

use crate::reference::{Dyadic, F64, ROUNDINGS, Random, zero_sum_sign};
use virtual_gpu::num::{Rounding, float64};

fn assert_bits(got: f64, want: u64, what: std::fmt::Arguments) {
    assert_eq!(
        got.to_bits(),
        want,
        "{what}: got {got:e}, want {:e}",
        f64::from_bits(want)
    );
}

/// The bits that the host's operation gives where operands are not finite: modes do not matter there.
fn special(x: f64) -> u64 {
    if x.is_nan() {
        float64::NAN_BITS
    } else {
        x.to_bits()
    }
}

#[test]
fn sums_products_and_fma_are_exact_in_every_mode() {
    let mut random = Random(11);
    for _ in 0..6_000 {
        let (a, b, mut c) = (random.double(), random.double(), random.double());
        if random.below(3) == 0 {
            // Cancellation leaves only the rounding error of the product, or a little more.
            c = -(a * b);
            c = f64::from_bits(c.to_bits() ^ random.below(3));
        }
        for rounding in ROUNDINGS {
            let (sum, product, fused) = (
                float64::add(a, c, rounding),
                float64::mul(a, b, rounding),
                float64::fma(a, b, c, rounding),
            );
            let (mut want_sum, mut want_product, mut want_fused) =
                (special(a + c), special(a * b), special(a.mul_add(b, c)));
            let [sa, sb, sc] = [a, b, c].map(f64::is_sign_negative);
            if a.is_finite() && c.is_finite() {
                let exact = Dyadic::of(a).add(&Dyadic::of(c));
                want_sum = F64.round(&exact, zero_sum_sign(sa, sc, rounding), rounding);
            }
            if a.is_finite() && b.is_finite() {
                let exact = Dyadic::of(a).mul(&Dyadic::of(b));
                want_product = F64.round(&exact, sa != sb, rounding);
                if c.is_finite() {
                    let zero = zero_sum_sign(sa != sb, sc, rounding);
                    want_fused = F64.round(&exact.add(&Dyadic::of(c)), zero, rounding);
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
    let mut random = Random(12);
    for _ in 0..6_000 {
        let (mut a, b) = (random.double(), random.double());
        if random.below(8) == 0 {
            a = f64::from(random.next() as u16) * b;
        }
        for rounding in ROUNDINGS {
            let mut want = special(a / b);
            if a.is_finite() && b.is_finite() && a != 0.0 && b != 0.0 {
                let (x, y) = (Dyadic::of(a).abs(), Dyadic::of(b).abs());
                want = F64.round_by((a < 0.0) != (b < 0.0), rounding, |candidate| {
                    candidate.mul(&y).compare(&x)
                });
            }
            assert_bits(
                float64::div(a, b, rounding),
                want,
                format_args!("{a:e} / {b:e} {rounding:?}"),
            );
            let mut want = special(1.0 / b);
            if b.is_finite() && b != 0.0 {
                let (x, y) = (Dyadic::new(1, 0), Dyadic::of(b).abs());
                want = F64.round_by(b < 0.0, rounding, |candidate| candidate.mul(&y).compare(&x));
            }
            assert_bits(
                float64::rcp(b, rounding),
                want,
                format_args!("1 / {b:e} {rounding:?}"),
            );
            for x in [a, a * a] {
                let mut want = special(x.sqrt());
                if x.is_finite() && x > 0.0 {
                    let exact = Dyadic::of(x);
                    want = F64.round_by(false, rounding, |candidate| {
                        candidate.mul(candidate).compare(&exact)
                    });
                }
                assert_bits(
                    float64::sqrt(x, rounding),
                    want,
                    format_args!("sqrt {x:e} {rounding:?}"),
                );
            }
        }
    }
}

#[test]
fn extrema_clamps_and_signs() {
    let nan = f64::from_bits(0x7ff0_0000_0000_0001);
    assert_eq!(float64::min(0.0, -0.0).to_bits(), 1 << 63);
    assert_eq!(float64::max(-0.0, 0.0).to_bits(), 0);
    assert_eq!(float64::min(nan, 2.0), 2.0);
    assert_eq!(float64::max(2.0, nan), 2.0);
    assert_eq!(float64::max(nan, nan).to_bits(), float64::NAN_BITS);
    assert_eq!(float64::min(-1.0, 3.0), -1.0);
    assert_eq!(float64::max(-1.0, -3.0), -1.0);
    assert_eq!(float64::saturate(nan).to_bits(), 0);
    assert_eq!(float64::saturate(-0.0).to_bits(), 0);
    assert_eq!(float64::saturate(7.0), 1.0);
    assert_eq!(float64::copysign(-1.0, 3.0), -3.0);
    assert_eq!(
        float64::add(nan, 1.0, Rounding::Nearest).to_bits(),
        float64::NAN_BITS
    );
    assert_eq!(float64::rcp(-0.0, Rounding::Up), f64::NEG_INFINITY);
}
