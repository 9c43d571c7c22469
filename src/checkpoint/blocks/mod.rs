//! Quantized blocks of GGUF, as [`AffineMatrix`].

mod k_quants;
mod simple;
#[cfg(test)]
mod tests;

use super::affine::{AffineMatrix, AffineShape, TILE_ROWS};
use super::builder::{AffineBuilder, AffineForm, Tile};
use super::bytes::View;
use rayon::prelude::*;

/// How integers are stored in blocks along K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// One format: how its blocks of `SIZE` bytes unpack into a tile.
trait Block<const SIZE: usize> {
    const ELEMENTS: usize;
    const BITS: u32;
    const GROUP: usize;
    const FORM: AffineForm;

    /// Writes block `index` of row `r` of the tile.
    fn unpack(block: &[u8; SIZE], index: usize, r: usize, tile: &mut Tile<'_>);
}

impl BlockFormat {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            BlockFormat::Q4_0 => "Q4_0",
            BlockFormat::Q4_1 => "Q4_1",
            BlockFormat::Q5_0 => "Q5_0",
            BlockFormat::Q5_1 => "Q5_1",
            BlockFormat::Q8_0 => "Q8_0",
            BlockFormat::Q4K => "Q4_K",
            BlockFormat::Q5K => "Q5_K",
            BlockFormat::Q6K => "Q6_K",
        }
    }

    /// Elements and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            BlockFormat::Q4_0 => (32, 18),
            BlockFormat::Q4_1 => (32, 20),
            BlockFormat::Q5_0 => (32, 22),
            BlockFormat::Q5_1 => (32, 24),
            BlockFormat::Q8_0 => (32, 34),
            BlockFormat::Q4K => (256, 144),
            BlockFormat::Q5K => (256, 176),
            BlockFormat::Q6K => (256, 210),
        }
    }

    /// The canonical matrix [n, k]; its row i is row `source(i)` of the blocks. `None` if the blocks are not those of
    /// such a matrix.
    pub fn repack(
        self,
        view: &View,
        n: usize,
        k: usize,
        source: impl Fn(usize) -> usize + Sync,
    ) -> Option<AffineMatrix> {
        match self {
            BlockFormat::Q4_0 => repack::<simple::Q4_0, 18>(view, n, k, source),
            BlockFormat::Q4_1 => repack::<simple::Q4_1, 20>(view, n, k, source),
            BlockFormat::Q5_0 => repack::<simple::Q5_0, 22>(view, n, k, source),
            BlockFormat::Q5_1 => repack::<simple::Q5_1, 24>(view, n, k, source),
            BlockFormat::Q8_0 => repack::<simple::Q8_0, 34>(view, n, k, source),
            BlockFormat::Q4K => repack::<k_quants::Q4K, 144>(view, n, k, source),
            BlockFormat::Q5K => repack::<k_quants::Q5K, 176>(view, n, k, source),
            BlockFormat::Q6K => repack::<k_quants::Q6K, 210>(view, n, k, source),
        }
    }
}

/// Source bytes after which their pages are given back: the file and the matrix never are resident both.
const BATCH_BYTES: usize = 4 << 20;

fn repack<B: Block<SIZE>, const SIZE: usize>(
    view: &View,
    n: usize,
    k: usize,
    source: impl Fn(usize) -> usize + Sync,
) -> Option<AffineMatrix> {
    let shape = AffineShape {
        n,
        k,
        bits: B::BITS,
        group: B::GROUP,
    };
    let row_blocks = k / B::ELEMENTS;
    let (blocks, rest) = view.as_ref().as_chunks::<SIZE>();
    // Before anything is allocated: n and k are those of the bytes that are there.
    let matches = k.is_multiple_of(B::ELEMENTS) && Some(blocks.len()) == n.checked_mul(row_blocks);
    if !matches || !rest.is_empty() {
        return None;
    }
    let mut builder = AffineBuilder::new(shape, B::FORM)?;
    let mut tiles: Vec<Tile<'_>> = builder.par_tiles().collect();
    let tile_bytes = TILE_ROWS * row_blocks * SIZE;
    let batch = (BATCH_BYTES / tile_bytes).max(1);
    for (i, tiles) in tiles.chunks_mut(batch).enumerate() {
        let first = i * batch;
        tiles.par_iter_mut().enumerate().for_each(|(j, tile)| {
            let rows = TILE_ROWS * (first + j)..n.min(TILE_ROWS * (first + j + 1));
            for (r, row) in rows.enumerate() {
                let blocks = blocks[source(row) * row_blocks..][..row_blocks].iter();
                for (index, block) in blocks.enumerate() {
                    B::unpack(block, index, r, tile);
                }
            }
        });
        view.release(first * tile_bytes, tiles.len() * tile_bytes);
    }
    drop(tiles);
    Some(builder.finish())
}

/// Little-endian words at the start of `bytes`.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let words = bytes.as_chunks::<4>().0;
    std::array::from_fn(|i| u32::from_le_bytes(words[i]))
}

/// Little-endian f16 bits at an offset.
#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
