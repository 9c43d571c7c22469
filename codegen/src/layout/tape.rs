//! Which spans each SM reads, segment by segment.

use super::placement::cut_tiles;
use super::stack::{linears, matrix_shape, plain, stacks};
use super::{Cut, Formats, LayoutError, Placement, PlacementId, SPAN_ALIGN, Stack, WeightFormat};
use crate::plan::{Op, Plan, Segment, SegmentKind, WeightId};
use std::collections::HashMap;

/// Where all weights of a plan lie, and in which order each SM reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The sizes it is cut by.
    pub cut: Cut,
    /// Stacks of matrices in the arena. Segments that run the same op over the same matrices share one.
    pub placements: Vec<Placement>,
    /// Tables that embed ops gather rows from.
    pub tables: Vec<EmbeddingTable>,
    /// One for each segment of the plan, in its order.
    pub segments: Vec<SegmentTapes>,
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
    /// coded matrix, its own that no tape reads.
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

/// The tapes of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTapes {
    /// The segment.
    pub kind: SegmentKind,
    /// Its linear ops in order: what consumers run through.
    pub phases: Vec<Phase>,
    /// One for each SM: what producers run through.
    pub tapes: Vec<Vec<Entry>>,
}

/// A linear op as consumers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Index in the segment's ops.
    pub op: usize,
    /// Its stacks, in the order in which an SM that has tiles of several consumes them.
    pub placements: Vec<PlacementId>,
}

/// One entry of a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Bytes of the arena, known before the launch.
    Span(Span),
    /// Wait for an edge, read a control word and go on with the tape or span that it names.
    Indirect(ControlWord),
}

/// The tiles of one placement that an SM consumes in one phase, cut to stages by [`Stack::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What lies there.
    pub placement: PlacementId,
    /// Arena offset, a multiple of [`SPAN_ALIGN`].
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// First tile of the placement.
    pub first_tile: u32,
    /// Tiles, at least one.
    pub tiles: u32,
}

/// What an indirect entry waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlWord {
    /// The segment that runs next: the last entry of every tape but those of prompt chunks, which the host launches.
    NextSegment,
}

/// How evenly a phase's bytes fall on the SMs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Index of the op in its segment.
    pub op: usize,
    /// Bytes of the SM that has most.
    pub max: u64,
    /// Bytes of all SMs over their number.
    pub mean: f64,
}

impl Balance {
    /// Mean over maximum: 1 is even.
    pub fn share(&self) -> f64 {
        if self.max == 0 {
            1.0
        } else {
            self.mean / self.max as f64
        }
    }
}

impl Layout {
    /// Lays out all matrices of a validated plan.
    ///
    /// # Errors
    /// The cut is impossible, or a weight has no device form or one that does not fit a stage.
    pub fn new(plan: &Plan, formats: &Formats, cut: Cut) -> Result<Self, LayoutError> {
        if cut.sm_count == 0 || cut.tile_group == 0 {
            return Err(LayoutError::Cut {
                reason: format!(
                    "{} SMs and groups of {} tiles",
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
        layout.fill_tapes();
        Ok(layout)
    }

    /// Gives everything its place: SM by SM what tapes read, then the same of what they do not, then row-major tables.
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

    fn fill_tapes(&mut self) {
        for segment in &mut self.segments {
            let tapes = (0..self.cut.sm_count as usize).map(|sm| {
                let ids = segment.phases.iter().flat_map(|phase| &phase.placements);
                let spans = ids.filter_map(|&id| {
                    let placement = &self.placements[id.index()];
                    let (tiles, bytes) = (placement.tiles(sm), placement.span(sm));
                    (!tiles.is_empty()).then(|| {
                        Entry::Span(Span {
                            placement: id,
                            offset: bytes.start,
                            bytes: bytes.end - bytes.start,
                            first_tile: tiles.start,
                            tiles: tiles.end - tiles.start,
                        })
                    })
                });
                let end = last_entry(segment.kind);
                spans.chain(end).collect()
            });
            segment.tapes = tapes.collect();
        }
    }

    /// A placement. The id must come from this layout.
    pub fn placement(&self, id: PlacementId) -> &Placement {
        &self.placements[id.index()]
    }

    /// How evenly each phase of a segment falls on the SMs.
    pub fn balance(&self, segment: &SegmentTapes) -> Vec<Balance> {
        let phases = segment.phases.iter().map(|phase| {
            let of_sm = (0..self.cut.sm_count as usize).map(|sm| {
                let spans = phase
                    .placements
                    .iter()
                    .map(|id| self.placement(*id).span(sm));
                spans.map(|span| span.end - span.start).sum::<u64>()
            });
            let of_sm: Vec<u64> = of_sm.collect();
            let total: u64 = of_sm.iter().sum();
            Balance {
                op: phase.op,
                max: of_sm.iter().copied().max().unwrap_or(0),
                mean: total as f64 / f64::from(self.cut.sm_count),
            }
        });
        phases.collect()
    }
}

/// What ends the tapes of a segment.
pub(super) fn last_entry(kind: SegmentKind) -> Option<Entry> {
    let next = Entry::Indirect(ControlWord::NextSegment);
    match kind {
        SegmentKind::Prefill | SegmentKind::DraftPrefill => None,
        SegmentKind::Target | SegmentKind::Extend | SegmentKind::Draft => Some(next),
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
    fn segment(&mut self, segment: &Segment) -> Result<SegmentTapes, LayoutError> {
        let mut phases = Vec::new();
        for (op, linear) in linears(segment) {
            let stacks = stacks(self.plan, self.formats, linear)?;
            let placements = self.intern(stacks, true)?;
            phases.push(Phase { op, placements });
        }
        Ok(SegmentTapes {
            kind: segment.kind,
            phases,
            tapes: Vec::new(),
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
