//! Proof that every matrix of a plan lies whole, once, and where its ops need it.

use super::stack::{linears, matrix_shape};
use super::{
    Formats, Layout, LayoutError, Placement, PlacementId, RowOrder, SPAN_ALIGN, TablePlace,
};
use crate::plan::{BufferId, Epilogue, Linear, Plan, SegmentKind};
use std::ops::Range;

/// Bytes that one step of a segment streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBytes {
    /// The segment.
    pub segment: SegmentKind,
    /// Bytes of all blocks of its linear ops' stacks.
    pub streamed: u64,
    /// Of these, elements and scales of the matrices.
    pub weights: u64,
    /// The rest: rows up to whole tiles, columns up to whole slices, scales repeated in each chunk.
    pub padding: u64,
}

impl Layout {
    /// Checks every placement against the plan. It holds afterwards that
    ///
    /// * the tiles of all SMs together are all tiles of every matrix of an op, each once, and every row of a matrix stands
    ///   in one row of one tile, in the order that the op's epilogue needs;
    /// * no block is longer than a stage;
    /// * the blocks of a span follow each other without gap in the order group, chunk, tile;
    /// * spans are aligned, lie in the arena, and share no byte with another;
    /// * ops that add to one residual agree on which SM owns which rows;
    /// * rows of embedding tables can be gathered from where they lie.
    ///
    /// Returns what each segment streams.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn validate(&self, plan: &Plan, formats: &Formats) -> Result<Vec<StepBytes>, LayoutError> {
        let sm_count = self.cut.sm_count as usize;
        let is_cut = sm_count > 0 && self.cut.tile_group.is_power_of_two();
        if !is_cut || self.segments.len() != plan.segments.len() {
            let (own, segments) = (self.segments.len(), plan.segments.len());
            return Err(LayoutError::Cut {
                reason: format!("{sm_count} SMs, places of {own} segments for {segments}"),
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
        let steps = segments.map(|(segment, placed)| {
            let kind = segment.kind;
            let fail = |op: usize, reason: String| LayoutError::Phase {
                segment: kind,
                op,
                reason,
            };
            if placed.kind != kind {
                return Err(fail(0, format!("its weights are those of {}", placed.kind)));
            }
            let mut phases = placed.phases.iter();
            let mut owners: Vec<(BufferId, &Placement)> = Vec::new();
            for (op, linear) in linears(segment) {
                let phase = phases.next().filter(|phase| phase.op == op);
                let phase = phase.ok_or_else(|| fail(op, "it has no phase".to_owned()))?;
                let stacks = self.check_parts(plan, formats, linear, &phase.placements);
                let stacks = stacks.map_err(|reason| fail(op, reason))?;
                if let (
                    Epilogue::Residual {
                        residual: buffer, ..
                    },
                    [placement],
                ) = (&linear.epilogue, stacks.as_slice())
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
            let ids = placed.phases.iter().flat_map(|phase| &phase.placements);
            let stacks = ids.map(|id| &self.placement(*id).stack);
            let bytes = stacks.fold((0, 0), |(streamed, weights), stack| {
                let all = u64::from(stack.tiles()) * stack.tile_bytes();
                (streamed + all, weights + stack.useful_bytes())
            });
            let (streamed, weights) = bytes;
            let padding = streamed - weights;
            Ok(StepBytes {
                segment: kind,
                streamed,
                weights,
                padding,
            })
        });
        steps.collect()
    }

    /// What does not depend on the ops that read it: tile ranges, order of rows, order of blocks.
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
        (0..sm_count).try_for_each(|sm| self.check_blocks(placement, sm))
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
        ids: &[PlacementId],
    ) -> Result<Vec<&Placement>, String> {
        let find = |id: &PlacementId| {
            let placement = self.placements.get(id.index()).filter(|p| p.streamed);
            placement.ok_or_else(|| format!("placement {} is not there to be streamed", id.0))
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

    /// Whether each block of an SM's tiles begins where the last ended, in the order group, chunk, tile.
    fn check_blocks(&self, placement: &Placement, sm: usize) -> Result<(), String> {
        let (stack, tiles, span) = (&placement.stack, placement.tiles(sm), placement.span(sm));
        let mut end = span.start;
        for group in self.cut.groups(tiles.end - tiles.start) {
            for chunk in 0..stack.chunks() {
                for tile in group.clone().map(|tile| tiles.start + tile) {
                    let at = placement.block(self.cut, tile, chunk);
                    if at != end {
                        return Err(format!(
                            "block of tile {tile}, chunk {chunk} lies at {at}, the one before it ends at {end}"
                        ));
                    }
                    end = at + stack.block_bytes(chunk);
                }
            }
        }
        if end == span.end {
            Ok(())
        } else {
            Err(format!("its blocks end at {end} in a span {span:?}"))
        }
    }
}
