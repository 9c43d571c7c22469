//! Where the time of device calls goes: stamps of every block, and what phases move.

mod copy_rate;
mod table;
mod trace;

pub(super) use copy_rate::copy_rate;

use super::DeviceFacts;
use super::recording::RecordedCall;
use crate::plan::{Plan, SegmentKind};
use stheno_codegen::program::abi::Stamp;
use stheno_codegen::program::{CallShape, DeviceProgram, Stage, Traffic};

/// Recorded calls of a device program: see [`super::DeviceExecutor::record`]. Printed, it is a table with a line for each
/// stage of each segment.
///
/// Times are in nanoseconds. A virtual device has no time: there they are warp instructions that the whole device had
/// executed, and the table has an estimate beside them.
#[derive(Debug, Clone)]
pub struct Profile {
    device: String,
    is_virtual: bool,
    /// Bytes a second that a copy reads and writes: measured, or on a virtual device what the imitated one would reach, about.
    copy_rate: f64,
    blocks: usize,
    calls: Vec<ProfiledCall>,
}

/// A recorded call.
#[derive(Debug, Clone)]
pub struct ProfiledCall {
    /// The segment that was run.
    pub segment: SegmentKind,
    /// Its rows and what came before them.
    pub shape: CallShape,
    /// Its phases, in order.
    pub phases: Vec<ProfiledPhase>,
}

/// A phase of a recorded call.
#[derive(Debug, Clone)]
pub struct ProfiledPhase {
    /// What it is for.
    pub stage: Stage,
    /// Bytes that it moves.
    pub traffic: Traffic,
    /// Its part of the call's time: from when the last block was done with the phase before to when the last one was done with
    /// this. The parts add up to the call.
    pub time: u64,
    /// One for each block.
    pub(super) stamps: Vec<Stamp>,
}

/// Sums over blocks and phases.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageSums {
    /// Phases.
    pub phases: usize,
    /// Sum of [`ProfiledPhase::time`].
    pub time: f64,
    /// Work of the block that worked longest, edges passed.
    pub longest: f64,
    /// Work of a block in the mean.
    pub mean: f64,
    /// Wait of a block for the phase's edge, in the mean.
    pub wait: f64,
    /// Of the work, wait of a block for weights, in the mean.
    pub stalled: f64,
    /// Bytes moved.
    pub traffic: Traffic,
}

impl Profile {
    pub(super) fn new(
        plan: &Plan,
        program: &DeviceProgram,
        facts: &DeviceFacts,
        copy_rate: f64,
        recorded: Vec<RecordedCall>,
    ) -> Profile {
        let blocks = program.sizes.architecture.sm_count.max(1) as usize;
        let calls = recorded.into_iter().filter_map(|recorded| {
            let segment = recorded.call.segment as usize;
            let kind = plan.segments.get(segment)?.kind;
            let shape = CallShape {
                rows: recorded.call.rows,
                output_rows: recorded.call.output_rows,
                length: recorded.call.length,
            };
            let phases = program.phases_of(segment).iter();
            let stages = program.stages(segment);
            let each = recorded.stamps.chunks(blocks);
            let mut before = recorded.stamps.iter().take(blocks).map(|s| s.begin).min();
            let phases = phases
                .zip(stages)
                .zip(each)
                .map(|((phase, stage), stamps)| {
                    let end = stamps.iter().map(|stamp| stamp.end).max().unwrap_or(0);
                    let time = end.saturating_sub(before.unwrap_or(end));
                    before = before.max(Some(end));
                    ProfiledPhase {
                        stage,
                        traffic: program.traffic(phase, shape),
                        time,
                        stamps: stamps.to_vec(),
                    }
                });
            Some(ProfiledCall {
                segment: kind,
                shape,
                phases: phases.collect(),
            })
        });
        Profile {
            device: facts.name.clone(),
            is_virtual: facts.is_virtual,
            copy_rate,
            blocks,
            calls: calls.collect(),
        }
    }

    /// The recorded calls, in order.
    pub fn calls(&self) -> &[ProfiledCall] {
        &self.calls
    }
}

impl ProfiledPhase {
    /// Times and bytes of this phase alone.
    pub fn sums(&self) -> StageSums {
        let blocks = self.stamps.len().max(1) as f64;
        let work = |stamp: &Stamp| stamp.end.saturating_sub(stamp.ready) as f64;
        let mean = |of: &dyn Fn(&Stamp) -> f64| self.stamps.iter().map(of).sum::<f64>() / blocks;
        StageSums {
            phases: 1,
            time: self.time as f64,
            longest: self.stamps.iter().map(work).fold(0.0, f64::max),
            mean: mean(&work),
            wait: mean(&|stamp| stamp.ready.saturating_sub(stamp.begin) as f64),
            stalled: mean(&|stamp| stamp.stalled as f64),
            traffic: self.traffic,
        }
    }
}

impl std::ops::AddAssign for StageSums {
    fn add_assign(&mut self, other: StageSums) {
        self.phases += other.phases;
        self.time += other.time;
        self.longest += other.longest;
        self.mean += other.mean;
        self.wait += other.wait;
        self.stalled += other.stalled;
        self.traffic += other.traffic;
    }
}
