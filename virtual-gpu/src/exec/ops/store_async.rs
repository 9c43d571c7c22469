//! `st.async` and `red.async`: stores to shared memory of the cluster that an mbarrier there counts.

use crate::exec::address::{Use, space};
use crate::exec::agent::{Completion, Job, Stored, mark};
use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::program::{AsyncStore, Extra};
use crate::exec::row::LANES;
use crate::launch::Checks;

/// Starts a store in each active lane.
pub struct StoreAsync;

impl Code for StoreAsync {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let Extra::Store(store) = &machine.grid.program.extras[inst.ext as usize] else {
            unreachable!("asynchronous stores are lowered with their data");
        };
        let store = store.clone();
        let width = store.ty.bytes() as usize;
        // SAFETY: the handler's contract.
        let (to, mbarriers) = unsafe {
            (
                machine.pointers(&store.to),
                machine.pointers(&store.mbarrier),
            )
        };
        let mut data = [[0u8; 16]; LANES];
        for (index, (slot, wide)) in store.registers.iter().enumerate() {
            // SAFETY: the handler's contract.
            let values = unsafe {
                match wide {
                    true => machine.wide(*slot),
                    false => machine.row(*slot).map(u64::from),
                }
            };
            for (data, value) in data.iter_mut().zip(values) {
                data[index * width..][..width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        let everybody = machine.mask;
        for lane in Lanes(everybody) {
            machine.mask = 1 << lane;
            if let Err(flow) = machine.start_store(&store, to[lane], mbarriers[lane], data[lane]) {
                return flow;
            }
        }
        machine.mask = everybody;
        machine.warp.stores += 1;
        Flow::Next
    }
}

impl Machine<'_> {
    /// Checks the store of the only active lane and hands it to the agent.
    fn start_store(
        &mut self,
        store: &AsyncStore,
        to: u64,
        mbarrier: u64,
        data: [u8; 16],
    ) -> Result<(), Flow> {
        let lane = self.mask.trailing_zeros() as usize;
        let bytes = store.ty.bytes() * store.registers.len() as u32;
        let kind = if store.reduce.is_some() {
            Use::Atomic
        } else {
            Use::Write
        };
        let (len, address) = (bytes as usize, to as u32);
        self.locate::<{ space::CLUSTER }>(&[u64::from(address); LANES], len, len, kind)?;
        let completion = Completion::Mbarrier(self.expects_bytes(mbarrier, lane)?);
        let place = self.shared_place(address);
        self.check_target(place, completion, lane)?;
        let stored = Stored {
            id: self.block.next_copy(),
            site: self.site(lane),
            to: place,
            data,
            bytes,
            reduce: store.reduce.map(|operation| (operation, store.ty)),
            completion,
        };
        if self.grid.options.counters {
            self.grid.traffic[self.pc as usize].async_bytes += u64::from(bytes);
        }
        if self.grid.options.checks == Checks::All {
            self.check_bulk_bytes(place, bytes, lane, kind);
            self.note_store(place, bytes, kind, completion, lane as u32);
            mark(self.grid, self.block, place, bytes, stored.id);
        }
        self.block.agent.ask(Job::Store(stored));
        Ok(())
    }
}
