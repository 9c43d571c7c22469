//! Devices that are imitated.

use crate::num::mma::Arch;

/// What a kernel can see of a device, and what limits a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name of the device.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of L2 cache.
    pub l2: u64,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_per_multiprocessor: u32,
    /// Bytes of shared memory that a block may use without asking.
    pub shared_per_block: u32,
    /// Bytes of shared memory that a block may ask for.
    pub shared_per_block_optin: u32,
    /// Bytes of shared memory that the system takes of each block.
    pub shared_reserved: u32,
    /// 32-bit registers of a multiprocessor.
    pub registers: u32,
    /// Threads that a multiprocessor holds.
    pub threads: u32,
    /// Blocks that a multiprocessor holds.
    pub blocks: u32,
    /// Core clock in kHz.
    pub clock: u32,
    /// Memory clock in kHz.
    pub memory_clock: u32,
    /// Width of the memory bus in bits.
    pub bus_width: u32,
}

impl Profile {
    /// NVIDIA H100 SXM5 80 GB.
    pub fn h100() -> Self {
        Self {
            name: "H100 (virtual)".into(),
            capability: (9, 0),
            multiprocessors: 132,
            memory: 80 << 30,
            l2: 50 << 20,
            shared_per_multiprocessor: 233_472,
            shared_per_block: 49_152,
            shared_per_block_optin: 232_448,
            shared_reserved: 1024,
            registers: 65_536,
            threads: 2048,
            blocks: 32,
            clock: 1_980_000,
            memory_clock: 2_619_000,
            bus_width: 5120,
        }
    }

    /// NVIDIA A100 SXM4 80 GB.
    pub fn a100() -> Self {
        Self {
            name: "A100 (virtual)".into(),
            capability: (8, 0),
            multiprocessors: 108,
            memory: 80 << 30,
            l2: 40 << 20,
            shared_per_multiprocessor: 167_936,
            shared_per_block: 49_152,
            shared_per_block_optin: 166_912,
            shared_reserved: 1024,
            registers: 65_536,
            threads: 2048,
            blocks: 32,
            clock: 1_410_000,
            memory_clock: 1_593_000,
            bus_width: 5120,
        }
    }

    /// NVIDIA GeForce RTX 4090.
    pub fn rtx4090() -> Self {
        Self {
            name: "RTX 4090 (virtual)".into(),
            capability: (8, 9),
            multiprocessors: 128,
            memory: 24 << 30,
            l2: 72 << 20,
            shared_per_multiprocessor: 102_400,
            shared_per_block: 49_152,
            shared_per_block_optin: 101_376,
            shared_reserved: 1024,
            registers: 65_536,
            threads: 1536,
            blocks: 24,
            clock: 2_520_000,
            memory_clock: 10_501_000,
            bus_width: 384,
        }
    }

    /// The profile called `name`: `h100`, `a100`, `rtx4090`.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "h100" => Self::h100(),
            "a100" => Self::a100(),
            "rtx4090" => Self::rtx4090(),
            _ => return None,
        })
    }

    /// Names that [`Profile::by_name`] knows.
    pub const NAMES: &'static [&'static str] = &["h100", "a100", "rtx4090"];

    /// The architecture to compile for: `sm_80`, `sm_90a`, ...
    pub fn target(&self) -> &'static str {
        match self.capability {
            (8, 9) => "sm_89",
            (9, _) => "sm_90a",
            _ => "sm_80",
        }
    }

    /// How its tensor cores add.
    pub fn arch(&self) -> Arch {
        match self.capability {
            (8, 9) => Arch::Ada,
            (9, _) => Arch::Hopper,
            (8, _) => Arch::Ampere,
            _ => Arch::Blackwell,
        }
    }

    /// The same device with another number of multiprocessors.
    pub fn with_multiprocessors(mut self, count: u32) -> Self {
        self.multiprocessors = count.max(1);
        self
    }

    /// Blocks of a kernel that a multiprocessor holds at a time. `registers` are those of a thread, 0 if unknown.
    pub fn blocks_per_multiprocessor(&self, threads: u32, shared: u32, registers: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let by_threads = self.threads / (warps * 32);
        let by_shared =
            self.shared_per_multiprocessor / (shared + self.shared_reserved).next_multiple_of(128);
        // Registers are handed out to warps in units of 256.
        let by_registers = self
            .registers
            .checked_div((registers * 32).next_multiple_of(256) * warps);
        by_threads
            .min(by_shared)
            .min(self.blocks)
            .min(by_registers.unwrap_or(u32::MAX))
    }
}
