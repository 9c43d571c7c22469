//! `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`: copies of boxes of tensors.

use super::atomic::Operation;
use super::bulk::destinations;
use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::agent::{Completion, Job, Place};
use crate::exec::boxes::{BoxCopy, Piece, pieces};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::{Extra, TensorCopy};
use crate::exec::row::LANES;
use crate::launch::Checks;
use crate::num::ScalarType;
use crate::tensor_map::{ALIGN, BYTES, TensorMap};

/// Boxes in shared memory start at multiples of this.
const BOX_ALIGN: usize = 128;

/// Starts a copy of a box in each active lane.
pub struct StartBox;

impl Code for StartBox {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let Extra::Tensor(copy) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("copies of boxes are lowered with their data");
        };
        let copy = copy.clone();
        // SAFETY: the handler's contract.
        let (maps, boxes, mbarriers, masks) = unsafe {
            (
                machine.pointers(&copy.map),
                machine.pointers(&copy.shared),
                copy.mbarrier.map(|pointer| machine.pointers(&pointer)),
                copy.multicast.map(|slot| machine.row(slot)),
            )
        };
        let everybody = machine.mask;
        for lane in Lanes(everybody) {
            machine.mask = 1 << lane;
            // SAFETY: the handler's contract.
            let at = |slot: &crate::exec::row::Slot| unsafe { machine.row(*slot) }[lane] as i32;
            let coordinates: Vec<i32> = copy.coordinates.iter().map(at).collect();
            let targets = destinations(
                boxes[lane],
                mbarriers.map(|addresses| addresses[lane]),
                masks.map(|masks| masks[lane]),
            );
            if let Err(flow) = machine.start_box(&copy, maps[lane], &coordinates, targets) {
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
    fn start_box(
        &mut self,
        copy: &TensorCopy,
        map: u64,
        coordinates: &[i32],
        targets: impl Iterator<Item = (u64, Option<u64>)>,
    ) -> Result<(), Flow> {
        let lane = self.mask.trailing_zeros() as usize;
        let map = self.tensor_map(map, lane)?;
        if map.rank() != coordinates.len() {
            let message = format!(
                "a box at {} coordinates of a tensor of {} dimensions",
                coordinates.len(),
                map.rank()
            );
            let (kind, space) = (FindingKind::OutOfBounds, MemorySpace::Global);
            return Err(self.fault(kind, space, lane, message));
        }
        if let Some(operation) = copy.reduce
            && !combines(operation, map.element)
        {
            let message = format!("elements of type {:?} cannot be combined so", map.element);
            return Err(self.fault(FindingKind::Trap, MemorySpace::Global, lane, message));
        }
        let pieces = pieces(&map, coordinates);
        let runs = runs(&pieces);
        let kind = match (copy.loads, copy.reduce) {
            (true, _) => Use::Read,
            (false, Some(_)) => Use::Atomic,
            (false, None) => Use::Write,
        };
        for (address, bytes) in &runs {
            let len = *bytes as usize;
            self.locate::<{ space::GLOBAL }>(&[*address; LANES], len, 1, kind)?;
        }
        let mut first = true;
        for (shared, mbarrier) in targets {
            let completion = match mbarrier {
                Some(address) => Completion::Mbarrier(self.expects_bytes(address, lane)?),
                None => Completion::Group(self.warp.bulk[0].current()[lane]),
            };
            let address = shared as u32;
            let addresses = [u64::from(address); LANES];
            // Swizzled chunks stay within whole spans.
            let len = map.box_bytes().next_multiple_of(map.swizzle.span()) as usize;
            let use_of_box = if copy.loads { Use::Write } else { Use::Read };
            match copy.shared.space {
                space::CLUSTER => {
                    self.locate::<{ space::CLUSTER }>(&addresses, len, BOX_ALIGN, use_of_box)?
                }
                _ => self.locate::<{ space::SHARED }>(&addresses, len, BOX_ALIGN, use_of_box)?,
            };
            let Place::Shared { block, offset } = self.shared_place(address) else {
                unreachable!("addresses of shared memory are places in it");
            };
            let started = BoxCopy {
                id: self.block.next_copy(),
                site: self.site(lane),
                pieces: pieces.clone(),
                loads: copy.loads,
                block,
                offset,
                bytes: map.box_bytes(),
                swizzle: map.swizzle,
                filler: map.filler()[..map.element.bytes() as usize].to_vec(),
                reduce: copy.reduce.map(|operation| (operation, map.element)),
                completion,
            };
            self.check_target(started.shared(), completion, lane)?;
            self.watch_box(&started, &runs, first);
            first = false;
            self.block.agent.ask(Job::Box(started));
        }
        Ok(())
    }

    /// The tensor map at a generic address.
    fn tensor_map(&mut self, address: u64, lane: usize) -> Result<TensorMap, Flow> {
        let align = ALIGN as usize;
        let addresses = [address; LANES];
        let found = self.locate::<{ space::GENERIC }>(&addresses, BYTES, align, Use::Read)?;
        let mut bytes = [0; BYTES];
        // SAFETY: `locate` found that many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(found.lane(lane, BYTES), bytes.as_mut_ptr(), BYTES);
        }
        TensorMap::decode(&bytes).ok_or_else(|| {
            let message = format!("the {BYTES} bytes at {address:#x} are no tensor map");
            let (kind, space) = (FindingKind::OutOfBounds, MemorySpace::Global);
            self.fault(kind, space, lane, message)
        })
    }

    /// Checks and counts a copy that is started; `runs` are its bytes in global memory.
    fn watch_box(&mut self, copy: &BoxCopy, runs: &[(u64, u32)], first: bool) {
        if self.grid.options.counters && first {
            self.count_box(copy, runs);
        }
        if self.grid.options.checks != Checks::All {
            return;
        }
        let kinds = match (copy.loads, copy.reduce) {
            (true, _) => (Use::Read, Use::Write),
            (false, Some(_)) => (Use::Atomic, Use::Read),
            (false, None) => (Use::Write, Use::Read),
        };
        let places = runs
            .iter()
            .map(|(address, bytes)| (Place::Global(*address), *bytes, kinds.0));
        let places: Vec<_> = places
            .chain([(copy.shared(), copy.bytes, kinds.1)])
            .collect();
        let lane = copy.site.lane as usize;
        for (place, bytes, kind) in &places {
            self.check_bulk_bytes(*place, *bytes, lane, *kind);
        }
        self.note_async(&places, copy.completion, copy.site.lane);
        for (place, bytes) in copy.written() {
            crate::exec::agent::mark(self.grid, self.block, place, bytes, copy.id);
        }
    }

    fn count_box(&mut self, copy: &BoxCopy, runs: &[(u64, u32)]) {
        self.grid.traffic[self.pc as usize].async_bytes += u64::from(copy.bytes);
        for (address, bytes) in runs {
            self.count_bulk_side(Place::Global(*address), *bytes, copy.loads);
        }
    }
}

/// Whether elements of tensors can be combined so.
fn combines(operation: Operation, element: ScalarType) -> bool {
    match operation {
        Operation::And | Operation::Or | Operation::Xor => {
            !element.is_float() && element.bytes() >= 4
        }
        Operation::Exchange | Operation::CompareAndSwap => false,
        _ => operation.allows(element) || operation.allows_vector(element),
    }
}

/// Where the pieces are in global memory, neighbours as one.
fn runs(pieces: &[Piece]) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for piece in pieces {
        let Some(address) = piece.global else {
            continue;
        };
        match runs.last_mut() {
            Some((start, bytes)) if start.wrapping_add(u64::from(*bytes)) == address => {
                *bytes += piece.bytes;
            }
            _ => runs.push((address, piece.bytes)),
        }
    }
    runs
}
