//! What a buffer must hold after a launch.

use serde::Deserialize;
use serde_json::Number;
use virtual_gpu::num::half::{bf16_to_f32, f16_to_f32};

/// One buffer's contents.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Which of the launch's arguments it is.
    pub arg: usize,
    #[serde(rename = "type")]
    kind: Kind,
    absolute: f64,
    relative: f64,
    values: Vec<Number>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    F64,
    F32,
    /// Given as bits, like bf16.
    F16,
    Bf16,
    U64,
    I64,
    U32,
    I32,
    U16,
    I16,
    U8,
    I8,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::U64 | Self::I64 => 8,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::U16 | Self::I16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    /// Whether elements are compared as numbers with a tolerance rather than by their bits.
    fn is_real(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// The element's number; one of 64 bits keeps its high part only.
    fn number(self, bits: u64) -> f64 {
        match self {
            Self::F64 => f64::from_bits(bits),
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F16 => f64::from(f16_to_f32(bits as u16)),
            Self::Bf16 => f64::from(bf16_to_f32(bits as u16)),
            Self::U64 | Self::U32 | Self::U16 | Self::U8 => bits as f64,
            Self::I64 => bits as i64 as f64,
            Self::I32 => f64::from(bits as i32),
            Self::I16 => f64::from(bits as i16),
            Self::I8 => f64::from(bits as i8),
        }
    }

    /// The bits by which a value of the file is meant.
    fn bits(self, value: &Number) -> Option<u64> {
        let integer = || {
            let signed = value.as_i64().map(|value| value as u64);
            signed.or_else(|| value.as_u64())
        };
        let all = u64::MAX >> (64 - 8 * self.bytes());
        match self {
            Self::F64 => value.as_f64().map(f64::to_bits),
            Self::F32 => value
                .as_f64()
                .map(|value| u64::from((value as f32).to_bits())),
            _ => integer().map(|bits| bits & all),
        }
    }
}

impl Expected {
    /// The buffers of an `.expected.json`.
    pub fn all_from_json(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Compares a buffer's contents; the error says how many elements differ and which is the first.
    pub fn check(&self, got: &[u8]) -> Result<(), String> {
        let size = self.kind.bytes();
        if got.len() != size * self.values.len() {
            return Err(format!(
                "{} bytes instead of {}",
                got.len(),
                size * self.values.len()
            ));
        }
        let mut wrong = Vec::new();
        for (index, (bytes, value)) in got.chunks_exact(size).zip(&self.values).enumerate() {
            let mut element = [0; 8];
            element[..size].copy_from_slice(bytes);
            let got = u64::from_le_bytes(element);
            let want = self
                .kind
                .bits(value)
                .ok_or_else(|| format!("{value} is no element"))?;
            let exact = self.absolute == 0.0 && self.relative == 0.0;
            let right = if exact && !self.kind.is_real() {
                got == want
            } else {
                let (got, want) = (self.kind.number(got), self.kind.number(want));
                // A NaN is never near.
                (got - want).abs() <= self.absolute + self.relative * want.abs()
            };
            if !right {
                wrong.push((index, self.kind.number(got), self.kind.number(want)));
            }
        }
        match wrong.first() {
            None => Ok(()),
            Some((index, got, want)) => Err(format!(
                "{} of {} elements differ; the first, {index}, is {got} instead of {want}",
                wrong.len(),
                self.values.len()
            )),
        }
    }
}
