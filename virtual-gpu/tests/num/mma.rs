//! `mma.sync` against big-integer models of the adders, plain loops and exact integers.

use crate::matrix::{Matrix, Operand, form, fragments, operand, result};
use crate::reference::{Dyadic, F16, F32, Model, Random};
use num_bigint::BigInt;
use virtual_gpu::num::{Arch, Mma, MmaMode, MmaShape, Rounding, ScalarType, fp8, half};

/// The forms with floating-point operands of up to 32 bits.
fn forms() -> Vec<Mma> {
    use ScalarType::{BF16, E4M3, E5M2, TF32};
    let mut forms = vec![
        form(16, 8, BF16, BF16, ScalarType::F32),
        form(16, 16, BF16, BF16, ScalarType::F32),
        form(16, 4, TF32, TF32, ScalarType::F32),
        form(16, 8, TF32, TF32, ScalarType::F32),
    ];
    for c in [ScalarType::F16, ScalarType::F32] {
        forms.push(form(16, 8, ScalarType::F16, ScalarType::F16, c));
        forms.push(form(16, 16, ScalarType::F16, ScalarType::F16, c));
        for (a, b) in [(E4M3, E4M3), (E4M3, E5M2), (E5M2, E4M3), (E5M2, E5M2)] {
            forms.push(form(16, 16, a, b, c));
            forms.push(form(16, 32, a, b, c));
        }
    }
    forms
}

/// Random elements: of all exponents, or of a few around one, with zeros, subnormals and cancelling pairs.
fn elements(
    random: &mut Random,
    ty: ScalarType,
    rows: usize,
    columns: usize,
    wide: bool,
) -> Matrix {
    let mut element = || {
        let word = random.next();
        let pick = random.below(16);
        let (bits, sign, one, fraction, largest) = match ty {
            ScalarType::F16 => (16, 0x8000, 0x3c00, 10, 0x7bff),
            ScalarType::BF16 => (16, 0x8000, 0x3f80, 7, 0x7f7f),
            ScalarType::E4M3 => (8, 0x80, 0x38, 3, 0x7e),
            ScalarType::E5M2 => (8, 0x80, 0x3c, 2, 0x7b),
            _ => (32, 0x8000_0000, 0x3f80_0000, 23, 0x7f7f_ffff),
        };
        let word = word % (1 << bits);
        let fraction_and_sign = word & (sign | ((1 << fraction) - 1));
        match pick {
            0 => word & sign,
            1 => fraction_and_sign,
            _ if wide && word & !sign <= largest => word,
            _ => one + fraction_and_sign - (((word >> 3) % 6) << fraction),
        }
    };
    (0..rows)
        .map(|_| (0..columns).map(|_| element()).collect())
        .collect()
}

/// One group of products added to `c`, with big integers.
fn add_group(terms: &[(Dyadic, i32)], fraction: i32) -> Dyadic {
    let largest = terms.iter().map(|(_, exponent)| *exponent).max().unwrap();
    let unit = largest - fraction;
    let mut sum = BigInt::ZERO;
    for (term, _) in terms {
        let shift = term.exponent - unit;
        // Division of big integers truncates, as the adder does.
        sum += if shift >= 0 {
            &term.mantissa << shift
        } else {
            &term.mantissa / (BigInt::from(1) << -shift)
        };
    }
    Dyadic::new(sum, unit)
}

fn round(mma: &Mma, short: bool, sum: &Dyadic) -> u64 {
    if mma.d == ScalarType::F16 {
        return F16.round(sum, false, Rounding::Nearest);
    }
    let model = if short {
        Model {
            fraction_bits: 13,
            ..F32
        }
    } else {
        F32
    };
    let bits = model.round(sum, false, Rounding::Zero);
    let negative = sum.is_negative();
    let overflow = sum.abs().compare(&F32.value(F32.infinity())).is_ge();
    let bits = if overflow {
        model.infinity() | u64::from(negative) << (8 + model.fraction_bits)
    } else {
        bits
    };
    let bits = bits << (23 - model.fraction_bits);
    if bits == 0x8000_0000 { 0 } else { bits }
}

/// One element of D, from the published description of the adders.
fn exact_element(mma: &Mma, arch: Arch, a: &[u64], b: &[u64], c: u64) -> u64 {
    let older = matches!(arch, Arch::Ampere | Arch::Ada);
    let eight_bit = mma.a.bytes() == 1;
    let fraction = match (older, eight_bit) {
        (true, true) => 13,
        (true, false) => 24,
        (false, _) => 25,
    };
    let split = older
        && matches!(
            (mma.a, mma.shape.k),
            (ScalarType::F16 | ScalarType::BF16, 16)
                | (ScalarType::TF32, 8)
                | (ScalarType::E4M3 | ScalarType::E5M2, 32)
        );
    let groups = if split { 2 } else { 1 };
    let length = a.len() / groups;
    let mut sum = c;
    for group in 0..groups {
        let range = group * length..(group + 1) * length;
        let mut terms = Vec::new();
        let (mut nan, mut infinities) = (false, [false; 2]);
        match operand(mma.c, sum) {
            Operand::Nan => nan = true,
            Operand::Infinite(negative) => infinities[usize::from(negative)] = true,
            Operand::Number(value, exponent) => terms.push((value, exponent)),
        }
        for (x, y) in a[range.clone()].iter().zip(&b[range]) {
            match (operand(mma.a, *x), operand(mma.b, *y)) {
                (Operand::Nan, _) | (_, Operand::Nan) => nan = true,
                (Operand::Infinite(s), Operand::Infinite(t)) => {
                    infinities[usize::from(s != t)] = true
                }
                (Operand::Infinite(s), Operand::Number(v, _))
                | (Operand::Number(v, _), Operand::Infinite(s)) => {
                    nan |= v.is_zero();
                    infinities[usize::from(s != v.is_negative())] = true;
                }
                (Operand::Number(v, e), Operand::Number(w, f)) => terms.push((v.mul(&w), e + f)),
            }
        }
        let (infinity, sign, canonical) = if mma.d == ScalarType::F16 {
            (0x7c00, 0x8000, 0x7fff)
        } else {
            (0x7f80_0000, 0x8000_0000, 0x7fff_ffff)
        };
        sum = match (nan, infinities) {
            (true, _) | (_, [true, true]) => canonical,
            (_, [true, false]) => infinity,
            (_, [false, true]) => infinity | sign,
            _ => round(mma, older && eight_bit, &add_group(&terms, fraction)),
        };
    }
    sum
}

fn run(mma: &Mma, mode: MmaMode, a: &Matrix, b: &Matrix, c: &Matrix) -> Matrix {
    let [fa, fb, fc] = fragments(mma, a, b, c);
    let mut fd = vec![[0xdead_beef; 32]; fc.len()];
    mma.run(mode, &fa, &fb, &fc, &mut fd);
    result(mma, &fd)
}

fn column(b: &Matrix, j: usize) -> Vec<u64> {
    b.iter().map(|row| row[j]).collect()
}

#[test]
fn exact_sums_have_the_bits_of_the_model() {
    let mut random = Random(13);
    for mma in forms() {
        for arch in [Arch::Ampere, Arch::Ada, Arch::Hopper, Arch::Blackwell] {
            for round in 0..4 {
                let k = mma.shape.k as usize;
                let a = elements(&mut random, mma.a, 16, k, round % 2 == 1);
                let b = elements(&mut random, mma.b, k, 8, round == 3);
                let c = elements(&mut random, mma.c, 16, 8, round > 1);
                let d = run(&mma, MmaMode::Exact(arch), &a, &b, &c);
                for i in 0..16 {
                    for j in 0..8 {
                        let want = exact_element(&mma, arch, &a[i], &column(&b, j), c[i][j]);
                        assert_eq!(
                            d[i][j], want,
                            "{mma:?} {arch:?} round {round} at {i},{j}: {:#x} {want:#x}",
                            d[i][j]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn addends_lose_what_lies_below_the_adder() {
    let mma = form(16, 16, ScalarType::BF16, ScalarType::BF16, ScalarType::F32);
    let one = 0x3f80;
    let c = vec![vec![u64::from(1f32.to_bits()); 8]; 16];
    // Sixteen products of 2^-25 beside 1: seen with 25 bits of fraction, not with 24.
    let tiny = u64::from(half::f32_to_bf16(2f32.powi(-25), Rounding::Nearest));
    let (a, b) = (vec![vec![tiny; 16]; 16], vec![vec![one; 8]; 16]);
    let element = |arch| run(&mma, MmaMode::Exact(arch), &a, &b, &c)[0][0];
    assert_eq!(element(Arch::Ampere), u64::from(1f32.to_bits()));
    assert_eq!(
        element(Arch::Hopper),
        u64::from((1f32 + 2f32.powi(-21)).to_bits())
    );
    // One product of 3 * 2^-24 beside 1: the adder keeps it, the result drops its last bit.
    let three = u64::from(half::f32_to_bf16(3.0 * 2f32.powi(-24), Rounding::Nearest));
    let mut a = vec![vec![0; 16]; 16];
    a[0][0] = three;
    let element = |arch| run(&mma, MmaMode::Exact(arch), &a, &b, &c)[0][0];
    assert_eq!(
        element(Arch::Ampere),
        u64::from((1f32 + 2f32.powi(-23)).to_bits())
    );
}

#[test]
fn infinities_nan_and_overflow_come_out_as_the_model_says() {
    let mut random = Random(14);
    for mma in forms() {
        let k = mma.shape.k as usize;
        let (infinity, nan) = match mma.a {
            ScalarType::F16 => (0x7c00, 0x7e00),
            ScalarType::BF16 => (0x7f80, 0x7fc0),
            ScalarType::E4M3 => (0x7e, 0x7f),
            ScalarType::E5M2 => (0x7c, 0x7e),
            _ => (0x7f80_0000, 0x7fc0_0000),
        };
        for arch in [Arch::Ampere, Arch::Hopper] {
            let mut a = elements(&mut random, mma.a, 16, k, true);
            let b = elements(&mut random, mma.b, k, 8, false);
            let mut c = elements(&mut random, mma.c, 16, 8, true);
            a[1][0] = infinity;
            a[2][k - 1] = nan;
            a[3] = vec![infinity - 1; k];
            a[4][0] = infinity | 1 << (8 * mma.a.bytes() - 1);
            a[4][1] = infinity;
            c[5] = vec![
                if mma.c == ScalarType::F16 {
                    0xfc00
                } else {
                    0xff80_0000
                };
                8
            ];
            c[6] = vec![
                if mma.c == ScalarType::F16 {
                    0x7bff
                } else {
                    0x7f7f_ffff
                };
                8
            ];
            let d = run(&mma, MmaMode::Exact(arch), &a, &b, &c);
            for i in 0..16 {
                for j in 0..8 {
                    let want = exact_element(&mma, arch, &a[i], &column(&b, j), c[i][j]);
                    assert_eq!(
                        d[i][j], want,
                        "{mma:?} {arch:?} at {i},{j}: {:#x} {want:#x}",
                        d[i][j]
                    );
                }
            }
        }
    }
}

/// An element as a double.
fn number(ty: ScalarType, bits: u64) -> f64 {
    f64::from(match ty {
        ScalarType::F16 => half::f16_to_f32(bits as u16),
        ScalarType::BF16 => half::bf16_to_f32(bits as u16),
        ScalarType::E4M3 => fp8::e4m3_to_f32(bits as u8),
        ScalarType::E5M2 => fp8::e5m2_to_f32(bits as u8),
        ScalarType::TF32 => f32::from_bits(bits as u32 & !0x1fff),
        _ => f32::from_bits(bits as u32),
    })
}

#[test]
fn fast_sums_are_near_the_exact_ones() {
    let mut random = Random(15);
    for mma in forms() {
        for _ in 0..4 {
            let k = mma.shape.k as usize;
            let a = elements(&mut random, mma.a, 16, k, false);
            let b = elements(&mut random, mma.b, k, 8, false);
            let c = elements(&mut random, mma.c, 16, 8, false);
            let d = run(&mma, MmaMode::Fast, &a, &b, &c);
            for i in 0..16 {
                for j in 0..8 {
                    let start = number(mma.c, c[i][j]);
                    let products: Vec<f64> = (0..k)
                        .map(|l| number(mma.a, a[i][l]) * number(mma.b, b[l][j]))
                        .collect();
                    let want = start + products.iter().sum::<f64>();
                    let size = start.abs() + products.iter().map(|p| p.abs()).sum::<f64>();
                    let unit = if mma.d == ScalarType::F16 {
                        2f64.powi(-10)
                    } else {
                        2f64.powi(-20)
                    };
                    let got = number(mma.d, d[i][j]);
                    assert!(
                        (got - want).abs() <= unit * size,
                        "{mma:?} at {i},{j}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn fast_results_are_canonical_and_ordered() {
    let mma = form(16, 16, ScalarType::BF16, ScalarType::BF16, ScalarType::F32);
    let mut a = vec![vec![0x3f80; 16]; 16];
    let b = vec![vec![0x3f80; 8]; 16];
    let mut c = vec![vec![0u64; 8]; 16];
    a[0][3] = 0xffc1;
    c[1][1] = 0x7fa0_0001;
    // 2^24 + 1 + 1 ... stays where it is when ones are added one by one.
    c[2] = vec![u64::from(16_777_216f32.to_bits()); 8];
    let d = run(&mma, MmaMode::Fast, &a, &b, &c);
    assert_eq!(d[0], vec![0x7fff_ffff; 8]);
    assert_eq!(d[1][1], 0x7fff_ffff);
    assert_eq!(d[1][0], u64::from(16f32.to_bits()));
    assert_eq!(d[2], c[2]);
}

#[test]
fn integers_are_exact_and_wrap_or_clamp() {
    use ScalarType::{S8, S32, U8};
    let mut random = Random(16);
    for (a_type, b_type) in [(S8, S8), (S8, U8), (U8, S8), (U8, U8)] {
        for k in [16usize, 32] {
            for satfinite in [false, true] {
                let mma = Mma {
                    satfinite,
                    ..form(16, k as u32, a_type, b_type, S32)
                };
                assert_eq!(mma.check(), Ok(()));
                let mut bytes = |rows: usize, columns: usize, extreme: bool| -> Matrix {
                    let mut byte = || {
                        if extreme {
                            [0x80, 0xff, 0x7f][random.below(3) as usize]
                        } else {
                            random.next() % 256
                        }
                    };
                    (0..rows)
                        .map(|_| (0..columns).map(|_| byte()).collect())
                        .collect()
                };
                for extreme in [false, true] {
                    let (a, b) = (bytes(16, k, extreme), bytes(k, 8, extreme));
                    let edges = [0, 0x7fff_ff00, 0x8000_0010, 0xffff_ffff];
                    let c: Matrix = (0..16)
                        .map(|i| (0..8).map(|j| edges[(i + j) % 4]).collect())
                        .collect();
                    let d = run(&mma, MmaMode::Fast, &a, &b, &c);
                    assert_eq!(d, run(&mma, MmaMode::Exact(Arch::Ampere), &a, &b, &c));
                    let value = |ty, byte: u64| {
                        if ty == S8 {
                            i64::from(byte as i8)
                        } else {
                            byte as i64
                        }
                    };
                    for i in 0..16 {
                        for j in 0..8 {
                            let mut sum = i64::from(c[i][j] as i32);
                            for l in 0..k {
                                sum += value(a_type, a[i][l]) * value(b_type, b[l][j]);
                            }
                            let limits = (i64::from(i32::MIN), i64::from(i32::MAX));
                            let want = if satfinite {
                                sum.clamp(limits.0, limits.1)
                            } else {
                                sum
                            };
                            assert_eq!(d[i][j], u64::from(want as u32), "{mma:?} at {i},{j}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn doubles_are_chains_of_fused_operations() {
    use ScalarType::F64;
    let mut random = Random(17);
    for (m, k) in [(8usize, 4usize), (16, 4), (16, 8), (16, 16)] {
        let mma = form(m as u32, k as u32, F64, F64, F64);
        let mut doubles = |rows: usize, columns: usize| -> Matrix {
            (0..rows)
                .map(|_| (0..columns).map(|_| random.double().to_bits()).collect())
                .collect()
        };
        let (a, b, c) = (doubles(m, k), doubles(k, 8), doubles(m, 8));
        let d = run(&mma, MmaMode::Fast, &a, &b, &c);
        for i in 0..m {
            for j in 0..8 {
                let mut sum = f64::from_bits(c[i][j]);
                for l in 0..k {
                    sum = f64::from_bits(a[i][l]).mul_add(f64::from_bits(b[l][j]), sum);
                }
                let want = if sum.is_nan() {
                    0xfff8_0000_0000_0000
                } else {
                    sum.to_bits()
                };
                assert_eq!(d[i][j], want);
            }
        }
    }
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    use ScalarType::{BF16, E4M3, F64, S8, S32, TF32, U32};
    let base = form(16, 16, BF16, BF16, ScalarType::F32);
    let bad = [
        Mma {
            b: ScalarType::F16,
            ..base
        },
        Mma {
            c: ScalarType::F16,
            d: ScalarType::F16,
            ..base
        },
        Mma {
            d: ScalarType::F16,
            ..base
        },
        Mma {
            shape: MmaShape { m: 16, n: 8, k: 32 },
            ..base
        },
        Mma {
            shape: MmaShape {
                m: 16,
                n: 16,
                k: 16,
            },
            ..base
        },
        Mma {
            satfinite: true,
            ..base
        },
        Mma {
            a: TF32,
            b: TF32,
            ..base
        },
        Mma { a: E4M3, ..base },
        Mma {
            a: S8,
            b: S8,
            ..base
        },
        Mma {
            a: U32,
            b: U32,
            c: S32,
            d: S32,
            ..base
        },
        Mma {
            a: F64,
            b: F64,
            c: F64,
            d: F64,
            shape: MmaShape { m: 8, n: 8, k: 8 },
            ..base
        },
    ];
    for mma in bad {
        assert!(
            mma.check()
                .expect_err(&format!("{mma:?}"))
                .starts_with("mma")
        );
    }
}
