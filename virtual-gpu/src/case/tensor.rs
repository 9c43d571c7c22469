//! Tensor maps as arguments.

use serde::Deserialize;

use super::{Arg, Dtype};
use crate::num::ScalarType;
use crate::tensor_map::{BYTES, Fill, Swizzle, TensorMap};

/// A tensor map of one of the buffers, by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMapArg {
    of: usize,
    map: TensorMap,
}

impl TensorMapArg {
    /// Whether all maps among the arguments are of buffers; else the argument that is not, and why.
    pub(super) fn check_all(args: &[Arg]) -> Result<(), (usize, String)> {
        let buffer = |index: usize| matches!(args.get(index), Some(Arg::Buffer(_)));
        let of = |arg: &Arg| match arg {
            Arg::TensorMap(map) => Some(map.of),
            Arg::Buffer(_) | Arg::Scalar(_) => None,
        };
        let found = args
            .iter()
            .position(|arg| of(arg).is_some_and(|of| !buffer(of)));
        found.map_or(Ok(()), |index| {
            Err((index, "`of` is the place of no buffer".into()))
        })
    }

    /// The argument whose buffer holds the tensor.
    pub fn of(&self) -> usize {
        self.of
    }

    /// The bytes of the map, for a tensor at `address`, which is one of an allocation.
    pub fn bytes(&self, address: u64) -> [u8; BYTES] {
        let map = TensorMap {
            address,
            ..self.map.clone()
        };
        // All but the address was checked when the case was read, and allocations are aligned.
        map.encode().unwrap_or([0; BYTES])
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTensorMap {
    tensor_map: Dtype,
    of: usize,
    sizes: Vec<u64>,
    strides: Vec<u64>,
    #[serde(rename = "box")]
    box_sizes: Vec<u32>,
    element_strides: Option<Vec<u32>>,
    #[serde(default)]
    swizzle: u32,
    #[serde(default)]
    nan: bool,
}

impl RawTensorMap {
    pub(super) fn checked(self) -> Result<TensorMapArg, String> {
        let map = TensorMap {
            element: match self.tensor_map {
                Dtype::F32 => ScalarType::F32,
                Dtype::F64 => ScalarType::F64,
                Dtype::I32 => ScalarType::S32,
                Dtype::U32 => ScalarType::U32,
                Dtype::I64 => ScalarType::S64,
                Dtype::U64 => ScalarType::U64,
                Dtype::U16 => ScalarType::U16,
                Dtype::U8 => ScalarType::U8,
                Dtype::Bf16 => ScalarType::BF16,
            },
            address: 0,
            element_strides: self.element_strides.unwrap_or(vec![1; self.sizes.len()]),
            sizes: self.sizes,
            strides: self.strides,
            box_sizes: self.box_sizes,
            swizzle: match self.swizzle {
                0 => Swizzle::None,
                32 => Swizzle::Bytes32,
                64 => Swizzle::Bytes64,
                128 => Swizzle::Bytes128,
                other => return Err(format!("`swizzle` is {other}; it may be 0, 32, 64 or 128")),
            },
            fill: if self.nan { Fill::NaN } else { Fill::Zero },
        };
        map.check().map_err(|error| error.to_string())?;
        Ok(TensorMapArg { of: self.of, map })
    }
}

#[cfg(test)]
mod tests {
    use crate::case::{Arg, Case};
    use crate::tensor_map::{Swizzle, TensorMap};

    fn case(map: &str) -> Result<Case, String> {
        let text = format!(
            r#"{{"kernel": "k", "arch": "compute_90", "grid": [1, 1, 1], "block": [1, 1, 1], "args": [{map},
                {{"buffer": "bf16", "elements": 64, "init": "zeros", "role": "in"}}, {{"scalar": "u32", "value": 1}}]}}"#
        );
        Case::from_json(&text, "k.json").map_err(|error| error.to_string())
    }

    #[test]
    fn a_map_is_read_and_gets_its_address() {
        let text = r#"{"tensor_map": "bf16", "of": 1, "sizes": [8, 8], "strides": [16], "box": [8, 4], "swizzle": 32}"#;
        let case = case(text).unwrap();
        let Arg::TensorMap(map) = &case.args[0] else {
            panic!("not a tensor map")
        };
        let made = TensorMap::decode(&map.bytes(0x7000_0000_0000)).unwrap();
        assert_eq!(
            (made.address, made.swizzle),
            (0x7000_0000_0000, Swizzle::Bytes32)
        );
        assert_eq!((map.of(), made.box_sizes), (1, vec![8, 4]));
    }

    #[test]
    fn maps_of_no_tensor_are_refused() {
        let good =
            r#"{"tensor_map": "bf16", "of": 1, "sizes": [8, 8], "strides": [16], "box": [8, 4]}"#;
        assert!(case(good).is_ok());
        for (from, to) in [
            (r#""of": 1"#, r#""of": 2"#),
            (r#""of": 1"#, r#""of": 7"#),
            ("[16]", "[24]"),
            ("[8, 4]", "[8, 4, 1]"),
            ("[8, 4]}", r#"[8, 4], "swizzle": 16}"#),
            ("[8, 4]}", r#"[8, 4], "colour": 1}"#),
        ] {
            assert!(case(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
