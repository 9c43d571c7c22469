//! Devices that are imitated.

use super::rates::Rates;
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
    /// How fast its parts are, for estimates.
    pub rates: Rates,
}

/// Blocks that a multiprocessor could hold if one thing alone limited them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Blocks that it holds at all.
    pub blocks: u32,
    /// By the room for warps.
    pub warps: u32,
    /// By shared memory.
    pub shared: u32,
    /// By registers; none if they are not known.
    pub registers: Option<u32>,
}

impl BlockLimits {
    /// Blocks under all limits.
    pub fn least(&self) -> u32 {
        let known = self.blocks.min(self.warps).min(self.shared);
        self.registers
            .map_or(known, |registers| known.min(registers))
    }
}

impl Profile {
    /// The architecture to compile for: `sm_80`, `sm_90a`, ...
    pub fn target(&self) -> &'static str {
        match self.capability {
            (8, 9) => "sm_89",
            (9, _) => "sm_90a",
            (10, _) => "sm_100a",
            (12, _) => "sm_120",
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

    /// Bytes a second between memory and chip that the data sheet gives: two transfers a cycle of the memory clock.
    pub fn bandwidth(&self) -> f64 {
        f64::from(self.memory_clock) * 1e3 * 2.0 * f64::from(self.bus_width) / 8.0
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
        self.block_limits(threads, shared, registers).least()
    }

    /// What limits the blocks of a kernel that a multiprocessor holds at a time, each by itself.
    pub fn block_limits(&self, threads: u32, shared: u32, registers: u32) -> BlockLimits {
        let warps = threads.div_ceil(32).max(1);
        let reserved = shared.saturating_add(self.shared_reserved);
        let unit = reserved.div_ceil(128).saturating_mul(128).max(1);
        BlockLimits {
            blocks: self.blocks,
            warps: self.threads / 32 / warps,
            shared: self.shared_per_multiprocessor / unit,
            registers: (registers != 0).then(|| self.blocks_by_registers(warps, registers)),
        }
    }

    /// Each of the four parts of a multiprocessor has a quarter of the registers and hands them to warps in units of
    /// 256. A block is refused if its warps, rounded up to the parts, need more than all registers.
    fn blocks_by_registers(&self, warps: u32, registers: u32) -> u32 {
        const PARTS: u32 = 4;
        const UNIT: u32 = 256;
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
            (Profile::l4(), 300),
            (Profile::h200(), 4800),
            (Profile::rtx5090(), 1792),
            (Profile::b200(), 8000),
        ] {
            let found = (profile.bandwidth() / 1e9) as u32;
            assert_eq!(found, gigabytes, "{}", profile.name);
        }
    }

    /// Dense bf16 products with sums in f32, TFLOP/s, as data sheets give them at the clocks that they state, MHz.
    #[test]
    fn tensor_cores_are_as_fast_as_the_data_sheets_say() {
        for (profile, megahertz, teraflops) in [
            (Profile::a100(), 1410.0, 312.0),
            (Profile::l4(), 2040.0, 121.0),
            (Profile::rtx4090(), 2520.0, 165.2),
            (Profile::h100(), 1830.0, 989.4),
            (Profile::h200(), 1830.0, 989.4),
            (Profile::rtx5090(), 2407.0, 209.5),
            (Profile::b200(), 1850.0, 2250.0),
        ] {
            let each = f64::from(profile.multiprocessors) * f64::from(profile.rates.tensor);
            let found = each * megahertz * 1e6 / 1e12;
            assert!(
                (found / teraflops - 1.0).abs() < 0.005,
                "{}: {found}",
                profile.name
            );
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
