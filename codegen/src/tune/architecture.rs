/// What the choices depend on of a GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// Name, for people.
    pub name: &'static str,
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

const BASE: Architecture = Architecture {
    name: "",
    compute_capability: (0, 0),
    sm_count: 0,
    shared_memory_per_block: 0,
    registers_per_sm: 65536,
    max_threads_per_block: 1024,
    bandwidth: 0.0,
    unverified: &[],
};

impl Architecture {
    /// H100 SXM, 80 GB. The bandwidth is a measured copy rate rounded down.
    pub const H100: Architecture = Architecture {
        name: "H100 SXM",
        compute_capability: (9, 0),
        sm_count: 132,
        shared_memory_per_block: 227 * KIB,
        bandwidth: 3.0e12,
        ..BASE
    };

    /// H200 SXM, 141 GB.
    pub const H200: Architecture = Architecture {
        name: "H200",
        bandwidth: 4.3e12,
        unverified: &["bandwidth"],
        ..Self::H100
    };

    /// A100 SXM, 80 GB.
    pub const A100: Architecture = Architecture {
        name: "A100 80 GB",
        compute_capability: (8, 0),
        sm_count: 108,
        shared_memory_per_block: 163 * KIB,
        bandwidth: 1.75e12,
        unverified: &["bandwidth"],
        ..BASE
    };

    /// GeForce RTX 4090.
    pub const RTX_4090: Architecture = Architecture {
        name: "RTX 4090",
        compute_capability: (8, 9),
        sm_count: 128,
        shared_memory_per_block: 99 * KIB,
        bandwidth: 0.94e12,
        ..BASE
    };

    /// GeForce RTX 5090.
    pub const RTX_5090: Architecture = Architecture {
        name: "RTX 5090",
        compute_capability: (12, 0),
        sm_count: 170,
        shared_memory_per_block: 99 * KIB,
        bandwidth: 1.67e12,
        unverified: &["bandwidth"],
        ..BASE
    };

    /// B200 SXM.
    pub const B200: Architecture = Architecture {
        name: "B200",
        compute_capability: (10, 0),
        sm_count: 148,
        shared_memory_per_block: 227 * KIB,
        bandwidth: 7.2e12,
        unverified: &["bandwidth"],
        ..BASE
    };

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
