//! Buffer contents: generated as case files say, and read as numbers.

/// Element type of a buffer or scalar, by the names of case files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    I32,
    U32,
    U64,
    U16,
    U8,
    Bf16,
}

impl Dtype {
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::I32 => "i32",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::U16 => "u16",
            Dtype::U8 => "u8",
            Dtype::Bf16 => "bf16",
        }
    }

    pub const fn bytes(self) -> usize {
        match self {
            Dtype::U64 => 8,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::U16 | Dtype::Bf16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// The number in one little-endian element.
    pub fn decode(self, element: &[u8]) -> f64 {
        let mut word = [0; 8];
        word[..element.len()].copy_from_slice(element);
        let bits = u64::from_le_bytes(word);
        match self {
            Dtype::F32 => f32::from_bits(bits as u32).into(),
            Dtype::Bf16 => f32::from_bits((bits as u32) << 16).into(),
            Dtype::I32 => (bits as u32 as i32).into(),
            Dtype::U32 | Dtype::U64 | Dtype::U16 | Dtype::U8 => bits as f64,
        }
    }

    /// The element nearest to a number.
    pub fn encode(self, number: f64) -> Vec<u8> {
        match self {
            Dtype::F32 => (number as f32).to_le_bytes().to_vec(),
            Dtype::Bf16 => round_to_bf16(number as f32).to_le_bytes().to_vec(),
            Dtype::I32 => (number as i32).to_le_bytes().to_vec(),
            Dtype::U32 => (number as u32).to_le_bytes().to_vec(),
            Dtype::U64 => (number as u64).to_le_bytes().to_vec(),
            Dtype::U16 => (number as u16).to_le_bytes().to_vec(),
            Dtype::U8 => vec![number as u8],
        }
    }
}

/// How a buffer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Floats in [-1, 1).
    Random,
    /// Integers in lo..hi.
    Range(i64, i64),
    Zeros,
    Iota,
    /// Allocated, never written by the host.
    Uninit,
}

/// The elements of a buffer.
pub struct Values {
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

impl Values {
    /// What a case file with this `init` puts into argument `argument`; zeros where it leaves memory unwritten.
    pub fn generate(argument: usize, dtype: Dtype, elements: usize, init: Init) -> Self {
        let random = |i: usize| splitmix64(0x5EED + ((argument as u64) << 32) + i as u64);
        let element = |i: usize| match init {
            Init::Random => dtype.encode((random(i) >> 40) as f64 / 8388608.0 - 1.0),
            Init::Range(lo, hi) => {
                let integer = lo + (random(i) % (hi - lo) as u64) as i64;
                integer.to_le_bytes()[..dtype.bytes()].to_vec()
            }
            Init::Iota => dtype.encode(i as f64),
            Init::Zeros | Init::Uninit => vec![0; dtype.bytes()],
        };
        Values {
            dtype,
            bytes: (0..elements).flat_map(element).collect(),
        }
    }

    pub fn numbers(&self) -> Vec<f64> {
        let elements = self.bytes.chunks_exact(self.dtype.bytes());
        elements.map(|element| self.dtype.decode(element)).collect()
    }

    pub fn f32s(&self) -> Vec<f32> {
        self.numbers()
            .into_iter()
            .map(|number| number as f32)
            .collect()
    }

    pub fn u32s(&self) -> Vec<u32> {
        let words = self.bytes.chunks_exact(4);
        words
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect()
    }

    pub fn u16s(&self) -> Vec<u16> {
        let words = self.bytes.chunks_exact(2);
        words
            .map(|word| u16::from_le_bytes([word[0], word[1]]))
            .collect()
    }
}

fn splitmix64(state: u64) -> u64 {
    let mut x = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// bf16 bits of a finite number, rounded to nearest even.
pub fn round_to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
}

/// Number of a finite f16 bit pattern.
pub fn f16_number(bits: u16) -> f64 {
    small_float(bits.into(), 5, 10)
}

/// Number of an fp8 e4m3 bit pattern that is not NaN.
pub fn e4m3_number(bits: u8) -> f64 {
    small_float(bits.into(), 4, 3)
}

/// f32 rounded to the 10 fraction bits of tf32, ties away from zero.
pub fn round_to_tf32(number: f32) -> f64 {
    f32::from_bits((number.to_bits() + 0x1000) & !0x1FFF).into()
}

fn small_float(bits: u32, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let sign = if bits >> (exponent_bits + fraction_bits) & 1 == 1 {
        -1.0
    } else {
        1.0
    };
    let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    match exponent {
        0 => sign * fraction * 2f64.powi(1 - bias),
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - bias),
    }
}

/// Little-endian bytes of words.
pub fn bytes_of<const N: usize>(elements: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    elements.into_iter().flatten().collect()
}

#[test]
fn formats_decode_their_landmarks() {
    assert_eq!(f16_number(0x3C00), 1.0);
    assert_eq!(f16_number(0xC000), -2.0);
    assert_eq!(f16_number(0x0001), 2f64.powi(-24));
    assert_eq!(e4m3_number(0x7E), 448.0);
    assert_eq!(e4m3_number(0xB8), -1.0);
    assert_eq!(e4m3_number(0x01), 2f64.powi(-9));
    assert_eq!(round_to_tf32(1.0 + 1.0 / 2048.0), 1.0 + 1.0 / 1024.0);
    assert_eq!(round_to_bf16(1.0 + 1.0 / 256.0), 0x3F80);
}
