//! Fundamental types and rounding modes of PTX.

/// A type suffix of a PTX instruction (PTX ISA, "Fundamental Types" and "Alternate Floating-Point Data Formats").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)] // The names are PTX's own.
pub enum ScalarType {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    B8,
    B16,
    B32,
    B64,
    B128,
    F16,
    F16x2,
    BF16,
    BF16x2,
    TF32,
    F32,
    F64,
    E4M3,
    E5M2,
    E4M3x2,
    E5M2x2,
    Pred,
}

impl ScalarType {
    /// The type that a suffix without its dot names: `u32`, `bf16x2`, `e4m3`, ...
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        use ScalarType::*;
        Some(match suffix {
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "b128" => B128,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => BF16,
            "bf16x2" => BF16x2,
            "tf32" => TF32,
            "f32" => F32,
            "f64" => F64,
            "e4m3" => E4M3,
            "e5m2" => E5M2,
            "e4m3x2" => E4M3x2,
            "e5m2x2" => E5M2x2,
            "pred" => Pred,
            _ => return None,
        })
    }

    /// Size in bytes; a predicate has none in memory and counts 0.
    pub const fn bytes(self) -> u32 {
        use ScalarType::*;
        match self {
            Pred => 0,
            U8 | S8 | B8 | E4M3 | E5M2 => 1,
            U16 | S16 | B16 | F16 | BF16 | E4M3x2 | E5M2x2 => 2,
            U32 | S32 | B32 | F32 | TF32 | F16x2 | BF16x2 => 4,
            U64 | S64 | B64 | F64 => 8,
            B128 => 16,
        }
    }

    /// Whether values are two's complement integers.
    pub const fn is_signed(self) -> bool {
        use ScalarType::*;
        matches!(self, S8 | S16 | S32 | S64)
    }

    /// Whether values are floating point, packed ones included.
    pub const fn is_float(self) -> bool {
        use ScalarType::*;
        matches!(
            self,
            F16 | F16x2 | BF16 | BF16x2 | TF32 | F32 | F64 | E4M3 | E5M2 | E4M3x2 | E5M2x2
        )
    }
}

/// Rounding of a floating-point result (`.rn`, `.rz`, `.rm`, `.rp`) or to an integral value (`.rni`, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// To nearest, ties to even: `.rn`, `.rni`.
    #[default]
    Nearest,
    /// Towards zero: `.rz`, `.rzi`.
    Zero,
    /// Towards negative infinity: `.rm`, `.rmi`.
    Down,
    /// Towards positive infinity: `.rp`, `.rpi`.
    Up,
}
