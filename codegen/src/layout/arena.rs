//! Packing the arena in parallel, and reading it back.

use super::mapping::power_of_two;
use super::pack::{Packer, narrow};
use super::source::Matrix;
use super::{
    CHUNK, Layout, LayoutError, Mappings, PlacementId, SourceMatrix, TablePlace, WeightSource, tile,
};
use crate::plan::{Plan, WeightId};
use half::f16;
use rayon::prelude::*;

/// Takes the arena as it is packed.
pub trait ArenaSink: Send {
    /// Why it cannot.
    type Error: From<LayoutError> + Send;

    /// Takes bytes that lie at `offset`. Offsets rise from call to call; what no call covers is padding that nothing
    /// reads.
    ///
    /// # Errors
    /// Whatever ends the packing.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// The arena in host memory; it must be as long as [`Layout::arena_bytes`].
impl ArenaSink for Vec<u8> {
    type Error = LayoutError;

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LayoutError> {
        let start = usize::try_from(offset).ok();
        let length = self.len();
        let place = start.and_then(|start| self.get_mut(start..start.checked_add(bytes.len())?));
        let Some(place) = place else {
            let bytes = bytes.len();
            return Err(LayoutError::Arena {
                reason: format!("{bytes} bytes at {offset} of a buffer of {length}"),
            });
        };
        place.copy_from_slice(bytes);
        Ok(())
    }
}

/// How much is packed before it is handed to the sink: enough for all cores, small beside the weights.
const BATCH_BYTES: u64 = 64 << 20;

/// A part of the arena that one task packs.
#[derive(Clone, Copy)]
struct Piece {
    offset: u64,
    bytes: u64,
    what: Content,
}

#[derive(Clone, Copy)]
enum Content {
    Span {
        placement: usize,
        sm: usize,
    },
    Rows {
        weight: WeightId,
        first: u32,
        rows: u32,
        stride: u64,
    },
}

impl Layout {
    /// Packs all weights and hands them to the sink in the order of the arena, each batch while the next is packed.
    /// `progress` is told the bytes done and the bytes in all, after each batch. The result depends on nothing but
    /// the layout and the weights.
    ///
    /// # Errors
    /// A weight is missing or is not what the layout was made for, or the sink fails.
    pub fn build<S: ArenaSink>(
        &self,
        plan: &Plan,
        mappings: &Mappings,
        weights: &dyn WeightSource,
        sink: &mut S,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), S::Error> {
        let packers = self
            .placements
            .iter()
            .map(|placement| Packer::new(plan, &placement.stack, self.cut, mappings, weights));
        let packers = packers.collect::<Result<Vec<_>, _>>()?;
        let pieces = self.pieces();
        let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        let pack = |piece: &Piece| -> Result<Vec<u8>, LayoutError> {
            let mut out = vec![0; piece.bytes as usize];
            match piece.what {
                Content::Span { placement, sm } => {
                    packers[placement].pack(self.placements[placement].tiles(sm), &mut out);
                }
                Content::Rows {
                    weight,
                    first,
                    rows,
                    stride,
                } => {
                    let matrix = Matrix::find(plan, weights, weight);
                    let matrix = matrix.map_err(|reason| LayoutError::Weight {
                        name: plan.weight(weight).name.clone(),
                        reason,
                    })?;
                    copy_rows(&matrix, first, rows, stride as usize, &mut out);
                }
            }
            Ok(out)
        };
        let mut done = 0;
        let mut ready: (&[Piece], Vec<Vec<u8>>) = (&[], Vec::new());
        let mut rest = pieces.as_slice();
        loop {
            let mut bytes = 0;
            let batch = rest.iter().take_while(|piece| {
                let fits = bytes == 0 || bytes + piece.bytes <= BATCH_BYTES;
                bytes += piece.bytes;
                fits
            });
            let (batch, after) = rest.split_at(batch.count());
            rest = after;
            let (packed, written) = rayon::join(
                || batch.par_iter().map(pack).collect::<Result<Vec<_>, _>>(),
                || {
                    let mut pieces = ready.0.iter().zip(&ready.1);
                    pieces.try_for_each(|(piece, bytes)| sink.write(piece.offset, bytes))
                },
            );
            written?;
            if !ready.0.is_empty() {
                done += ready.0.iter().map(|piece| piece.bytes).sum::<u64>();
                progress(done, total);
            }
            ready = (batch, packed?);
            if batch.is_empty() {
                return Ok(());
            }
        }
    }

    /// Everything that is packed, in the order of the arena.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (placement, placed) in self.placements.iter().enumerate() {
            for sm in 0..self.cut.sm_count as usize {
                let span = placed.span(sm);
                pieces.push(Piece {
                    offset: span.start,
                    bytes: span.end - span.start,
                    what: Content::Span { placement, sm },
                });
            }
        }
        for table in &self.tables {
            let TablePlace::Rows { offset, stride, .. } = table.place else {
                continue;
            };
            let each = (BATCH_BYTES / 8 / stride).clamp(1, u64::from(u32::MAX)) as u32;
            for first in (0..table.rows).step_by(each as usize) {
                let rows = each.min(table.rows - first);
                pieces.push(Piece {
                    offset: offset + u64::from(first) * stride,
                    bytes: u64::from(rows) * stride,
                    what: Content::Rows {
                        weight: table.weight,
                        first,
                        rows,
                        stride,
                    },
                });
            }
        }
        pieces.retain(|piece| piece.bytes > 0);
        pieces.sort_by_key(|piece| piece.offset);
        pieces
    }

    /// Reads a row of a matrix back from a packed arena, in f32: what the device multiplies with, `fma(code, scale,
    /// offset)` times 2^exponent. `None` if the placement has no such weight or row.
    ///
    /// # Panics
    /// If the arena is shorter than [`Layout::arena_bytes`].
    pub fn read_row(
        &self,
        arena: &[u8],
        mappings: &Mappings,
        placement: PlacementId,
        weight: WeightId,
        row: u32,
    ) -> Option<Vec<f32>> {
        let placed = self.placements.get(placement.index())?;
        let stack = &placed.stack;
        let mut parts = stack.parts.iter();
        let part = parts.find(|part| part.weight == weight && row < part.n)?;
        let exponent = mappings.get(weight)?.exponent;
        let (tile, r) = part.order.place(row);
        let (tile, r) = (part.first_tile + tile, r as usize);
        let read = |column: usize| {
            let (chunk, column) = ((column / CHUNK) as u32, column % CHUNK);
            let block = &arena[placed.block(self.cut, tile, chunk) as usize..];
            let block = &block[..stack.block_bytes(chunk) as usize];
            let stored = tile::read_element(stack.format, block, r, column);
            let code = stack.format.value(stored);
            let Some(group) = stack.format.group() else {
                return code;
            };
            let at = tile::scale(stack.format, stack.chunk_k(chunk), r, group.of(column));
            let f16_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            let offset = if stack.format.has_offset() {
                f16_at(at + 4)
            } else {
                0.0
            };
            let value = code.mul_add(f16_at(at), offset);
            (f64::from(value) * power_of_two(exponent)) as f32
        };
        Some((0..stack.k as usize).map(read).collect())
    }
}

fn copy_rows(matrix: &Matrix<'_>, first: u32, rows: u32, stride: usize, out: &mut [u8]) {
    let SourceMatrix::Dense { dtype, bytes } = matrix.source else {
        return;
    };
    let row_bytes = matrix.k * dtype.size();
    let rows = (first as usize)..(first + rows) as usize;
    for (row, out) in rows.zip(out.chunks_mut(stride)) {
        narrow(
            dtype,
            &bytes[row * row_bytes..][..row_bytes],
            &mut out[..2 * matrix.k],
        );
    }
}
