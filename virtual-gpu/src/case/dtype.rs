//! Element types of case files.

use serde::{Deserialize, Serialize};

/// The type of a buffer's elements or of a scalar. bf16 values are given as 16-bit patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The names are the document's own.
pub enum Dtype {
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
    U16,
    U8,
    Bf16,
}

impl Dtype {
    /// Bytes of one element, which is also its alignment.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The name in case files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bf16 => "bf16",
        }
    }

    /// Smallest and largest integer that fits; none for f32, f64 and for bf16, whose random contents are reals.
    pub(super) fn integer_range(self) -> Option<(i128, i128)> {
        match self {
            Self::I32 => Some((i32::MIN.into(), i32::MAX.into())),
            Self::U32 => Some((0, u32::MAX.into())),
            Self::I64 => Some((i64::MIN.into(), i64::MAX.into())),
            Self::U64 => Some((0, u64::MAX.into())),
            Self::U16 => Some((0, u16::MAX.into())),
            Self::U8 => Some((0, u8::MAX.into())),
            Self::F32 | Self::F64 | Self::Bf16 => None,
        }
    }
}
