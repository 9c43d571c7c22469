//! Memory traffic.

use serde::Serialize;

/// Memory traffic of an instruction, of a source line or of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryCounters {
    /// Warp-wide requests to global memory.
    pub global_requests: u64,
    /// Bytes that lanes read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that lanes wrote to global memory.
    pub global_written_bytes: u64,
    /// Bytes read from global memory for the first time in the launch, in words of 4.
    pub global_unique_read_bytes: u64,
    /// 32-byte sectors that global requests touched.
    pub global_sectors: u64,
    /// Warp-wide requests to shared memory.
    pub shared_requests: u64,
    /// Passes over the banks that shared requests need.
    pub shared_wavefronts: u64,
    /// Passes that the same requests would need without bank conflicts.
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

    /// Bytes read from global memory that this launch had read before: what a cache may save.
    pub fn global_reread_bytes(&self) -> u64 {
        self.global_read_bytes
            .saturating_sub(self.global_unique_read_bytes)
    }

    /// Sectors of a global request on average: 4 where 32 lanes move 4 bytes each, side by side.
    pub fn sectors_per_request(&self) -> f64 {
        match self.global_requests {
            0 => 0.0,
            requests => self.global_sectors as f64 / requests as f64,
        }
    }

    /// Passes over the banks that conflicts cost.
    pub fn bank_conflicts(&self) -> u64 {
        self.shared_wavefronts
            .saturating_sub(self.shared_ideal_wavefronts)
    }
}
