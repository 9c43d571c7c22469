//! `cuTensorMapEncodeTiled`: the maps by which kernels copy boxes of tensors.

use crate::boundary::{Answer, In, Out, exports};
use crate::driver::driver;
use crate::error::{INVALID_VALUE, NOT_SUPPORTED};
use virtual_gpu::num::ScalarType;
use virtual_gpu::tensor_map::{BYTES, Fill, Swizzle, TensorMap};

/// `CUtensorMap`.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Map([u8; BYTES]);

/// Sizes, strides and the rest of a tensor map, as the call gives them.
struct Given {
    element: u32,
    rank: u32,
    address: usize,
    sizes: In<u64>,
    strides: In<u64>,
    box_sizes: In<u32>,
    element_strides: In<u32>,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
}

fn unsupported<T>(what: &str) -> Answer<T> {
    eprintln!("virtual-gpu: tensor maps {what} are not supported");
    Err(NOT_SUPPORTED)
}

/// `CUtensorMapDataType`.
fn element(number: u32) -> Answer<ScalarType> {
    Ok(match number {
        0 => ScalarType::U8,
        1 => ScalarType::U16,
        2 => ScalarType::U32,
        3 => ScalarType::S32,
        4 => ScalarType::U64,
        5 => ScalarType::S64,
        6 => ScalarType::F16,
        7 => ScalarType::F32,
        8 => ScalarType::F64,
        9 => ScalarType::BF16,
        10 => return unsupported("of FLOAT32_FTZ"),
        11 => return unsupported("of TFLOAT32"),
        12 => return unsupported("of TFLOAT32_FTZ"),
        13..=15 => return unsupported("of packed 4- and 6-bit types"),
        _ => return Err(INVALID_VALUE),
    })
}

fn map(given: &Given) -> Answer<TensorMap> {
    let rank = given.rank as usize;
    if !(1..=5).contains(&rank) || given.promotion > 3 || given.address == 0 {
        return Err(INVALID_VALUE);
    }
    match given.interleave {
        0 => {}
        1 => return unsupported("with INTERLEAVE_16B"),
        2 => return unsupported("with INTERLEAVE_32B"),
        _ => return Err(INVALID_VALUE),
    }
    let strides = match rank {
        1 => Vec::new(),
        _ => given.strides.all(rank - 1)?,
    };
    let mut element_strides = given.element_strides.all(rank)?;
    let made = TensorMap {
        element: element(given.element)?,
        address: given.address as u64,
        sizes: given.sizes.all(rank)?,
        strides,
        box_sizes: given.box_sizes.all(rank)?,
        element_strides: element_strides.clone(),
        swizzle: match given.swizzle {
            0 => Swizzle::None,
            1 => Swizzle::Bytes32,
            2 => Swizzle::Bytes64,
            3 => Swizzle::Bytes128,
            4..=6 => return unsupported("with swizzles of larger atoms"),
            _ => return Err(INVALID_VALUE),
        },
        fill: match given.fill {
            0 => Fill::Zero,
            1 => Fill::NaN,
            _ => return Err(INVALID_VALUE),
        },
    };
    if let Err(error) = made.check() {
        eprintln!("virtual-gpu: cuTensorMapEncodeTiled: {error}");
        return Err(INVALID_VALUE);
    }
    // Neighbours of the innermost dimension are copied all, whatever its element stride says.
    element_strides[0] = 1;
    Ok(TensorMap {
        element_strides,
        ..made
    })
}

exports! {
    /// Makes a map of a tensor that is copied in boxes.
    fn cuTensorMapEncodeTiled(
        to: Out<Map>,
        element: u32,
        rank: u32,
        address: usize,
        sizes: In<u64>,
        strides: In<u64>,
        box_sizes: In<u32>,
        element_strides: In<u32>,
        interleave: u32,
        swizzle: u32,
        promotion: u32,
        fill: u32,
    ) {
        if driver()?.config.profile.capability < (9, 0) {
            return unsupported("on a device of less than compute capability 9.0");
        }
        to.check()?;
        let given = Given {
            element, rank, address, sizes, strides, box_sizes, element_strides, interleave, swizzle, promotion, fill,
        };
        let bytes = map(&given)?.encode().map_err(|_| INVALID_VALUE)?;
        to.set(Map(bytes))
    }

    /// Maps for convolutions are refused.
    fn cuTensorMapEncodeIm2col(_map: usize) {
        unsupported("for im2col")
    }

    /// Lets a map stand for a tensor at another address.
    fn cuTensorMapReplaceAddress(map: In<Map>, address: usize) {
        driver()?;
        let to = Out::new(map.address().cast_mut());
        to.check()?;
        let Map(bytes) = map.get()?;
        let mut map = TensorMap::decode(&bytes).ok_or(INVALID_VALUE)?;
        map.address = address as u64;
        let bytes = map.encode().map_err(|_| INVALID_VALUE)?;
        to.set(Map(bytes))
    }
}
