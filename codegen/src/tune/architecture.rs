use std::borrow::Cow;

/// What the choices depend on of a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Name, for people.
    pub name: Cow<'static, str>,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Bytes of shared memory that one block can have when it asks for it.
    pub shared_memory_per_block: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
    /// Threads of a block, at most.
    pub max_threads_per_block: u32,
    /// Bytes a second that copies reach. Only reasons are printed from it, nothing is decided.
    pub bandwidth: f64,
    /// What of the above is a guess: recalled or extrapolated, neither measured nor read from the device.
    pub unverified: &'static [&'static str],
}

const KIB: u32 = 1024;

/// An architecture with what all of them have in common.
const fn known(
    name: &'static str,
    compute_capability: (u32, u32),
    sm_count: u32,
    shared_memory_per_block: u32,
    bandwidth: f64,
    unverified: &'static [&'static str],
) -> Architecture {
    Architecture {
        name: Cow::Borrowed(name),
        compute_capability,
        sm_count,
        shared_memory_per_block,
        registers_per_sm: 65536,
        max_threads_per_block: 1024,
        bandwidth,
        unverified,
    }
}

impl Architecture {
    /// H100 SXM, 80 GB. The bandwidth is a measured copy rate rounded down.
    pub const H100: Architecture = known("H100 SXM", (9, 0), 132, 227 * KIB, 3.0e12, &[]);

    /// H200 SXM, 141 GB.
    pub const H200: Architecture = known("H200", (9, 0), 132, 227 * KIB, 4.3e12, &["bandwidth"]);

    /// A100 SXM, 80 GB.
    pub const A100: Architecture = known(
        "A100 80 GB",
        (8, 0),
        108,
        163 * KIB,
        1.75e12,
        &["bandwidth"],
    );

    /// GeForce RTX 4090.
    pub const RTX_4090: Architecture = known("RTX 4090", (8, 9), 128, 99 * KIB, 0.94e12, &[]);

    /// GeForce RTX 5090.
    pub const RTX_5090: Architecture =
        known("RTX 5090", (12, 0), 170, 99 * KIB, 1.67e12, &["bandwidth"]);

    /// B200 SXM.
    pub const B200: Architecture = known("B200", (10, 0), 148, 227 * KIB, 7.2e12, &["bandwidth"]);

    /// All that are named here.
    pub const KNOWN: [Architecture; 6] = [
        Self::H100,
        Self::H200,
        Self::A100,
        Self::RTX_4090,
        Self::RTX_5090,
        Self::B200,
    ];

    /// Whether `cp.async.bulk` is to be had, which copies a stage with one instruction; before it, a warp issues
    /// `cp.async` for 16 bytes a lane.
    pub fn has_bulk_copies(&self) -> bool {
        self.compute_capability >= (9, 0)
    }
}
