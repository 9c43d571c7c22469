//! `cp.async.bulk` and `cp.reduce.async.bulk` of one dimension, with their groups.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::agent::{self, Bulk, Completion, Job, Place};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
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
        let (to, from, sizes, mbarriers) = unsafe {
            (
                machine.pointers(&copy.to),
                machine.pointers(&copy.from),
                machine.row(inst.c),
                copy.mbarrier.map(|pointer| machine.pointers(&pointer)),
            )
        };
        let everybody = machine.mask;
        for lane in Lanes(everybody) {
            machine.mask = 1 << lane;
            let mbarrier = mbarriers.map(|addresses| addresses[lane]);
            let started = machine.start_bulk(&copy, (to[lane], from[lane]), sizes[lane], mbarrier);
            if let Err(flow) = started {
                return flow;
            }
        }
        machine.mask = everybody;
        machine.warp.stores += 1;
        Flow::Next
    }
}

impl Machine<'_> {
    /// Checks the copy of the only active lane and hands it to the agent.
    fn start_bulk(
        &mut self,
        copy: &BulkCopy,
        (to, from): (u64, u64),
        bytes: u32,
        mbarrier: Option<u64>,
    ) -> Result<(), Flow> {
        let lane = self.mask.trailing_zeros() as usize;
        if u64::from(bytes) % UNIT != 0 {
            let message =
                format!("a bulk copy of {bytes} bytes: the size must be a multiple of {UNIT}");
            return Err(self.fault(FindingKind::Misaligned, MemorySpace::None, lane, message));
        }
        let completion = match mbarrier {
            Some(address) => {
                let Window::Shared(offset) = Window::of(address) else {
                    let message = format!("the mbarrier at {address:#x} is not in shared memory");
                    return Err(self.fault(
                        FindingKind::MbarrierMisuse,
                        MemorySpace::Shared,
                        lane,
                        message,
                    ));
                };
                self.expects_bytes(offset, lane)?;
                Completion::Mbarrier(offset)
            }
            None => Completion::Group(self.warp.bulk[0].current()[lane]),
        };
        if bytes == 0 {
            return Ok(());
        }
        let from = self.bulk_place(&copy.from, from, bytes, Use::Read)?;
        let kind = if copy.reduce.is_some() {
            Use::Atomic
        } else {
            Use::Write
        };
        let to = self.bulk_place(&copy.to, to, bytes, kind)?;
        let bulk = Bulk {
            id: self.block.next_copy(),
            site: self.site(lane),
            from,
            to,
            bytes,
            reduce: copy.reduce,
            completion,
        };
        self.watch_bulk(&bulk);
        self.block.agent.ask(Job::Bulk(bulk));
        Ok(())
    }

    /// Refuses an mbarrier that there is not: the agent would find out much later.
    fn expects_bytes(&mut self, offset: u32, lane: usize) -> Result<(), Flow> {
        let shared = self.block.shared.as_slice();
        let found = self.block.mbarriers.look(shared, offset);
        let Err(crate::exec::mbarrier::Misuse(message)) = found else {
            return Ok(());
        };
        let message = format!("mbarrier at shared offset {offset}: {message}");
        let (kind, space) = (FindingKind::MbarrierMisuse, MemorySpace::Shared);
        Err(self.fault(kind, space, lane, message))
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
        let offset = u64::from(address as u32);
        self.locate::<{ space::SHARED }>(&[offset; LANES], len, align, kind)?;
        Ok(Place::Shared(offset as u32))
    }

    /// Checks and counts a copy that is started.
    fn watch_bulk(&mut self, bulk: &Bulk) {
        if self.grid.options.counters {
            self.count_bulk(bulk);
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        self.check_bulk_bytes(bulk, bulk.from, Use::Read);
        let kind = if bulk.reduce.is_some() {
            Use::Atomic
        } else {
            Use::Write
        };
        self.check_bulk_bytes(bulk, bulk.to, kind);
        self.note_bulk(bulk);
        agent::mark(self.grid, self.block, bulk);
    }

    fn count_bulk(&mut self, bulk: &Bulk) {
        let bytes = u64::from(bulk.bytes);
        let mut fresh = 0;
        if let Place::Global(address) = bulk.from
            && let Some((index, at)) = self.allocation_offset(address)
        {
            let allocation = self.grid.memory.allocation_mut(index);
            fresh = allocation.count_read(at, bulk.bytes as usize);
        }
        let traffic = &mut self.grid.traffic[self.pc as usize];
        traffic.async_bytes += bytes;
        traffic.global_unique_read_bytes += fresh;
        for (place, reads) in [(bulk.from, true), (bulk.to, false)] {
            if let Place::Global(address) = place {
                traffic.global_requests += 1;
                traffic.global_sectors += (address + bytes).div_ceil(32) - address / 32;
                if reads {
                    traffic.global_read_bytes += bytes;
                } else {
                    traffic.global_written_bytes += bytes;
                }
            }
        }
    }

    /// Looks for bytes that are pending, or read though nobody has written them, or those of an mbarrier.
    fn check_bulk_bytes(&mut self, bulk: &Bulk, place: Place, kind: Use) {
        let lane = bulk.site.lane as usize;
        let len = bulk.bytes as usize;
        let (space, state, at, name) = match place {
            Place::Shared(offset) => {
                let at = offset as usize;
                if kind != Use::Read {
                    self.check_mbarriers(u64::from(offset), u64::from(offset + bulk.bytes), lane);
                }
                let name = "shared memory".to_string();
                (MemorySpace::Shared, &self.block.shared_state, at, name)
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
    pub fn check_mbarriers(&mut self, start: u64, end: u64, lane: usize) {
        if let Some(address) = self.block.mbarriers.in_range(start, end) {
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
