//! What steps of the target cost, by their rows.

use super::{DeviceCall, DeviceExecutor, Event, Stepper};
use crate::Result;
use crate::plan::{Row, SegmentKind, SequenceIndex};
use crate::speculation::{CostTable, StepCost};
use std::sync::Arc;
use std::time::Duration;
use stheno_codegen::program::CallShape;
use stheno_codegen::program::abi::{COST_STEPS, ROW_LIMIT};

/// Runs of each step; the shortest counts.
const REPEATS: usize = 4;

/// Bytes a second of memory where a device does not say it, and how much faster L2 is.
const BANDWIDTH: f64 = 2e12;
const L2_FACTOR: f64 = 2.5;

impl DeviceExecutor {
    /// Measures steps of 1, 2, 4... rows at the beginning of a sequence, in a few milliseconds. On a virtual device, of which no
    /// time means anything, they are reckoned from the bytes that they move.
    ///
    /// # Errors
    /// Device memory does not suffice, or the device failed.
    pub fn step_costs(self: &Arc<Self>) -> Result<CostTable> {
        let most = self.rows_of(SegmentKind::Target);
        let widths = (0..COST_STEPS).map(|i| 1usize << i);
        let widths = widths.filter(|rows| *rows <= most.min(ROW_LIMIT));
        let steps = widths.map(|rows| {
            let seconds = match self.context().facts().is_virtual {
                true => self.reckoned_step(rows as u32),
                false => self.measured_step(rows)?.as_secs_f64(),
            };
            Ok(StepCost { rows, seconds })
        });
        Ok(CostTable::new(steps.collect::<Result<_>>()?))
    }

    fn measured_step(self: &Arc<Self>, rows: usize) -> Result<Duration> {
        // Which tokens makes no difference to the time.
        let tokens: Vec<u32> = (0..rows as u32)
            .map(|i| i % self.plan().vocab_size)
            .collect();
        let mut chain = Row::chain(SequenceIndex(0), 0, &tokens);
        chain.iter_mut().for_each(|row| row.output = true);
        let call = DeviceCall::new(SegmentKind::Target, &chain);
        let stepper = Stepper::new(self, 0, &call)?;
        let context = self.context();
        let mut shortest = Duration::MAX;
        for _ in 0..REPEATS {
            stepper.begin()?;
            let (start, end) = (Event::new(context)?, Event::new(context)?);
            start.record()?;
            stepper.launch_whole()?;
            end.record()?;
            stepper.synchronize()?;
            shortest = shortest.min(end.since(&start)?);
        }
        Ok(shortest)
    }

    fn reckoned_step(&self, rows: u32) -> f64 {
        let segments = &self.plan().segments;
        let target = segments.iter().position(|s| s.kind == SegmentKind::Target);
        let phases = target.map_or(&[][..], |index| self.program().phases_of(index));
        let shape = CallShape {
            rows,
            output_rows: rows,
            length: 0,
        };
        let bandwidth = self.context().facts().bandwidth;
        let bandwidth = if bandwidth > 0.0 {
            bandwidth
        } else {
            BANDWIDTH
        };
        let seconds = phases.iter().map(|phase| {
            let traffic = self.program().traffic(phase, shape);
            (traffic.memory() as f64 + traffic.activations as f64 / L2_FACTOR) / bandwidth
        });
        seconds.sum()
    }
}
