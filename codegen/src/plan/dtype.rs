use serde::{Deserialize, Serialize};
use std::fmt;

/// Element type of a buffer or of the KV cache.
///
/// A value is rounded to the type of the buffer it is stored in (round to nearest, ties to even); all
/// arithmetic between two stores is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
        })
    }
}

/// What a linear op rounds its (normalised) input to before it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputDtype {
    /// No rounding.
    F32,
    /// Round each element to bf16.
    BF16,
    /// Symmetric signed 8-bit per group of [`InputDtype::Q8_GROUP`] along K: scale = max|x| / 127 in f32,
    /// quantum = round to nearest (ties to even) of x / scale, within -127..=127.
    Q8,
}

impl InputDtype {
    /// Elements along K that share one scale of a [`InputDtype::Q8`] input.
    pub const Q8_GROUP: usize = 32;
}

impl fmt::Display for InputDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InputDtype::F32 => "f32",
            InputDtype::BF16 => "bf16",
            InputDtype::Q8 => "q8",
        })
    }
}
