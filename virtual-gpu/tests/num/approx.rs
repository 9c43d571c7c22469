//! `.approx` instructions: one unit in the last place against the host's doubles, and the tables of special operands.

use crate::reference::Random;
use virtual_gpu::num::approx;

type Function = fn(f32) -> f32;

/// Units in the last place between `got` and `want`, the exact result within double precision.
fn ulps(got: f32, want: f64) -> f64 {
    let nearest = want as f32;
    if got == nearest || (got.is_nan() && nearest.is_nan()) {
        return 0.0;
    }
    let spacing = f64::from(nearest.abs().next_up()) - f64::from(nearest.abs());
    ((f64::from(got) - want) / spacing).abs()
}

fn check(
    name: &str,
    f: Function,
    exact: fn(f64) -> f64,
    operands: impl Iterator<Item = f32>,
    bound: f64,
) {
    let mut worst = (0.0, 0.0);
    for x in operands {
        let error = ulps(f(x), exact(x.into()));
        assert!(
            error <= bound,
            "{name}({x:e}) = {:e}, exact {:e}: {error} ulp",
            f(x),
            exact(x.into())
        );
        if error > worst.0 {
            worst = (error, x);
        }
    }
    assert!(worst.0 < bound);
}

/// Singles of all signs and exponents, in steps that meet different fractions.
fn all() -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(20_011).map(f32::from_bits)
}

fn within(low: f32, high: f32) -> impl Iterator<Item = f32> {
    let mut random = Random(10);
    (0..100_000)
        .map(move |_| low + (high - low) * (random.below(1 << 24) as f32 / (1 << 24) as f32))
}

#[test]
fn results_are_within_one_unit() {
    check("ex2", approx::ex2, f64::exp2, all(), 0.51);
    check("ex2", approx::ex2, f64::exp2, within(-150.0, 129.0), 0.51);
    check("ex2", approx::ex2, f64::exp2, within(-1.0, 1.0), 0.51);
    check("lg2", approx::lg2, f64::log2, all(), 0.51);
    check("lg2", approx::lg2, f64::log2, within(0.5, 2.0), 0.51);
    check("tanh", approx::tanh, f64::tanh, all(), 0.51);
    check("tanh", approx::tanh, f64::tanh, within(-10.0, 10.0), 0.51);
    check("sin", approx::sin, f64::sin, all(), 0.51);
    check("sin", approx::sin, f64::sin, within(-7.0, 7.0), 0.51);
    check("cos", approx::cos, f64::cos, all(), 0.51);
    check("cos", approx::cos, f64::cos, within(-1e5, 1e5), 0.51);
    check("rcp", approx::rcp, f64::recip, all(), 0.5000001);
    check("sqrt", approx::sqrt, f64::sqrt, all(), 0.5000001);
    check("rsqrt", approx::rsqrt, |x| 1.0 / x.sqrt(), all(), 0.5000001);
}

#[test]
fn special_operands_give_what_the_tables_say() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let subnormal = f32::from_bits(1);
    let table: [(Function, f32, f32); 34] = [
        (approx::ex2, -inf, 0.0),
        (approx::ex2, -0.0, 1.0),
        (approx::ex2, 0.0, 1.0),
        (approx::ex2, subnormal, 1.0),
        (approx::ex2, inf, inf),
        (approx::ex2, 1e30, inf),
        (approx::ex2, -1e30, 0.0),
        (approx::lg2, -inf, nan),
        (approx::lg2, -1.0, nan),
        (approx::lg2, -0.0, -inf),
        (approx::lg2, 0.0, -inf),
        (approx::lg2, subnormal, -149.0),
        (approx::lg2, 1.0, 0.0),
        (approx::lg2, inf, inf),
        (approx::sin, -inf, nan),
        (approx::sin, -0.0, -0.0),
        (approx::sin, 0.0, 0.0),
        (approx::sin, inf, nan),
        (approx::cos, -inf, nan),
        (approx::cos, -0.0, 1.0),
        (approx::cos, inf, nan),
        (approx::tanh, -inf, -1.0),
        (approx::tanh, -0.0, -0.0),
        (approx::tanh, subnormal, subnormal),
        (approx::tanh, inf, 1.0),
        (approx::rcp, -inf, -0.0),
        (approx::rcp, -0.0, -inf),
        (approx::rcp, inf, 0.0),
        (approx::sqrt, -0.0, -0.0),
        (approx::sqrt, -1.0, nan),
        (approx::rsqrt, -inf, nan),
        (approx::rsqrt, -0.0, -inf),
        (approx::rsqrt, 0.0, inf),
        (approx::rsqrt, inf, 0.0),
    ];
    for (row, (f, x, want)) in table.into_iter().enumerate() {
        let want = if want.is_nan() {
            0x7fff_ffff
        } else {
            want.to_bits()
        };
        assert_eq!(f(x).to_bits(), want, "row {row}: {x:e}");
    }
    for f in [
        approx::ex2,
        approx::lg2,
        approx::sin,
        approx::cos,
        approx::tanh,
        approx::rcp,
        approx::sqrt,
        approx::rsqrt,
    ] {
        assert_eq!(f(f32::from_bits(0xffc0_0001)).to_bits(), 0x7fff_ffff);
    }
}

#[test]
fn division_loses_reciprocals_of_huge_divisors() {
    let huge = 2f32.powi(127);
    assert_eq!(
        approx::div_approx(-3.0, huge).to_bits(),
        (-0.0f32).to_bits()
    );
    assert_eq!(approx::div_approx(3.0, f32::MAX).to_bits(), 0);
    assert!(approx::div_approx(f32::INFINITY, huge).is_nan());
    assert_eq!(
        approx::div_approx(f32::INFINITY, huge).to_bits(),
        0x7fff_ffff
    );
    assert_eq!(
        approx::div_approx(3.0, 2f32.powi(126)),
        3.0 / 2f32.powi(126)
    );
    assert_eq!(approx::div_approx(3.0, f32::INFINITY).to_bits(), 0);
    assert_eq!(approx::div_approx(1.0, 3.0), 1.0 / 3.0);
    assert_eq!(approx::div_full(3.0, huge), 3.0 / huge);
}

#[test]
fn perturbation_moves_numbers_and_leaves_special_values() {
    assert_eq!(approx::perturb(1.0, 1), 1.0f32.next_up());
    assert_eq!(approx::perturb(-1.0, 1), (-1.0f32).next_down());
    assert_eq!(approx::perturb(1.0, -2), 1.0f32.next_down().next_down());
    assert_eq!(approx::perturb(f32::MAX, 5), f32::MAX);
    assert_eq!(approx::perturb(f32::from_bits(3), -7), f32::from_bits(1));
    for x in [0.0, -0.0, f32::INFINITY, f32::NAN] {
        assert_eq!(approx::perturb(x, 3).to_bits(), x.to_bits());
    }
}
