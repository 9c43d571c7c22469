//! Proof, before a launch, that producers and consumers agree.

use super::stack::{linears, matrix_shape};
use super::tape::last_entry;
use super::{
    Entry, Formats, Layout, LayoutError, Placement, RowOrder, SPAN_ALIGN, SegmentTapes, Span,
    TablePlace,
};
use crate::plan::{BufferId, Epilogue, Linear, Plan, SegmentKind};
use std::ops::Range;

/// Bytes that one step of a segment streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBytes {
    /// The segment.
    pub segment: SegmentKind,
    /// Bytes that tapes read.
    pub streamed: u64,
    /// Of these, elements and scales of the matrices.
    pub weights: u64,
    /// The rest: rows up to whole tiles, columns up to whole slices, scales repeated in each chunk.
    pub padding: u64,
}

impl Layout {
    /// Replays every tape against the plan. It holds afterwards that, for every segment,
    ///
    /// * each SM's tape has, op by op and stack by stack, the span of its tiles, then the segment's last entry;
    /// * the tiles of all SMs together are all tiles of every matrix of the op, each once, and every row of a matrix
    ///   stands in one row of one tile;
    /// * the stages that a producer cuts a span into are those in which a consumer, counting tile groups, chunks and
    ///   tiles, looks for its blocks, and none is longer than a stage;
    /// * spans are aligned, lie in the arena, and share no byte with another;
    /// * ops that add to one residual agree on which SM owns which rows.
    ///
    /// Returns what each segment streams.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn validate(&self, plan: &Plan, formats: &Formats) -> Result<Vec<StepBytes>, LayoutError> {
        let sm_count = self.cut.sm_count as usize;
        if sm_count == 0 || self.cut.tile_group == 0 || self.segments.len() != plan.segments.len() {
            let (tapes, segments) = (self.segments.len(), plan.segments.len());
            return Err(LayoutError::Cut {
                reason: format!("{sm_count} SMs, {tapes} lists of tapes for {segments} segments"),
            });
        }
        for (index, placement) in self.placements.iter().enumerate() {
            self.check_placement(placement)
                .map_err(|reason| LayoutError::Arena {
                    reason: format!("placement {index}: {reason}"),
                })?;
        }
        self.check_tables(plan)?;
        self.check_overlaps()?;
        let segments = plan.segments.iter().zip(&self.segments);
        let steps = segments.map(|(segment, tapes)| {
            let kind = segment.kind;
            let fail = |op: usize, reason: String| LayoutError::Phase {
                segment: kind,
                op,
                reason,
            };
            if tapes.kind != kind || tapes.tapes.len() != sm_count {
                let (other, count) = (tapes.kind, tapes.tapes.len());
                return Err(fail(
                    0,
                    format!("{count} tapes of {other} on {sm_count} SMs"),
                ));
            }
            let mut phases = tapes.phases.iter();
            let mut owners: Vec<(BufferId, &Placement)> = Vec::new();
            for (op, linear) in linears(segment) {
                let phase = phases.next().filter(|phase| phase.op == op);
                let phase = phase.ok_or_else(|| fail(op, "it has no phase".to_owned()))?;
                let placed = self.check_parts(plan, formats, linear, &phase.placements);
                let placed = placed.map_err(|reason| fail(op, reason))?;
                if let (
                    Epilogue::Residual {
                        residual: buffer, ..
                    },
                    [placement],
                ) = (&linear.epilogue, placed.as_slice())
                {
                    let owner = owners.iter().find(|(of, _)| of == buffer);
                    if owner.is_some_and(|(_, p)| p.first_tiles != placement.first_tiles) {
                        return Err(fail(op, "its residual rows belong to other SMs".to_owned()));
                    }
                    owners.push((*buffer, placement));
                }
            }
            if let Some(phase) = phases.next() {
                return Err(fail(phase.op, "it is no linear op".to_owned()));
            }
            let mut streamed = 0;
            for sm in 0..sm_count {
                streamed += self.replay(tapes, sm)?;
            }
            let placements = tapes.phases.iter().flat_map(|phase| &phase.placements);
            let useful = placements.map(|id| self.placement(*id).stack.useful_bytes());
            let weights: u64 = useful.sum();
            let padding = streamed.checked_sub(weights);
            let padding = padding.ok_or_else(|| {
                fail(
                    0,
                    format!("tapes read {streamed} bytes of {weights} of weights"),
                )
            })?;
            Ok(StepBytes {
                segment: kind,
                streamed,
                weights,
                padding,
            })
        });
        steps.collect()
    }

    /// What does not depend on who reads it: tile ranges, row orders, alignment and bounds.
    fn check_placement(&self, placement: &Placement) -> Result<(), String> {
        let stack = &placement.stack;
        let sm_count = self.cut.sm_count as usize;
        if stack.k == 0 || stack.tiles() == 0 {
            return Err(format!("{} tiles of {} columns", stack.tiles(), stack.k));
        }
        let (first, last) = (placement.first_tiles.first(), placement.first_tiles.last());
        let rising = placement.first_tiles.is_sorted();
        if placement.first_tiles.len() != sm_count + 1
            || (first, last) != (Some(&0), Some(&stack.tiles()))
            || !rising
        {
            return Err(format!(
                "its tile ranges do not cover its {} tiles once",
                stack.tiles()
            ));
        }
        if placement.offsets.len() != sm_count {
            return Err(format!(
                "{} spans for {sm_count} SMs",
                placement.offsets.len()
            ));
        }
        if stack.block_bytes(0) > self.cut.stage_bytes.into() {
            return Err("its blocks are longer than a stage".to_owned());
        }
        for part in &stack.parts {
            let tiles = part.tiles();
            let place = |row| {
                let (tile, r) = part.order.place(row);
                (part.first_tile.checked_add(tile), r)
            };
            for row in 0..part.n {
                let found = match place(row) {
                    (Some(tile), r) if tiles.contains(&tile) => stack.row(tile, r),
                    _ => None,
                };
                if found != Some((part, row)) {
                    return Err(format!(
                        "row {row} of weight {} stands nowhere",
                        part.weight.0
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_tables(&self, plan: &Plan) -> Result<(), LayoutError> {
        for table in &self.tables {
            let (rows, k) = matrix_shape(plan, table.weight)?;
            let fits = table.rows == rows
                && match table.place {
                    TablePlace::Rows { stride, .. } => {
                        stride % 16 == 0 && stride >= 2 * u64::from(k)
                    }
                    TablePlace::Tiles(id) => self.placements.get(id.index()).is_some_and(|p| {
                        let [part] = p.stack.parts.as_slice() else {
                            return false;
                        };
                        part.weight == table.weight && part.order == RowOrder::Plain
                    }),
                };
            if !fits {
                let name = plan.weight(table.weight).name.clone();
                let reason = "its rows cannot be gathered from where they lie".to_owned();
                return Err(LayoutError::Weight { name, reason });
            }
        }
        Ok(())
    }

    fn check_overlaps(&self) -> Result<(), LayoutError> {
        let sms = 0..self.cut.sm_count as usize;
        let placed = self.placements.iter().enumerate();
        let spans = placed.flat_map(|(i, p)| sms.clone().map(move |sm| (p.span(sm), i)));
        let tables = self.tables.iter().filter_map(|table| match table.place {
            TablePlace::Rows { offset, stride, .. } => {
                let end = offset + u64::from(table.rows) * stride;
                Some((offset..end, self.placements.len()))
            }
            TablePlace::Tiles(_) => None,
        });
        let mut ranges: Vec<(Range<u64>, usize)> = spans.chain(tables).collect();
        ranges.retain(|(range, _)| !range.is_empty());
        ranges.sort_by_key(|(range, _)| range.start);
        let mut end = 0;
        for (range, owner) in ranges {
            let fault = if !range.start.is_multiple_of(SPAN_ALIGN) {
                "is not aligned"
            } else if range.start < end {
                "overlaps what lies before it"
            } else if range.end > self.arena_bytes {
                "ends outside"
            } else {
                end = range.end;
                continue;
            };
            let reason = format!("span {range:?} of placement {owner} {fault}");
            return Err(LayoutError::Arena { reason });
        }
        Ok(())
    }

    /// Whether the stacks of a phase hold the parts of its op, in order, in the order of rows that the epilogue needs.
    fn check_parts(
        &self,
        plan: &Plan,
        formats: &Formats,
        linear: &Linear,
        ids: &[super::PlacementId],
    ) -> Result<Vec<&Placement>, String> {
        let find = |id: &super::PlacementId| {
            let placement = self.placements.get(id.index()).filter(|p| p.streamed);
            placement.ok_or_else(|| format!("placement {} is not there for tapes", id.0))
        };
        let placed = ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let parts = placed.iter().flat_map(|placement| {
            let stack = &placement.stack;
            stack.parts.iter().map(move |part| (stack, part))
        });
        let mut parts = parts.peekable();
        for (i, expected) in linear.parts.iter().enumerate() {
            let name = &plan.weight(expected.weight).name;
            let Some((stack, part)) = parts.next() else {
                return Err(format!("`{name}` lies nowhere"));
            };
            let shape = matrix_shape(plan, expected.weight).map_err(|e| e.to_string())?;
            let format = formats.get(expected.weight);
            if part.weight != expected.weight
                || shape != (part.n, stack.k)
                || format != Some(stack.format)
            {
                let other = part.weight.0;
                let found = format!("weight {other} [{}, {}] {}", part.n, stack.k, stack.format);
                return Err(format!("`{name}` is expected, {found} lies there"));
            }
            let order = match &linear.epilogue {
                Epilogue::Gated { .. } if i == 0 => RowOrder::Gate,
                Epilogue::Gated { .. } => RowOrder::Up,
                _ => RowOrder::Plain,
            };
            if part.order != order {
                return Err(format!("rows of `{name}` stand in order {:?}", part.order));
            }
        }
        match parts.next() {
            Some((_, part)) => Err(format!("weight {} is none of its parts", part.weight.0)),
            None => Ok(placed),
        }
    }

    /// Runs through a tape as the SM's producer and consumers do; returns the bytes read.
    fn replay(&self, segment: &SegmentTapes, sm: usize) -> Result<u64, LayoutError> {
        let fail = |entry: usize, reason: String| LayoutError::Tape {
            segment: segment.kind,
            sm,
            entry,
            reason,
        };
        let mut entries = segment.tapes[sm].iter().enumerate();
        let mut bytes = 0;
        for phase in &segment.phases {
            for &id in &phase.placements {
                let placement = self.placement(id);
                let tiles = placement.tiles(sm);
                if tiles.is_empty() {
                    continue;
                }
                let Some((at, entry)) = entries.next() else {
                    let end = segment.tapes[sm].len();
                    return Err(fail(
                        end,
                        format!("op {} finds the tape at its end", phase.op),
                    ));
                };
                let range = placement.span(sm);
                let expected = Entry::Span(Span {
                    placement: id,
                    offset: range.start,
                    bytes: range.end - range.start,
                    first_tile: tiles.start,
                    tiles: tiles.end - tiles.start,
                });
                if *entry != expected {
                    let op = phase.op;
                    return Err(fail(
                        at,
                        format!("op {op} needs {expected:?}, found {entry:?}"),
                    ));
                }
                let count = tiles.end - tiles.start;
                let length = range.end - range.start;
                self.check_stages(placement, count, length)
                    .map_err(|e| fail(at, e))?;
                bytes += length;
            }
        }
        let rest: Vec<Entry> = entries.map(|(_, entry)| *entry).collect();
        if rest != last_entry(segment.kind).into_iter().collect::<Vec<_>>() {
            let at = segment.tapes[sm].len() - rest.len();
            return Err(fail(
                at,
                format!("after its last op the tape goes on with {rest:?}"),
            ));
        }
        Ok(bytes)
    }

    /// Whether the consumer finds each block where the producer put it.
    fn check_stages(&self, placement: &Placement, tiles: u32, bytes: u64) -> Result<(), String> {
        let (cut, stack) = (self.cut, &placement.stack);
        let stages = stack.stages(cut, tiles);
        if stages.last().map(|stage| stage.end) != Some(bytes) {
            return Err("its stages do not end with the span".to_owned());
        }
        if let Some(stage) = stages.iter().find(|stage| {
            stage.end - stage.start > u64::from(cut.stage_bytes) || stage.start % 16 != 0
        }) {
            return Err(format!("stage {stage:?} is too long or not aligned"));
        }
        // In the order of consumption each block begins where the last ended, and no stage is looked at again.
        let (mut end, mut current) = (0, 0);
        for first in (0..tiles).step_by(cut.tile_group as usize) {
            for chunk in 0..stack.chunks() {
                for tile in first..tiles.min(first.saturating_add(cut.tile_group)) {
                    let offset = stack.block_offset(cut, tiles, tile, chunk);
                    let (stage, byte) = stack.locate(cut, tiles, tile, chunk);
                    let found = usize::try_from(stage).ok().and_then(|i| stages.get(i));
                    let found = found.map(|range| range.start + byte);
                    if offset != end || found != Some(offset) || stage < current {
                        return Err(format!(
                            "block of tile {tile}, chunk {chunk} lies at {offset}, after {end}; \
                             the consumer looks in stage {stage}, at {found:?}"
                        ));
                    }
                    (end, current) = (offset + stack.block_bytes(chunk), stage);
                    if stages[current as usize].end < end {
                        return Err(format!("stage {current} ends within a block"));
                    }
                }
            }
        }
        if end != bytes {
            return Err(format!("consumers read {end} of {bytes} bytes"));
        }
        Ok(())
    }
}
