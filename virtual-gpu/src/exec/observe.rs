//! What checks and counters see of memory accesses.

use super::address::{Use, space};
use super::cluster::{Holder, offset};
use super::machine::{Lanes, Machine};
use super::program::Access;
use super::row::LANES;
use crate::check::finding::{FindingKind, MemorySpace};
use crate::check::race::Space;
use crate::check::shadow::ByteState;
use crate::launch::Checks;
use crate::memory::Window;
use std::ops::Range;

/// What the lanes of a store write.
pub struct Written {
    /// Each lane's bytes in 64 bits: enough to tell whether lanes that write to one place write the same.
    pub digests: [u64; LANES],
    /// All of it is in memory already.
    pub unchanged: bool,
}

impl Machine<'_> {
    /// Whether accesses have to be shown to [`Machine::observe`].
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.grid.options.counters || self.grid.options.checks == Checks::All
    }

    /// Checks and counts an access that is in bounds.
    #[inline(never)]
    pub fn observe<const SPACE: u8>(
        &mut self,
        addresses: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
        written: Option<&Written>,
    ) {
        match SPACE {
            space::GLOBAL => self.observe_global(addresses, access, bytes, kind, written),
            space::SHARED => {
                self.observe_shared(Holder::Own, addresses, access, bytes, kind, written)
            }
            space::CLUSTER => self.observe_cluster(addresses, access, bytes, kind, written),
            space::LOCAL => self.observe_local(addresses, access, bytes, kind),
            space::GENERIC => {
                let mask = self.mask;
                let mut split = [0u32; 3];
                for lane in Lanes(mask) {
                    match Window::of(addresses[lane]) {
                        Window::Global => split[0] |= 1 << lane,
                        Window::Shared(_) => split[1] |= 1 << lane,
                        Window::Local(_) => split[2] |= 1 << lane,
                        Window::Parameter(_) => {}
                    }
                }
                let low: [u64; LANES] = std::array::from_fn(|lane| addresses[lane] & 0xffff_ffff);
                for (part, lanes) in split.into_iter().enumerate() {
                    self.mask = lanes;
                    match part {
                        _ if lanes == 0 => {}
                        0 => self.observe_global(addresses, access, bytes, kind, written),
                        1 => self.observe_cluster(&low, access, bytes, kind, written),
                        _ => self.observe_local(&low, access, bytes, kind),
                    }
                }
                self.mask = mask;
            }
            _ => {}
        }
    }

    fn observe_global(
        &mut self,
        addresses: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
        written: Option<&Written>,
    ) {
        if self.grid.options.counters {
            self.count_global(addresses, bytes, kind);
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        let mask = self.mask;
        let mut left = mask;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let Some((index, at)) = self.allocation_offset(addresses[first]) else {
                left &= left - 1;
                continue;
            };
            let base = addresses[first] - at as u64;
            let allocation = self.grid.memory.allocation_mut(index);
            let len = allocation.len() as u64;
            let offsets = addresses.map(|address| address.wrapping_sub(base));
            let here = Lanes(left).filter(|lane| offsets[*lane] < len);
            let here = here.fold(0, |lanes, lane| lanes | 1 << lane);
            left &= !here;
            let state = allocation.state_mut();
            let pending = pending_byte(state, &offsets, here, bytes);
            let fresh = use_bytes(state, &offsets, here, access, bytes, kind);
            self.mask = here;
            if let Some((lane, at)) = pending {
                let label = self.grid.memory.allocation(index).label().to_string();
                let message = format!(
                    "{} of byte {at} of the allocation {label}, which an asynchronous copy still writes: wait for the \
                     copy first",
                    kind.name()
                );
                self.finding(
                    FindingKind::PendingAsyncRead,
                    MemorySpace::Global,
                    lane,
                    message,
                );
            }
            if let Some((lane, at)) = fresh {
                let label = self.grid.memory.allocation(index).label().to_string();
                let message = format!(
                    "byte {at} of the allocation {label} is read, but nobody has written it"
                );
                self.finding(
                    FindingKind::UninitializedRead,
                    MemorySpace::Global,
                    lane,
                    message,
                );
            }
            self.note_access(
                Space::Global(index as u32),
                &offsets,
                access,
                bytes,
                kind,
                written,
            );
        }
        self.mask = mask;
    }

    fn count_global(&mut self, addresses: &[u64; LANES], bytes: usize, kind: Use) {
        let mut sectors = [0u64; 2 * LANES];
        let mut count = 0;
        let mut highest = 0;
        let mut fresh = 0;
        // The allocation of the lane before is mostly that of the next.
        let mut found: Option<(usize, u64, u64)> = None;
        for lane in Lanes(self.mask) {
            let address = addresses[lane];
            for sector in address / 32..=(address + bytes as u64 - 1) / 32 {
                if count == 0 || sector > highest || !sectors[..count].contains(&sector) {
                    sectors[count] = sector;
                    count += 1;
                    highest = highest.max(sector);
                }
            }
            if kind == Use::Write {
                continue;
            }
            if found.is_none_or(|(_, base, len)| address.wrapping_sub(base) >= len) {
                found = self.allocation_offset(address).map(|(index, at)| {
                    let len = self.grid.memory.allocation(index).len();
                    (index, address - at as u64, len as u64)
                });
            }
            if let Some((index, base, _)) = found {
                let allocation = self.grid.memory.allocation_mut(index);
                fresh += allocation.count_read((address - base) as usize, bytes);
            }
        }
        let moved = u64::from(self.mask.count_ones()) * bytes as u64;
        let traffic = &mut self.grid.traffic[self.pc as usize];
        traffic.global_requests += 1;
        traffic.global_sectors += count as u64;
        traffic.global_unique_read_bytes += fresh;
        match kind {
            Use::Read => traffic.global_read_bytes += moved,
            Use::Write => traffic.global_written_bytes += moved,
            Use::Atomic => {
                traffic.global_read_bytes += moved;
                traffic.global_written_bytes += moved;
                self.count_atomics(addresses, 0);
            }
        }
    }

    /// Counts atomics of the active lanes; `space` tells the addresses of one memory from those of another.
    fn count_atomics(&mut self, addresses: &[u64; LANES], space: u64) {
        self.grid.traffic[self.pc as usize].atomics += u64::from(self.mask.count_ones());
        for lane in Lanes(self.mask) {
            *self
                .grid
                .atomics
                .entry(space | addresses[lane])
                .or_default() += 1;
        }
    }

    /// Shared memory of the block and of others of its cluster, block by block.
    fn observe_cluster(
        &mut self,
        addresses: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
        written: Option<&Written>,
    ) {
        let mask = self.mask;
        let offsets = addresses.map(|address| u64::from(offset(address as u32)));
        let mut left = mask;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let Some(holder) = self.holder(addresses[first] as u32) else {
                break;
            };
            let here = |lane: &usize| self.holder(addresses[*lane] as u32) == Some(holder);
            let here = Lanes(left)
                .filter(here)
                .fold(0, |lanes, lane| lanes | 1 << lane);
            left &= !here;
            self.mask = here;
            self.note_visit(holder, first);
            self.observe_shared(holder, &offsets, access, bytes, kind, written);
        }
        self.mask = mask;
    }

    fn observe_shared(
        &mut self,
        holder: Holder,
        addresses: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
        written: Option<&Written>,
    ) {
        if self.grid.options.counters {
            let waves = wavefronts(addresses, self.mask, bytes);
            let moved = u64::from(self.mask.count_ones()) * bytes as u64;
            let traffic = &mut self.grid.traffic[self.pc as usize];
            traffic.shared_requests += 1;
            traffic.shared_wavefronts += waves;
            traffic.shared_ideal_wavefronts += ideal_wavefronts(self.mask, bytes);
            traffic.shared_bytes += moved;
            if kind == Use::Atomic {
                self.count_atomics(addresses, 1 << 63 | u64::from(self.index_of(holder)) << 32);
            }
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        let mask = self.mask;
        let state = &mut self.block_of(holder).shared_state;
        let pending = pending_byte(state, addresses, mask, bytes);
        let fresh = use_bytes(state, addresses, mask, access, bytes, kind);
        if kind != Use::Read && !self.block_of(holder).mbarriers.is_empty() {
            for lane in Lanes(mask) {
                let end = addresses[lane] + bytes as u64;
                self.check_mbarriers(holder, addresses[lane], end, lane);
            }
        }
        if let Some((lane, at)) = pending {
            let message = format!(
                "{} of shared byte {at}, which an asynchronous copy still writes: wait for the copy first",
                kind.name()
            );
            self.finding(
                FindingKind::PendingAsyncRead,
                MemorySpace::Shared,
                lane,
                message,
            );
        } else if let Some((lane, at)) = fresh {
            let message = format!("shared byte {at} is read, but nobody has written it");
            self.finding(
                FindingKind::UninitializedRead,
                MemorySpace::Shared,
                lane,
                message,
            );
        }
        self.note_access(
            Space::Shared(self.index_of(holder)),
            addresses,
            access,
            bytes,
            kind,
            written,
        );
    }

    fn observe_local(
        &mut self,
        addresses: &[u64; LANES],
        access: &Access,
        bytes: usize,
        kind: Use,
    ) {
        if self.grid.options.counters {
            self.grid.traffic[self.pc as usize].local_bytes +=
                u64::from(self.mask.count_ones()) * bytes as u64;
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        let size = self.grid.program.local_bytes as usize;
        for lane in Lanes(self.mask) {
            let at = lane * size + addresses[lane] as u32 as usize;
            let state = &mut self.warp.local_state;
            let fresh = match kind {
                Use::Write => None,
                _ => first_unused(access, at, bytes, |range| state.first_uninitialised(range)),
            };
            if kind != Use::Read {
                state.mark_initialised(at..at + bytes);
            }
            if let Some(at) = fresh {
                let message = format!(
                    "local byte {} is read, but this thread has not written it",
                    at - lane * size
                );
                self.finding(
                    FindingKind::UninitializedRead,
                    MemorySpace::Local,
                    lane,
                    message,
                );
            }
        }
    }
}

/// The lane and byte of the first access to what an asynchronous copy still writes.
fn pending_byte(
    state: &ByteState,
    offsets: &[u64; LANES],
    mask: u32,
    bytes: usize,
) -> Option<(usize, usize)> {
    if !state.has_pending() {
        return None;
    }
    let (low, high) = Lanes(mask).fold((u64::MAX, 0), |(low, high), lane| {
        (low.min(offsets[lane]), high.max(offsets[lane]))
    });
    // Mostly nothing at all is pending from the first byte to the last.
    if high.wrapping_sub(low) < 4096 && !state.is_pending(low as usize..high as usize + bytes) {
        return None;
    }
    Lanes(mask).find_map(|lane| {
        let at = offsets[lane] as usize;
        let pending = state.first_pending(at..at + bytes);
        pending.map(|(at, _)| (lane, at))
    })
}

/// Marks what is written, and gives the lane and byte of the first read of what nobody has written.
fn use_bytes(
    state: &mut ByteState,
    offsets: &[u64; LANES],
    mask: u32,
    access: &Access,
    bytes: usize,
    kind: Use,
) -> Option<(usize, usize)> {
    let first = offsets[mask.trailing_zeros() as usize & 31];
    let linear = mask == u32::MAX
        && access.used_bytes == u32::MAX
        && offsets
            .iter()
            .enumerate()
            .all(|(lane, offset)| *offset == first + (lane * bytes) as u64);
    if linear {
        let range = first as usize..first as usize + LANES * bytes;
        let fresh = if kind == Use::Write {
            None
        } else {
            state.first_uninitialised(range.clone())
        };
        if kind != Use::Read {
            state.mark_initialised(range);
        }
        return fresh.map(|at| ((at - first as usize) / bytes, at));
    }
    let mut found = None;
    for lane in Lanes(mask) {
        let at = offsets[lane] as usize;
        if kind != Use::Write && found.is_none() {
            found = first_unused(access, at, bytes, |range| state.first_uninitialised(range))
                .map(|at| (lane, at));
        }
        if kind != Use::Read {
            state.mark_initialised(at..at + bytes);
        }
    }
    found
}

/// The first uninitialised byte among those of the access that the program uses.
fn first_unused(
    access: &Access,
    at: usize,
    bytes: usize,
    mut find: impl FnMut(std::ops::Range<usize>) -> Option<usize>,
) -> Option<usize> {
    if access.used_bytes == u32::MAX {
        return find(at..at + bytes);
    }
    (0..bytes)
        .filter(|byte| access.used_bytes >> byte & 1 != 0)
        .find_map(|byte| find(at + byte..at + byte + 1))
}

/// Passes that a request needs when no two words collide: one for each group of lanes that takes part.
fn ideal_wavefronts(mask: u32, bytes: usize) -> u64 {
    let group = (128 / bytes.max(4)).max(1);
    let lanes = u32::MAX >> (LANES - group.min(LANES));
    let groups = (0..LANES).step_by(group);
    let busy = groups.filter(|first| mask >> first & lanes != 0).count();
    busy as u64
}

/// Passes over the 32 banks: lanes go in groups of 128 bytes (all, halves for 8 bytes a lane, quarters for 16), and a
/// group needs as many passes as the busiest bank has different words.
pub fn wavefronts(addresses: &[u64; LANES], mask: u32, bytes: usize) -> u64 {
    let group = (128 / bytes.max(4)).max(1);
    let words = bytes.div_ceil(4);
    let mut total = 0;
    for first in (0..LANES).step_by(group) {
        if let Some(passes) = at_most_one_pass(addresses, mask, bytes, first..first + group) {
            total += passes;
            continue;
        }
        let mut seen = [u64::MAX; 128];
        let mut count = 0;
        let mut load = [0u8; 32];
        for lane in first..(first + group).min(LANES) {
            if mask >> lane & 1 == 0 {
                continue;
            }
            for word in 0..words as u64 {
                let word = addresses[lane] / 4 + word;
                if count < seen.len() && !seen[..count].contains(&word) {
                    seen[count] = word;
                    count += 1;
                    load[(word % 32) as usize] += 1;
                }
            }
        }
        total += u64::from(load.into_iter().max().unwrap_or(0));
    }
    total
}

/// The passes of a group of lanes that needs none or one: their words fall into different banks or are the same.
#[inline(always)]
fn at_most_one_pass(
    addresses: &[u64; LANES],
    mask: u32,
    bytes: usize,
    lanes: Range<usize>,
) -> Option<u64> {
    let unit = bytes.max(4);
    if !unit.is_power_of_two() || unit > 128 {
        return None;
    }
    // Addresses are multiples of their size, so that units meet in all of their banks or in none.
    let (shift, slots) = (unit.trailing_zeros(), 128 / unit as u32);
    let lanes = lanes.start..lanes.end.min(LANES);
    let (mut used, mut active) = (0u32, 0u32);
    for lane in lanes.clone() {
        let slot = (addresses[lane] >> shift) as u32 & (slots - 1);
        used |= (mask >> lane & 1) << slot;
        active += mask >> lane & 1;
    }
    if used.count_ones() == active {
        return Some(u64::from(active != 0));
    }
    // Some meet: they may still be the same.
    let mut seen = [None; LANES];
    for lane in lanes.filter(|lane| mask >> lane & 1 != 0) {
        let unit = addresses[lane] >> shift;
        if *seen[unit as usize % slots as usize].get_or_insert(unit) != unit {
            return None;
        }
    }
    Some(1)
}
