use super::Stack;
use std::ops::Range;

/// The sizes that weights are cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Streaming multiprocessors, each with tiles of its own.
    pub sm_count: u32,
    /// Row tiles whose accumulators a block holds at a time: a power of two.
    pub tile_group: u32,
    /// Bytes of one stage of the ring; holds at least one block of every format.
    pub stage_bytes: u32,
}

impl Cut {
    /// The groups that the first `tiles` tiles of a span are cut into: whole ones, then of what is left ever smaller powers of
    /// two, so that a pass has one of a few sizes.
    pub fn groups(self, tiles: u32) -> impl Iterator<Item = Range<u32>> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let left = tiles.checked_sub(first).filter(|left| *left > 0)?;
            let group = self.tile_group.clamp(1, 1 << left.ilog2());
            first += group;
            Some(first - group..first)
        })
    }

    /// Blocks of a full stage whose blocks have so many bytes: as many as fit, a power of two, at most 4.
    pub fn unit(self, block_bytes: u64) -> u64 {
        match u64::from(self.stage_bytes) / block_bytes.max(1) {
            0 | 1 => 1,
            2 | 3 => 2,
            _ => 4,
        }
    }
}

/// Names one of [`super::Layout::placements`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementId(pub u32);

impl PlacementId {
    /// Position in the list of placements.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a stack lies: a contiguous range of its tiles for each SM, each range one span of the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What lies there.
    pub stack: Stack,
    /// First tile of each SM, and the number of tiles at the end: `sm_count + 1` numbers that never fall.
    pub first_tiles: Vec<u32>,
    /// Arena offset of each SM's span, a multiple of [`super::SPAN_ALIGN`].
    pub offsets: Vec<u64>,
    /// Whether linear ops read it; if not it is there for single rows to be gathered.
    pub streamed: bool,
}

impl Placement {
    /// Tiles of an SM.
    pub fn tiles(&self, sm: usize) -> Range<u32> {
        self.first_tiles[sm]..self.first_tiles[sm + 1]
    }

    /// Bytes of the arena that hold the tiles of an SM.
    pub fn span(&self, sm: usize) -> Range<u64> {
        let tiles = self.tiles(sm);
        let bytes = u64::from(tiles.end - tiles.start) * self.stack.tile_bytes();
        self.offsets[sm]..self.offsets[sm] + bytes
    }

    /// Arena offset of the block of a tile and a chunk.
    pub fn block(&self, cut: Cut, tile: u32, chunk: u32) -> u64 {
        let sm = self.first_tiles.partition_point(|first| *first <= tile) - 1;
        let tiles = self.tiles(sm);
        let (count, tile) = (tiles.end - tiles.start, tile - tiles.start);
        self.offsets[sm] + self.stack.block_offset(cut, count, tile, chunk)
    }
}

/// Cuts the tiles of the stacks of one op, in order, into contiguous ranges of about equal bytes. SM i starts at the
/// last tile before which at most i / sm_count of the bytes lie: for tiles of one size that is `i * tiles / sm_count`
/// rounded down, which depends on nothing but the number of tiles, so that all outputs added to one residual share
/// one map. Returns the first tiles per stack.
pub(super) fn cut_tiles(stacks: &[Stack], sm_count: u32) -> Vec<Vec<u32>> {
    let total: u128 = stacks.iter().map(stack_bytes).sum();
    let mut before = 0u128;
    let mut firsts = Vec::new();
    for stack in stacks {
        let (bytes, tiles) = (u128::from(stack.tile_bytes()), u128::from(stack.tiles()));
        let first = |sm: u32| {
            let target = u128::from(sm) * total / u128::from(sm_count);
            let tile = target.saturating_sub(before) / bytes;
            if sm == sm_count {
                tiles
            } else {
                tile.min(tiles)
            }
        };
        firsts.push((0..=sm_count).map(|sm| first(sm) as u32).collect());
        before += stack_bytes(stack);
    }
    firsts
}

fn stack_bytes(stack: &Stack) -> u128 {
    u128::from(stack.tiles()) * u128::from(stack.tile_bytes())
}
