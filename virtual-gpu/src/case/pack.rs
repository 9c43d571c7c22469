//! Arguments as the bytes of the kernel's parameter space.

use super::ScalarArg;
use crate::tensor_map::{ALIGN, BYTES};

/// The bytes of one argument and their alignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedArg {
    bytes: Vec<u8>,
    align: usize,
}

impl PackedArg {
    /// The address of a buffer.
    pub fn pointer(address: u64) -> Self {
        Self {
            bytes: address.to_le_bytes().to_vec(),
            align: 8,
        }
    }
}

impl PackedArg {
    /// A tensor map.
    pub fn tensor_map(bytes: [u8; BYTES]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            align: ALIGN as usize,
        }
    }
}

impl From<&ScalarArg> for PackedArg {
    /// A scalar, or a struct, which is aligned as its members are.
    fn from(scalar: &ScalarArg) -> Self {
        Self {
            bytes: scalar.bytes().to_vec(),
            align: scalar.dtype().size(),
        }
    }
}

/// Lays the arguments out as CUDA passes them: in order, each at the next multiple of its alignment, with zeros in the
/// gaps and none behind the last.
pub fn pack(args: &[PackedArg]) -> Vec<u8> {
    let mut params = Vec::new();
    for arg in args {
        params.resize(params.len().next_multiple_of(arg.align), 0);
        params.extend(&arg.bytes);
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Arg, Case};

    fn scalar(dtype: &str, value: &str) -> PackedArg {
        let text = format!(
            r#"{{"kernel": "k", "arch": "compute_80", "grid": [1, 1, 1], "block": [1, 1, 1],
                "args": [{{"scalar": "{dtype}", "value": {value}}}]}}"#
        );
        let case = Case::from_json(&text, "k.json").unwrap();
        let Arg::Scalar(scalar) = &case.args[0] else {
            panic!("not a scalar")
        };
        scalar.into()
    }

    #[test]
    fn arguments_are_aligned_to_their_size() {
        let args = [
            scalar("u8", "1"),
            scalar("u16", "2"),
            scalar("u8", "3"),
            PackedArg::pointer(0x7000_0000_0100),
            scalar("i32", "-1"),
            scalar("f64", "1"),
            scalar("bf16", "16256"),
        ];
        #[rustfmt::skip]
        let wanted = [
            1, 0, 2, 0, 3, 0, 0, 0,
            0x00, 0x01, 0, 0, 0x00, 0x70, 0, 0,
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
            0x80, 0x3f,
        ];
        assert_eq!(pack(&args), wanted);
    }

    #[test]
    fn a_struct_is_aligned_as_its_members() {
        let args = [
            scalar("u8", "9"),
            scalar("u16", "[1, 2, 3]"),
            scalar("u8", "7"),
            scalar("i32", "[4]"),
        ];
        assert_eq!(
            pack(&args),
            [9, 0, 1, 0, 2, 0, 3, 0, 7, 0, 0, 0, 4, 0, 0, 0]
        );
        assert!(pack(&[]).is_empty());
    }
}
