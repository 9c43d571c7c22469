//! How fast the parts of a device are.

/// Rates of a device that its clock, its memory bus and its number of multiprocessors do not tell. Each entry of the
/// catalogue says where its numbers come from; what is assumed is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Thousandths of the bandwidth of memory that a copy reaches.
    pub memory_reached: u32,
    /// Bytes a clock from the L2 cache to all multiprocessors.
    pub l2: u32,
    /// Dense operations (a product and a sum are two) a clock and multiprocessor of tensor cores on bf16 with sums in f32, by
    /// the fastest instruction that there is: `wgmma` on Hopper, `tcgen05` on B200, `mma.sync` elsewhere.
    pub tensor: u32,
    /// The same by `mma.sync`.
    pub tensor_sync: u32,
    /// The same on f64.
    pub tensor_f64: u32,
    /// Lanes a clock and multiprocessor that compute in f32.
    pub float32: u32,
    /// In f64.
    pub float64: u32,
    /// In integers.
    pub integer: u32,
    /// Sines, logarithms, roots, ...
    pub special: u32,
}
