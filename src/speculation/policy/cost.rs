use std::time::Duration;

/// Time of a step of some number of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCost {
    /// Rows.
    pub rows: usize,
    /// Seconds.
    pub seconds: f64,
}

/// What a step of the target costs, by its number of rows: measured at a short context, and corrected by what steps
/// take as the context grows.
#[derive(Debug, Clone, PartialEq)]
pub struct CostTable {
    /// In order of rows, at least one.
    steps: Vec<StepCost>,
    /// Seconds that a row costs more for each position that it attends to.
    per_row_and_position: f64,
}

/// How fast corrections forget.
const DECAY: f64 = 0.1;

impl CostTable {
    /// A table of measured steps. Empty ones cost nothing; times that fall with the rows are taken as noise.
    pub fn new(mut steps: Vec<StepCost>) -> Self {
        steps.sort_by_key(|step| step.rows);
        steps.dedup_by_key(|step| step.rows);
        let mut largest = 0.0;
        for step in &mut steps {
            step.seconds = step.seconds.max(largest);
            largest = step.seconds;
        }
        CostTable {
            steps,
            per_row_and_position: 0.0,
        }
    }

    /// The steps measured.
    pub fn steps(&self) -> &[StepCost] {
        &self.steps
    }

    /// Seconds of a step of `rows` rows after `positions` committed positions.
    pub fn seconds(&self, rows: usize, positions: usize) -> f64 {
        self.at_start(rows) + rows as f64 * positions as f64 * self.per_row_and_position
    }

    /// Candidates of a node that are worth asking for: many where rows are cheap.
    pub(crate) fn topk(&self, positions: usize) -> usize {
        let cheap = |k: &usize| self.seconds(2 * k, positions) <= 1.6 * self.seconds(1, positions);
        [8, 4, 2].into_iter().find(cheap).unwrap_or(1)
    }

    /// Between measured numbers of rows, a line; beyond the last, the line from the first through it.
    fn at_start(&self, rows: usize) -> f64 {
        let after = self.steps.partition_point(|step| step.rows < rows);
        let (Some(first), Some(last)) = (self.steps.first(), self.steps.last()) else {
            return 0.0;
        };
        let (a, b) = match (after.checked_sub(1), self.steps.get(after)) {
            (_, Some(step)) if step.rows == rows => return step.seconds,
            (None, _) => return first.seconds,
            (Some(before), Some(step)) => (&self.steps[before], step),
            (Some(_), None) => (first, last),
        };
        if a.rows == b.rows {
            return b.seconds;
        }
        let slope = (b.seconds - a.seconds) / (b.rows as f64 - a.rows as f64);
        a.seconds + (rows as f64 - a.rows as f64) * slope
    }

    /// Takes note of what a step took.
    pub fn observe(&mut self, rows: usize, positions: usize, time: Duration) {
        let work = rows as f64 * positions as f64;
        if work < 1.0 {
            return;
        }
        let base = self.at_start(rows);
        // A step that something interrupted says nothing.
        let time = time
            .as_secs_f64()
            .min(2.0 * self.seconds(rows, positions) + base);
        let slope = ((time - base) / work).max(0.0);
        self.per_row_and_position += DECAY * (slope - self.per_row_and_position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(steps: &[(usize, f64)]) -> CostTable {
        let step = |&(rows, seconds): &(usize, f64)| StepCost { rows, seconds };
        CostTable::new(steps.iter().map(step).collect())
    }

    #[test]
    fn lies_between_the_steps_measured() {
        let table = table(&[(8, 3.0), (1, 1.0), (4, 2.0)]);
        let seconds: Vec<f64> = [0, 1, 2, 4, 6, 8, 15]
            .map(|rows| table.seconds(rows, 100))
            .to_vec();
        assert_eq!(seconds[..2], [1.0, 1.0]);
        assert!((seconds[2] - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(seconds[3..], [2.0, 2.5, 3.0, 5.0]);
        assert_eq!(CostTable::new(Vec::new()).seconds(3, 3), 0.0);
    }

    #[test]
    fn more_rows_never_cost_less() {
        let table = table(&[(1, 2.0), (2, 1.0), (4, 3.0)]);
        assert_eq!(table.seconds(2, 0), 2.0);
        assert_eq!(table.seconds(3, 0), 2.5);
    }

    #[test]
    fn learns_what_positions_cost() {
        let mut table = table(&[(1, 1.0), (8, 2.0)]);
        for _ in 0..200 {
            table.observe(8, 1000, Duration::from_millis(2800));
        }
        assert!((table.seconds(8, 1000) - 2.8).abs() < 0.01);
        assert!((table.seconds(1, 1000) - 1.1).abs() < 0.01);
        assert_eq!(table.seconds(8, 0), 2.0);
        // One interruption of a minute is not believed.
        table.observe(8, 1000, Duration::from_secs(60));
        assert!(table.seconds(8, 1000) < 4.0);
    }
}
