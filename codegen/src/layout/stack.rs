use super::{CHUNK, Cut, Formats, LayoutError, RowOrder, SLICE, TILE_ROWS, WeightFormat};
use crate::plan::{Epilogue, Linear, Op, Plan, Segment, WeightId, WeightShape};
use std::ops::Range;

/// One matrix of a [`Stack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackPart {
    /// The matrix.
    pub weight: WeightId,
    /// Its rows.
    pub n: u32,
    /// How they stand in tiles.
    pub order: RowOrder,
    /// First tile of the stack that holds them.
    pub first_tile: u32,
}

impl StackPart {
    /// Tiles of the stack that hold the matrix.
    pub fn tiles(&self) -> Range<u32> {
        self.first_tile..self.first_tile + self.order.tiles(self.n)
    }
}

/// Matrices [n_i, k] of one format over one input, as one list of tiles: q, k and v one after the other, gate and up
/// interleaved row by row, all others alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Device form of all parts.
    pub format: WeightFormat,
    /// Inputs.
    pub k: u32,
    /// The matrices.
    pub parts: Vec<StackPart>,
}

impl Stack {
    /// Row tiles.
    pub fn tiles(&self) -> u32 {
        let ends = self.parts.iter().map(|part| part.tiles().end);
        ends.max().unwrap_or(0)
    }

    /// K in whole slices; the columns beyond k are padding.
    pub fn padded_k(&self) -> usize {
        (self.k as usize).next_multiple_of(SLICE)
    }

    /// Chunks of K.
    pub fn chunks(&self) -> u32 {
        self.padded_k().div_ceil(CHUNK) as u32
    }

    /// Columns of a chunk: [`CHUNK`], or in the last what is left, a multiple of [`SLICE`].
    pub fn chunk_k(&self, chunk: u32) -> usize {
        let left = self.padded_k().saturating_sub(chunk as usize * CHUNK);
        left.min(CHUNK)
    }

    /// Bytes of a tile's block in a chunk.
    pub fn block_bytes(&self, chunk: u32) -> u64 {
        self.format.block_bytes(self.chunk_k(chunk)) as u64
    }

    /// Bytes of all blocks of a tile.
    pub fn tile_bytes(&self) -> u64 {
        let last = self.chunks() - 1;
        u64::from(last) * self.block_bytes(0) + self.block_bytes(last)
    }

    /// Bytes of the elements and scales that are no padding: what a step has to read of the matrices.
    pub fn useful_bytes(&self) -> u64 {
        let rows: u64 = self.parts.iter().map(|part| u64::from(part.n)).sum();
        let scale = (self.format.group_bytes() / TILE_ROWS) as u64;
        let groups = self.format.group().map_or(0, |g| g.count(self.k as usize));
        let bits = u64::from(self.k) * self.format.bits() as u64;
        (rows * bits).div_ceil(8) + rows * groups as u64 * scale
    }

    /// The weight, and its row, that stands in row r of a tile; `None` where padding stands.
    pub fn row(&self, tile: u32, r: u32) -> Option<(&StackPart, u32)> {
        let mut parts = self
            .parts
            .iter()
            .filter(|part| part.tiles().contains(&tile));
        let found = parts.find_map(|part| {
            let row = part.order.row(tile - part.first_tile, r)?;
            Some((part, row))
        });
        found.filter(|(part, row)| *row < part.n)
    }

    /// Byte, in a span of `tiles` tiles, of the block of its tile `tile` in a chunk.
    pub fn block_offset(&self, cut: Cut, tiles: u32, tile: u32, chunk: u32) -> u64 {
        let mut groups = cut.groups(tiles).skip((tile / cut.tile_group) as usize);
        let found = groups.find(|group| group.contains(&tile));
        let (first, group) = found.map_or((tile, 1), |group| (group.start, group.len()));
        u64::from(first) * self.tile_bytes()
            + u64::from(chunk) * group as u64 * self.block_bytes(0)
            + u64::from(tile - first) * self.block_bytes(chunk)
    }
}

/// The linear ops of a segment with their indices.
pub(super) fn linears(segment: &Segment) -> impl Iterator<Item = (usize, &Linear)> {
    let ops = segment.ops.iter().enumerate();
    ops.filter_map(|(index, op)| match op {
        Op::Linear(linear) => Some((index, linear)),
        _ => None,
    })
}

pub(super) fn matrix_shape(plan: &Plan, weight: WeightId) -> Result<(u32, u32), LayoutError> {
    let decl = plan.weight(weight);
    match decl.shape {
        WeightShape::Matrix { n, k } => Ok((n, k)),
        WeightShape::Vector { .. } => Err(LayoutError::Weight {
            name: decl.name.clone(),
            reason: "it is a vector, a linear op needs a matrix".to_owned(),
        }),
    }
}

pub(super) fn plain(weight: WeightId, n: u32, k: u32, format: WeightFormat) -> Stack {
    let order = RowOrder::Plain;
    let first_tile = 0;
    Stack {
        format,
        k,
        parts: vec![StackPart {
            weight,
            n,
            order,
            first_tile,
        }],
    }
}

/// The stacks of a linear op: parts of one format follow each other in one stack, a new format begins a new one.
pub(super) fn stacks(
    plan: &Plan,
    formats: &Formats,
    linear: &Linear,
) -> Result<Vec<Stack>, LayoutError> {
    let mut stacks: Vec<Stack> = Vec::new();
    for (i, part) in linear.parts.iter().enumerate() {
        let weight = part.weight;
        let (n, k) = matrix_shape(plan, weight)?;
        let format = formats.of(plan, weight)?;
        let order = match &linear.epilogue {
            Epilogue::Gated { .. } if i == 0 => RowOrder::Gate,
            Epilogue::Gated { .. } => RowOrder::Up,
            Epilogue::Qkv(_) | Epilogue::Store { .. } | Epilogue::Residual { .. } => {
                RowOrder::Plain
            }
        };
        let mut part = StackPart {
            weight,
            n,
            order,
            first_tile: 0,
        };
        match stacks.last_mut() {
            Some(stack) if stack.format == format => {
                if order != RowOrder::Up {
                    part.first_tile = stack.tiles();
                }
                stack.parts.push(part);
            }
            Some(stack) if order == RowOrder::Up => {
                let reason = format!("it is {format}, the gate beside it {}", stack.format);
                let name = plan.weight(weight).name.clone();
                return Err(LayoutError::Weight { name, reason });
            }
            _ => stacks.push(Stack {
                format,
                k,
                parts: vec![part],
            }),
        }
    }
    Ok(stacks)
}
