//! Instruction handlers, compiled for the processor's vector instructions and for any processor.

use super::inst::{Flow, Full, Handler, Inst};
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
    /// Computes the lanes in `mask`, which are all lanes if `WHOLE`. Sources in the set `CONSTANTS` are the same in all
    /// lanes: what limits this code is how many vectors it loads and stores.
    ///
    /// # Safety
    /// As for [`Handler`].
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    );
}

/// Sets of sources.
pub mod source {
    pub const NONE: u8 = 0;
    pub const B: u8 = 1;
    pub const C: u8 = 2;
    pub const B_AND_C: u8 = B | C;
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

unsafe fn portable_masked<C: LaneCode>(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
    // SAFETY: passed on.
    unsafe {
        C::run::<false, false, { source::NONE }>(machine.registers, machine.mask, inst);
    }
    Flow::Next
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx2_masked<C: LaneCode>(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
    // SAFETY: passed on.
    unsafe {
        C::run::<true, false, { source::NONE }>(machine.registers, machine.mask, inst);
    }
    Flow::Next
}

/// Not on x86-64, where few processors would run it: there it was an eighth of the crate's code.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn portable_full<C: LaneCode>(registers: Registers, inst: *const Inst, end: *const Inst) {
    // SAFETY: passed on.
    unsafe {
        C::run::<false, true, { source::NONE }>(registers, FULL, &*inst);
        go_on(registers, inst, end);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn avx2_full<C: LaneCode, const CONSTANTS: u8>(
    registers: Registers,
    inst: *const Inst,
    end: *const Inst,
) {
    // SAFETY: passed on.
    unsafe {
        C::run::<true, true, CONSTANTS>(registers, FULL, &*inst);
        go_on(registers, inst, end);
    }
}

/// Runs the instructions after `inst`. A compiler that optimises makes a jump of the call, which saves the processor
/// the way back to a loop.
///
/// # Safety
/// As for [`Full`].
#[inline(always)]
unsafe fn go_on(registers: Registers, inst: *const Inst, end: *const Inst) {
    // SAFETY: the caller's promise: all instructions before `end` have a function for all lanes.
    unsafe {
        let next = inst.add(1);
        if next != end {
            ((*next).handler.full.unwrap_unchecked())(registers, next, end);
        }
    }
}

/// Functions for all lanes by which of `b` and `c` are constants.
#[cfg(target_arch = "x86_64")]
struct Specialised<C>(PhantomData<C>);

#[cfg(target_arch = "x86_64")]
impl<C: LaneCode> Specialised<C> {
    const BINARY: [Full; 3] = [
        avx2_full::<C, { source::B }>,
        avx2_full::<C, { source::NONE }>,
        avx2_full::<C, { source::B }>,
    ];
    const TERNARY: [Full; 3] = [
        avx2_full::<C, { source::B }>,
        avx2_full::<C, { source::C }>,
        avx2_full::<C, { source::B_AND_C }>,
    ];
}

/// Environment: with it, code for any processor runs where vectors could. Tests compare the two.
#[cfg(target_arch = "x86_64")]
const PORTABLE: &str = "VIRTUAL_GPU_PORTABLE";

/// Whether the vector code can run here.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2() -> bool {
    use std::sync::LazyLock;
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        std::env::var_os(PORTABLE).is_none()
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    });
    *HAS
}

/// Whether the sums of whole products can run here.
#[cfg(target_arch = "x86_64")]
pub fn has_avx512() -> bool {
    use std::sync::LazyLock;
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        has_avx2()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bf16")
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
            with_constants: None,
        };
    }
    Handler {
        run: portable::<C>,
        full: None,
        with_constants: None,
    }
}

/// The best handler of code on registers alone, which has `SOURCES` of them.
pub fn lane_handler<C: LaneCode, const SOURCES: usize>() -> Handler {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return Handler {
            run: avx2_masked::<C>,
            full: Some(avx2_full::<C, { source::NONE }>),
            with_constants: match SOURCES {
                2 => Some(&Specialised::<C>::BINARY),
                3 => Some(&Specialised::<C>::TERNARY),
                _ => None,
            },
        };
    }
    Handler {
        run: portable_masked::<C>,
        #[cfg(target_arch = "x86_64")]
        full: None,
        #[cfg(not(target_arch = "x86_64"))]
        full: Some(portable_full::<C>),
        with_constants: None,
    }
}
