//! Branches, calls and ends.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::grid::FUNCTION_BASE;
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::{Call, Extra};
use crate::exec::row::Slot;
use crate::exec::warp::Fragment;

/// `bra`: the target is in `imm`.
pub struct Branch;

impl Code for Branch {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let target = inst.imm;
        if machine.mask != machine.fragment {
            return machine.split(&[(target, machine.mask)]);
        }
        let backward = target <= machine.pc;
        machine.pc = target;
        if backward && machine.looped() {
            let current = machine.warp.current;
            machine.warp.fragments[current].pc = target;
            return Flow::Jump;
        }
        Flow::Branch
    }
}

impl Machine<'_> {
    /// Sends lanes to other places; the rest of the fragment goes on at the next instruction.
    #[inline(never)]
    fn split(&mut self, parts: &[(u32, u32)]) -> Flow {
        let current = self.warp.current;
        let taken = parts.iter().fold(0, |taken, (_, mask)| taken | mask);
        let rest = self.fragment & !taken;
        let parent = &mut self.warp.fragments[current];
        parent.pc = self.pc + 1;
        parent.mask = rest;
        if self.grid.options.counters && (rest != 0 || parts.len() > 1) {
            self.grid.counts[self.pc as usize].splits += 1;
        }
        let (calls, turns) = (parent.calls.clone(), parent.turns);
        for &(pc, mask) in parts {
            let mut fragment = Fragment::new(pc, mask);
            fragment.calls = calls.clone();
            fragment.turns = turns;
            if pc <= self.pc {
                fragment.loops = self.warp.fragments[current].loops + 1;
                if fragment.loops >= 256 {
                    fragment.loops = 0;
                    fragment.turns += 1;
                }
            }
            self.warp.fragments.push(fragment);
        }
        if rest == 0 {
            self.warp.fragments.remove(current);
        }
        Flow::Jump
    }
}

/// `brx.idx`: the index is in `a`, the targets in the extra data.
pub struct BranchIndexed;

impl Code for BranchIndexed {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        let index = unsafe { machine.row(inst.a) };
        let Extra::Table(targets) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("brx is lowered with a table");
        };
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for lane in Lanes(machine.mask) {
            let Some(&target) = targets.get(index[lane] as usize) else {
                let message = format!("branch index {} of {} targets", index[lane], targets.len());
                return machine.fault(FindingKind::Trap, MemorySpace::None, lane, message);
            };
            match parts.iter_mut().find(|(pc, _)| *pc == target) {
                Some((_, mask)) => *mask |= 1 << lane,
                None => parts.push((target, 1 << lane)),
            }
        }
        machine.split(&parts)
    }
}

/// `exit`, and `ret` of a kernel.
pub struct Exit;

impl Code for Exit {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        let current = machine.warp.current;
        let mask = machine.mask;
        machine.warp.exited |= mask;
        machine.block.exited += mask.count_ones();
        machine.note_exit();
        machine.leave_cluster(mask);
        let fragment = &mut machine.warp.fragments[current];
        fragment.mask &= !mask;
        fragment.pc = machine.pc + 1;
        if fragment.mask == 0 {
            machine.warp.fragments.remove(current);
        }
        Flow::Jump
    }
}

/// `call`.
pub struct CallFunction;

impl Code for CallFunction {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let Extra::Call(call) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("call is lowered with its target");
        };
        // SAFETY: the program is not changed while the machine runs.
        let call: &Call = unsafe { &*std::ptr::from_ref(call) };
        // SAFETY: the handler's contract.
        unsafe {
            if let Some(target) = call.target {
                return machine.enter(call, target, machine.mask);
            }
            let addresses = machine.wide(inst.a);
            let mut left = machine.mask;
            let lane = left.trailing_zeros() as usize;
            let address = addresses[lane];
            let index = address.wrapping_sub(FUNCTION_BASE) / 16;
            let candidate = call
                .candidates
                .iter()
                .find(|(function, _)| u64::from(*function) == index);
            let Some((_, callee)) = candidate else {
                let message =
                    format!("call through {address:#x}, which is no function of this signature");
                return machine.fault(FindingKind::Trap, MemorySpace::None, lane, message);
            };
            left &= Lanes(left)
                .filter(|lane| addresses[*lane] == address)
                .fold(0, |mask, lane| mask | 1 << lane);
            let Some(target) = callee.target else {
                unreachable!("candidates have a target");
            };
            // Lanes that call something else stay at this instruction and call it afterwards.
            machine.enter(callee, target, left)
        }
    }
}

impl Machine<'_> {
    /// Sends the lanes `callers` into a function; other active lanes stay at the call, inactive ones go on behind it.
    unsafe fn enter(&mut self, call: &Call, target: u32, callers: u32) -> Flow {
        let current = self.warp.current;
        let sites = &self.warp.fragments[current].calls;
        if call.owns(self.pc) || sites.iter().any(|site| call.owns(*site)) {
            // A function has one set of registers. Direct recursion is refused when the module is loaded.
            let lane = callers.trailing_zeros() as usize;
            let message = "the function is called through a pointer while it runs: recursion is not supported";
            return self.fault(FindingKind::Trap, MemorySpace::None, lane, message.into());
        }
        let active = self.mask;
        self.mask = callers;
        // SAFETY: the caller's contract.
        unsafe { self.copy_rows(&call.arguments) };
        let mut calls = self.warp.fragments[current].calls.clone();
        let turns = self.warp.fragments[current].turns;
        let stay = active & !callers;
        let beyond = self.fragment & !active;
        let mut parts = Vec::new();
        if stay != 0 {
            parts.push((self.pc, stay, calls.clone()));
        }
        if beyond != 0 {
            parts.push((self.pc + 1, beyond, calls.clone()));
        }
        calls.push(self.pc);
        parts.push((target, callers, calls));
        self.warp.fragments.remove(current);
        for (pc, mask, calls) in parts {
            let mut fragment = Fragment::new(pc, mask);
            (fragment.calls, fragment.turns) = (calls, turns);
            self.warp.fragments.push(fragment);
        }
        Flow::Jump
    }

    unsafe fn copy_rows(&mut self, pairs: &[(Slot, Slot)]) {
        for (from, to) in pairs {
            // SAFETY: slots of the program.
            unsafe {
                let values = self.row(*from);
                self.set_row(*to, &values);
            }
        }
    }
}

/// `ret` of a device function.
pub struct Return;

impl Code for Return {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        let current = machine.warp.current;
        let mut fragment = machine.warp.fragments[current].clone();
        let Some(site) = fragment.calls.pop() else {
            unreachable!("a device function is entered by a call");
        };
        let inst = machine.grid.program.code[site as usize];
        let Extra::Call(call) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("return addresses are those of calls");
        };
        // SAFETY: the program is not changed while the machine runs.
        let call: &Call = unsafe { &*std::ptr::from_ref(call) };
        let pc = machine.pc;
        let callee = call
            .candidates
            .iter()
            .map(|(_, call)| call)
            .find(|callee| callee.owns(pc))
            .unwrap_or(call);
        // SAFETY: the handler's contract.
        unsafe { machine.copy_rows(&callee.returns) };
        let rest = fragment.mask & !machine.mask;
        fragment.mask = machine.mask;
        fragment.pc = site + 1;
        if rest != 0 {
            machine.warp.fragments[current].mask = rest;
            machine.warp.fragments[current].pc = pc + 1;
            machine.warp.fragments.push(fragment);
        } else {
            machine.warp.fragments[current] = fragment;
        }
        Flow::Jump
    }
}

impl Call {
    /// Whether `pc` is in the called function.
    fn owns(&self, pc: u32) -> bool {
        self.target
            .is_some_and(|target| target <= pc && pc < self.end)
    }
}

/// `trap` and `brkpt`.
pub struct Trap;

impl Code for Trap {
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        let lane = machine.mask.trailing_zeros() as usize;
        machine.fault(
            FindingKind::Trap,
            MemorySpace::None,
            lane,
            "the kernel executed a trap".into(),
        )
    }
}

/// Instructions that change nothing that is imitated: hints, prefetches, `pmevent`.
pub struct Nothing;

impl Code for Nothing {
    #[inline(always)]
    unsafe fn run(_: &mut Machine<'_>, _: &Inst) -> Flow {
        Flow::Next
    }
}

/// `nanosleep`: the warp's turn is over.
pub struct Sleep;

impl Code for Sleep {
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        machine.grid.slept += 1;
        machine.warp.sleeps = true;
        let (current, pc) = (machine.warp.current, machine.pc);
        machine.warp.fragments[current].pc = pc + 1;
        Flow::Jump
    }
}
