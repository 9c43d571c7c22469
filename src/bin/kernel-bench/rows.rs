//! What whole calls are fed.

use crate::cases::{BenchOp, DRAFT_WIDTH};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

/// Rows of a call after `start` positions: a tree, siblings, or a chain. A verification and a level of a draft go on from all of
/// them, other calls from the last.
pub fn of(op: BenchOp, start: u32, tokens: &[u32]) -> Vec<Row> {
    let mut rows = Row::chain(SequenceIndex(0), start, tokens);
    match op {
        BenchOp::TreeVerify => as_tree(&mut rows),
        BenchOp::DraftLayer => as_level(&mut rows),
        _ => {}
    }
    if matches!(op.segment(), SegmentKind::Target | SegmentKind::Draft) {
        rows.iter_mut().for_each(|row| row.output = true);
    }
    rows
}

/// Makes a tree of a chain: a root, then levels of [`DRAFT_WIDTH`] nodes, two below each of the first of the level above.
fn as_tree(rows: &mut [Row]) {
    let width = DRAFT_WIDTH as usize;
    let start = rows.first().map_or(0, |root| root.position);
    for (index, row) in rows.iter_mut().enumerate().skip(1) {
        let (level, place) = ((index - 1) / width, (index - 1) % width);
        let above = match level {
            0 => 0,
            _ => 1 + (level - 1) * width + place / 2,
        };
        row.parent = Some(above as u32);
        row.position = start + level as u32 + 1;
    }
}

/// Makes siblings of a chain.
fn as_level(rows: &mut [Row]) {
    let start = rows.first().map_or(0, |first| first.position);
    for row in rows {
        row.parent = None;
        row.position = start;
    }
}

/// Numbers between -1 and 1, `[rows][columns]`.
pub fn hidden_states(rows: usize, columns: u32) -> Vec<f32> {
    let count = rows as u32 * columns;
    let bits = (1..=count).map(|i| i.wrapping_mul(2_654_435_761) >> 8);
    bits.map(|bits| bits as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_levels_of_eight() {
        let mut rows = Row::chain(SequenceIndex(0), 5, &[0; 20]);
        as_tree(&mut rows);
        let parents: Vec<u32> = rows.iter().filter_map(|row| row.parent).collect();
        assert_eq!(
            parents,
            [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 9, 9, 10]
        );
        for row in rows.iter().skip(1) {
            let parent = &rows[row.parent.unwrap() as usize];
            assert_eq!(row.position, parent.position + 1);
        }
    }
}
