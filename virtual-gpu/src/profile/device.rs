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

    /// Blocks of a kernel that a multiprocessor holds at a time, as the occupancy calculator of CUDA counts them; 0 if
    /// not even one fits. `shared` is the static and dynamic shared memory of a block in bytes, `registers` are those of
    /// a thread, 0 if unknown.
    pub fn blocks_per_multiprocessor(&self, threads: u32, shared: u32, registers: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let by_threads = self.threads / 32 / warps;
        let reserved = shared.saturating_add(self.shared_reserved);
        let by_shared =
            self.shared_per_multiprocessor / reserved.div_ceil(128).saturating_mul(128).max(1);
        by_threads
            .min(by_shared)
            .min(self.blocks)
            .min(self.blocks_by_registers(warps, registers))
    }

    /// Each of the four parts of a multiprocessor has a quarter of the registers and hands them to warps in units of
    /// 256. A block is refused if its warps, rounded up to the parts, need more than all registers.
    fn blocks_by_registers(&self, warps: u32, registers: u32) -> u32 {
        const PARTS: u32 = 4;
        const UNIT: u32 = 256;
        if registers == 0 {
            return u32::MAX;
        }
        let each = registers
            .saturating_mul(32)
            .div_ceil(UNIT)
            .saturating_mul(UNIT);
        let rounded = warps.next_multiple_of(PARTS);
        if each.saturating_mul(rounded) > self.registers {
            return 0;
        }
        self.registers / PARTS / each * PARTS / warps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_profiles() {
        for name in Profile::NAMES {
            let profile = Profile::by_name(name).unwrap();
            assert!(profile.target().starts_with("sm_"));
            let (major, minor) = profile.capability;
            assert!(
                profile.target().contains(&format!("{major}{minor}")),
                "{name}"
            );
        }
        assert_eq!(Profile::by_name("H100"), None);
    }

    /// Bandwidths that NVIDIA's data sheets give, which follow from memory clock (two transfers a cycle) and bus width.
    #[test]
    fn memory_is_as_fast_as_the_data_sheets_say() {
        for (profile, gigabytes) in [
            (Profile::h100(), 3352),
            (Profile::a100(), 2039),
            (Profile::rtx4090(), 1008),
        ] {
            let bytes =
                u64::from(profile.memory_clock) * 1000 * 2 * u64::from(profile.bus_width) / 8;
            assert_eq!(bytes / 1_000_000_000, gigabytes, "{}", profile.name);
        }
    }

    /// Facts of the CUDA occupancy calculator.
    #[test]
    fn occupancy() {
        let (h100, a100, rtx) = (Profile::h100(), Profile::a100(), Profile::rtx4090());
        for (profile, threads, shared, registers, blocks) in [
            // 2048 threads, 1536 on Ada; at most 32 blocks, 24 on Ada.
            (&h100, 256, 0, 32, 8),
            (&rtx, 256, 0, 32, 6),
            (&rtx, 1024, 0, 32, 1),
            (&a100, 32, 0, 16, 32),
            (&rtx, 32, 0, 16, 24),
            // Half-empty warps take the room of full ones.
            (&a100, 33, 0, 16, 32),
            (&a100, 1000, 0, 16, 2),
            // A thread of a block of 1024 has at most 64 registers.
            (&a100, 1024, 0, 64, 1),
            (&a100, 1024, 0, 65, 0),
            // 255 registers leave room for 8 warps.
            (&h100, 256, 0, 255, 1),
            (&h100, 128, 0, 255, 2),
            // Three warp groups of 168 registers fill a multiprocessor.
            (&h100, 384, 0, 168, 1),
            // 12 warps of 40 registers in each quarter, though all 65536 registers would do for 51.
            (&h100, 96, 0, 40, 16),
            // Each block takes 1 KiB more than it asks for.
            (&a100, 128, 48 << 10, 32, 3),
            (&a100, 128, 40 << 10, 32, 4),
            (&a100, 128, 163 << 10, 32, 1),
            (&h100, 128, 227 << 10, 32, 1),
            (&h100, 128, 113 << 10, 32, 2),
            (&h100, 128, 114 << 10, 32, 1),
            (&rtx, 128, 49 << 10, 32, 2),
            (&rtx, 128, 50 << 10, 32, 1),
            (&h100, 128, u32::MAX, 32, 0),
        ] {
            assert_eq!(
                profile.blocks_per_multiprocessor(threads, shared, registers),
                blocks,
                "{}: {threads} threads, {shared} bytes, {registers} registers",
                profile.name
            );
        }
    }
}
