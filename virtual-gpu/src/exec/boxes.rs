//! Boxes of tensors on their way between global and shared memory.

use super::agent::{Completion, Place, combine, complete, read};
use super::block::Block;
use super::grid::Grid;
use super::machine::Site;
use super::ops::atomic::Operation;
use crate::memory::DevicePointer;
use crate::num::ScalarType;
use crate::tensor_map::{Swizzle, TensorMap};

/// A run of bytes of a box that follow each other in the tensor too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in global memory; nowhere, if it is outside of the tensor.
    pub global: Option<u64>,
    /// Where it is in the box.
    pub at: u32,
    /// Its bytes.
    pub bytes: u32,
}

/// The pieces of the box at `coordinates`, in the order of the box.
pub fn pieces(map: &TensorMap, coordinates: &[i32]) -> Vec<Piece> {
    let (rank, element) = (map.rank(), map.element.bytes());
    let rows: u32 = (1..rank).map(|d| map.count(d)).product();
    let (first, count) = (i64::from(coordinates[0]), i64::from(map.box_sizes[0]));
    // Elements of a row that are inside of the tensor.
    let inside = (-first).clamp(0, count)..(map.sizes[0] as i64 - first).clamp(0, count);
    let mut pieces = Vec::new();
    for row in 0..rows {
        let (mut rest, mut start) = (row, Some(map.address));
        for d in 1..rank {
            let step = rest % map.count(d);
            rest /= map.count(d);
            let index = i64::from(coordinates[d]) + i64::from(step * map.element_strides[d]);
            let is_inside = (0..map.sizes[d] as i64).contains(&index);
            start = start
                .filter(|_| is_inside)
                .map(|start| start.wrapping_add((index as u64).wrapping_mul(map.strides[d - 1])));
        }
        let parts = match start {
            Some(_) if inside.start < inside.end => [
                (0..inside.start, false),
                (inside.clone(), true),
                (inside.end..count, false),
            ],
            _ => [(0..count, false), (0..0, false), (0..0, false)],
        };
        for (part, is_inside) in parts {
            if part.is_empty() {
                continue;
            }
            let offset = (first + part.start) * i64::from(element);
            pieces.push(Piece {
                global: start
                    .filter(|_| is_inside)
                    .map(|start| start.wrapping_add(offset as u64)),
                at: row * map.row_bytes() + part.start as u32 * element,
                bytes: (part.end - part.start) as u32 * element,
            });
        }
    }
    pieces
}

/// A copy of a box; its places have been checked.
#[derive(Clone, Debug)]
pub struct BoxCopy {
    /// Number of the copy.
    pub id: u64,
    /// Who started it.
    pub site: Site,
    /// Its pieces.
    pub pieces: Vec<Piece>,
    /// Whether it goes to shared memory.
    pub loads: bool,
    /// Linear index of the block whose shared memory it is.
    pub block: u32,
    /// Offset of the box in it.
    pub offset: u32,
    /// Bytes of the box.
    pub bytes: u32,
    /// Where they are.
    pub swizzle: Swizzle,
    /// What stands for elements outside of the tensor: an element.
    pub filler: Vec<u8>,
    /// How the tensor and the box are combined, if they are.
    pub reduce: Option<(Operation, ScalarType)>,
    /// What tells that it is complete.
    pub completion: Completion,
}

impl BoxCopy {
    /// The places that it writes, each with its bytes.
    pub fn written(&self) -> Vec<(Place, u32)> {
        if self.loads {
            return vec![(self.shared(), self.bytes)];
        }
        let place = |piece: &Piece| Some((Place::Global(piece.global?), piece.bytes));
        self.pieces.iter().filter_map(place).collect()
    }

    /// The box in shared memory.
    pub fn shared(&self) -> Place {
        Place::Shared {
            block: self.block,
            offset: self.offset,
        }
    }

    /// The runs of shared memory in which a piece lies: offset in the piece, offset in shared memory, bytes.
    fn chunks(&self, piece: &Piece) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (start, end, swizzle) = (
            self.offset + piece.at,
            self.offset + piece.at + piece.bytes,
            self.swizzle,
        );
        let mut at = start;
        std::iter::from_fn(move || {
            let next = (at / 16 * 16 + 16).min(end);
            let chunk = (
                (at - start) as usize,
                swizzle.place(at) as usize,
                next.saturating_sub(at) as usize,
            );
            at = next;
            (chunk.2 > 0).then_some(chunk)
        })
    }

    /// Moves the bytes. False if the launch has failed.
    pub fn perform(&self, grid: &mut Grid, block: &mut Block) -> bool {
        if self.loads {
            self.load(grid, block);
        } else {
            self.store(grid, block);
        }
        let written = self.written();
        complete(
            grid,
            block,
            (self.id, self.site),
            self.bytes,
            &written,
            self.completion,
        )
    }

    fn load(&self, grid: &mut Grid, block: &mut Block) {
        let mut data = Vec::new();
        for piece in &self.pieces {
            data.clear();
            match piece.global {
                Some(address) => {
                    data.resize(piece.bytes as usize, 0);
                    read(grid, block, Place::Global(address), &mut data);
                }
                None => data.extend(self.filler.iter().cycle().take(piece.bytes as usize)),
            }
            grid.with_block(block, self.block, |_, holder| {
                for (from, to, bytes) in self.chunks(piece) {
                    let shared = holder.shared.as_mut_slice();
                    shared[to..to + bytes].copy_from_slice(&data[from..from + bytes]);
                    holder.shared_state.mark_initialised(to..to + bytes);
                }
            });
        }
    }

    fn store(&self, grid: &mut Grid, block: &mut Block) {
        for piece in &self.pieces {
            let Some(address) = piece.global else {
                continue;
            };
            let mut data = vec![0; piece.bytes as usize];
            for (to, from, bytes) in self.chunks(piece) {
                data[to..to + bytes].copy_from_slice(&block.shared.as_slice()[from..from + bytes]);
            }
            if let Some((operation, ty)) = self.reduce {
                let mut old = vec![0; data.len()];
                read(grid, block, Place::Global(address), &mut old);
                combine(operation, ty, &old, &mut data);
            }
            // The range was checked when the copy was started, and nothing is freed during a launch.
            let _ = grid.memory.write(DevicePointer(address), &data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(global: Option<u64>, at: u32, bytes: u32) -> Piece {
        Piece { global, at, bytes }
    }

    #[test]
    fn boxes_are_cut_at_the_borders_of_the_tensor() {
        let map = TensorMap::tiled(ScalarType::U16, 0x1000, &[20, 3], &[64], &[8, 2]).unwrap();
        let inner = [
            piece(Some(0x1000 + 64 + 8), 0, 16),
            piece(Some(0x1000 + 128 + 8), 16, 16),
        ];
        assert_eq!(pieces(&map, &[4, 1]), inner);
        let right = [
            piece(Some(0x1000 + 128 + 32), 0, 8),
            piece(None, 8, 8),
            piece(None, 16, 16),
        ];
        assert_eq!(pieces(&map, &[16, 2]), right);
        let corner = [
            piece(None, 0, 16),
            piece(None, 16, 4),
            piece(Some(0x1000), 20, 12),
        ];
        assert_eq!(pieces(&map, &[-2, -1]), corner);
        for far in [
            [20, 0],
            [-8, 0],
            [i32::MIN, 1],
            [i32::MAX, 1],
            [0, i32::MIN],
            [0, i32::MAX],
        ] {
            assert!(
                pieces(&map, &far)
                    .iter()
                    .all(|piece| piece.global.is_none()),
                "{far:?}"
            );
        }
    }

    #[test]
    fn strides_leave_out_elements() {
        let mut map =
            TensorMap::tiled(ScalarType::F32, 0, &[4, 9, 2], &[16, 256], &[4, 5, 1]).unwrap();
        map.element_strides = vec![2, 2, 1];
        let starts: Vec<_> = pieces(&map, &[0, 1, 1])
            .iter()
            .map(|p| (p.global, p.at))
            .collect();
        assert_eq!(starts, [(Some(272), 0), (Some(304), 16), (Some(336), 32)]);
    }
}
