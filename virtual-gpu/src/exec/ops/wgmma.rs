//! `wgmma`: products of matrices by four warps together, asynchronously.

use crate::check::finding::{FindingKind, MemorySpace};
use crate::exec::address::{Use, space};
use crate::exec::agent::Place;
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::Machine;
use crate::exec::operand::Matrix;
use crate::exec::products::{Issued, WARPS};
use crate::exec::program::{Extra, Product};
use crate::exec::row::{LANES, Slot};
use crate::exec::warp::State;
use crate::launch::Checks;

/// `wgmma.fence`.
pub struct ProductFence;

impl Code for ProductFence {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warpgroup() {
            return flow;
        }
        machine.fence_registers();
        Flow::Next
    }
}

/// `wgmma.mma_async`: the descriptors of A, if it has one, and B are in `a` and `b`; whether the product is added is in
/// `q`, negated with flag 1.
pub struct IssueProduct;

impl Code for IssueProduct {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warpgroup() {
            return flow;
        }
        let program = std::sync::Arc::clone(&machine.grid.program);
        let Extra::Product(product) = &program.extras[inst.ext as usize] else {
            unreachable!("products are lowered with their form");
        };
        let pc = machine.pc;
        // SAFETY: the handler's contract.
        let operands = unsafe { machine.operands(inst, product) };
        let issued = match operands {
            Ok(issued) => issued,
            Err(flow) => return flow,
        };
        let (group, place) = machine.warpgroup();
        if let Err(other) = group.issue(place, issued, inst.ext) {
            let what = if other.pc == pc {
                "other descriptors or another scale-d"
            } else {
                "another product"
            };
            return machine.apart(&format!(
                "warps of the warpgroup issue {what} instead of this one"
            ));
        }
        if let Err(flow) = machine.check_product(product, &issued) {
            return flow;
        }
        if machine.grid.options.checks == Checks::All {
            machine.issue_registers(inst.ext);
        }
        machine.warp.stores += 1;
        if machine.grid.chance(3) {
            machine.compute_products(u64::MAX);
        }
        Flow::Next
    }
}

/// `wgmma.commit_group`.
pub struct CommitProducts;

impl Code for CommitProducts {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, _: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warpgroup() {
            return flow;
        }
        let (group, place) = machine.warpgroup();
        group.close(place);
        let who = machine.actor();
        if let Some(races) = &mut machine.grid.races {
            races.product_commit(who);
        }
        Flow::Next
    }
}

/// `wgmma.wait_group`: how many groups may go on is in `imm`.
pub struct WaitProducts;

impl Code for WaitProducts {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        if let Err(flow) = machine.whole_warpgroup() {
            return flow;
        }
        let (group, place) = machine.warpgroup();
        let (groups, count) = group.due(place, inst.imm);
        if !group.has_issued(count) {
            return machine.park(State::Products { count });
        }
        machine.compute_products(count);
        let (group, place) = machine.warpgroup();
        let under_way: Vec<u32> = group.wait(place, count).collect();
        if machine.grid.options.checks == Checks::All {
            machine.free_registers(&under_way);
        }
        machine.warp.stores += 1;
        let who = machine.actor();
        if let Some(races) = &mut machine.grid.races {
            races.product_wait(who, who.warp / WARPS * WARPS, groups);
        }
        Flow::Next
    }
}

impl Machine<'_> {
    /// All lanes of the warp are here, and there are the other warps of its group.
    fn whole_warpgroup(&mut self) -> Result<(), Flow> {
        self.whole_warp()?;
        let last = self.warp.index / WARPS * WARPS + WARPS;
        if self.block.threads < 32 * last {
            let message = format!(
                "the instruction needs four whole warps, where the block has {} threads",
                self.block.threads
            );
            return Err(self.apart(&message));
        }
        Ok(())
    }

    fn apart(&mut self, message: &str) -> Flow {
        let (kind, space) = (FindingKind::DivergentBarrier, MemorySpace::None);
        self.fault(kind, space, 0, message.into())
    }

    /// What the warp issues: the same in all of its lanes.
    ///
    /// # Safety
    /// As for [`Handler`](crate::exec::Handler).
    unsafe fn operands(&mut self, inst: &Inst, product: &Product) -> Result<Issued, Flow> {
        // SAFETY: passed on.
        let (a, b, adds) = unsafe {
            let same = |machine: &Self, slot: Slot| {
                let values = machine.wide(slot);
                (0..LANES)
                    .all(|lane| values[lane] == values[0])
                    .then_some(values[0])
            };
            let a = match product.a {
                Some(_) => Some(0),
                None => same(self, inst.a),
            };
            (a, same(self, inst.b), self.predicate(inst.q))
        };
        let (Some(a), Some(b), 0 | u32::MAX) = (a, b, adds) else {
            return Err(
                self.apart("lanes of the warp give different descriptors or another scale-d")
            );
        };
        Ok(Issued {
            pc: self.pc,
            a,
            b,
            adds: (adds != 0) != (inst.flags & 1 != 0),
        })
    }

    /// Checks the part of the operands in shared memory that falls to this warp: its rows of A, and a quarter of B.
    fn check_product(&mut self, product: &Product, issued: &Issued) -> Result<(), Flow> {
        let (place, k) = (self.warp.index % WARPS, product.mma.shape.k);
        let b = Matrix::new(issued.b, product.b_transposed, product.mma.b.bytes());
        let quarter = product.n / WARPS;
        let mut parts = vec![(b, place * quarter..(place + 1) * quarter)];
        if product.a.is_none() {
            let a = Matrix::new(issued.a, product.a_transposed, product.mma.a.bytes());
            parts.push((a, 16 * place..16 * place + 16));
        }
        for (matrix, range) in parts {
            if let Some(message) = matrix.fault() {
                return Err(self.fault(FindingKind::Misaligned, MemorySpace::Shared, 0, message));
            }
            for run in matrix.runs(range, k) {
                let bytes = run.end - run.start;
                let addresses = [u64::from(run.start); LANES];
                self.locate::<{ space::SHARED }>(&addresses, bytes as usize, 16, Use::Read)?;
                if self.grid.options.checks != Checks::All {
                    continue;
                }
                let place = Place::Shared {
                    block: self.block.index,
                    offset: run.start,
                };
                self.check_bulk_bytes(place, bytes, 0, Use::Read);
                self.note_product_read(run.start, bytes);
            }
        }
        Ok(())
    }
}
