use super::BufferId;
use std::collections::HashMap;

/// Which columns of which buffers a segment has written so far.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Disjoint ranges of columns that do not touch, in order.
    ranges: HashMap<BufferId, Vec<(u32, u32)>>,
}

impl Coverage {
    /// Notes columns `start..end`.
    pub fn write(&mut self, buffer: BufferId, start: u32, end: u32) {
        let ranges = self.ranges.entry(buffer).or_default();
        let (mut start, mut end) = (start, end);
        ranges.retain(|&(from, to)| {
            let apart = to < start || end < from;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        let at = ranges.partition_point(|&(from, _)| from < start);
        ranges.insert(at, (start, end));
    }

    /// Whether all of the columns `start..end` are written.
    pub fn covers(&self, buffer: BufferId, start: u32, end: u32) -> bool {
        let ranges = self.ranges.get(&buffer);
        ranges.is_some_and(|ranges| ranges.iter().any(|&(from, to)| from <= start && end <= to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_ranges_that_touch() {
        let (mut coverage, a, b) = (Coverage::default(), BufferId(0), BufferId(1));
        coverage.write(a, 0, 4);
        coverage.write(a, 8, 12);
        assert!(coverage.covers(a, 1, 3) && coverage.covers(a, 8, 12));
        assert!(!coverage.covers(a, 0, 12) && !coverage.covers(b, 0, 1));
        coverage.write(a, 4, 8);
        assert!(coverage.covers(a, 0, 12) && !coverage.covers(a, 0, 13));
        coverage.write(a, 2, 20);
        assert!(coverage.covers(a, 0, 20));
    }
}
