//! Super-blocks of 256 elements: an f16 for all, a small integer for each group.

use super::{Block, half_at, words};
use crate::checkpoint::affine::TILE_ROWS;
use crate::checkpoint::builder::{AffineForm, Tile};

/// f16 d and dmin, 8 groups with 6-bit scales and minima in 12 bytes, 128 bytes of nibbles.
pub(super) struct Q4K;

impl Block<144> for Q4K {
    const ELEMENTS: usize = 256;
    const BITS: u32 = 4;
    const GROUP: usize = 32;
    const FORM: AffineForm = WITH_MINIMA;

    #[inline(always)]
    fn unpack(block: &[u8; 144], index: usize, r: usize, tile: &mut Tile<'_>) {
        scales_and_minima(block, index, r, tile);
        for group in 0..8 {
            tile.put_run(4, 8 * index + group, r, nibbles(&block[16..], group));
        }
    }
}

/// Like [`Q4K`] with 32 bytes of fifth bits before the nibbles: bit g of byte l for element l of group g.
pub(super) struct Q5K;

impl Block<176> for Q5K {
    const ELEMENTS: usize = 256;
    const BITS: u32 = 5;
    const GROUP: usize = 32;
    const FORM: AffineForm = WITH_MINIMA;

    #[inline(always)]
    fn unpack(block: &[u8; 176], index: usize, r: usize, tile: &mut Tile<'_>) {
        scales_and_minima(block, index, r, tile);
        let fifth: [u32; 8] = words(&block[16..]);
        for group in 0..8 {
            let low = nibbles(&block[48..], group);
            let quanta = std::array::from_fn(|j| low[j] | (fifth[j] >> group & 0x0101_0101) << 4);
            tile.put_run(5, 8 * index + group, r, quanta);
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 d.
pub(super) struct Q6K;

impl Block<210> for Q6K {
    const ELEMENTS: usize = 256;
    const BITS: u32 = 6;
    const GROUP: usize = 16;
    const FORM: AffineForm = AffineForm {
        two_level: true,
        zero: Some(32),
    };

    #[inline(always)]
    fn unpack(block: &[u8; 210], index: usize, r: usize, tile: &mut Tile<'_>) {
        tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 208);
        for (group, scale) in block[192..208].iter().enumerate() {
            tile.scales.subs[(16 * index + group) * TILE_ROWS + r] = scale.cast_signed();
        }
        for half in 0..2 {
            let low: [u32; 16] = words(&block[64 * half..]);
            let high: [u32; 8] = words(&block[128 + 32 * half..]);
            for run in 0..4 {
                // Runs 0 and 2 are the low and high nibbles of the first 32 bytes, 1 and 3 those of the others.
                let quanta = std::array::from_fn(|j| {
                    let nibble = low[8 * (run % 2) + j] >> (4 * (run / 2)) & 0x0f0f_0f0f;
                    nibble | (high[j] >> (2 * run) & 0x0303_0303) << 4
                });
                tile.put_run(6, 8 * index + 4 * half + run, r, quanta);
            }
        }
    }
}

const WITH_MINIMA: AffineForm = AffineForm {
    two_level: true,
    zero: None,
};

/// Groups 2 c and 2 c + 1 are the low and the high nibbles of the c-th 32 bytes.
#[inline(always)]
fn nibbles(bytes: &[u8], group: usize) -> [u32; 8] {
    let packed: [u32; 8] = words(&bytes[32 * (group / 2)..]);
    packed.map(|word| word >> (4 * (group % 2)) & 0x0f0f_0f0f)
}

/// Of the first 16 bytes of a Q4_K or Q5_K block. A minimum is subtracted there and added here, so dmin changes sign.
#[inline(always)]
fn scales_and_minima(block: &[u8], index: usize, r: usize, tile: &mut Tile<'_>) {
    tile.scales.floats[index * TILE_ROWS + r] = half_at(block, 0);
    tile.mins.floats[index * TILE_ROWS + r] = half_at(block, 2) ^ 0x8000;
    let packed = &block[4..16];
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let (both, upper) = (packed[group + 4], group - 4);
            (
                both & 15 | packed[upper] >> 6 << 4,
                both >> 4 | packed[group] >> 6 << 4,
            )
        };
        let at = (8 * index + group) * TILE_ROWS + r;
        tile.scales.subs[at] = scale.cast_signed();
        tile.mins.subs[at] = minimum.cast_signed();
    }
}
