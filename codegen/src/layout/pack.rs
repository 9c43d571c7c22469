//! From loaded rows to the bytes of a span.

use super::source::Matrix;
use super::{
    CHUNK, Cut, LayoutError, Mapping, Mappings, SourceMatrix, Stack, TILE_ROWS, WeightFormat,
    WeightSource, tile,
};
use crate::plan::{Dtype, Plan, WeightId};
use half::{bf16, f16};
use std::ops::Range;

/// Packs tiles of one stack.
pub(super) struct Packer<'a> {
    stack: &'a Stack,
    cut: Cut,
    /// One for each part of the stack.
    parts: Vec<(WeightId, Matrix<'a>, &'a Mapping)>,
}

/// Memory that one tile after the other uses.
struct Scratch {
    /// Rows of padded_k elements, as [`tile::pack`] takes them.
    rows: Vec<u8>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
    /// Device scale and offset by row and group of the source.
    groups: Vec<[f16; 2]>,
}

impl<'a> Packer<'a> {
    pub fn new(
        plan: &Plan,
        stack: &'a Stack,
        cut: Cut,
        mappings: &'a Mappings,
        weights: &'a dyn WeightSource,
    ) -> Result<Self, LayoutError> {
        let part = |weight: WeightId| {
            let fail = |reason| LayoutError::Weight {
                name: plan.weight(weight).name.clone(),
                reason,
            };
            let matrix = Matrix::find(plan, weights, weight).map_err(fail)?;
            let mapping = mappings.get(weight).filter(|m| m.format == stack.format);
            let mapping = mapping.ok_or_else(|| {
                let format = stack.format;
                fail(format!("it is laid out as {format} and mapped otherwise"))
            })?;
            Ok((weight, matrix, mapping))
        };
        let parts = stack.parts.iter().map(|p| part(p.weight));
        Ok(Packer {
            stack,
            cut,
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// Packs a span of tiles; every byte of `out`, which has the span's length, is written.
    pub fn pack(&self, tiles: Range<u32>, out: &mut [u8]) {
        let stack = self.stack;
        let element = stack.format.bits().div_ceil(8);
        let row_bytes = stack.padded_k() * element;
        let mut scratch = Scratch {
            rows: vec![0; TILE_ROWS * row_bytes],
            scales: Vec::new(),
            offsets: Vec::new(),
            groups: Vec::new(),
        };
        let count = tiles.end - tiles.start;
        for tile in 0..count {
            let rows: [_; TILE_ROWS] =
                std::array::from_fn(|r| self.row(tiles.start + tile, r as u32));
            let direct = self.direct(&rows);
            if direct.is_none() {
                self.fill(&rows, &mut scratch);
            }
            for chunk in 0..stack.chunks() {
                let k = stack.chunk_k(chunk);
                let at = stack.block_offset(self.cut, count, tile, chunk) as usize;
                let block = &mut out[at..][..stack.block_bytes(chunk) as usize];
                let start = chunk as usize * CHUNK * element;
                let part = start..start + k * element;
                let slices: tile::Rows<'_> = std::array::from_fn(|r| match &direct {
                    Some(direct) => &direct[r][part.clone()],
                    None => &scratch.rows[r * row_bytes..][part.clone()],
                });
                tile::pack(stack.format, &slices, k, block);
                self.scales(&rows, &scratch, chunk, block);
            }
        }
    }

    /// Index of the part, and its row, in row r of a tile.
    fn row(&self, tile: u32, r: u32) -> Option<(usize, usize)> {
        let (part, row) = self.stack.row(tile, r)?;
        let index = self.stack.parts.iter().position(|p| p == part)?;
        Some((index, row as usize))
    }

    /// The rows where they lie, if they are already as the device wants them.
    fn direct(&self, rows: &[Option<(usize, usize)>; TILE_ROWS]) -> Option<[&'a [u8]; TILE_ROWS]> {
        let row_bytes = 2 * self.stack.padded_k();
        let mut slices: [&[u8]; TILE_ROWS] = [&[]; TILE_ROWS];
        for (slice, row) in slices.iter_mut().zip(rows) {
            let (part, row) = (*row)?;
            let (_, matrix, _) = &self.parts[part];
            let SourceMatrix::Dense { dtype, bytes } = matrix.source else {
                return None;
            };
            if dtype == Dtype::F32 || 2 * matrix.k != row_bytes {
                return None;
            }
            *slice = &bytes[row * row_bytes..][..row_bytes];
        }
        Some(slices)
    }

    fn fill(&self, rows: &[Option<(usize, usize)>; TILE_ROWS], scratch: &mut Scratch) {
        let stack = self.stack;
        let row_bytes = scratch.rows.len() / TILE_ROWS;
        let zero = stack.format.zero_code();
        scratch.groups.clear();
        for (out, row) in scratch.rows.chunks_mut(row_bytes).zip(rows) {
            let Some((part, row)) = *row else {
                out.fill(zero);
                let groups = stack
                    .format
                    .group()
                    .map_or(0, |_| source_groups(&self.parts[0].1));
                let end = scratch.groups.len() + groups;
                scratch.groups.resize(end, [f16::ZERO; 2]);
                continue;
            };
            let (_, matrix, mapping) = &self.parts[part];
            let k = matrix.k;
            match matrix.source {
                SourceMatrix::Dense { dtype, bytes } => {
                    let (out, padding) = out.split_at_mut(2 * k);
                    let row = &bytes[row * k * dtype.size()..][..k * dtype.size()];
                    narrow(dtype, row, out);
                    padding.fill(0);
                }
                SourceMatrix::Coded(coded) => {
                    let (codes, padding) = out.split_at_mut(k);
                    coded.codes(row, codes);
                    padding.fill(zero);
                    let shift = mapping.code_shift();
                    if shift != 0 {
                        codes
                            .iter_mut()
                            .for_each(|code| *code = code.wrapping_add(shift));
                    }
                    let coding = coded.coding();
                    let groups = source_groups(matrix);
                    scratch.scales.resize(groups, 0.0);
                    scratch.offsets.resize(groups, 0.0);
                    coded.groups(row, &mut scratch.scales, &mut scratch.offsets);
                    let pairs = scratch.scales.iter().zip(&scratch.offsets);
                    let round = |(scale, offset): (&f32, &f32)| {
                        let (scale, offset) = mapping.group(coding.codes, *scale, *offset);
                        [scale, offset]
                    };
                    scratch.groups.extend(pairs.map(round));
                }
            }
        }
    }

    /// Writes the scales of a block.
    fn scales(
        &self,
        rows: &[Option<(usize, usize)>; TILE_ROWS],
        scratch: &Scratch,
        chunk: u32,
        block: &mut [u8],
    ) {
        let format = self.stack.format;
        let Some(group) = format.group() else { return };
        let (k, first) = (self.stack.chunk_k(chunk), chunk as usize * CHUNK);
        let mut start = 0;
        for (r, row) in rows.iter().enumerate() {
            let matrix = &self.parts[row.map_or(0, |(part, _)| part)].1;
            let SourceMatrix::Coded(coded) = matrix.source else {
                continue;
            };
            let source = coded.coding().group;
            let groups = &scratch.groups[start..start + source_groups(matrix)];
            let stride = format.group_bytes();
            let base = tile::scale(format, k, r, 0);
            for (index, out) in block[base..].chunks_mut(stride).enumerate() {
                let column = first + index * group.elements().unwrap_or(CHUNK);
                // Groups of padding columns have no source.
                let [scale, offset] = match column < matrix.k {
                    true => groups[source.of(column)],
                    false => [f16::ZERO; 2],
                };
                out[..2].copy_from_slice(&scale.to_le_bytes());
                if format.has_offset() {
                    out[4..6].copy_from_slice(&offset.to_le_bytes());
                }
            }
            start += source_groups(matrix);
        }
    }
}

fn source_groups(matrix: &Matrix<'_>) -> usize {
    match matrix.source {
        SourceMatrix::Dense { .. } => 0,
        SourceMatrix::Coded(rows) => rows.coding().group.count(matrix.k),
    }
}

/// Copies elements to 16 bits: f32 to the nearest bf16, ties to even, the others as they are.
pub(super) fn narrow(dtype: Dtype, row: &[u8], out: &mut [u8]) {
    match dtype {
        Dtype::BF16 | Dtype::F16 => out.copy_from_slice(row),
        Dtype::F32 => {
            let words = row.as_chunks::<4>().0;
            for (out, word) in out.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                *out = bf16::from_f32(f32::from_le_bytes(*word)).to_le_bytes();
            }
        }
    }
}

impl WeightFormat {
    /// Value of a stored element, before scale and offset.
    pub fn value(self, stored: u16) -> f32 {
        match self {
            WeightFormat::Bf16 => bf16::from_bits(stored).to_f32(),
            WeightFormat::F16 => f16::from_bits(stored).to_f32(),
            WeightFormat::Fp8E4M3 { .. } => e4m3(stored as u8),
            WeightFormat::Int8 { .. } => f32::from(stored as u8 as i8),
            WeightFormat::Int4 { offset: true, .. } => f32::from(stored),
            WeightFormat::Int4 { offset: false, .. } => f32::from(stored) - 8.0,
        }
    }
}

/// E4M3: a sign, 4 bits of exponent (bias 7), 3 of mantissa, as f16 with the same fields 2^-8 too small.
fn e4m3(code: u8) -> f32 {
    let code = u16::from(code);
    f16::from_bits((code & 0x80) << 8 | (code & 0x7f) << 7).to_f32() * 256.0
}
