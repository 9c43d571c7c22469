//! What the lines of the source were counted by.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MemoryCounters, flops};
use crate::exec::Grid;

/// One line of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LineCounters {
    /// File, as the compiler wrote it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Instructions that warps executed.
    pub warp_instructions: u64,
    /// Instructions that lanes executed.
    pub lane_instructions: u64,
    /// Branches at which lanes of a warp parted.
    pub divergent_branches: u64,
    /// Floating-point or integer operations of tensor cores.
    pub tensor_flops: u64,
    /// Memory traffic.
    pub memory: MemoryCounters,
}

/// The lines that were executed, by file and line; none for PTX without line information. Code that was inlined counts
/// for the line that it was written at.
pub(super) fn of(grid: &Grid) -> Vec<LineCounters> {
    let mut lines: BTreeMap<(u32, u32), LineCounters> = BTreeMap::new();
    for (pc, count) in grid.counts.iter().enumerate() {
        let Some(location) = grid.program.origins[pc].location else {
            continue;
        };
        if count.warps == 0 {
            continue;
        }
        let line = lines.entry((location.file, location.line)).or_default();
        line.warp_instructions += count.warps;
        line.lane_instructions += count.lanes;
        line.divergent_branches += count.splits;
        line.tensor_flops += count.warps * flops(&grid.program, pc);
        line.memory.add(&grid.traffic[pc]);
    }
    let name = |file: u32| {
        let found = grid.files.iter().find(|(index, _)| *index == file);
        found.map_or_else(|| format!("file {file}"), |(_, name)| name.clone())
    };
    let mut lines: Vec<LineCounters> = lines
        .into_iter()
        .map(|((file, line), counters)| LineCounters {
            file: name(file),
            line,
            ..counters
        })
        .collect();
    lines.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    lines
}
