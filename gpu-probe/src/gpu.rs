//! What a measurement needs of a device.

use anyhow::Result;
use serde::Serialize;
use std::sync::atomic::AtomicU32;

/// What the device says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Whether it is imitated, so that no number of it is a time.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Compute capability, (9, 0) for an H100.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of L2.
    pub l2_bytes: u64,
    /// Bytes of shared memory that a block may ask for.
    pub shared_bytes: u32,
    /// Bytes of device memory.
    pub memory_bytes: u64,
    /// The clock that the driver states, in MHz.
    pub clock_mhz: u32,
    /// The CUDA version of the driver, as 12080 for 12.8.
    pub driver_version: u32,
}

/// One launch of one kernel with one structure as its argument.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The module that has the kernel: the name of a file in `kernels/` without `.cu`.
    pub module: &'static str,
    /// The kernel.
    pub kernel: &'static str,
    /// Blocks.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Whether the blocks must be resident together.
    pub cooperative: bool,
    /// The structure.
    pub arguments: &'a [u8],
}

/// What the host does while a kernel runs.
pub type Meanwhile<'a> = &'a mut (dyn FnMut() + Send);

/// Memory of the host that kernels see, kept until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct HostWords {
    /// Its address for kernels.
    pub at: u64,
    /// Its words.
    pub words: &'static [AtomicU32],
}

/// A device.
pub trait Gpu {
    /// What it says of itself.
    fn facts(&self) -> &Facts;

    /// Allocates device memory and gives its address.
    ///
    /// # Errors
    /// There is not so much.
    fn allocate(&mut self, bytes: usize) -> Result<u64>;

    /// Frees what [`Gpu::allocate`] gave.
    ///
    /// # Errors
    /// The device failed before.
    fn free(&mut self, at: u64) -> Result<()>;

    /// Copies to the device.
    ///
    /// # Errors
    /// The device failed before, or the bytes lie outside of an allocation.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;

    /// Copies from the device.
    ///
    /// # Errors
    /// As for [`Gpu::write`].
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<()>;

    /// Allocates `count` words of the host that kernels see, all 0.
    ///
    /// # Errors
    /// There is not so much.
    fn host_words(&mut self, count: usize) -> Result<HostWords>;

    /// Runs a kernel, `meanwhile` beside it, and gives the microseconds that the device took.
    ///
    /// # Errors
    /// There is no such kernel for this device, it does not fit, or it failed.
    fn launch(&mut self, launch: &Launch<'_>, meanwhile: Option<Meanwhile<'_>>) -> Result<f64>;

    /// Copies within the device with the driver's own means, and gives the microseconds that it took.
    ///
    /// # Errors
    /// As for [`Gpu::write`].
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<f64>;
}
