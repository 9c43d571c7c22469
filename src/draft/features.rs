/// Hidden states of the last positions of a sequence: what a draft has not used yet, and some that it has, so that a
/// short rewind finds them.
#[derive(Debug, Clone, Default)]
pub(super) struct FeatureTail {
    columns: usize,
    /// Position of the first row.
    from: usize,
    /// [positions, columns].
    values: Vec<f32>,
}

/// Used rows that are kept: more than a round commits.
const KEPT: usize = 64;

impl FeatureTail {
    pub fn new(columns: usize) -> Self {
        FeatureTail {
            columns,
            ..FeatureTail::default()
        }
    }

    /// Position of the first row.
    pub fn from(&self) -> usize {
        self.from
    }

    /// One more than the position of the last row.
    pub fn end(&self) -> usize {
        self.from + self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Appends the rows of `count` positions, [count, columns]. Other sizes mean that they are not known.
    pub fn push(&mut self, count: usize, rows: &[f32]) {
        if rows.len() == count * self.columns {
            self.values.extend_from_slice(rows);
        } else {
            self.from = self.end() + count;
            self.values.clear();
        }
    }

    /// Rows of the positions `start..end`; `None` if one of them is not there.
    pub fn rows(&self, start: usize, end: usize) -> Option<&[f32]> {
        let first = start.checked_sub(self.from)? * self.columns;
        self.values.get(first..(end - self.from) * self.columns)
    }

    /// Forgets positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let rows = len.saturating_sub(self.from);
        self.values.truncate(rows * self.columns);
        self.from = self.from.min(len);
    }

    /// Lets go of positions before `used`, but for the last ones; now and then, since it moves the rest.
    pub fn release(&mut self, used: usize) {
        let least = used.saturating_sub(KEPT);
        if least >= self.from + KEPT {
            self.values.drain(..(least - self.from) * self.columns);
            self.from = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_rewind_needs() {
        let mut tail = FeatureTail::new(2);
        (0..300).for_each(|i| tail.push(1, &[i as f32, 0.5]));
        assert_eq!((tail.from(), tail.end()), (0, 300));
        tail.release(300);
        assert_eq!((tail.from(), tail.end()), (300 - KEPT, 300));
        assert_eq!(tail.rows(298, 300), Some(&[298.0, 0.5, 299.0, 0.5][..]));
        assert_eq!(tail.rows(200, 300), None);
        assert_eq!(tail.rows(299, 301), None);
        tail.truncate(250);
        assert_eq!(tail.rows(249, 250), Some(&[249.0, 0.5][..]));
        tail.truncate(10);
        assert_eq!((tail.from(), tail.end()), (10, 10));
        tail.push(1, &[1.0, 2.0]);
        assert_eq!(tail.rows(10, 11), Some(&[1.0, 2.0][..]));
        tail.push(5, &[]);
        assert_eq!((tail.from(), tail.end(), tail.rows(10, 11)), (16, 16, None));
    }
}
