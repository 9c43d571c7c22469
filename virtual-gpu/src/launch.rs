//! What a launch is asked for and what it gives.

use crate::check::finding::{Finding, FindingKind};
use crate::num::mma::{Arch, MmaMode};
use crate::profile::counters::Counters;
use crate::profile::coverage::Coverage;
use std::time::Duration;

/// Shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks, by dimension.
    pub grid: [u32; 3],
    /// Threads of a block, by dimension.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// All blocks are resident together, and a grid that does not fit is refused.
    pub cooperative: bool,
    /// Blocks of a cluster, by dimension; without them what the kernel requires, which mostly is nothing.
    pub cluster: Option<[u32; 3]>,
}

impl LaunchConfig {
    /// A one-dimensional launch.
    pub fn linear(blocks: u32, threads: u32) -> Self {
        Self {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            dynamic_shared: 0,
            cooperative: false,
            cluster: None,
        }
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.block
            .iter()
            .fold(1u32, |product, n| product.saturating_mul(*n))
    }

    /// Blocks of the grid.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|n| u64::from(*n)).product()
    }
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Checks {
    /// Nothing beyond what keeps the host safe: an access out of bounds still ends the launch.
    None,
    /// Bounds, alignment, use after free, writes to constants, barriers, deadlock.
    Bounds,
    /// All of it: uninitialised reads, pending copies, races as well.
    #[default]
    All,
}

/// How a launch is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaunchOptions {
    /// What is checked.
    pub checks: Checks,
    /// Whether instructions and traffic are counted.
    pub counters: bool,
    /// Order in which warps and blocks take turns; 0 is the plainest.
    pub seed: u64,
    /// How tensor-core products are summed.
    pub mma: MmaMode,
    /// Warp instructions after which the launch is ended as one that hangs; 0 for no limit.
    pub fuel: u64,
    /// How long a kernel that polls memory of the host is let wait for it to change before that counts as a deadlock.
    pub host_wait: Duration,
    /// Registers of a thread as ptxas allots them, which decide how many blocks are resident; without them the limit
    /// that the kernel declares is taken, if it declares one.
    pub registers_per_thread: Option<u32>,
    /// Whether a cluster may have up to 16 blocks, instead of the 8 that every device with clusters takes.
    pub non_portable_cluster: bool,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            checks: Checks::All,
            counters: true,
            seed: 0,
            mma: MmaMode::Exact(Arch::Hopper),
            fuel: 0,
            host_wait: Duration::from_secs(30),
            registers_per_thread: None,
            non_portable_cluster: false,
        }
    }
}

/// What a launch gave.
#[derive(Clone, Debug)]
pub struct LaunchReport {
    /// Whether the kernel came to its end; if not, the findings say why.
    pub completed: bool,
    /// Defects, the first one first.
    pub findings: Vec<Finding>,
    /// What merely deserves a look.
    pub warnings: Vec<String>,
    /// What was counted.
    pub counters: Counters,
    /// What of the source has run, if it was counted.
    pub coverage: Coverage,
    /// What the kernel printed.
    pub printed: String,
}

impl LaunchReport {
    /// The kind of the first finding.
    pub fn first_kind(&self) -> Option<FindingKind> {
        self.findings.first().map(|finding| finding.kind)
    }
}
