//! `cp.async.bulk` and `cp.reduce.async.bulk` of one dimension, with their groups.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::check::race::Bar;
use crate::exec::address::{Use, space};
use crate::exec::agent::{self, Bulk, Completion, Job, Place};
use crate::exec::cluster::{Holder, map_generic, offset};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::mbarrier::Misuse;
use crate::exec::program::{BulkCopy, Extra, Pointer};
use crate::exec::row::LANES;
use crate::launch::Checks;
use crate::memory::Window;

/// Addresses and sizes of bulk copies are multiples of this.
const UNIT: u64 = 16;

/// Starts a bulk copy in each active lane: the size is in `c`.
pub struct StartBulk;

impl Code for StartBulk {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let Extra::Bulk(copy) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("bulk copies are lowered with their data");
        };
        let copy = *copy;
        // SAFETY: the handler's contract.
        let (to, from, sizes, mbarriers, masks) = unsafe {
            (
                machine.pointers(&copy.to),
                machine.pointers(&copy.from),
                machine.row(inst.c),
                copy.mbarrier.map(|pointer| machine.pointers(&pointer)),
                copy.multicast.map(|slot| machine.row(slot)),
            )
        };
        let everybody = machine.mask;
        for lane in Lanes(everybody) {
            machine.mask = 1 << lane;
            let given = Given {
                to: to[lane],
                from: from[lane],
                bytes: sizes[lane],
                mbarrier: mbarriers.map(|addresses| addresses[lane]),
                multicast: masks.map(|masks| masks[lane]),
            };
            if let Err(flow) = machine.start_bulk(&copy, &given) {
                return flow;
            }
        }
        machine.mask = everybody;
        machine.warp.stores += 1;
        Flow::Next
    }
}

/// Operands of a copy in one lane.
struct Given {
    to: u64,
    from: u64,
    bytes: u32,
    mbarrier: Option<u64>,
    /// Ranks of the blocks that get the bytes.
    multicast: Option<u32>,
}

impl Machine<'_> {
    /// Checks the copy of the only active lane and hands it to the agent.
    fn start_bulk(&mut self, copy: &BulkCopy, given: &Given) -> Result<(), Flow> {
        let (lane, bytes) = (self.mask.trailing_zeros() as usize, given.bytes);
        if u64::from(bytes) % UNIT != 0 {
            let message =
                format!("a bulk copy of {bytes} bytes: the size must be a multiple of {UNIT}");
            return Err(self.fault(FindingKind::Misaligned, MemorySpace::None, lane, message));
        }
        let kind = if copy.reduce.is_some() {
            Use::Atomic
        } else {
            Use::Write
        };
        let mut from = None;
        for (to, mbarrier) in destinations(given.to, given.mbarrier, given.multicast) {
            let completion = match mbarrier {
                Some(address) => Completion::Mbarrier(self.expects_bytes(address, lane)?),
                None => Completion::Group(self.warp.bulk[0].current()[lane]),
            };
            if bytes == 0 {
                continue;
            }
            let source = match from {
                Some(place) => place,
                None => self.bulk_place(&copy.from, given.from, bytes, Use::Read)?,
            };
            let bulk = Bulk {
                id: self.block.next_copy(),
                site: self.site(lane),
                from: source,
                to: self.bulk_place(&copy.to, to, bytes, kind)?,
                bytes,
                reduce: copy.reduce,
                completion,
            };
            self.check_target(bulk.to, completion, lane)?;
            // All blocks of a multicast get what is read once.
            self.watch_bulk(&bulk, from.is_none());
            from = Some(source);
            self.block.agent.ask(Job::Bulk(bulk));
        }
        Ok(())
    }

    /// The mbarrier at an address. One that there is not is refused: the agent would find out much later.
    pub fn expects_bytes(&mut self, address: u64, lane: usize) -> Result<Bar, Flow> {
        let Window::Shared(at) = Window::of(address) else {
            let message = format!("the mbarrier at {address:#x} is not in shared memory");
            return Err(self.misuse(lane, message));
        };
        self.locate::<{ space::CLUSTER }>(&[u64::from(at); LANES], 8, 8, Use::Atomic)?;
        let holder = self.holder(at).unwrap_or(Holder::Own);
        let (index, address) = (self.index_of(holder), offset(at));
        let found = self.grid.with_block(self.block, index, |_, block| {
            block.mbarriers.look(block.shared.as_slice(), address)
        });
        match found {
            Some(Err(Misuse(message))) => {
                let message = format!("mbarrier at shared offset {address}: {message}");
                Err(self.misuse(lane, message))
            }
            _ => Ok(Bar {
                block: index,
                address,
            }),
        }
    }

    /// The mbarrier that counts bytes of shared memory is one of the block that holds them.
    pub fn check_target(
        &mut self,
        to: Place,
        completion: Completion,
        lane: usize,
    ) -> Result<(), Flow> {
        match (to, completion) {
            (Place::Shared { block, .. }, Completion::Mbarrier(bar)) if block != bar.block => {
                let message = format!(
                    "the copy writes to shared memory of block {block} and counts its bytes in block {}: both must be one",
                    bar.block
                );
                Err(self.misuse(lane, message))
            }
            _ => Ok(()),
        }
    }

    fn bulk_place(
        &mut self,
        pointer: &Pointer,
        address: u64,
        bytes: u32,
        kind: Use,
    ) -> Result<Place, Flow> {
        let (len, align) = (bytes as usize, UNIT as usize);
        if pointer.space == space::GLOBAL {
            self.locate::<{ space::GLOBAL }>(&[address; LANES], len, align, kind)?;
            return Ok(Place::Global(address));
        }
        let addresses = [u64::from(address as u32); LANES];
        match pointer.space {
            space::CLUSTER => self.locate::<{ space::CLUSTER }>(&addresses, len, align, kind)?,
            _ => self.locate::<{ space::SHARED }>(&addresses, len, align, kind)?,
        };
        Ok(self.shared_place(address as u32))
    }

    /// The place at an address of `shared::cluster` that has been found to be in bounds.
    pub fn shared_place(&self, address: u32) -> Place {
        let holder = self.holder(address).unwrap_or(Holder::Own);
        Place::Shared {
            block: self.index_of(holder),
            offset: offset(address),
        }
    }

    /// Checks and counts a copy that is started.
    fn watch_bulk(&mut self, bulk: &Bulk, reads: bool) {
        if self.grid.options.counters && reads {
            self.count_bulk(bulk);
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        let kind = if bulk.reduce.is_some() {
            Use::Atomic
        } else {
            Use::Write
        };
        let places = [
            (bulk.from, bulk.bytes, Use::Read),
            (bulk.to, bulk.bytes, kind),
        ];
        for (place, bytes, kind) in places {
            self.check_bulk_bytes(place, bytes, bulk.site.lane as usize, kind);
        }
        self.note_async(&places, bulk.completion, bulk.site.lane);
        agent::mark(self.grid, self.block, bulk.to, bulk.bytes, bulk.id);
    }

    fn count_bulk(&mut self, bulk: &Bulk) {
        self.grid.traffic[self.pc as usize].async_bytes += u64::from(bulk.bytes);
        self.count_bulk_side(bulk.from, bulk.bytes, true);
        self.count_bulk_side(bulk.to, bulk.bytes, false);
    }

    /// Counts what an asynchronous copy reads or writes in global memory.
    pub fn count_bulk_side(&mut self, place: Place, len: u32, reads: bool) {
        let Place::Global(address) = place else {
            return;
        };
        let (bytes, mut fresh) = (u64::from(len), 0);
        if reads && let Some((index, at)) = self.allocation_offset(address) {
            let allocation = self.grid.memory.allocation_mut(index);
            fresh = allocation.count_read(at, len as usize);
        }
        let traffic = &mut self.grid.traffic[self.pc as usize];
        traffic.global_unique_read_bytes += fresh;
        traffic.global_requests += 1;
        traffic.global_sectors += (address + bytes).div_ceil(32) - address / 32;
        if reads {
            traffic.global_read_bytes += bytes;
        } else {
            traffic.global_written_bytes += bytes;
        }
    }

    /// Looks for bytes that are pending, or read though nobody has written them, or those of an mbarrier.
    pub fn check_bulk_bytes(&mut self, place: Place, bytes: u32, lane: usize, kind: Use) {
        let len = bytes as usize;
        let (space, state, at, name) = match place {
            Place::Shared { block, offset } => {
                let (at, holder) = (offset as usize, self.holder_of(block));
                if kind != Use::Read {
                    let end = u64::from(offset + bytes);
                    self.check_mbarriers(holder, u64::from(offset), end, lane);
                }
                let name = "shared memory".to_string();
                let state = &self.block_of(holder).shared_state;
                (MemorySpace::Shared, state, at, name)
            }
            Place::Global(address) => {
                let Some((index, at)) = self.allocation_offset(address) else {
                    return;
                };
                let allocation = self.grid.memory.allocation(index);
                let name = format!("the allocation {}", allocation.label());
                (MemorySpace::Global, allocation.state(), at, name)
            }
        };
        let range = at..at + len;
        // Reductions may meet in one place.
        let pending = if kind == Use::Atomic {
            None
        } else {
            state.first_pending(range.clone())
        };
        let fresh = if kind == Use::Write {
            None
        } else {
            state.first_uninitialised(range)
        };
        if let Some((at, _)) = pending {
            let message = format!(
                "{} of byte {at} of {name}, which another asynchronous copy still writes: wait for that copy first",
                kind.name()
            );
            self.finding(FindingKind::PendingAsyncRead, space, lane, message);
        } else if let Some(at) = fresh {
            let message = format!("byte {at} of {name} is read, but nobody has written it");
            self.finding(FindingKind::UninitializedRead, space, lane, message);
        }
    }

    /// Reports a write to shared bytes `start..end` if they are those of an mbarrier.
    pub fn check_mbarriers(&mut self, holder: Holder, start: u64, end: u64, lane: usize) {
        if let Some(address) = self.block_of(holder).mbarriers.in_range(start, end) {
            let message = format!(
                "a write at shared offset {start} goes over the mbarrier at {address}: mbarrier.inval must end its use \
                 first"
            );
            self.finding(
                FindingKind::MbarrierMisuse,
                MemorySpace::Shared,
                lane,
                message,
            );
        }
    }
}

/// Where a copy goes and what counts its bytes: in each of the blocks that a multicast names, or where the operands say.
pub fn destinations(
    to: u64,
    mbarrier: Option<u64>,
    multicast: Option<u32>,
) -> impl Iterator<Item = (u64, Option<u64>)> {
    let ranks = Lanes(multicast.map_or(1, |mask| mask & 0xffff));
    ranks.map(move |rank| match multicast {
        Some(_) => (
            map_generic(to, rank as u32),
            mbarrier.map(|address| map_generic(address, rank as u32)),
        ),
        None => (to, mbarrier),
    })
}

/// `cp.async.bulk.commit_group`.
pub struct CommitBulk;

impl Code for CommitBulk {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        let lanes = machine.mask;
        machine
            .warp
            .bulk
            .iter_mut()
            .for_each(|groups| groups.close(lanes));
        machine.note_bulk_commit();
        Flow::Next
    }
}

/// `cp.async.bulk.wait_group`: how many groups may go on is in `imm`; flag 1 waits for sources only.
pub struct WaitBulk;

impl Code for WaitBulk {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let read = inst.flags & 1 != 0;
        let (mask, alive) = (machine.mask, machine.warp.alive());
        let [whole, sources] = &mut machine.warp.bulk;
        // Who waits for all of a copy has waited for its source too.
        let mut limits = sources.wait(mask, inst.imm);
        let mut complete = sources.complete(alive);
        if !read {
            limits = whole.wait(mask, inst.imm);
            complete = whole.complete(alive);
        }
        for lane in Lanes(mask) {
            let who = (machine.warp.index, lane as u32);
            if !agent::finish_groups(machine.grid, machine.block, who, limits[lane], read) {
                return Flow::Fault;
            }
        }
        machine.warp.stores += 1;
        machine.note_bulk_wait(complete, read);
        Flow::Next
    }
}
