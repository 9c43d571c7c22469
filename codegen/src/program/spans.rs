use super::abi::{SPAN_ARRIVES, Span};
use crate::layout::{Layout, PlacementId};

/// The tiles of every block for every stack that phases name, as one row of spans a block.
#[derive(Debug, Clone, Default)]
pub(super) struct SpanTable {
    columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    placement: PlacementId,
    /// Placements of the op whose last stack this is: a block that has tiles of any arrives at the op's edge.
    arrives: Vec<PlacementId>,
}

impl SpanTable {
    /// The column of a placement.
    pub fn column(&mut self, layout: &Layout, placement: PlacementId, arrives: bool) -> u32 {
        debug_assert!(placement.index() < layout.placements.len());
        let arrives = if arrives { vec![placement] } else { Vec::new() };
        self.intern(Column { placement, arrives })
    }

    /// The column of the last stack of an op.
    pub fn arriving(&mut self, layout: &Layout, placements: &[PlacementId]) -> u32 {
        match placements {
            [one] => self.column(layout, *one, true),
            [.., last] => self.intern(Column {
                placement: *last,
                arrives: placements.to_vec(),
            }),
            [] => 0,
        }
    }

    fn intern(&mut self, column: Column) -> u32 {
        let known = self.columns.iter().position(|other| *other == column);
        known.unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        }) as u32
    }

    /// Blocks that have tiles of any of the placements.
    pub fn arrivals(&self, layout: &Layout, placements: &[PlacementId]) -> u32 {
        let blocks = 0..layout.cut.sm_count as usize;
        let has = |block: &usize| has_tiles(layout, placements, *block);
        blocks.filter(has).count() as u32
    }

    /// The placement of a column.
    pub fn placement(&self, column: u32) -> Option<PlacementId> {
        let column = self.columns.get(column as usize)?;
        Some(column.placement)
    }

    /// Number of columns.
    pub fn len(&self) -> u32 {
        self.columns.len() as u32
    }

    /// All spans, `[block][column]`.
    pub fn build(&self, layout: &Layout) -> Vec<Span> {
        let blocks = 0..layout.cut.sm_count as usize;
        let rows = blocks.flat_map(|block| {
            self.columns.iter().map(move |column| {
                let placement = &layout.placements[column.placement.index()];
                let tiles = placement.tiles(block);
                let arrives = has_tiles(layout, &column.arrives, block);
                Span {
                    offset: placement.offsets[block],
                    first_tile: tiles.start,
                    tiles: (tiles.end - tiles.start) | if arrives { SPAN_ARRIVES } else { 0 },
                }
            })
        });
        rows.collect()
    }
}

fn has_tiles(layout: &Layout, placements: &[PlacementId], block: usize) -> bool {
    let mut placements = placements.iter().map(|id| &layout.placements[id.index()]);
    placements.any(|placement| !placement.tiles(block).is_empty())
}
