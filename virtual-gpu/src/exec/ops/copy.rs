//! `cp.async` with its groups.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::agent;
use crate::exec::copies::Request;
use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::{Lanes, Machine};
use crate::exec::masks::lanes_where;
use crate::exec::program::{AsyncCopy, CopySource, Extra};
use crate::exec::row::LANES;
use crate::launch::Checks;

struct Start<const BYTES: usize>;

/// The handler of `cp.async` of `bytes` bytes: destination in `a`, source in `b`, source size in `c` or a predicate
/// that ignores the source in `q`.
pub fn start(bytes: u64) -> Option<Handler> {
    Some(match bytes {
        4 => handler::<Start<4>>(),
        8 => handler::<Start<8>>(),
        16 => handler::<Start<16>>(),
        _ => return None,
    })
}

impl<const BYTES: usize> Code for Start<BYTES> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let Extra::Copy(copy) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("cp.async is lowered with its copy");
        };
        // SAFETY: the program is not changed while the machine runs.
        let copy: &AsyncCopy = unsafe { &*std::ptr::from_ref(copy) };
        // SAFETY: the handler's contract.
        let (to, from, sizes) = unsafe {
            (
                machine.addresses::<{ space::SHARED }>(inst.a, &copy.to),
                machine.addresses::<{ space::GLOBAL }>(inst.b, &copy.from),
                match copy.source {
                    CopySource::Whole => [BYTES as u32; LANES],
                    CopySource::Size => machine.row(inst.c),
                    CopySource::Ignored(negated) => {
                        let flip = if negated { u32::MAX } else { 0 };
                        machine.ignored(machine.predicate(inst.q) ^ flip, BYTES as u32)
                    }
                },
            )
        };
        if let Err(flow) = machine.locate::<{ space::SHARED }>(&to, BYTES, BYTES, Use::Write) {
            return flow;
        }
        let sources = match machine.copy_sources::<BYTES>(&from, &sizes, copy) {
            Ok(sources) => sources,
            Err(flow) => return flow,
        };
        machine.begin_copies(&to, sources, &sizes, copy, BYTES);
        Flow::Next
    }
}

impl Machine<'_> {
    /// Sizes of sources that some lanes ignore.
    fn ignored(&self, lanes: u32, bytes: u32) -> [u32; LANES] {
        let mut sizes = [bytes; LANES];
        for lane in Lanes(lanes) {
            sizes[lane] = 0;
        }
        sizes
    }

    /// Finds and checks the sources of copies.
    #[inline(always)]
    fn copy_sources<const BYTES: usize>(
        &mut self,
        from: &[u64; LANES],
        sizes: &[u32; LANES],
        copy: &AsyncCopy,
    ) -> Result<[*const u8; LANES], Flow> {
        let mut sources = [std::ptr::null(); LANES];
        let everybody = self.mask;
        let whole = lanes_where(|lane| sizes[lane] == BYTES as u32);
        let part = !whole & lanes_where(|lane| sizes[lane] != 0);
        self.mask = everybody & whole;
        if self.mask != 0 {
            let located = self.locate::<{ space::GLOBAL }>(from, BYTES, BYTES, Use::Read)?;
            for lane in Lanes(self.mask) {
                sources[lane] = located.lane(lane, BYTES);
            }
            if self.is_watched() {
                self.observe::<{ space::GLOBAL }>(from, &copy.from, BYTES, Use::Read, None);
            }
        }
        for lane in Lanes(everybody & part) {
            self.mask = 1 << lane;
            let size = sizes[lane] as usize;
            if size > BYTES {
                let message =
                    format!("cp.async of {BYTES} bytes is told to read {size} of its source");
                return Err(self.fault(
                    FindingKind::OutOfBounds,
                    MemorySpace::Global,
                    lane,
                    message,
                ));
            }
            let located = self.locate::<{ space::GLOBAL }>(from, size, BYTES, Use::Read)?;
            sources[lane] = located.lane(lane, size);
            if self.is_watched() {
                self.observe::<{ space::GLOBAL }>(from, &copy.from, size, Use::Read, None);
            }
        }
        self.mask = everybody;
        Ok(sources)
    }

    #[inline(never)]
    fn begin_copies(
        &mut self,
        to: &[u64; LANES],
        from: [*const u8; LANES],
        sizes: &[u32; LANES],
        copy: &AsyncCopy,
        bytes: usize,
    ) {
        let mask = self.mask;
        if self.is_watched() {
            self.observe::<{ space::SHARED }>(to, &copy.to, bytes, Use::Write, None);
        }
        if self.grid.options.counters {
            let moved = u64::from(mask.count_ones()) * bytes as u64;
            self.grid.traffic[self.pc as usize].async_bytes += moved;
        }
        self.warp.stores += 1;
        let id = self.block.next_copy();
        let copies = &mut self.warp.copies;
        let mut request = Request {
            id,
            lanes: mask,
            moved: 0,
            bytes,
            to: [0; LANES],
            from,
            sizes: [0; LANES],
            groups: *copies.groups.current(),
        };
        for lane in 0..LANES {
            (request.to[lane], request.sizes[lane]) = (to[lane] as u32, sizes[lane] as u8);
        }
        if self.grid.options.checks == Checks::All {
            for range in request.ranges(mask) {
                self.block.shared_state.set_pending(range, request.id);
            }
        }
        copies.queue.push_back(request);
        if self.grid.chance(2) {
            let index = self.grid.pick(self.warp.copies.queue.len());
            let shared = self.block.shared.as_mut_ptr();
            // SAFETY: the request is one of this block.
            unsafe { self.warp.copies.queue[index].perform(u32::MAX, shared) };
        }
    }

    /// The active lanes close their group of copies.
    fn close_copies(&mut self) {
        self.warp.copies.groups.close(self.mask);
        self.note_copy_commit();
    }

    /// The active lanes wait for all groups but the last `keep`.
    fn wait_copies(&mut self, keep: u32) {
        let (lanes, alive) = (self.mask, self.warp.alive());
        let groups = &mut self.warp.copies.groups;
        let limits = groups.wait(lanes, keep);
        let complete = groups.complete(alive);
        self.warp.stores += 1;
        let checked = self.grid.options.checks == Checks::All;
        let shared = self.block.shared.as_mut_ptr();
        let state = &mut self.block.shared_state;
        let mut finish = |request: &mut Request| {
            let groups = &request.groups;
            let due = lanes_where(|lane| groups[lane] < limits[lane]) & lanes & request.lanes;
            if due == 0 {
                return false;
            }
            // SAFETY: the request is one of this block, whose global memory stays until the launch ends.
            unsafe { request.perform(due, shared) };
            if checked {
                for range in request.ranges(due) {
                    state.clear_pending(range, request.id);
                }
            }
            request.lanes &= !due;
            request.lanes == 0
        };
        let queue = &mut self.warp.copies.queue;
        // Lanes that have not parted finish the oldest requests and none of the others.
        while queue.front_mut().is_some_and(&mut finish) {
            queue.pop_front();
        }
        queue.retain_mut(|request| !finish(request));
        if checked {
            agent::waited(self.grid, self.block, self.warp.index, &limits);
        }
        self.note_copy_wait(complete);
    }
}

/// `cp.async.commit_group`.
pub struct Commit;

impl Code for Commit {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        machine.close_copies();
        Flow::Next
    }
}

/// `cp.async.wait_group`: how many groups may go on is in `imm`.
pub struct Wait;

impl Code for Wait {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        machine.wait_copies(inst.imm);
        Flow::Next
    }
}

/// `cp.async.wait_all`: closes the group and waits for all.
pub struct WaitAll;

impl Code for WaitAll {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        machine.close_copies();
        machine.wait_copies(0);
        Flow::Next
    }
}
