//! From the rows of a call to what the kernel is told of them.

use super::{DeviceExecutor, DeviceKv};
use crate::plan::{Row, SegmentKind};
use crate::{Error, Result};
use stheno_codegen::program::abi::{Call, NONE, ROW_LIMIT};

/// A row after `start` committed positions.
struct Told {
    token: u32,
    position: usize,
    parent: Option<u32>,
    output: bool,
}

impl DeviceExecutor {
    /// Whether a call of the segment takes so many rows.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_count(&self, segment: SegmentKind, count: usize) -> Result<()> {
        let limit = self.rows_of(segment);
        match (1..=limit).contains(&count) {
            true => Ok(()),
            false => Err(Error::Invalid(format!(
                "{count} rows; a call of the {segment} segment takes 1 to {limit} on this device"
            ))),
        }
    }

    /// Checks the rows of a call over a sequence, as [`DeviceExecutor::forward`] does before it runs.
    ///
    /// # Errors
    /// They are no tree after what is committed, are too many, or reach past the context.
    pub(crate) fn check_rows(
        &self,
        segment: SegmentKind,
        rows: &[Row],
        kv: &DeviceKv,
    ) -> Result<()> {
        let start = kv.cache(segment).map_or(0, DeviceKv::len);
        self.tree(segment, start, rows).map(|_| ())
    }

    /// Checks the rows, a tree after `start` positions, and describes them to the kernel.
    pub(super) fn tree(&self, segment: SegmentKind, start: usize, rows: &[Row]) -> Result<Call> {
        self.describe(segment, start, rows.len(), |i| {
            let row = &rows[i];
            if row.sequence.0 != 0 {
                return Err(Error::Invalid(format!(
                    "row {i} names sequence {}, which is not there",
                    row.sequence.0
                )));
            }
            if row.delta.is_some() {
                return Err(Error::Unsupported(format!(
                    "row {i}: a device runs no deltas in this version"
                )));
            }
            let position = match row.parent {
                None => start,
                Some(parent) if (parent as usize) < i => {
                    rows[parent as usize].position as usize + 1
                }
                Some(parent) => {
                    return Err(Error::Invalid(format!(
                        "row {i}: parent {parent} is no earlier row of its sequence"
                    )));
                }
            };
            if row.position as usize != position {
                return Err(Error::Invalid(format!(
                    "row {i}: position {}, where its parent makes it {position}",
                    row.position
                )));
            }
            Ok(Told {
                token: row.token,
                position,
                parent: row.parent,
                output: row.output,
            })
        })
    }

    /// A call over a chain of tokens after `start` positions; `output` says whether a row has outputs.
    pub(super) fn chain(
        &self,
        segment: SegmentKind,
        start: usize,
        tokens: &[u32],
        output: impl Fn(usize) -> bool,
    ) -> Result<Call> {
        self.describe(segment, start, tokens.len(), |i| {
            Ok(Told {
                token: tokens[i],
                position: start + i,
                parent: i.checked_sub(1).map(|parent| parent as u32),
                output: output(i),
            })
        })
    }

    fn describe(
        &self,
        segment: SegmentKind,
        start: usize,
        count: usize,
        row: impl Fn(usize) -> Result<Told>,
    ) -> Result<Call> {
        self.check_count(segment, count)?;
        let (plan, sizes) = (self.plan(), &self.program().sizes);
        let index = plan.segments.iter().position(|s| s.kind == segment);
        let index = index.ok_or_else(|| Error::Invalid(format!("the plan has no {segment}")))?;
        let mut call = Call {
            segment: index as u32,
            run: 1,
            rows: count as u32,
            row_tiles: sizes.row_tiles(count as u32),
            output_rows: 0,
            output_tiles: 1,
            length: start as u32,
            chooses: 0,
            expected: NONE,
            expected_rows: 0,
            expected_outputs: 0,
            moved: 0,
            base: 0,
            listed: 0,
            unused: [0; 2],
            tokens: [0; ROW_LIMIT],
            positions: [0; ROW_LIMIT],
            parents: [NONE; ROW_LIMIT],
            outputs: [0; ROW_LIMIT],
            path: [0; ROW_LIMIT],
            sources: std::array::from_fn(|row| row as u8),
        };
        let context_length = plan.context_length as usize;
        for i in 0..count {
            let row = row(i)?;
            if row.position >= context_length {
                return Err(Error::ContextOverflow {
                    needed: row.position + 1,
                    context_length,
                });
            }
            if row.token >= plan.vocab_size {
                return Err(Error::Invalid(format!(
                    "row {i}: token {} is not in the vocabulary of {}",
                    row.token, plan.vocab_size
                )));
            }
            // Tokens of the target's padding only; a draft is fed another one for them.
            let is_known = row.token < plan.vocab_size_of(segment);
            call.tokens[i] = if is_known { row.token } else { 0 };
            call.positions[i] = row.position as u32;
            call.parents[i] = row.parent.unwrap_or(NONE);
            if row.output {
                call.outputs[call.output_rows as usize] = i as u32;
                call.output_rows += 1;
            }
        }
        call.output_tiles = sizes.row_tiles(call.output_rows.max(1));
        Ok(call)
    }
}
