//! `.e4m3`, `.e5m2` and `.tf32` against enumeration of all their values.

use virtual_gpu::num::fp8::{self, Tf32Rounding};
use virtual_gpu::num::{Rounding, half};

/// The value of non-negative bits, from the definition of the format.
fn value(bits: u8, fraction: i32, bias: i32) -> f64 {
    let field = i32::from(bits >> fraction);
    let m = f64::from(bits % (1 << fraction)) / f64::from(1 << fraction);
    if field == 0 {
        m * 2f64.powi(1 - bias)
    } else {
        (1.0 + m) * 2f64.powi(field - bias)
    }
}

struct Format {
    fraction: i32,
    bias: i32,
    largest: u8,
    encode: fn(f32, bool) -> u8,
    encode_half: fn(u16, bool) -> u8,
    decode: fn(u8) -> f32,
    decode_half: fn(u8) -> u16,
}

const FORMATS: [Format; 2] = [
    Format {
        fraction: 3,
        bias: 7,
        largest: 0x7e,
        encode: fp8::f32_to_e4m3,
        encode_half: fp8::f16_to_e4m3,
        decode: fp8::e4m3_to_f32,
        decode_half: fp8::e4m3_to_f16,
    },
    Format {
        fraction: 2,
        bias: 15,
        largest: 0x7b,
        encode: fp8::f32_to_e5m2,
        encode_half: fp8::f16_to_e5m2,
        decode: fp8::e5m2_to_f32,
        decode_half: fp8::e5m2_to_f16,
    },
];

#[test]
fn decoding_gives_every_value() {
    for format in &FORMATS {
        for bits in 0..=format.largest {
            let want = value(bits, format.fraction, format.bias) as f32;
            assert_eq!((format.decode)(bits), want);
            assert_eq!((format.decode)(bits | 0x80).to_bits(), (-want).to_bits());
            assert_eq!(half::f16_to_f32((format.decode_half)(bits)), want);
            assert_eq!(
                half::f16_to_f32((format.decode_half)(bits | 0x80)).to_bits(),
                (-want).to_bits()
            );
        }
    }
    for nan in [0x7f, 0xff] {
        assert_eq!(fp8::e4m3_to_f16(nan), 0x7fff);
        assert_eq!(fp8::e4m3_to_f32(nan).to_bits(), 0x7fff_ffff);
        assert_eq!(fp8::e5m2_to_f16(nan), 0x7fff);
    }
    assert_eq!(fp8::e5m2_to_f32(0x7c), f32::INFINITY);
    assert_eq!(fp8::e5m2_to_f16(0xfc), 0xfc00);
}

/// The nearest of all finite values, ties to the even code, what is too large to the largest.
fn nearest(format: &Format, x: f64) -> u8 {
    if x > value(format.largest, format.fraction, format.bias) {
        return format.largest;
    }
    (0..=format.largest)
        .min_by(|&a, &b| {
            let distance = |bits| (value(bits, format.fraction, format.bias) - x).abs();
            distance(a)
                .total_cmp(&distance(b))
                .then((a % 2).cmp(&(b % 2)))
        })
        .unwrap()
}

#[test]
fn encoding_picks_the_nearest_of_all_values() {
    for format in &FORMATS {
        for bits in 0..=u16::MAX {
            // All halves, and all brain floats, which reach beyond both ends of the formats.
            let (h, b) = (half::f16_to_f32(bits), half::bf16_to_f32(bits));
            for x in [h, b] {
                let negative = x.is_sign_negative();
                let want = match x.is_nan() {
                    true => 0x7f,
                    false if x.is_infinite() => format.largest,
                    false => nearest(format, f64::from(x).abs()),
                };
                let signed = if negative && !x.is_nan() {
                    want | 0x80
                } else {
                    want
                };
                let relu = if negative && !x.is_nan() { 0 } else { want };
                assert_eq!((format.encode)(x, false), signed, "{x:e}");
                assert_eq!((format.encode)(x, true), relu, "{x:e}");
            }
            assert_eq!((format.encode_half)(bits, false), (format.encode)(h, false));
            assert_eq!((format.encode_half)(bits, true), (format.encode)(h, true));
        }
        for code in 0..format.largest {
            // Just beside the middle of two neighbours, where only the last bit of a single decides.
            let middle = (value(code, format.fraction, format.bias)
                + value(code + 1, format.fraction, format.bias))
                / 2.0;
            let middle = middle as f32;
            assert_eq!((format.encode)(middle.next_down(), false), code);
            assert_eq!((format.encode)(middle, false), code + code % 2);
            assert_eq!((format.encode)(middle.next_up(), false), code + 1);
        }
    }
}

#[test]
fn tf32_keeps_ten_bits_of_fraction() {
    let narrow = |bits: u32, rounding| {
        fp8::f32_to_tf32(f32::from_bits(bits), rounding, false, false).to_bits()
    };
    for kept in (0..0x7f80_0000u32).step_by(0x2000 * 97) {
        for sign in [0, 0x8000_0000] {
            let (low, high) = (kept | sign, (kept + 0x2000) | sign);
            let even = if (kept >> 13) % 2 == 0 { low } else { high };
            for (rest, away, nearest) in [
                (0, low, low),
                (1, low, low),
                (0xfff, low, low),
                (0x1000, high, even),
                (0x1001, high, high),
            ] {
                assert_eq!(narrow(low | rest, Tf32Rounding::NearestAway), away);
                assert_eq!(narrow(low | rest, Tf32Rounding::Nearest), nearest);
                assert_eq!(narrow(low | rest, Tf32Rounding::Zero), low);
            }
        }
    }
    let max = f32::MAX;
    assert_eq!(
        fp8::f32_to_tf32(max, Tf32Rounding::NearestAway, false, false),
        f32::INFINITY
    );
    let largest = f32::from_bits(0x7f7f_e000);
    for rounding in [
        Tf32Rounding::NearestAway,
        Tf32Rounding::Nearest,
        Tf32Rounding::Zero,
    ] {
        assert_eq!(fp8::f32_to_tf32(max, rounding, false, true), largest);
        assert_eq!(
            fp8::f32_to_tf32(f32::NEG_INFINITY, rounding, false, true),
            -largest
        );
        assert_eq!(fp8::f32_to_tf32(-1.5, rounding, true, false).to_bits(), 0);
        assert_eq!(
            fp8::f32_to_tf32(f32::from_bits(0xff80_0001), rounding, true, true).to_bits(),
            0x7fff_ffff
        );
    }
    // All halves are tf32 numbers.
    let x = half::f16_to_f32(half::f32_to_f16(0.3, Rounding::Nearest));
    assert_eq!(fp8::f32_to_tf32(x, Tf32Rounding::Zero, false, false), x);
}
