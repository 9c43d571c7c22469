//! Fences. Execution is sequentially consistent, so that they only tell the checks what is
//! ordered, and hold for memory that the host program shares.

use crate::exec::inst::{Flow, Inst};
use crate::exec::isa::Code;
use crate::exec::machine::Machine;
use crate::exec::program::Scope;

/// Kinds of fences other than those of a scope.
pub mod flag {
    /// `fence.proxy.async`.
    pub const PROXY_ASYNC: u8 = 1;
    /// Other proxies.
    pub const PROXY_OTHER: u8 = 2;
    /// `fence.mbarrier_init`.
    pub const MBARRIER_INIT: u8 = 4;
}

/// `fence` and `membar`: the scope is in `imm`.
pub struct Fence;

impl Code for Fence {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        match inst.flags {
            flag::PROXY_ASYNC => machine.note_proxy_fence(),
            0 => {
                let scope = match inst.imm {
                    0 => Scope::Cta,
                    1 => Scope::Cluster,
                    2 => Scope::Gpu,
                    _ => Scope::System,
                };
                if machine.grid.host_memory {
                    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                }
                machine.note_fence(scope);
            }
            _ => {}
        }
        Flow::Next
    }
}
