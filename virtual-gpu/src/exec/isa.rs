//! Instruction handlers, compiled for the processor's vector instructions and for any processor.

use super::inst::{Flow, Handler, Inst};
use super::machine::Machine;
use super::registers::Registers;
use super::row::FULL;
use std::marker::PhantomData;

/// The code of an instruction, before the choice of an instruction set. Implementations are `#[inline(always)]`, so
/// that they are compiled anew in each of the functions below.
pub trait Code: 'static {
    /// Runs the instruction for the lanes in `machine.mask`.
    ///
    /// # Safety
    /// As for [`Handler`].
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow;
}

/// Code that computes registers from registers and does nothing else.
pub trait LaneCode: 'static {
    /// Computes the lanes in `mask`, which are all lanes if `WHOLE`.
    ///
    /// # Safety
    /// As for [`Handler`].
    unsafe fn run<const WHOLE: bool>(registers: Registers, mask: u32, inst: &Inst);
}

struct Masked<C>(PhantomData<C>);

impl<C: LaneCode> Code for Masked<C> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: passed on.
        unsafe { C::run::<false>(machine.registers, machine.mask, inst) };
        Flow::Next
    }
}

unsafe fn portable<C: Code>(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
    // SAFETY: passed on.
    unsafe { C::run(machine, inst) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx2<C: Code>(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
    // SAFETY: passed on.
    unsafe { C::run(machine, inst) }
}

unsafe fn portable_full<C: LaneCode>(registers: Registers, inst: &Inst) {
    // SAFETY: passed on.
    unsafe { C::run::<true>(registers, FULL, inst) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx2_full<C: LaneCode>(registers: Registers, inst: &Inst) {
    // SAFETY: passed on.
    unsafe { C::run::<true>(registers, FULL, inst) }
}

/// Whether the vector code can run here.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2() -> bool {
    use std::sync::LazyLock;
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    });
    *HAS
}

/// The best handler that this processor can run.
pub fn handler<C: Code>() -> Handler {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return Handler {
            run: avx2::<C>,
            full: None,
        };
    }
    Handler {
        run: portable::<C>,
        full: None,
    }
}

/// The best handler of code on registers alone.
pub fn lane_handler<C: LaneCode>() -> Handler {
    let masked = handler::<Masked<C>>();
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return Handler {
            full: Some(avx2_full::<C>),
            ..masked
        };
    }
    Handler {
        full: Some(portable_full::<C>),
        ..masked
    }
}
