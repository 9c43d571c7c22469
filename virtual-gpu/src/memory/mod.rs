//! Device memory: allocations in an address space of its own, with guard gaps, never reused.

mod allocation;
mod window;

pub use allocation::{Allocation, Bytes};
pub use window::{GLOBAL_BASE, GUARD_GAP, LOCAL_BASE, PARAMETER_BASE, SHARED_BASE, WINDOW, Window};

/// Address of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevicePointer(pub u64);

/// Why device memory could not be had or used from the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The device is full.
    #[error("out of device memory: {wanted} bytes asked, {free} of {total} free")]
    OutOfMemory {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that the device has.
        total: u64,
    },
    /// No allocation holds the range.
    #[error("{len} bytes at {address:#x} are not inside a live allocation: {detail}")]
    BadRange {
        /// First byte.
        address: u64,
        /// Length of the range.
        len: u64,
        /// What lies there.
        detail: String,
    },
}

/// The global memory of a device.
#[derive(Debug)]
pub struct Memory {
    /// By rising base address; freed ones stay, so that a late use is recognised.
    allocations: Vec<Allocation>,
    next: u64,
    used: u64,
    total: u64,
}

impl Memory {
    /// Empty memory of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self {
            allocations: Vec::new(),
            next: GLOBAL_BASE,
            used: 0,
            total,
        }
    }

    /// Bytes in use and bytes in all.
    pub fn usage(&self) -> (u64, u64) {
        (self.used, self.total)
    }

    /// Allocates `len` bytes, not initialised, 256-byte aligned.
    pub fn alloc(
        &mut self,
        len: u64,
        label: impl Into<String>,
    ) -> Result<DevicePointer, MemoryError> {
        let free = self.total - self.used;
        if len > free {
            return Err(MemoryError::OutOfMemory {
                wanted: len,
                free,
                total: self.total,
            });
        }
        let base = self.next;
        self.next = (base + len + GUARD_GAP).next_multiple_of(GUARD_GAP);
        self.used += len;
        self.allocations
            .push(Allocation::new(base, len as usize, label.into()));
        Ok(DevicePointer(base))
    }

    /// Frees the allocation that starts at `pointer`.
    pub fn free(&mut self, pointer: DevicePointer) -> Result<(), MemoryError> {
        let bad = |memory: &Self| memory.bad_range(pointer.0, 0);
        let Some(index) = self.index_of(pointer.0) else {
            return Err(bad(self));
        };
        let allocation = &mut self.allocations[index];
        if allocation.base() != pointer.0 || !allocation.is_live() {
            return Err(bad(self));
        }
        self.used -= allocation.len() as u64;
        allocation.release();
        Ok(())
    }

    /// Copies `data` to `pointer`; the bytes count as initialised.
    pub fn write(&mut self, pointer: DevicePointer, data: &[u8]) -> Result<(), MemoryError> {
        let (index, at) = self.range(pointer, data.len() as u64)?;
        self.allocations[index].write(at, data);
        Ok(())
    }

    /// Copies from `pointer`.
    pub fn read(&self, pointer: DevicePointer, data: &mut [u8]) -> Result<(), MemoryError> {
        let (index, at) = self.range(pointer, data.len() as u64)?;
        data.copy_from_slice(&self.allocations[index].bytes()[at..at + data.len()]);
        Ok(())
    }

    /// The allocation that holds `len` bytes at `pointer`, and the offset in it.
    pub fn range(&self, pointer: DevicePointer, len: u64) -> Result<(usize, usize), MemoryError> {
        self.index_of(pointer.0)
            .map(|index| (index, (pointer.0 - self.allocations[index].base()) as usize))
            .filter(|(index, at)| {
                let allocation = &self.allocations[*index];
                allocation.is_live() && *at as u64 + len <= allocation.len() as u64
            })
            .ok_or_else(|| self.bad_range(pointer.0, len))
    }

    fn bad_range(&self, address: u64, len: u64) -> MemoryError {
        MemoryError::BadRange {
            address,
            len,
            detail: self.describe(address),
        }
    }

    /// Index of the allocation whose bytes, or the guard gap behind them, hold `address`.
    pub fn index_of(&self, address: u64) -> Option<usize> {
        let index = self
            .allocations
            .partition_point(|allocation| allocation.base() <= address);
        index.checked_sub(1)
    }

    /// The allocation at `index`.
    pub fn allocation(&self, index: usize) -> &Allocation {
        &self.allocations[index]
    }

    /// The allocation at `index`.
    pub fn allocation_mut(&mut self, index: usize) -> &mut Allocation {
        &mut self.allocations[index]
    }

    /// Number of allocations ever made.
    pub fn count(&self) -> usize {
        self.allocations.len()
    }

    /// What is at or near `address`, for people.
    pub fn describe(&self, address: u64) -> String {
        let before = self.index_of(address).map(|index| &self.allocations[index]);
        let after = self
            .allocations
            .iter()
            .find(|allocation| allocation.base() > address);
        if let Some(allocation) = before {
            let past = address - allocation.base();
            let state = if allocation.is_live() { "" } else { "freed " };
            let name = allocation.label();
            if past < allocation.len() as u64 {
                return format!(
                    "it is {past} bytes into the {state}allocation {name} of {} bytes",
                    allocation.len()
                );
            }
            let behind = past - allocation.len() as u64;
            if after.is_none_or(|after| behind <= after.base() - address) {
                return format!(
                    "it is {behind} bytes past the end of the {state}allocation {name} of {} bytes",
                    allocation.len()
                );
            }
        }
        match after {
            Some(allocation) => format!(
                "it is {} bytes before the allocation {} of {} bytes",
                allocation.base() - address,
                allocation.label(),
                allocation.len()
            ),
            None => "no allocation is near it".into(),
        }
    }
}
