//! The devices that there are to imitate, and where their numbers come from.
//!
//! - Data sheets: A100 (2021), L4 (2023), H100 and H200 (2024), HGX B200 (2024); GeForce specifications; the white papers of
//!   the GA100, AD102, GH100 and Blackwell GPUs. They give multiprocessors, boost clocks, memory, bandwidth, L2, and dense
//!   tensor rates, from which `Rates::tensor` follows by multiprocessors and clock (a test computes it).
//! - The CUDA C++ programming guide, tables "technical specifications per compute capability" and "throughput of native
//!   arithmetic instructions": shared memory, registers, threads and blocks of a multiprocessor, lanes a clock.
//! - Measurements of an H100 that lie in `benches/results/2026-11-26-h100-gpu-probe.json`: copies of 2888 to 2971 GB/s of 3352;
//!   7.87 TB/s from L2 by bulk copies at 2.02 GHz; 2647 operations of `mma.sync` a clock and multiprocessor.
//!
//! Assumed, as nobody measured it here: the share of bandwidth that other devices reach (as the H100's); L2 of the A100 as its
//! white paper has it, of the others by bytes a clock and slice; `mma.sync` on H200 and B200 as on the H100.

use super::device::Profile;
use super::rates::Rates;

/// What Hopper's multiprocessors do in a clock.
const HOPPER: Rates = Rates {
    memory_reached: 885,
    l2: 3890,
    tensor: 4096,
    tensor_sync: 2647,
    tensor_f64: 256,
    float32: 128,
    float64: 64,
    integer: 64,
    special: 16,
};

impl Profile {
    /// NVIDIA A100 SXM4 80 GB. Data sheet: 312 TFLOP/s at 1410 MHz, 2039 GB/s; white paper: 5120 bytes a clock from L2.
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
            rates: Rates {
                memory_reached: 885,
                l2: 5120,
                tensor: 2048,
                tensor_sync: 2048,
                tensor_f64: 128,
                float32: 64,
                float64: 32,
                integer: 64,
                special: 16,
            },
        }
    }

    /// NVIDIA L4. Data sheet: 121 TFLOP/s (242 with sparsity), 24 GB of GDDR6 at 300 GB/s; 58 multiprocessors at 2040 MHz.
    pub fn l4() -> Self {
        Self {
            name: "L4 (virtual)".into(),
            capability: (8, 9),
            multiprocessors: 58,
            memory: 24 << 30,
            l2: 48 << 20,
            clock: 2_040_000,
            memory_clock: 6_251_000,
            bus_width: 192,
            rates: Rates {
                l2: 1536,
                tensor: 1024,
                tensor_sync: 1024,
                ..Self::rtx4090().rates
            },
            ..Self::rtx4090()
        }
    }

    /// NVIDIA GeForce RTX 4090. White paper: 165.2 TFLOP/s in bf16 at 2520 MHz, 1008 GB/s, 72 MiB of L2.
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
            rates: Rates {
                memory_reached: 885,
                l2: 2304,
                tensor: 512,
                tensor_sync: 512,
                tensor_f64: 4,
                float32: 128,
                float64: 2,
                integer: 64,
                special: 16,
            },
        }
    }

    /// NVIDIA H100 SXM5 80 GB. Data sheet: 989.4 TFLOP/s at 1830 MHz, 3352 GB/s; the clock goes up to 1980 MHz.
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
            rates: HOPPER,
        }
    }

    /// NVIDIA H200 SXM. The H100's chip with 141 GB of HBM3e at 4.8 TB/s (data sheet), from which the memory clock is.
    pub fn h200() -> Self {
        Self {
            name: "H200 (virtual)".into(),
            memory: 141 << 30,
            memory_clock: 3_125_000,
            bus_width: 6144,
            ..Self::h100()
        }
    }

    /// NVIDIA GeForce RTX 5090. White paper: 209.5 TFLOP/s in bf16 at 2407 MHz, 170 multiprocessors, 32 GB of GDDR7 at 1792 GB/s,
    /// 96 MiB of L2. Its multiprocessors have neither `wgmma` nor `tcgen05`.
    pub fn rtx5090() -> Self {
        Self {
            name: "RTX 5090 (virtual)".into(),
            capability: (12, 0),
            multiprocessors: 170,
            memory: 32 << 30,
            l2: 96 << 20,
            clock: 2_407_000,
            memory_clock: 14_001_000,
            bus_width: 512,
            rates: Rates {
                l2: 3072,
                integer: 128,
                ..Self::rtx4090().rates
            },
            ..Self::rtx4090()
        }
    }

    /// NVIDIA B200 SXM. Data sheet of HGX B200: 2.25 PFLOP/s dense in bf16, 180 GB of HBM3e at up to 8 TB/s; 148 multiprocessors,
    /// 126 MiB of L2. Its tensor memory and `tcgen05` are not imitated: instructions of them are refused when a module is
    /// loaded.
    pub fn b200() -> Self {
        Self {
            name: "B200 (virtual)".into(),
            capability: (10, 0),
            multiprocessors: 148,
            memory: 180 << 30,
            l2: 126 << 20,
            clock: 1_965_000,
            memory_clock: 3_906_250,
            bus_width: 8192,
            rates: Rates {
                l2: 5120,
                tensor: 8192,
                tensor_f64: 128,
                ..HOPPER
            },
            ..Self::h100()
        }
    }

    /// The profile of one of [`Profile::NAMES`].
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "a100" => Self::a100(),
            "l4" => Self::l4(),
            "rtx4090" => Self::rtx4090(),
            "h100" => Self::h100(),
            "h200" => Self::h200(),
            "rtx5090" => Self::rtx5090(),
            "b200" => Self::b200(),
            _ => return None,
        })
    }

    /// Names that [`Profile::by_name`] knows.
    pub const NAMES: &'static [&'static str] =
        &["a100", "l4", "rtx4090", "h100", "h200", "rtx5090", "b200"];
}
