//! Blocks of 32 elements with their own scale: element j < 16 is the low nibble of byte j, element 16 + j the high one.

use super::{Block, half_at, words};
use crate::checkpoint::affine::TILE_ROWS;
use crate::checkpoint::builder::{AffineForm, Tile};

const fn symmetric(zero: u8) -> AffineForm {
    AffineForm {
        two_level: false,
        zero: Some(zero),
    }
}

const WITH_MINIMUM: AffineForm = AffineForm {
    two_level: false,
    zero: None,
};

/// f16 d, 16 bytes of nibbles.
pub(super) struct Q4_0;

impl Block<18> for Q4_0 {
    const ELEMENTS: usize = 32;
    const BITS: u32 = 4;
    const GROUP: usize = 32;
    const FORM: AffineForm = symmetric(8);

    #[inline(always)]
    fn unpack(block: &[u8; 18], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
        tile.put_run(4, index, r, nibbles(&block[2..]));
    }
}

/// f16 d, f16 minimum, 16 bytes of nibbles.
pub(super) struct Q4_1;

impl Block<20> for Q4_1 {
    const ELEMENTS: usize = 32;
    const BITS: u32 = 4;
    const GROUP: usize = 32;
    const FORM: AffineForm = WITH_MINIMUM;

    #[inline(always)]
    fn unpack(block: &[u8; 20], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
        tile.mins.floats[index * TILE_ROWS + r] = half_at(block, 2);
        tile.put_run(4, index, r, nibbles(&block[4..]));
    }
}

/// f16 d, a word of fifth bits, 16 bytes of nibbles.
pub(super) struct Q5_0;

impl Block<22> for Q5_0 {
    const ELEMENTS: usize = 32;
    const BITS: u32 = 5;
    const GROUP: usize = 32;
    const FORM: AffineForm = symmetric(16);

    #[inline(always)]
    fn unpack(block: &[u8; 22], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
        let [fifth] = words(&block[2..]);
        tile.put_run(5, index, r, with_fifth(nibbles(&block[6..]), fifth));
    }
}

/// f16 d, f16 minimum, a word of fifth bits, 16 bytes of nibbles.
pub(super) struct Q5_1;

impl Block<24> for Q5_1 {
    const ELEMENTS: usize = 32;
    const BITS: u32 = 5;
    const GROUP: usize = 32;
    const FORM: AffineForm = WITH_MINIMUM;

    #[inline(always)]
    fn unpack(block: &[u8; 24], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
        tile.mins.floats[index * TILE_ROWS + r] = half_at(block, 2);
        let [fifth] = words(&block[4..]);
        tile.put_run(5, index, r, with_fifth(nibbles(&block[8..]), fifth));
    }
}

/// f16 d, 32 signed bytes in order.
pub(super) struct Q8_0;

impl Block<34> for Q8_0 {
    const ELEMENTS: usize = 32;
    const BITS: u32 = 8;
    const GROUP: usize = 32;
    const FORM: AffineForm = symmetric(128);

    #[inline(always)]
    fn unpack(block: &[u8; 34], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
        // Adding 128 to a signed byte flips its top bit.
        let quanta: [u32; 8] = words(&block[2..]);
        tile.put_run(8, index, r, quanta.map(|word| word ^ 0x8080_8080));
    }
}

#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u32; 8] {
    let packed: [u32; 4] = words(bytes);
    std::array::from_fn(|j| packed[j % 4] >> (4 * (j / 4)) & 0x0f0f_0f0f)
}

/// Sets bit 4 of element i to bit i of `fifth`.
#[inline(always)]
fn with_fifth(mut quanta: [u32; 8], fifth: u32) -> [u32; 8] {
    for (j, word) in quanta.iter_mut().enumerate() {
        let bits = fifth >> (4 * j);
        for b in 0..4 {
            *word |= (bits >> b & 1) << (8 * b + 4);
        }
    }
    quanta
}
