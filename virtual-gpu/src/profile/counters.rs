//! What launches are counted by.

use crate::exec::Grid;
use serde::Serialize;

/// Memory traffic of an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryCounters {
    /// Warp-wide requests to global memory.
    pub global_requests: u64,
    /// Bytes that lanes read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that lanes wrote to global memory.
    pub global_written_bytes: u64,
    /// Bytes read from global memory for the first time in the launch.
    pub global_unique_read_bytes: u64,
    /// 32-byte sectors that global requests touched.
    pub global_sectors: u64,
    /// Warp-wide requests to shared memory.
    pub shared_requests: u64,
    /// Passes over the banks that shared requests need.
    pub shared_wavefronts: u64,
    /// Passes that a request without conflicts would need.
    pub shared_ideal_wavefronts: u64,
    /// Bytes that lanes read from or wrote to shared memory.
    pub shared_bytes: u64,
    /// Bytes read from or written to local memory.
    pub local_bytes: u64,
    /// Atomic operations of lanes.
    pub atomics: u64,
    /// Bytes of asynchronous copies.
    pub async_bytes: u64,
    /// Polling reads.
    pub polls: u64,
}

impl MemoryCounters {
    /// Adds another instruction's traffic.
    pub fn add(&mut self, other: &Self) {
        self.global_requests += other.global_requests;
        self.global_read_bytes += other.global_read_bytes;
        self.global_written_bytes += other.global_written_bytes;
        self.global_unique_read_bytes += other.global_unique_read_bytes;
        self.global_sectors += other.global_sectors;
        self.shared_requests += other.shared_requests;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_ideal_wavefronts += other.shared_ideal_wavefronts;
        self.shared_bytes += other.shared_bytes;
        self.local_bytes += other.local_bytes;
        self.atomics += other.atomics;
        self.async_bytes += other.async_bytes;
        self.polls += other.polls;
    }
}

/// What one launch was counted by.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Instructions that warps executed.
    pub warp_instructions: u64,
    /// Instructions that lanes executed.
    pub lane_instructions: u64,
    /// Memory traffic.
    pub memory: MemoryCounters,
}

impl Counters {
    /// The counts of a launch that has run.
    pub(crate) fn of(grid: &Grid) -> Self {
        let mut counters = Self::default();
        for (count, traffic) in grid.counts.iter().zip(&grid.traffic) {
            counters.warp_instructions += count.warps;
            counters.lane_instructions += count.lanes;
            counters.memory.add(traffic);
        }
        counters
    }
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "warp instructions {}", self.warp_instructions)
    }
}
