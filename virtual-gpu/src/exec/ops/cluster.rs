//! `barrier.cluster`, `mapa`, `getctarank`.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::cluster::{Holder, rank_of};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::row::LANES;
use crate::exec::warp::State;
use crate::memory::Window;

/// Flags of a barrier of the cluster.
pub mod flag {
    /// All lanes of the warp execute it together.
    pub const ALIGNED: u8 = 1;
    /// `.relaxed`.
    pub const RELAXED: u8 = 2;
}

impl Machine<'_> {
    fn meets_aligned(&mut self, inst: &Inst) -> Result<(), Flow> {
        if inst.flags & flag::ALIGNED == 0 {
            return Ok(());
        }
        if !self.gather(self.warp.alive(), true) {
            return Err(Flow::Jump);
        }
        let missing = self.warp.launched & !self.mask;
        if missing != 0 {
            return Err(self.misuse_of_cluster(
                missing,
                "of the warp do not execute this, which needs all of them",
            ));
        }
        Ok(())
    }

    fn misuse_of_cluster(&mut self, lanes: u32, what: &str) -> Flow {
        let lane = lanes.trailing_zeros() as usize;
        let message = format!("lanes {lanes:#010x} {what}");
        self.fault(
            FindingKind::DivergentBarrier,
            MemorySpace::None,
            lane,
            message,
        )
    }
}

/// `barrier.cluster.arrive`.
pub struct ClusterArrive;

impl Code for ClusterArrive {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.meets_aligned(inst) {
            return flow;
        }
        if !machine.arrive_at_cluster(inst.flags & flag::RELAXED == 0) {
            let again = machine.mask & machine.warp.arrivals.lanes;
            let what = "arrive at the barrier of the cluster again: they must wait at it first";
            return machine.misuse_of_cluster(again, what);
        }
        if machine.grid.options.counters {
            machine.grid.counts[machine.pc as usize].arrivals += 1;
        }
        machine.warp.stores += 1;
        Flow::Next
    }
}

/// `barrier.cluster.wait`.
pub struct ClusterWait;

impl Code for ClusterWait {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.meets_aligned(inst) {
            return flow;
        }
        let early = machine.mask & !machine.warp.arrivals.lanes;
        if early != 0 {
            let what = "wait at the barrier of the cluster without having arrived at it";
            return machine.misuse_of_cluster(early, what);
        }
        match machine.cluster_is_complete() {
            Ok(()) => Flow::Next,
            Err(phase) => machine.park(State::Cluster { phase }),
        }
    }
}

/// `isspacep.shared::cta`: the generic address is in `a`, the answer goes to `p`.
pub struct IsOwnShared;

impl Code for IsOwnShared {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        let addresses = unsafe { machine.wide(inst.a) };
        let is_own = |lane: &usize| match Window::of(addresses[*lane]) {
            Window::Shared(address) => machine.holder(address) == Some(Holder::Own),
            _ => false,
        };
        let own = Lanes(machine.mask).filter(is_own);
        let own = own.fold(0, |lanes, lane| lanes | 1 << lane);
        // SAFETY: the handler's contract.
        unsafe { machine.blend_predicate(inst.p, own) };
        Flow::Next
    }
}

/// `getctarank`: the address is in `a`, generic if it is wide (`imm`).
pub struct ClusterRank;

impl Code for ClusterRank {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let own = machine.grid.cluster.rank(machine.block.coordinates);
        let mut ranks = [own; LANES];
        // SAFETY: the handler's contract.
        unsafe {
            let addresses = match inst.imm {
                0 => machine.row(inst.a).map(u64::from),
                _ => machine.wide(inst.a),
            };
            for (rank, address) in ranks.iter_mut().zip(addresses) {
                if inst.flags == 0 && !matches!(Window::of(address), Window::Shared(_)) {
                    continue;
                }
                *rank = rank_of(address as u32).unwrap_or(own);
            }
            machine.set_row(inst.d, &ranks);
        }
        Flow::Next
    }
}
