//! Where the weights of a whole plan lie.

use super::placement::cut_tiles;
use super::stack::{linears, matrix_shape, plain, stacks};
use super::{Cut, Formats, LayoutError, Placement, PlacementId, SPAN_ALIGN, Stack, WeightFormat};
use crate::plan::{Op, Plan, Segment, SegmentKind, WeightId};
use std::collections::HashMap;

/// Where all weights of a plan lie. The order in which SMs fetch them is the device program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The sizes it is cut by.
    pub cut: Cut,
    /// Stacks of matrices in the arena. Segments that run the same op over the same matrices share one.
    pub placements: Vec<Placement>,
    /// Tables that embed ops gather rows from.
    pub tables: Vec<EmbeddingTable>,
    /// One for each segment of the plan, in its order.
    pub segments: Vec<SegmentPlacements>,
    /// Size of the arena.
    pub arena_bytes: u64,
}

/// Where the rows of an embedding matrix are gathered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingTable {
    /// The matrix.
    pub weight: WeightId,
    /// Its rows.
    pub rows: u32,
    /// Where they lie.
    pub place: TablePlace,
}

/// Place of an [`EmbeddingTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TablePlace {
    /// The tiles of a placement with this one part in [`super::RowOrder::Plain`]: the head's if it is tied, else, for a
    /// coded matrix, its own that is not streamed.
    Tiles(PlacementId),
    /// Row-major 16-bit elements.
    Rows {
        /// [`WeightFormat::Bf16`] or [`WeightFormat::F16`].
        format: WeightFormat,
        /// Arena offset of row 0.
        offset: u64,
        /// Bytes from row to row, a multiple of 16.
        stride: u64,
    },
}

/// Where one segment's weights lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPlacements {
    /// The segment.
    pub kind: SegmentKind,
    /// Its linear ops in order.
    pub phases: Vec<Phase>,
}

/// Where a linear op's weights lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Index in the segment's ops.
    pub op: usize,
    /// Its stacks, in the order in which an SM that has tiles of several consumes them.
    pub placements: Vec<PlacementId>,
}

impl Layout {
    /// Lays out all matrices of a validated plan.
    ///
    /// # Errors
    /// The cut is impossible, or a weight has no device form or one that does not fit a stage.
    pub fn new(plan: &Plan, formats: &Formats, cut: Cut) -> Result<Self, LayoutError> {
        if cut.sm_count == 0 || !cut.tile_group.is_power_of_two() {
            return Err(LayoutError::Cut {
                reason: format!(
                    "{} SMs and groups of {} tiles, which must be a power of two",
                    cut.sm_count, cut.tile_group
                ),
            });
        }
        let mut builder = Builder {
            plan,
            formats,
            cut,
            placements: Vec::new(),
            of_stacks: HashMap::new(),
        };
        let segments = plan.segments.iter().map(|s| builder.segment(s));
        let segments = segments.collect::<Result<Vec<_>, _>>()?;
        let mut tables = Vec::new();
        for op in plan.segments.iter().flat_map(|segment| &segment.ops) {
            let Op::Embed { table, .. } = op else {
                continue;
            };
            if tables.iter().all(|t: &EmbeddingTable| t.weight != *table) {
                tables.push(builder.table(*table)?);
            }
        }
        let mut layout = Layout {
            cut,
            placements: builder.placements,
            tables,
            segments,
            arena_bytes: 0,
        };
        layout.place();
        Ok(layout)
    }

    /// Gives everything its place: SM by SM what is streamed, then the same of what is not, then row-major tables.
    fn place(&mut self) {
        let mut end = 0u64;
        for streamed in [true, false] {
            for sm in 0..self.cut.sm_count as usize {
                let placements = self.placements.iter_mut();
                for placement in placements.filter(|p| p.streamed == streamed) {
                    end = end.next_multiple_of(SPAN_ALIGN);
                    placement.offsets.push(end);
                    end = placement.span(sm).end;
                }
            }
        }
        for table in &mut self.tables {
            if let TablePlace::Rows { offset, stride, .. } = &mut table.place {
                end = end.next_multiple_of(SPAN_ALIGN);
                *offset = end;
                end += u64::from(table.rows) * *stride;
            }
        }
        self.arena_bytes = end.next_multiple_of(SPAN_ALIGN);
    }

    /// A placement. The id must come from this layout.
    pub fn placement(&self, id: PlacementId) -> &Placement {
        &self.placements[id.index()]
    }
}

/// Bytes of one stack, at most: beyond all memories, and small enough that sums do not overflow.
const PLACEMENT_MAX: u128 = 1 << 44;

struct Builder<'a> {
    plan: &'a Plan,
    formats: &'a Formats,
    cut: Cut,
    placements: Vec<Placement>,
    of_stacks: HashMap<Vec<Stack>, Vec<PlacementId>>,
}

impl Builder<'_> {
    fn segment(&mut self, segment: &Segment) -> Result<SegmentPlacements, LayoutError> {
        let mut phases = Vec::new();
        for (op, linear) in linears(segment) {
            let stacks = stacks(self.plan, self.formats, linear)?;
            let placements = self.intern(stacks, true)?;
            phases.push(Phase { op, placements });
        }
        Ok(SegmentPlacements {
            kind: segment.kind,
            phases,
        })
    }

    /// The placements of an op's stacks, new ones unless an equal op came before.
    fn intern(
        &mut self,
        stacks: Vec<Stack>,
        streamed: bool,
    ) -> Result<Vec<PlacementId>, LayoutError> {
        if let Some(ids) = self.of_stacks.get(&stacks) {
            return Ok(ids.clone());
        }
        for stack in &stacks {
            let block = stack.block_bytes(0);
            if block > self.cut.stage_bytes.into() {
                let stage = self.cut.stage_bytes;
                let reason = format!("a block of {block} bytes does not fit a stage of {stage}");
                return Err(LayoutError::Cut { reason });
            }
            let bytes = u128::from(stack.tiles()) * u128::from(stack.tile_bytes());
            if bytes > PLACEMENT_MAX {
                let name = stack.parts.first().map(|part| part.weight);
                return Err(LayoutError::Weight {
                    name: name.map_or(String::new(), |id| self.plan.weight(id).name.clone()),
                    reason: format!("its op would read {bytes} bytes"),
                });
            }
        }
        let firsts = cut_tiles(&stacks, self.cut.sm_count);
        let mut ids = Vec::new();
        for (stack, first_tiles) in stacks.iter().zip(firsts) {
            ids.push(PlacementId(self.placements.len() as u32));
            self.placements.push(Placement {
                stack: stack.clone(),
                first_tiles,
                offsets: Vec::new(),
                streamed,
            });
        }
        self.of_stacks.insert(stacks, ids.clone());
        Ok(ids)
    }

    fn table(&mut self, weight: WeightId) -> Result<EmbeddingTable, LayoutError> {
        let (rows, k) = matrix_shape(self.plan, weight)?;
        let format = self.formats.of(self.plan, weight)?;
        let stack = plain(weight, rows, k, format);
        let key = vec![stack];
        let unplaced = !self.of_stacks.contains_key(&key);
        if unplaced && u128::from(rows) * 2 * u128::from(k) > PLACEMENT_MAX {
            return Err(LayoutError::Weight {
                name: self.plan.weight(weight).name.clone(),
                reason: format!("its table would take {rows} rows of {k} elements"),
            });
        }
        let place = match (self.of_stacks.get(&key), format) {
            (Some(ids), _) => TablePlace::Tiles(ids[0]),
            (None, WeightFormat::Bf16 | WeightFormat::F16) => TablePlace::Rows {
                format,
                offset: 0,
                stride: (2 * u64::from(k)).next_multiple_of(16),
            },
            (None, _) => TablePlace::Tiles(self.intern(key, false)?[0]),
        };
        Ok(EmbeddingTable {
            weight,
            rows,
            place,
        })
    }
}
