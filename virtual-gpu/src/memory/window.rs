//! Where the state spaces lie in the generic address space.

/// First address of device memory.
pub const GLOBAL_BASE: u64 = 0x7000_0000_0000;
/// Allocations start at multiples of this and end at least this far before the next, so that an index that runs away
/// meets no other allocation for a long way.
pub const GUARD_GAP: u64 = 1 << 24;
/// Kernel parameters.
pub const PARAMETER_BASE: u64 = 0x6c00_0000_0000;
/// Local memory of the thread that asks.
pub const LOCAL_BASE: u64 = 0x6d00_0000_0000;
/// Shared memory of the block that asks.
pub const SHARED_BASE: u64 = 0x6e00_0000_0000;
/// Size of the windows below device memory.
pub const WINDOW: u64 = 1 << 32;

/// What a generic address points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Device memory, constants included.
    Global,
    /// Shared memory: the offset.
    Shared(u32),
    /// Local memory: the offset.
    Local(u32),
    /// Kernel parameters: the offset.
    Parameter(u32),
}

impl Window {
    /// Takes a generic address apart.
    #[inline(always)]
    pub fn of(address: u64) -> Self {
        let offset = address as u32;
        match address & !(WINDOW - 1) {
            SHARED_BASE => Self::Shared(offset),
            LOCAL_BASE => Self::Local(offset),
            PARAMETER_BASE => Self::Parameter(offset),
            _ => Self::Global,
        }
    }
}
