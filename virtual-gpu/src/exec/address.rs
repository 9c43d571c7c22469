//! From the addresses of a warp's lanes to bytes of the host.

use super::cluster::rank_of;
use super::inst::Flow;
use super::machine::{Lanes, Machine};
use super::row::{FULL, LANES};
use crate::check::finding::{FindingKind, MemorySpace};
use crate::launch::Checks;
use crate::memory::{DevicePointer, PARAMETER_BASE, Window};

/// State spaces as const parameters.
pub mod space {
    pub const GENERIC: u8 = 0;
    pub const GLOBAL: u8 = 1;
    pub const SHARED: u8 = 2;
    pub const LOCAL: u8 = 3;
    pub const PARAM: u8 = 4;
    pub const CONST: u8 = 5;
    /// Shared memory of the block or of others of its cluster.
    pub const CLUSTER: u8 = 6;
}

/// Where the bytes of a request are.
#[allow(clippy::large_enum_variant)] // Made and used within one instruction; a box would cost more.
pub enum Located {
    /// Lane i's bytes follow lane i - 1's.
    Linear(*mut u8),
    /// All lanes' bytes are the same.
    Uniform(*mut u8),
    /// Lane i's bytes are so far from one place, which every inactive lane has, too.
    Near(*mut u8, [i32; LANES]),
    /// Each active lane has its own.
    Scattered([*mut u8; LANES]),
}

impl Located {
    /// Bytes of `lane`, for requests of `bytes` a lane.
    #[inline(always)]
    pub fn lane(&self, lane: usize, bytes: usize) -> *mut u8 {
        match self {
            Self::Linear(first) => first.wrapping_add(lane * bytes),
            Self::Uniform(first) => *first,
            Self::Near(base, distances) => base.wrapping_offset(distances[lane] as isize),
            Self::Scattered(lanes) => lanes[lane],
        }
    }
}

/// What is done to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Read and written at once.
    Atomic,
}

impl Use {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
        }
    }
}

/// Why an address has no bytes.
struct Refusal {
    lane: usize,
    kind: FindingKind,
    space: MemorySpace,
    detail: String,
}

impl Machine<'_> {
    /// Finds the bytes of a request: `bytes` at `addresses[lane]` for each active lane, in state space `SPACE`.
    /// Addresses must be multiples of `align`. On an error the fault is recorded.
    #[inline(always)]
    pub fn locate<const SPACE: u8>(
        &mut self,
        addresses: &[u64; LANES],
        bytes: usize,
        align: usize,
        access: Use,
    ) -> Result<Located, Flow> {
        if SPACE != space::LOCAL
            && let Some(found) = self.together::<SPACE>(addresses, bytes, align, access)
        {
            return Ok(found);
        }
        self.scattered::<SPACE>(addresses, bytes, align, access)
    }

    /// The bytes of lanes that all are in one allocation, found at once.
    #[inline(always)]
    fn together<const SPACE: u8>(
        &mut self,
        addresses: &[u64; LANES],
        bytes: usize,
        align: usize,
        access: Use,
    ) -> Option<Located> {
        let first = addresses[self.mask.trailing_zeros() as usize];
        if self.mask.is_power_of_two() {
            if first & (align as u64 - 1) != 0 {
                return None;
            }
            let found = self.bytes_at::<SPACE>(first, bytes, access)?;
            return Some(Located::Uniform(found));
        }
        // Distances to the first active lane, in 32 bits, of which vectors hold twice as many.
        let (mut distances, mut far) = ([0i32; LANES], 0);
        if self.mask == FULL {
            for lane in 0..LANES {
                let distance = addresses[lane].wrapping_sub(first);
                far |= distance.wrapping_add(1 << 31);
                distances[lane] = distance as i32;
            }
        } else {
            for lane in 0..LANES {
                let active = 0u64.wrapping_sub(u64::from(self.mask >> lane & 1));
                let distance = addresses[lane].wrapping_sub(first) & active;
                far |= distance.wrapping_add(1 << 31);
                distances[lane] = distance as i32;
            }
        }
        let (mut low, mut high, mut bits, mut gaps) = (0, 0, 0, 0);
        for lane in 0..LANES {
            let distance = distances[lane];
            low = low.min(distance);
            high = high.max(distance);
            bits |= distance;
            gaps |= distance ^ (lane * bytes) as i32;
        }
        if far >> 32 != 0 || (first | bits as u64) & (align as u64 - 1) != 0 {
            return None;
        }
        let span = (i64::from(high) - i64::from(low)) as usize + bytes;
        let start = self.bytes_at::<SPACE>(first.wrapping_add(low as u64), span, access)?;
        let base = start.wrapping_offset(-(low as isize));
        Some(if bits == 0 {
            Located::Uniform(base)
        } else if gaps == 0 && self.mask == FULL {
            Located::Linear(base)
        } else {
            Located::Near(base, distances)
        })
    }

    /// As `together`, of addresses in shared memory, which have 32 bits.
    #[inline(always)]
    pub fn together_in_shared(
        &mut self,
        addresses: &[u32; LANES],
        bytes: usize,
        align: usize,
    ) -> Option<Located> {
        let first = addresses[self.mask.trailing_zeros() as usize];
        if self.mask.is_power_of_two() {
            if first & (align as u32 - 1) != 0 {
                return None;
            }
            let found = self.shared_bytes(u64::from(first), bytes)?;
            return Some(Located::Uniform(found));
        }
        // Inactive lanes have the place of the first active one.
        let mut places = *addresses;
        if self.mask != FULL {
            for (lane, place) in places.iter_mut().enumerate() {
                let active = 0u32.wrapping_sub(self.mask >> lane & 1);
                *place = *place & active | first & !active;
            }
        }
        let (mut low, mut high, mut bits, mut differences, mut gaps) = (u32::MAX, 0, 0, 0, 0);
        for (lane, place) in places.iter().enumerate() {
            low = low.min(*place);
            high = high.max(*place);
            bits |= place;
            differences |= place ^ first;
            gaps |= place ^ first.wrapping_add((lane * bytes) as u32);
        }
        if bits & (align as u32 - 1) != 0 {
            return None;
        }
        let start = self.shared_bytes(u64::from(low), (high - low) as usize + bytes)?;
        Some(if differences == 0 {
            Located::Uniform(start)
        } else if gaps == 0 && self.mask == FULL {
            Located::Linear(start)
        } else {
            let mut distances = [0; LANES];
            for (distance, place) in distances.iter_mut().zip(&places) {
                *distance = (place - low) as i32;
            }
            Located::Near(start, distances)
        })
    }

    #[inline(never)]
    fn scattered<const SPACE: u8>(
        &mut self,
        addresses: &[u64; LANES],
        bytes: usize,
        align: usize,
        access: Use,
    ) -> Result<Located, Flow> {
        let mut found = [std::ptr::null_mut(); LANES];
        for lane in Lanes(self.mask) {
            let address = addresses[lane];
            if address & (align as u64 - 1) != 0 {
                let detail = format!("address {address:#x} is not a multiple of {align}");
                let space = self.space_of::<SPACE>(address);
                return Err(self.refuse(
                    Refusal {
                        lane,
                        kind: FindingKind::Misaligned,
                        space,
                        detail,
                    },
                    bytes,
                    access,
                ));
            }
            let place = if SPACE == space::LOCAL
                || (SPACE == space::GENERIC && matches!(Window::of(address), Window::Local(_)))
            {
                self.local_bytes(address as u32, bytes, lane)
            } else {
                self.bytes_at::<SPACE>(address, bytes, access)
            };
            match place {
                Some(place) => found[lane] = place,
                None => {
                    let refusal = self.why_refused::<SPACE>(address, bytes, lane, access);
                    return Err(self.refuse(refusal, bytes, access));
                }
            }
        }
        Ok(Located::Scattered(found))
    }

    /// `len` bytes at `address`, if they are all of one allocation that allows the access.
    #[inline(always)]
    pub fn bytes_at<const SPACE: u8>(
        &mut self,
        address: u64,
        len: usize,
        access: Use,
    ) -> Option<*mut u8> {
        match SPACE {
            space::GLOBAL | space::CONST => self.global_bytes(address, len, access),
            space::SHARED => self.shared_bytes(address, len),
            space::CLUSTER => self.reachable_bytes(address as u32, len),
            space::PARAM => self.parameter_bytes(address.wrapping_sub(PARAMETER_BASE), len, access),
            space::LOCAL => None,
            _ => match Window::of(address) {
                Window::Global => self.global_bytes(address, len, access),
                Window::Shared(offset) => self.reachable_bytes(offset, len),
                Window::Parameter(offset) => self.parameter_bytes(u64::from(offset), len, access),
                Window::Local(_) => None,
            },
        }
    }

    #[inline(always)]
    fn global_bytes(&mut self, address: u64, len: usize, access: Use) -> Option<*mut u8> {
        let mut index = self.grid.last_allocation;
        for attempt in 0..2 {
            if index < self.grid.memory.count() {
                let allocation = self.grid.memory.allocation_mut(index);
                let at = address.wrapping_sub(allocation.base());
                let inside =
                    at < allocation.len() as u64 && allocation.len() as u64 - at >= len as u64;
                if inside
                    && allocation.is_live()
                    && (access == Use::Read || !allocation.is_read_only())
                {
                    self.grid.last_allocation = index;
                    return Some(allocation.pointer().wrapping_add(at as usize));
                }
            }
            if attempt == 0 {
                index = self.grid.memory.index_of(address)?;
            }
        }
        None
    }

    /// Bytes of shared memory of the block or, with a rank in the address, of another block of its cluster.
    #[inline(always)]
    fn reachable_bytes(&mut self, address: u32, len: usize) -> Option<*mut u8> {
        match rank_of(address) {
            None => self.shared_bytes(u64::from(address), len),
            Some(_) => self.cluster_bytes(address, len),
        }
    }

    #[inline(always)]
    fn shared_bytes(&mut self, offset: u64, len: usize) -> Option<*mut u8> {
        let size = self.block.shared.len() as u64;
        if offset >= size || size - offset < len as u64 || self.in_guard_gap(offset, len) {
            return None;
        }
        Some(self.block.shared.as_mut_ptr().wrapping_add(offset as usize))
    }

    /// Whether bytes of static shared memory are, in part, between two variables.
    #[inline(always)]
    pub fn in_guard_gap(&self, offset: u64, len: usize) -> bool {
        if offset >= u64::from(self.grid.program.shared_bytes)
            || self.grid.options.checks == Checks::None
        {
            return false;
        }
        let (start, end) = (offset as u32, offset as u32 + len as u32);
        let inside =
            |v: &super::program::SharedVariable| v.offset <= start && end <= v.offset + v.bytes;
        !self.grid.program.shared.iter().any(inside)
    }

    fn parameter_bytes(&mut self, offset: u64, len: usize, access: Use) -> Option<*mut u8> {
        let size = self.grid.parameters.len() as u64;
        if access != Use::Read || offset >= size || size - offset < len as u64 {
            return None;
        }
        Some(
            self.grid
                .parameters
                .as_mut_ptr()
                .wrapping_add(offset as usize),
        )
    }

    fn local_bytes(&mut self, offset: u32, len: usize, lane: usize) -> Option<*mut u8> {
        let size = self.grid.program.local_bytes as usize;
        let at = offset as usize;
        if at >= size || size - at < len {
            return None;
        }
        Some(self.warp.local.as_mut_ptr().wrapping_add(lane * size + at))
    }

    fn space_of<const SPACE: u8>(&self, address: u64) -> MemorySpace {
        match SPACE {
            space::SHARED | space::CLUSTER => MemorySpace::Shared,
            space::LOCAL => MemorySpace::Local,
            space::GLOBAL | space::CONST => MemorySpace::Global,
            space::PARAM => MemorySpace::None,
            _ => match Window::of(address) {
                Window::Global => MemorySpace::Global,
                Window::Shared(_) => MemorySpace::Shared,
                Window::Local(_) => MemorySpace::Local,
                Window::Parameter(_) => MemorySpace::None,
            },
        }
    }

    #[cold]
    fn why_refused<const SPACE: u8>(
        &self,
        address: u64,
        bytes: usize,
        lane: usize,
        access: Use,
    ) -> Refusal {
        let space = self.space_of::<SPACE>(address);
        let mut kind = FindingKind::OutOfBounds;
        let detail = match space {
            MemorySpace::Global => {
                let memory = &self.grid.memory;
                if let Some(index) = memory.index_of(address) {
                    let allocation = memory.allocation(index);
                    if address - allocation.base() < allocation.len() as u64 {
                        if !allocation.is_live() {
                            kind = FindingKind::UseAfterFree;
                        } else if allocation.is_read_only() && access != Use::Read {
                            kind = FindingKind::WriteToConstOrParam;
                        }
                    }
                }
                format!("address {address:#x}: {}", memory.describe(address))
            }
            MemorySpace::Shared if rank_of(address as u32).is_some() => {
                let (why, detail) = self.describe_cluster(address as u32, bytes as u32);
                kind = why;
                match SPACE {
                    space::SHARED => format!(
                        "the address {:#x} is one of shared::cluster, where shared::cta is accessed",
                        address as u32
                    ),
                    _ => detail,
                }
            }
            MemorySpace::Shared => self.describe_shared(address as u32, bytes as u32),
            MemorySpace::Local => format!(
                "offset {} of the {} bytes of local memory that a thread has",
                address as u32 as i32, self.grid.program.local_bytes
            ),
            MemorySpace::None => {
                if access != Use::Read {
                    kind = FindingKind::WriteToConstOrParam;
                }
                format!(
                    "offset {} of {} bytes of kernel parameters",
                    address as u32,
                    self.grid.parameters.len()
                )
            }
        };
        Refusal {
            lane,
            kind,
            space,
            detail,
        }
    }

    pub fn describe_shared(&self, offset: u32, bytes: u32) -> String {
        let program = &self.grid.program;
        let before = program
            .shared
            .iter()
            .filter(|v| v.offset <= offset)
            .max_by_key(|v| v.offset);
        let total = self.block.shared.len() as u32;
        let dynamic = total - program.shared_bytes;
        if offset >= program.shared_bytes && dynamic > 0 && offset < 1 << 30 {
            let past = (offset + bytes).saturating_sub(total);
            return format!(
                "it ends {past} bytes past the end of the {dynamic} bytes of dynamic shared memory"
            );
        }
        match before {
            Some(variable) if offset < 1 << 30 => format!(
                "it ends {} bytes past the end of {} of {} bytes",
                (offset + bytes).saturating_sub(variable.offset + variable.bytes),
                variable.name,
                variable.bytes
            ),
            _ => format!("offset {} of {total} bytes of shared memory", offset as i32),
        }
    }

    #[cold]
    fn refuse(&mut self, refusal: Refusal, bytes: usize, access: Use) -> Flow {
        let Refusal {
            lane,
            kind,
            space,
            detail,
        } = refusal;
        self.fault(
            kind,
            space,
            lane,
            format!("{} of {bytes} bytes: {detail}", access.name()),
        )
    }

    /// Offset of a global address in its allocation.
    pub fn allocation_offset(&self, address: u64) -> Option<(usize, usize)> {
        self.grid.memory.range(DevicePointer(address), 1).ok()
    }
}
