//! The asynchronous agent of a block: it performs bulk copies, and arrives at mbarriers for `cp.async`, at times of its
//! own.
//!
//! With seed 0 it works when the warps of its block can do no more, in the order in which it was asked: whoever does not
//! wait sees old data. With other seeds it also works at random times, and in any order, as the hardware may. Bytes that
//! it writes stay pending until somebody has waited for them.

use super::block::Block;
use super::boxes::BoxCopy;
use super::grid::Grid;
use super::machine::{Lanes, Site};
use super::mbarrier::{Changed, Mbarrier, Misuse};
use super::ops::atomic::{Operation, apply};
use super::row::LANES;
use crate::check::finding::{FindingKind, MemorySpace};
use crate::check::race::Bar;
use crate::launch::Checks;
use crate::memory::DevicePointer;
use crate::num::ScalarType;

/// Bytes that a bulk copy reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Shared memory of a block of the cluster.
    Shared {
        /// Linear index of the block.
        block: u32,
        /// Offset in its shared memory.
        offset: u32,
    },
    /// Address of global memory.
    Global(u64),
}

/// What tells that a copy is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The bytes that an mbarrier counts: one of the block whose shared memory is written.
    Mbarrier(Bar),
    /// The group of this number of the lane that started the copy.
    Group(u32),
}

/// A bulk copy; its places have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Number of the copy.
    pub id: u64,
    /// Who started it.
    pub site: Site,
    /// Source.
    pub from: Place,
    /// Destination.
    pub to: Place,
    /// Size.
    pub bytes: u32,
    /// How destination and source are combined, if they are.
    pub reduce: Option<(Operation, ScalarType)>,
    /// What tells that it is complete.
    pub completion: Completion,
}

/// A store that an mbarrier counts; its place has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Number of the store, as of a copy.
    pub id: u64,
    /// Who made it.
    pub site: Site,
    /// Destination.
    pub to: Place,
    /// What is stored.
    pub data: [u8; 16],
    /// How much of it.
    pub bytes: u32,
    /// How it is combined with what is there.
    pub reduce: Option<(Operation, ScalarType)>,
    /// The mbarrier.
    pub completion: Completion,
}

/// An arrival for lanes whose `cp.async` up to some request are done.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who asked for it.
    pub site: Site,
    /// For which lanes.
    pub lanes: u32,
    /// The mbarrier.
    pub address: u32,
    /// The last request that counts.
    pub last: u64,
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// A bulk copy.
    Bulk(Bulk),
    /// A copy of a box of a tensor.
    Box(BoxCopy),
    /// A store.
    Store(Stored),
    /// An arrival.
    Arrive(Arrival),
}

/// Bytes that have been written but count as pending.
#[derive(Clone, Copy, Debug)]
struct Written {
    id: u64,
    to: Place,
    bytes: u32,
    until: Until,
}

/// Up to when written bytes count as pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Somebody sees that more phases than these of an mbarrier are over.
    Phase(u32, u32),
    /// The lane of the warp waits for its group.
    Group { warp: u32, lane: u32, group: u32 },
    /// Either: `cp.async` that an arrival covers belong to a group all the same.
    PhaseOrGroup {
        address: u32,
        phases: u32,
        warp: u32,
        lanes: u32,
        /// The last of the lanes' groups.
        group: u32,
    },
}

/// The agent of a block.
#[derive(Debug, Default)]
pub struct Agent {
    jobs: Vec<Job>,
    written: Vec<Written>,
    /// Bytes on their way.
    buffer: Vec<u8>,
}

impl Agent {
    /// Asks for something.
    pub fn ask(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// Performs all jobs. False if the launch has failed.
pub fn finish(grid: &mut Grid, block: &mut Block) -> bool {
    std::mem::take(&mut block.agent.jobs)
        .into_iter()
        .all(|job| perform(grid, block, job))
}

/// Performs now and then a job, in runs with a seed. False if the launch has failed.
pub fn step(grid: &mut Grid, block: &mut Block) -> bool {
    if block.agent.jobs.is_empty() || !grid.chance(8) {
        return true;
    }
    let index = first_due(&block.agent.jobs, grid.pick(block.agent.jobs.len()));
    let job = block.agent.jobs.remove(index);
    perform(grid, block, job)
}

/// The job that comes before job `index`. Arrivals of a lane come in their order: each waits for all copies before it, and
/// one that came before its predecessor would take the predecessor's copies for its own.
fn first_due(jobs: &[Job], index: usize) -> usize {
    let Job::Arrive(chosen) = &jobs[index] else {
        return index;
    };
    let before = |job: &Job| match job {
        Job::Arrive(other) => {
            other.site.warp == chosen.site.warp && other.lanes & chosen.lanes != 0
        }
        Job::Bulk(_) | Job::Box(_) | Job::Store(_) => false,
    };
    match jobs[..index].iter().position(before) {
        Some(earlier) => first_due(jobs, earlier),
        None => index,
    }
}

/// Performs the copies of a lane's groups below `limit`, and frees what they wrote unless only their sources are
/// waited for. False if the launch has failed.
pub fn finish_groups(
    grid: &mut Grid,
    block: &mut Block,
    (warp, lane): (u32, u32),
    limit: u32,
    read: bool,
) -> bool {
    let due = |job: &Job| {
        let (site, completion) = match job {
            Job::Bulk(bulk) => (bulk.site, bulk.completion),
            Job::Box(copy) => (copy.site, copy.completion),
            Job::Arrive(_) | Job::Store(_) => return false,
        };
        let own = (site.warp, site.lane) == (warp, lane);
        own && matches!(completion, Completion::Group(group) if group < limit)
    };
    while let Some(index) = block.agent.jobs.iter().position(due) {
        let job = block.agent.jobs.remove(index);
        if !perform(grid, block, job) {
            return false;
        }
    }
    if !read {
        let own = (warp, lane);
        free(grid, block, |until| match until {
            Until::Group { warp, lane, group } => (warp, lane) == own && group < limit,
            Until::Phase(..) | Until::PhaseOrGroup { .. } => false,
        });
    }
    true
}

/// Somebody has seen that `phases` phases of the mbarrier at `address` are over.
pub fn observed(grid: &mut Grid, block: &mut Block, address: u32, phases: u32) {
    free(grid, block, |until| match until {
        Until::Phase(at, phase)
        | Until::PhaseOrGroup {
            address: at,
            phases: phase,
            ..
        } => at == address && phase < phases,
        Until::Group { .. } => false,
    });
}

/// A warp has waited for its groups of `cp.async`, of each lane for those below a limit.
pub fn waited(grid: &mut Grid, block: &mut Block, own: u32, limits: &[u32; LANES]) {
    free(grid, block, |until| match until {
        Until::PhaseOrGroup {
            warp, lanes, group, ..
        } => warp == own && Lanes(lanes).all(|lane| group < limits[lane]),
        Until::Phase(..) | Until::Group { .. } => false,
    });
}

fn free(grid: &mut Grid, block: &mut Block, is_over: impl Fn(Until) -> bool) {
    let mut written = std::mem::take(&mut block.agent.written);
    written.retain(|written| {
        let over = is_over(written.until);
        if over {
            match written.to {
                // What is written is told to the agent of the block that holds it.
                Place::Shared { offset, .. } => {
                    let (start, end) = (offset as usize, (offset + written.bytes) as usize);
                    block.shared_state.clear_pending(start..end, written.id);
                }
                Place::Global(address) => {
                    set_global(grid, address, written.bytes, written.id, false)
                }
            }
        }
        !over
    });
    block.agent.written = written;
}

/// Marks what copy `id` will write as pending.
pub fn mark(grid: &mut Grid, block: &mut Block, to: Place, bytes: u32, id: u64) {
    match to {
        Place::Shared {
            block: index,
            offset,
        } => {
            let range = offset as usize..(offset + bytes) as usize;
            grid.with_block(block, index, |_, holder| {
                holder.shared_state.set_pending(range, id);
            });
        }
        Place::Global(address) => set_global(grid, address, bytes, id, true),
    }
}

fn set_global(grid: &mut Grid, address: u64, bytes: u32, id: u64, pending: bool) {
    let Ok((index, at)) = grid.memory.range(DevicePointer(address), u64::from(bytes)) else {
        return;
    };
    let (range, state) = (
        at..at + bytes as usize,
        grid.memory.allocation_mut(index).state_mut(),
    );
    if pending {
        state.set_pending(range, id);
    } else {
        state.clear_pending(range, id);
    }
}

fn perform(grid: &mut Grid, block: &mut Block, job: Job) -> bool {
    match job {
        Job::Bulk(bulk) => copy(grid, block, &bulk),
        Job::Box(copy) => copy.perform(grid, block),
        Job::Store(stored) => store(grid, block, &stored),
        Job::Arrive(arrival) => arrive(grid, block, &arrival),
    }
}

fn copy(grid: &mut Grid, block: &mut Block, bulk: &Bulk) -> bool {
    let mut buffer = std::mem::take(&mut block.agent.buffer);
    buffer.clear();
    buffer.resize(bulk.bytes as usize, 0);
    read(grid, block, bulk.from, &mut buffer);
    put(grid, block, bulk.to, &mut buffer, bulk.reduce);
    block.agent.buffer = buffer;
    let written = [(bulk.to, bulk.bytes)];
    let (id, site, bytes) = (bulk.id, bulk.site, bulk.bytes);
    complete(grid, block, (id, site), bytes, &written, bulk.completion)
}

/// Writes bytes, or combines them with what is there.
fn put(
    grid: &mut Grid,
    block: &mut Block,
    to: Place,
    data: &mut [u8],
    reduce: Option<(Operation, ScalarType)>,
) {
    if let Some((operation, ty)) = reduce {
        let mut old = vec![0; data.len()];
        read(grid, block, to, &mut old);
        combine(operation, ty, &old, data);
    }
    match to {
        Place::Shared {
            block: index,
            offset,
        } => {
            let range = offset as usize..offset as usize + data.len();
            grid.with_block(block, index, |_, holder| {
                holder.shared.as_mut_slice()[range.clone()].copy_from_slice(data);
                holder.shared_state.mark_initialised(range);
            });
        }
        // The range was checked when the copy was started, and nothing is freed during a launch.
        Place::Global(address) => _ = grid.memory.write(DevicePointer(address), data),
    }
}

fn store(grid: &mut Grid, block: &mut Block, stored: &Stored) -> bool {
    let mut data = stored.data;
    let data = &mut data[..stored.bytes as usize];
    put(grid, block, stored.to, data, stored.reduce);
    let (id, site, written) = (stored.id, stored.site, [(stored.to, stored.bytes)]);
    complete(
        grid,
        block,
        (id, site),
        stored.bytes,
        &written,
        stored.completion,
    )
}

/// A copy has been performed: says so to who waits for it, and keeps what it wrote pending until somebody has waited.
/// False if the launch has failed.
pub fn complete(
    grid: &mut Grid,
    block: &mut Block,
    (id, site): (u64, Site),
    bytes: u32,
    places: &[(Place, u32)],
    completion: Completion,
) -> bool {
    let checked = grid.options.checks == Checks::All;
    let written = |until| {
        let each = move |(to, bytes): &(Place, u32)| Written {
            id,
            to: *to,
            bytes: *bytes,
            until,
        };
        places.iter().filter(|_| checked).map(each)
    };
    match completion {
        Completion::Group(group) => {
            let until = Until::Group {
                warp: site.warp,
                lane: site.lane,
                group,
            };
            block.agent.written.extend(written(until));
            true
        }
        Completion::Mbarrier(bar) => {
            let tell = |grid: &mut Grid, holder: &mut Block| {
                let done = change(grid, holder, site, bar.address, |b| b.complete_tx(bytes));
                let Some(changed) = done else {
                    return false;
                };
                let until = Until::Phase(bar.address, changed.phases);
                holder.agent.written.extend(written(until));
                true
            };
            grid.with_block(block, bar.block, tell).unwrap_or(false)
        }
    }
}

/// Reads bytes that are in bounds.
pub fn read(grid: &Grid, block: &Block, from: Place, to: &mut [u8]) {
    match from {
        Place::Shared {
            block: index,
            offset,
        } => {
            let mut blocks = grid.peers.iter().chain([block]);
            if let Some(holder) = blocks.find(|holder| holder.index == index) {
                to.copy_from_slice(&holder.shared.as_slice()[offset as usize..][..to.len()]);
            }
        }
        // As for writes, the range was checked.
        Place::Global(address) => _ = grid.memory.read(DevicePointer(address), to),
    }
}

/// `new = old op new`, element by element.
pub fn combine(operation: Operation, ty: ScalarType, old: &[u8], new: &mut [u8]) {
    let bytes = ty.bytes() as usize;
    let value = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    for (old, new) in old.chunks_exact(bytes).zip(new.chunks_exact_mut(bytes)) {
        let result = apply(operation, ty, value(old), value(new), 0);
        new.copy_from_slice(&result.to_le_bytes()[..bytes]);
    }
}

fn arrive(grid: &mut Grid, block: &mut Block, arrival: &Arrival) -> bool {
    let (address, count) = (arrival.address, arrival.lanes.count_ones());
    let mut freed = Vec::new();
    let shared = block.shared.as_mut_ptr();
    let queue = &mut block.warps[arrival.site.warp as usize].copies.queue;
    queue.retain_mut(|request| {
        let due = request.lanes & arrival.lanes;
        if due == 0 || request.id > arrival.last {
            return true;
        }
        // SAFETY: the request is one of this block, whose global memory stays until the launch ends.
        unsafe { request.perform(due, shared) };
        let group = Lanes(due).map(|lane| request.groups[lane]).max();
        let group = group.unwrap_or(0);
        freed.extend(
            request
                .ranges(due)
                .map(|range| (request.id, range, due, group)),
        );
        request.lanes &= !due;
        request.lanes != 0
    });
    let Some(changed) = change(grid, block, arrival.site, address, |b| {
        b.arrive(count, false)
    }) else {
        return false;
    };
    if grid.options.checks == Checks::All {
        let (warp, phases, holder) = (arrival.site.warp, changed.phases, block.index);
        let written = freed.into_iter().map(|(id, range, lanes, group)| Written {
            id,
            to: Place::Shared {
                block: holder,
                offset: range.start as u32,
            },
            bytes: range.len() as u32,
            until: Until::PhaseOrGroup {
                address,
                phases,
                warp,
                lanes,
                group,
            },
        });
        block.agent.written.extend(written);
    }
    true
}

/// Changes an mbarrier on behalf of a lane; nothing if the launch has failed.
pub fn change(
    grid: &mut Grid,
    block: &mut Block,
    site: Site,
    address: u32,
    operation: impl FnOnce(&mut Mbarrier) -> Result<bool, Misuse>,
) -> Option<Changed> {
    let shared = block.shared.as_mut_slice();
    match block.mbarriers.change(shared, address, operation) {
        Ok(changed) => {
            if changed.completed {
                grid.note_mbarrier_phase(block.index, address);
            }
            Some(changed)
        }
        Err(Misuse(message)) => {
            let message = format!("mbarrier at shared offset {address}: {message}");
            let (kind, space) = (FindingKind::MbarrierMisuse, MemorySpace::Shared);
            grid.report(kind, space, site, message, None);
            None
        }
    }
}
