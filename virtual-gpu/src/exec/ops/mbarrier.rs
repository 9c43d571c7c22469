//! `mbarrier` and `cp.async.mbarrier.arrive`.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::agent::{self, Arrival, Job};
use crate::exec::cluster::{Holder, offset};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::mbarrier::{Misuse, parity_of, word_at};
use crate::exec::program::{Extra, MbarrierAccess, MbarrierOperation, Pointer};
use crate::exec::row::LANES;
use crate::exec::standstill::shared_address;
use crate::exec::warp::State;
use crate::memory::Window;

/// Flag of an arrival whose state goes to `d`.
pub const RETURNS: u8 = 1;

/// Operations that do not wait: the operand is in `b`.
pub struct Operate;

impl Code for Operate {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let access = access_of(machine, inst);
        // SAFETY: the handler's contract.
        let (offsets, operands) = unsafe {
            match machine.mbarrier_offsets(&access.pointer) {
                Ok(offsets) => (offsets, machine.row(inst.b)),
                Err(flow) => return flow,
            }
        };
        let mut states = [0; LANES];
        let mut noted = None;
        for lane in Lanes(machine.mask) {
            let address = offsets[lane];
            let (holder, at) = machine.held(address);
            let arrives = matches!(access.operation, MbarrierOperation::Arrive { .. });
            if arrives && noted != Some(address) {
                machine.note_mbarrier_arrive(holder, at, lane, access.ordered);
                noted = Some(address);
            } else if !arrives {
                machine.note_visit(holder, lane);
            }
            match machine.operate(access.operation, (holder, at), operands[lane], lane) {
                Ok((state, completed)) => {
                    states[lane] = state;
                    noted = noted.filter(|_| !completed);
                }
                Err(flow) => return flow,
            }
        }
        machine.warp.stores += 1;
        if inst.flags & RETURNS != 0 {
            // SAFETY: the handler's contract.
            unsafe { machine.set_wide(inst.d, &states) };
        }
        Flow::Next
    }
}

fn access_of(machine: &Machine<'_>, inst: &Inst) -> MbarrierAccess {
    match &machine.grid.program.extras[inst.ext as usize] {
        Extra::Mbarrier(access) => *access,
        _ => unreachable!("operations on mbarriers are lowered with their access"),
    }
}

impl Machine<'_> {
    /// Addresses of an operand, by lane: offsets of shared memory as generic addresses.
    ///
    /// # Safety
    /// The slot of the pointer is one of the program.
    pub unsafe fn pointers(&self, pointer: &Pointer) -> [u64; LANES] {
        // SAFETY: passed on.
        let base = unsafe {
            if pointer.wide {
                self.wide(pointer.base)
            } else {
                self.row(pointer.base).map(u64::from)
            }
        };
        base.map(|base| {
            let address = base.wrapping_add(pointer.offset as u64);
            if matches!(pointer.space, space::SHARED | space::CLUSTER) {
                shared_address(address as u32)
            } else {
                address
            }
        })
    }

    /// Whose mbarrier is at an address that has been found to be in bounds, and where it is.
    fn held(&self, address: u32) -> (Holder, u32) {
        let holder = self.holder(address).unwrap_or(Holder::Own);
        (holder, offset(address))
    }

    /// Offsets of mbarriers of the block itself, in bounds and aligned in the active lanes.
    unsafe fn own_mbarrier_offsets(&mut self, pointer: &Pointer) -> Result<[u32; LANES], Flow> {
        // SAFETY: passed on.
        let addresses = unsafe { self.mbarrier_offsets(pointer)? };
        for lane in Lanes(self.mask) {
            if self.holder(addresses[lane]) != Some(Holder::Own) {
                let message =
                    "the mbarrier is one of another block, which only it can use so".to_string();
                return Err(self.misuse(lane, message));
            }
        }
        Ok(addresses.map(offset))
    }

    /// Addresses of mbarriers of the cluster, in bounds and aligned in the active lanes.
    unsafe fn mbarrier_offsets(&mut self, pointer: &Pointer) -> Result<[u32; LANES], Flow> {
        // SAFETY: passed on.
        let addresses = unsafe { self.pointers(pointer) };
        for lane in Lanes(self.mask) {
            let address = addresses[lane];
            let what = match Window::of(address) {
                Window::Shared(_) if address % 8 == 0 => continue,
                Window::Shared(_) => "is not a multiple of 8",
                _ => "is not in shared memory",
            };
            let message = format!("the address {:#x} of an mbarrier {what}", address as u32);
            return Err(self.misuse(lane, message));
        }
        let low = addresses.map(|address| address & 0xffff_ffff);
        match pointer.space {
            space::SHARED => self.locate::<{ space::SHARED }>(&low, 8, 8, Use::Atomic)?,
            _ => self.locate::<{ space::CLUSTER }>(&low, 8, 8, Use::Atomic)?,
        };
        Ok(addresses.map(|address| address as u32))
    }

    /// An mbarrier is used against its rules.
    pub fn misuse(&mut self, lane: usize, message: String) -> Flow {
        let (kind, space) = (FindingKind::MbarrierMisuse, MemorySpace::Shared);
        self.fault(kind, space, lane, message)
    }

    /// Does something to an mbarrier for one lane; gives the word before, and whether that completed the phase.
    fn operate(
        &mut self,
        operation: MbarrierOperation,
        (holder, address): (Holder, u32),
        operand: u32,
        lane: usize,
    ) -> Result<(u64, bool), Flow> {
        let start = address as usize;
        let own_only = matches!(
            operation,
            MbarrierOperation::Init
                | MbarrierOperation::Invalidate
                | MbarrierOperation::ArriveAfterCopies { .. }
        );
        if own_only && holder != Holder::Own {
            let message =
                "the mbarrier is one of another block, which only it can use so".to_string();
            return Err(self.misuse(lane, message));
        }
        let shared = self.block.shared.as_mut_slice();
        let result = match operation {
            MbarrierOperation::Init => self.block.mbarriers.init(shared, address, operand),
            MbarrierOperation::Invalidate => self.block.mbarriers.invalidate(shared, address),
            _ => {
                let site = self.site(lane);
                let index = self.index_of(holder);
                let changed = self.grid.with_block(self.block, index, |grid, block| {
                    agent::change(grid, block, site, address, |barrier| {
                        change(barrier, operation, operand)
                    })
                });
                let changed = changed.flatten().ok_or(Flow::Fault)?;
                return Ok((changed.before, changed.completed));
            }
        };
        if let Err(Misuse(message)) = result {
            let message = format!("mbarrier at shared offset {address}: {message}");
            return Err(self.misuse(lane, message));
        }
        if operation == MbarrierOperation::Init {
            self.block.shared_state.mark_initialised(start..start + 8);
            self.note_mbarrier_init(address);
        }
        Ok((0, false))
    }
}

/// What operations on an mbarrier that there is do to it.
fn change(
    barrier: &mut crate::exec::mbarrier::Mbarrier,
    operation: MbarrierOperation,
    operand: u32,
) -> Result<bool, Misuse> {
    match operation {
        MbarrierOperation::ExpectTx => barrier.expect_tx(operand).map(|()| false),
        MbarrierOperation::CompleteTx => barrier.complete_tx(operand),
        MbarrierOperation::Arrive {
            drop,
            expect,
            no_complete,
        } => {
            let count = if expect {
                barrier.expect_tx(operand)?;
                1
            } else {
                operand
            };
            if count == 0 {
                return Err(Misuse("an arrival of no thread".into()));
            }
            let completed = barrier.arrive(count, drop)?;
            if completed && no_complete {
                return Err(Misuse(
                    "arrive.noComplete completes the phase, which it must not".into(),
                ));
            }
            Ok(completed)
        }
        MbarrierOperation::ArriveAfterCopies { no_increment } => {
            if !no_increment {
                barrier.add_arrivals(operand)?;
            }
            Ok(false)
        }
        _ => unreachable!("the operation does not change an mbarrier"),
    }
}

/// `test_wait` and `try_wait`: parity or state in `b`, the result goes to `p`.
pub struct WaitPhase;

impl Code for WaitPhase {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let access = access_of(machine, inst);
        let MbarrierOperation::Wait { suspends, parity } = access.operation else {
            unreachable!("waits are lowered as waits");
        };
        // SAFETY: the handler's contract.
        let (offsets, parities) = unsafe {
            match machine.own_mbarrier_offsets(&access.pointer) {
                Ok(offsets) if parity => (offsets, machine.row(inst.b)),
                Ok(offsets) => (offsets, machine.wide(inst.b).map(parity_of)),
                Err(flow) => return flow,
            }
        };
        let mut over = 0;
        let mut noted = None;
        for lane in Lanes(machine.mask) {
            let address = offsets[lane];
            let shared = machine.block.shared.as_slice();
            let (barrier, phases) = match machine.block.mbarriers.look(shared, address) {
                Ok(found) => found,
                Err(Misuse(message)) => {
                    let message = format!("mbarrier at shared offset {address}: {message}");
                    return machine.misuse(lane, message);
                }
            };
            if !barrier.is_over(parities[lane]) {
                continue;
            }
            over |= 1 << lane;
            if noted != Some(address) {
                machine.note_mbarrier_observed(address, phases, access.ordered);
                agent::observed(machine.grid, machine.block, address, phases);
                noted = Some(address);
            }
        }
        if over == 0 && machine.waits(&offsets, &parities, suspends) {
            return Flow::Jump;
        }
        if machine.grid.options.counters && over != machine.mask {
            machine.grid.traffic[machine.pc as usize].polls += 1;
        }
        // SAFETY: the handler's contract.
        unsafe { machine.blend_predicate(inst.p, over) };
        Flow::Next
    }
}

impl Machine<'_> {
    /// No lane's phase is over: parks the fragment until that may have changed, unless it may go on with the answer no.
    fn waits(&mut self, offsets: &[u32; LANES], parities: &[u32; LANES], suspends: bool) -> bool {
        let first = self.mask.trailing_zeros() as usize;
        let same = |lane: usize| {
            offsets[lane] == offsets[first] && parities[lane] & 1 == parities[first] & 1
        };
        if suspends && Lanes(self.mask).all(same) {
            // A suspended wait has an end, after which the loop may look at something else.
            if self.warp.free_polls > 0 {
                self.warp.free_polls -= 1;
                return false;
            }
            self.park(State::Mbarrier {
                address: offsets[first],
                parity: parities[first] & 1,
            });
            return true;
        }
        let words = offsets.map(|address| word_at(self.block, address).unwrap_or_default());
        self.parks_on_poll(&offsets.map(shared_address), &words, 8)
    }
}

/// `cp.async.mbarrier.arrive`.
pub struct ArriveAfterCopies;

impl Code for ArriveAfterCopies {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let access = access_of(machine, inst);
        // SAFETY: the handler's contract.
        let offsets = match unsafe { machine.own_mbarrier_offsets(&access.pointer) } {
            Ok(offsets) => offsets,
            Err(flow) => return flow,
        };
        let mut left = machine.mask;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let address = offsets[lane];
            let same = Lanes(left).filter(|other| offsets[*other] == address);
            let lanes = same.fold(0, |lanes, other| lanes | 1 << other);
            left &= !lanes;
            machine.note_copies_arrive(address);
            let (place, count) = ((Holder::Own, address), lanes.count_ones());
            if let Err(flow) = machine.operate(access.operation, place, count, lane) {
                return flow;
            }
            let arrival = Arrival {
                site: machine.site(lane),
                lanes,
                address,
                last: machine.warp.copies.queue.back().map_or(0, |r| r.id),
            };
            machine.block.agent.ask(Job::Arrive(arrival));
        }
        machine.warp.stores += 1;
        Flow::Next
    }
}
