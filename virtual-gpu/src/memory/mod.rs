//! Device memory: allocations in an address space of its own, with guard gaps, never reused.

mod allocation;
mod window;

pub use allocation::{Allocation, Bytes};
pub use window::{GLOBAL_BASE, GUARD_GAP, LOCAL_BASE, PARAMETER_BASE, SHARED_BASE, WINDOW, Window};

use crate::exec::FUNCTION_BASE;

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
    /// There is something else where memory was to be placed.
    #[error("{len} bytes cannot be placed at {address:#x}: {detail}")]
    Occupied {
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
        let base = self.next;
        self.place(base, len, label.into())?;
        self.next = (base + len + GUARD_GAP).next_multiple_of(GUARD_GAP);
        Ok(DevicePointer(base))
    }

    /// Allocates `len` bytes, not initialised, at an address of the caller's choice.
    pub fn alloc_at(
        &mut self,
        pointer: DevicePointer,
        len: u64,
        label: impl Into<String>,
    ) -> Result<(), MemoryError> {
        self.check_vacant(pointer.0, len)?;
        // The caller may give an address again whose memory has been freed.
        self.allocations
            .retain(|a| a.is_live() || a.base() != pointer.0);
        self.place(pointer.0, len, label.into())
    }

    /// Makes memory of the host visible at the address that it has there, as pinned and managed memory are. It takes
    /// no device memory and counts as initialised. [`Memory::free`] ends it.
    ///
    /// # Safety
    /// Until then `len` bytes at `host` stay allocated, readable and writable from any thread, and the host program
    /// accesses them while a launch runs only as it may on a device: by volatile or atomic accesses to words that it
    /// shares with the kernel.
    pub unsafe fn map_host(
        &mut self,
        host: *mut u8,
        len: u64,
        label: impl Into<String>,
    ) -> Result<DevicePointer, MemoryError> {
        let (base, end) = (host as u64, host as u64 + len);
        self.check_vacant(base, len)?;
        // The host may give an address again that has been unmapped.
        self.allocations
            .retain(|a| a.is_live() || a.base() + a.len() as u64 <= base || end <= a.base());
        self.insert(Allocation::host(host, len as usize, label.into()));
        Ok(DevicePointer(base))
    }

    /// Whether kernels can see memory of the host.
    pub fn has_host(&self) -> bool {
        self.allocations.iter().any(Allocation::is_host)
    }

    /// Whether `address` is in memory of the host.
    pub fn is_host(&self, address: u64) -> bool {
        self.range(DevicePointer(address), 1)
            .is_ok_and(|(index, _)| self.allocations[index].is_host())
    }

    fn place(&mut self, base: u64, len: u64, label: String) -> Result<(), MemoryError> {
        let free = self.total - self.used;
        let allocation = (len <= free)
            .then(|| Allocation::new(base, len as usize, label))
            .flatten();
        let Some(allocation) = allocation else {
            return Err(MemoryError::OutOfMemory {
                wanted: len,
                free,
                total: self.total,
            });
        };
        self.used += len;
        self.insert(allocation);
        Ok(())
    }

    fn insert(&mut self, allocation: Allocation) {
        let at = self
            .allocations
            .partition_point(|other| other.base() <= allocation.base());
        self.allocations.insert(at, allocation);
    }

    fn check_vacant(&self, address: u64, len: u64) -> Result<(), MemoryError> {
        let occupied = |detail: String| MemoryError::Occupied {
            address,
            len,
            detail,
        };
        let end = address
            .checked_add(len)
            .ok_or_else(|| occupied("it goes past the end of the address space".into()))?;
        let windows = FUNCTION_BASE..SHARED_BASE + WINDOW;
        if address < windows.end && windows.start < end {
            return Err(occupied(
                "the windows of other state spaces are there".into(),
            ));
        }
        let other = self.allocations.iter().find(|other| {
            other.is_live() && other.base() < end && address < other.base() + other.len() as u64
        });
        match other {
            Some(other) => Err(occupied(format!(
                "the allocation {} is there",
                other.label()
            ))),
            None => Ok(()),
        }
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
        if !allocation.is_host() {
            self.used -= allocation.len() as u64;
        }
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
        self.allocations[index].read(at, data);
        Ok(())
    }

    /// Copies inside the device; what was not initialised is not initialised at its new place.
    pub fn copy(
        &mut self,
        to: DevicePointer,
        from: DevicePointer,
        len: u64,
    ) -> Result<(), MemoryError> {
        let (source, start) = self.range(from, len)?;
        let (target, at) = self.range(to, len)?;
        let mut data = vec![0; len as usize];
        self.allocations[source].read(start, &mut data);
        let state = self.allocations[source].state();
        let runs = state.initialised_runs(start..start + data.len());
        let target = &mut self.allocations[target];
        target.write(at, &data);
        let state = target.state_mut();
        state.mark_uninitialised(at..at + data.len());
        for run in runs {
            state.mark_initialised(run.start - start + at..run.end - start + at);
        }
        Ok(())
    }

    /// The allocation that holds `len` bytes at `pointer`, and the offset in it.
    pub fn range(&self, pointer: DevicePointer, len: u64) -> Result<(usize, usize), MemoryError> {
        self.index_of(pointer.0)
            .map(|index| (index, (pointer.0 - self.allocations[index].base()) as usize))
            .filter(|(index, at)| {
                let allocation = &self.allocations[*index];
                let size = allocation.len() as u64;
                allocation.is_live() && *at as u64 <= size && len <= size - *at as u64
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
