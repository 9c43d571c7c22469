//! What the host knows of memory: who owns which addresses. The device follows when its queue gets there.

use crate::boundary::Answer;
use crate::error::{INVALID_VALUE, OUT_OF_MEMORY};
use crate::handle::Handle;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;

/// Addresses of device memory, which host programs do not have and module variables lie below.
const FIRST: u64 = 0x7100_0000_0000;
const LAST: u64 = 0x7e00_0000_0000;
/// At least this much lies between two allocations.
const GAP: u64 = 1 << 20;

/// Memory of the host that the driver has allocated.
#[derive(Debug)]
pub struct HostBlock {
    first: *mut u8,
    layout: Layout,
}

// SAFETY: the block belongs to the value alone; the host program uses it as the driver API allows.
unsafe impl Send for HostBlock {}

impl HostBlock {
    /// `len` zero bytes on pages of their own.
    pub fn new(len: usize) -> Answer<Self> {
        let layout = Layout::from_size_align(len, 4096).map_err(|_| OUT_OF_MEMORY)?;
        if len == 0 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the size is not zero.
        let first = unsafe { alloc_zeroed(layout) };
        if first.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        Ok(Self { first, layout })
    }

    /// Address of the first byte.
    pub fn address(&self) -> u64 {
        self.first as u64
    }
}

impl Drop for HostBlock {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.first, self.layout) }
    }
}

/// What kind of memory a range is.
#[derive(Debug)]
pub enum Kind {
    /// Device memory; the pool that it came from, if it came from one.
    Device(Option<Handle>),
    /// A variable of a module.
    Variable,
    /// Host memory that the driver allocated, pinned, with the flags of the call.
    Pinned(
        #[expect(dead_code, reason = "held until the device has let go of it")] HostBlock,
        u32,
    ),
    /// Host memory that the program registered, with the flags of the call.
    Registered(u32),
    /// Managed memory.
    Managed(#[expect(dead_code, reason = "held until the device has let go of it")] HostBlock),
}

/// A range of memory.
#[derive(Debug)]
pub struct Range {
    /// Its first address.
    pub base: u64,
    /// Its size.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
    /// Context that it belongs to.
    pub context: Handle,
    /// A number that no other range has.
    pub id: u64,
}

impl Range {
    /// Whether the host can use the addresses.
    pub fn is_host(&self) -> bool {
        matches!(
            self.kind,
            Kind::Pinned(..) | Kind::Registered(_) | Kind::Managed(_)
        )
    }
}

/// All ranges by first address.
#[derive(Debug)]
pub struct Directory {
    ranges: BTreeMap<u64, Range>,
    /// Sizes of the allocations that graphs make, by first address; whether one is there now, `ranges` knows.
    planned: BTreeMap<u64, u64>,
    next: u64,
    next_id: u64,
    used: u64,
    total: u64,
}

impl Directory {
    /// No ranges, on a device of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self {
            ranges: BTreeMap::new(),
            planned: BTreeMap::new(),
            next: FIRST,
            next_id: 1,
            used: 0,
            total,
        }
    }

    /// Free bytes and all bytes of the device.
    pub fn free_and_total(&self) -> (u64, u64) {
        (self.total - self.used, self.total)
    }

    /// Reserves addresses for device memory.
    pub fn reserve(&mut self, bytes: u64, pool: Option<Handle>, context: Handle) -> Answer<u64> {
        let base = self.addresses(bytes)?;
        self.add(base, bytes, Kind::Device(pool), context);
        Ok(base)
    }

    /// Sets addresses aside for memory that a graph allocates when it runs.
    pub fn plan(&mut self, bytes: u64) -> Answer<u64> {
        let base = self.addresses(bytes)?;
        self.planned.insert(base, bytes);
        Ok(base)
    }

    fn addresses(&mut self, bytes: u64) -> Answer<u64> {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let end = self.next.checked_add(bytes).ok_or(OUT_OF_MEMORY)?;
        if bytes > self.total - self.used || end > LAST {
            return Err(OUT_OF_MEMORY);
        }
        let base = self.next;
        self.next = (end + GAP).next_multiple_of(GAP);
        Ok(base)
    }

    /// Whether `address` is in memory that a graph allocates.
    pub fn is_planned(&self, address: u64) -> bool {
        self.hold_planned(address, 1)
    }

    fn hold_planned(&self, address: u64, bytes: u64) -> bool {
        let before = self.planned.range(..=address).next_back();
        before.is_some_and(|(base, size)| {
            let at = address - base;
            at < *size && bytes <= size - at
        })
    }

    /// An error unless `bytes` bytes at `address` are of one range, or of memory that a graph allocates if they are used
    /// in a graph.
    pub fn hold_or_plan(&self, address: u64, bytes: u64, in_graph: bool) -> Answer {
        match in_graph && self.hold_planned(address, bytes) {
            true => Ok(()),
            false => self.hold(address, bytes).map(|_| ()),
        }
    }

    /// Enters a range.
    pub fn add(&mut self, base: u64, bytes: u64, kind: Kind, context: Handle) {
        if matches!(kind, Kind::Device(_) | Kind::Variable) {
            self.used = self.used.saturating_add(bytes);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ranges.insert(
            base,
            Range {
                base,
                bytes,
                kind,
                context,
                id,
            },
        );
    }

    /// Takes out the range that starts at `base`, if `wanted` agrees.
    pub fn remove(&mut self, base: u64, wanted: impl Fn(&Kind) -> bool) -> Option<Range> {
        if !wanted(&self.ranges.get(&base)?.kind) {
            return None;
        }
        let range = self.ranges.remove(&base)?;
        if matches!(range.kind, Kind::Device(_) | Kind::Variable) {
            self.used = self.used.saturating_sub(range.bytes);
        }
        Some(range)
    }

    /// Takes out all ranges of a context.
    pub fn remove_all(&mut self, context: Handle) -> Vec<Range> {
        let bases: Vec<u64> = self
            .ranges
            .values()
            .filter(|range| range.context == context)
            .map(|range| range.base)
            .collect();
        bases
            .into_iter()
            .filter_map(|base| self.remove(base, |_| true))
            .collect()
    }

    /// The range that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Range> {
        let (_, range) = self.ranges.range(..=address).next_back()?;
        (address - range.base < range.bytes).then_some(range)
    }

    /// The range that holds `bytes` bytes at `address`; an error if none holds all of them.
    pub fn hold(&self, address: u64, bytes: u64) -> Answer<&Range> {
        self.find(address)
            .filter(|range| bytes <= range.bytes - (address - range.base))
            .ok_or(INVALID_VALUE)
    }

    /// Whether a range shares an address with `bytes` bytes at `base`.
    pub fn overlaps(&self, base: u64, bytes: u64) -> bool {
        self.ranges
            .range(..base.saturating_add(bytes))
            .next_back()
            .is_some_and(|(_, range)| range.base + range.bytes > base)
    }
}
