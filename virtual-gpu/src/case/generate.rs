//! Generated contents of buffers: a pure function of the argument's position, so that any program can make them again.

use super::number::append_integer;
use super::{BufferArg, Dtype, Init};

/// The initial bytes of argument `arg_index` (its position among all arguments, counted from 0), little-endian and
/// exactly as long as the buffer; none for a buffer that starts uninitialised.
///
/// Random element i comes from `splitmix64(0x5EED + (arg_index << 32) + i)`. `iota` is i itself: rounded to nearest
/// for the real types, cut to the width of the integer types.
pub fn contents(arg_index: usize, buffer: &BufferArg) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(buffer.bytes());
    match buffer.init() {
        Init::Uninit => return None,
        Init::Zeros => bytes.resize(buffer.bytes(), 0),
        Init::Iota => (0..buffer.elements()).for_each(|i| match buffer.dtype() {
            Dtype::F32 | Dtype::F64 | Dtype::Bf16 => {
                append_real(&mut bytes, buffer.dtype(), i as f64)
            }
            Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64 | Dtype::U16 | Dtype::U8 => {
                append_integer(&mut bytes, buffer.dtype(), i as i128);
            }
        }),
        Init::Random { range } => (0..buffer.elements()).for_each(|i| {
            let seed = 0x5EED_u64
                .wrapping_add((arg_index as u64) << 32)
                .wrapping_add(i as u64);
            let r = splitmix64(seed);
            match range {
                Some((lo, hi)) => {
                    append_integer(&mut bytes, buffer.dtype(), lo + i128::from(r) % (hi - lo))
                }
                // 24 bits over 2^23: exact in f32.
                None => append_real(
                    &mut bytes,
                    buffer.dtype(),
                    (r >> 40) as f64 / (1_u64 << 23) as f64 - 1.0,
                ),
            }
        }),
        Init::Values(values) => bytes.extend(values),
    }
    Some(bytes)
}

fn splitmix64(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 30;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// `value` is an integer or a multiple of 2^-23 in [-1, 1): never a NaN, and bf16 is rounded from its f32.
fn append_real(bytes: &mut Vec<u8>, dtype: Dtype, value: f64) {
    match dtype {
        Dtype::F64 => bytes.extend(value.to_le_bytes()),
        Dtype::Bf16 => {
            let bits = (value as f32).to_bits();
            let to_nearest_even = 0x7fff + ((bits >> 16) & 1);
            bytes.extend((((bits + to_nearest_even) >> 16) as u16).to_le_bytes());
        }
        _ => bytes.extend((value as f32).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Arg, Case};

    fn made(arg_index: usize, arg: &str) -> Option<Vec<u8>> {
        let text = format!(
            r#"{{"kernel": "k", "arch": "compute_80", "grid": [1, 1, 1], "block": [32, 1, 1], "dynamic_shared": 0,
                "cooperative": false, "args": [{arg}]}}"#
        );
        let case = Case::from_json(&text, "k.json").unwrap();
        let Arg::Buffer(buffer) = &case.args[0] else {
            panic!("not a buffer")
        };
        contents(arg_index, buffer)
    }

    fn buffer(dtype: &str, elements: usize, rest: &str) -> String {
        format!(r#"{{"buffer": "{dtype}", "elements": {elements}, "role": "in", {rest}}}"#)
    }

    fn words<const N: usize>(bytes: &[u8]) -> Vec<[u8; N]> {
        bytes
            .chunks_exact(N)
            .map(|c| c.try_into().unwrap())
            .collect()
    }

    // The expected numbers below come from a separate program in another language.
    #[test]
    fn random_reals() {
        let bits = |bytes: Option<Vec<u8>>| -> Vec<u32> {
            words::<4>(&bytes.unwrap())
                .into_iter()
                .map(u32::from_le_bytes)
                .collect()
        };
        let f32s = buffer("f32", 4, r#""init": "random""#);
        assert_eq!(
            bits(made(0, &f32s)),
            [0xbf6c1c06, 0x3f31b816, 0xbf0a70b0, 0x3f22f79e]
        );
        assert_eq!(bits(made(3, &f32s))[..2], [0xbf02cef6, 0x3f1a1162]);
        let f64s = made(1, &buffer("f64", 2, r#""init": "random""#)).unwrap();
        let f64s: Vec<u64> = words::<8>(&f64s)
            .into_iter()
            .map(u64::from_le_bytes)
            .collect();
        assert_eq!(f64s, [0x3fc0e0f200000000, 0xbfd8969400000000]);
        let bf16s = made(2, &buffer("bf16", 6, r#""init": "random""#)).unwrap();
        let bf16s: Vec<u16> = words::<2>(&bf16s)
            .into_iter()
            .map(u16::from_le_bytes)
            .collect();
        assert_eq!(bf16s, [0x3e76, 0xbd60, 0x3d97, 0x3f80, 0x3f2e, 0x3f00]);
    }

    #[test]
    fn random_integers() {
        let i32s = |rest: &str| -> Vec<i32> {
            let bytes = made(1, &buffer("i32", 8, &format!(r#""init": "random"{rest}"#))).unwrap();
            words::<4>(&bytes)
                .into_iter()
                .map(i32::from_le_bytes)
                .collect()
        };
        assert_eq!(i32s(""), [46, 58, 113, 110, 42, 107, 21, 35]);
        assert_eq!(i32s(r#", "lo": -5, "hi": 5"#), [-1, 1, 4, -5, -3, 0, 0, -2]);
        assert_eq!(
            made(4, &buffer("u8", 8, r#""init": "random""#)).unwrap(),
            [164, 183, 167, 113, 248, 239, 115, 47]
        );
        let wide = made(
            0,
            &buffer(
                "u64",
                2,
                r#""init": "random", "lo": 0, "hi": 18446744073709551615"#,
            ),
        )
        .unwrap();
        let wide: Vec<u64> = words::<8>(&wide)
            .into_iter()
            .map(u64::from_le_bytes)
            .collect();
        assert_eq!(wide, [0x09f1fd9d03f0a9b4, 0xd8dc0b8671525512]);
    }

    #[test]
    fn splitmix64_of_small_seeds() {
        assert_eq!(splitmix64(0), 0xe220a8397b1dcdaf);
        assert_eq!(splitmix64(1), 0x910a2dec89025cc1);
    }

    #[test]
    fn iota_counts_and_wraps() {
        assert_eq!(
            made(0, &buffer("i32", 3, r#""init": "iota""#)).unwrap(),
            [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]
        );
        let bytes = made(0, &buffer("u8", 258, r#""init": "iota""#)).unwrap();
        assert_eq!(bytes[254..], [254, 255, 0, 1]);
        // 257 lies between the bf16 numbers 256 and 258; 259 between 258 and 260: the even mantissas are 256 and 260.
        let bytes = made(0, &buffer("bf16", 260, r#""init": "iota""#)).unwrap();
        assert_eq!(
            bytes[2 * 256..],
            [0x80, 0x43, 0x80, 0x43, 0x81, 0x43, 0x82, 0x43]
        );
        let bytes = made(0, &buffer("f64", 3, r#""init": "iota""#)).unwrap();
        assert_eq!(
            words::<8>(&bytes)
                .into_iter()
                .map(f64::from_le_bytes)
                .collect::<Vec<_>>(),
            [0.0, 1.0, 2.0]
        );
    }

    #[test]
    fn zeros_values_and_nothing() {
        assert_eq!(
            made(7, &buffer("f64", 3, r#""init": "zeros""#)).unwrap(),
            [0; 24]
        );
        assert_eq!(
            made(
                7,
                &buffer("u16", 2, r#""init": "values", "values": [7, 258]"#)
            )
            .unwrap(),
            [7, 0, 2, 1]
        );
        assert_eq!(made(7, &buffer("u16", 2, r#""init": "uninit""#)), None);
        assert_eq!(made(7, &buffer("u16", 2, r#""init": "none""#)), None);
    }
}
