//! `atom` and `red`.

use super::load_store::{access_of, generic};
use crate::exec::address::{Use, space};
use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
use crate::exec::machine::{Lanes, Machine};
use crate::exec::row::LANES;
use crate::memory::Window;
use crate::num::{HalfMode, Rounding, ScalarType, float32, float64, half};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// What an atomic does to the value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are PTX's own.
pub enum Operation {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

impl Operation {
    /// All of them, at the index that an instruction's flags carry.
    const ALL: [Operation; 10] = [
        Self::Add,
        Self::Min,
        Self::Max,
        Self::Inc,
        Self::Dec,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Exchange,
        Self::CompareAndSwap,
    ];

    /// The operation with a PTX name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "add" => Self::Add,
            "min" => Self::Min,
            "max" => Self::Max,
            "inc" => Self::Inc,
            "dec" => Self::Dec,
            "and" => Self::And,
            "or" => Self::Or,
            "xor" => Self::Xor,
            "exch" => Self::Exchange,
            "cas" => Self::CompareAndSwap,
            _ => return None,
        })
    }

    /// Whether it combines a value with what is there, and no more.
    pub fn reduces(self) -> bool {
        !matches!(self, Self::Exchange | Self::CompareAndSwap)
    }

    /// Its index for the flags of an instruction.
    pub fn index(self) -> u8 {
        self as u8
    }

    /// Whether PTX has the operation for `ty`.
    pub fn allows(self, ty: ScalarType) -> bool {
        use ScalarType::*;
        match self {
            Self::Add => matches!(
                ty,
                U32 | S32 | U64 | S64 | F32 | F64 | F16 | F16x2 | BF16 | BF16x2
            ),
            Self::Min | Self::Max => matches!(ty, U32 | S32 | U64 | S64),
            Self::Inc | Self::Dec => ty == U32,
            Self::And | Self::Or | Self::Xor => matches!(ty, B32 | B64),
            Self::Exchange => matches!(ty, B32 | B64),
            Self::CompareAndSwap => matches!(ty, B16 | B32 | B64),
        }
    }
}

impl Operation {
    /// Whether PTX has the operation on vectors of `ty`.
    pub fn allows_vector(self, ty: ScalarType) -> bool {
        use ScalarType::*;
        match self {
            Self::Add => matches!(ty, F32 | F16 | F16x2 | BF16 | BF16x2),
            Self::Min | Self::Max => matches!(ty, F16 | F16x2 | BF16 | BF16x2),
            _ => false,
        }
    }
}

struct Atomic<const SPACE: u8>;

/// The handler of an atomic in `state_space`. The operation is in the instruction's flags, its operands in `b` and
/// `c`; the old value goes to the access's register, if it has one.
pub fn atomic(state_space: u8) -> Option<Handler> {
    Some(match state_space {
        space::GENERIC => handler::<Atomic<{ space::GENERIC }>>(),
        space::GLOBAL => handler::<Atomic<{ space::GLOBAL }>>(),
        space::SHARED => handler::<Atomic<{ space::SHARED }>>(),
        space::CLUSTER => handler::<Atomic<{ space::CLUSTER }>>(),
        _ => return None,
    })
}

impl<const SPACE: u8> Code for Atomic<SPACE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; pointers that `locate` gives are good for the bytes asked for.
        unsafe {
            let access = access_of(machine, inst);
            let bytes = access.ty.bytes() as usize;
            let addresses = machine.addresses::<SPACE>(inst.a, access);
            let located = match machine.locate::<SPACE>(&addresses, bytes, bytes, Use::Atomic) {
                Ok(located) => located,
                Err(flow) => return flow,
            };
            let operation = Operation::ALL[inst.flags as usize];
            let wide = bytes == 8;
            let operand = |machine: &Machine<'_>, slot| {
                if wide {
                    machine.wide(slot)
                } else {
                    machine.row(slot).map(u64::from)
                }
            };
            let b = operand(machine, inst.b);
            let c = if operation == Operation::CompareAndSwap {
                operand(machine, inst.c)
            } else {
                [0; LANES]
            };
            let shared_with_host =
                SPACE != space::SHARED && SPACE != space::CLUSTER && machine.grid.host_memory;
            let mut old = [0u64; LANES];
            let mut changes = false;
            for lane in Lanes(machine.mask) {
                let place = located.lane(lane, bytes);
                let flushes = operation == Operation::Add
                    && access.ty == ScalarType::F32
                    && !is_shared::<SPACE>(addresses[lane]);
                // Lanes of one request see each other's results, lowest lane first.
                let new = loop {
                    old[lane] = load(place, bytes);
                    let new = if flushes {
                        flushed_sum(old[lane] as u32, b[lane] as u32)
                    } else {
                        apply(operation, access.ty, old[lane], b[lane], c[lane])
                    };
                    if replace(place, bytes, old[lane], new, shared_with_host) {
                        break new;
                    }
                };
                changes |= old[lane] != new;
            }
            if changes {
                machine.warp.stores += 1;
            } else if machine.parks_on_poll(&generic::<SPACE>(&addresses), &old, bytes as u32) {
                return Flow::Jump;
            }
            if machine.is_watched() {
                machine.observe::<SPACE>(&addresses, access, bytes, Use::Atomic, None);
            }
            if let Some(Some((slot, wide))) = access.registers.first() {
                if *wide {
                    machine.set_wide(*slot, &old);
                } else {
                    machine.set_row(*slot, &old.map(|value| value as u32));
                }
            }
            Flow::Next
        }
    }
}

fn is_shared<const SPACE: u8>(address: u64) -> bool {
    SPACE == space::SHARED
        || SPACE == space::CLUSTER
        || SPACE == space::GENERIC && matches!(Window::of(address), Window::Shared(_))
}

/// A sum of f32 in global memory, where subnormal operands and results are zero (PTX ISA, "atom").
fn flushed_sum(old: u32, b: u32) -> u64 {
    let flush = |bits| float32::ftz(f32::from_bits(bits));
    let sum = float32::add(flush(old), flush(b), Rounding::Nearest);
    u64::from(float32::ftz(sum).to_bits())
}

unsafe fn load(from: *const u8, bytes: usize) -> u64 {
    let mut value = [0u8; 8];
    // SAFETY: the caller's pointer is good for `bytes`, which are 8 at most.
    unsafe { std::ptr::copy_nonoverlapping(from, value.as_mut_ptr(), bytes) };
    u64::from_le_bytes(value)
}

/// Writes `new`; where the host program may write too, only if `old` is still there, and false if it is not.
#[inline(always)]
unsafe fn replace(to: *mut u8, bytes: usize, old: u64, new: u64, shared_with_host: bool) -> bool {
    // SAFETY: as for `load`; atomics are aligned to their size.
    unsafe {
        if !shared_with_host {
            std::ptr::copy_nonoverlapping(new.to_le_bytes().as_ptr(), to, bytes);
            return true;
        }
        const ORDER: Ordering = Ordering::SeqCst;
        match bytes {
            2 => AtomicU16::from_ptr(to.cast())
                .compare_exchange(old as u16, new as u16, ORDER, ORDER)
                .is_ok(),
            4 => AtomicU32::from_ptr(to.cast())
                .compare_exchange(old as u32, new as u32, ORDER, ORDER)
                .is_ok(),
            _ => AtomicU64::from_ptr(to.cast())
                .compare_exchange(old, new, ORDER, ORDER)
                .is_ok(),
        }
    }
}

/// The value that an atomic leaves, as PTX defines it ("atom").
pub fn apply(operation: Operation, ty: ScalarType, old: u64, b: u64, c: u64) -> u64 {
    use ScalarType::*;
    let (old32, b32) = (old as u32, b as u32);
    match (operation, ty) {
        (Operation::Add, F32) => {
            let sum = float32::add(
                f32::from_bits(old32),
                f32::from_bits(b32),
                Rounding::Nearest,
            );
            u64::from(sum.to_bits())
        }
        (Operation::Add, F64) => {
            float64::add(f64::from_bits(old), f64::from_bits(b), Rounding::Nearest).to_bits()
        }
        (Operation::Add, F16 | F16x2) => {
            halves(old32, b32, |a, b| half::f16_add(a, b, HalfMode::default()))
        }
        (Operation::Add, BF16 | BF16x2) => {
            halves(old32, b32, |a, b| half::bf16_add(a, b, HalfMode::default()))
        }
        (Operation::Min, F16 | F16x2) => {
            halves(old32, b32, |a, b| half::f16_min(a, b, HalfMode::default()))
        }
        (Operation::Max, F16 | F16x2) => {
            halves(old32, b32, |a, b| half::f16_max(a, b, HalfMode::default()))
        }
        (Operation::Min, BF16 | BF16x2) => {
            halves(old32, b32, |a, b| half::bf16_min(a, b, HalfMode::default()))
        }
        (Operation::Max, BF16 | BF16x2) => {
            halves(old32, b32, |a, b| half::bf16_max(a, b, HalfMode::default()))
        }
        (Operation::Add, U64 | S64) => old.wrapping_add(b),
        (Operation::Add, _) => u64::from(old32.wrapping_add(b32)),
        (Operation::Min, S32) => u64::from((old32 as i32).min(b32 as i32) as u32),
        (Operation::Max, S32) => u64::from((old32 as i32).max(b32 as i32) as u32),
        (Operation::Min, S64) => (old as i64).min(b as i64) as u64,
        (Operation::Max, S64) => (old as i64).max(b as i64) as u64,
        (Operation::Min, _) => old.min(b),
        (Operation::Max, _) => old.max(b),
        (Operation::Inc, _) => {
            if old32 >= b32 {
                0
            } else {
                u64::from(old32 + 1)
            }
        }
        (Operation::Dec, _) => {
            if old32 == 0 || old32 > b32 {
                b & 0xffff_ffff
            } else {
                u64::from(old32 - 1)
            }
        }
        (Operation::And, _) => old & b,
        (Operation::Or, _) => old | b,
        (Operation::Xor, _) => old ^ b,
        (Operation::Exchange, _) => b,
        (Operation::CompareAndSwap, B16) => {
            if old == b & 0xffff {
                c & 0xffff
            } else {
                old
            }
        }
        (Operation::CompareAndSwap, B32) => {
            if old == b & 0xffff_ffff {
                c & 0xffff_ffff
            } else {
                old
            }
        }
        (Operation::CompareAndSwap, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
    }
}

/// Adds the halves of packed values; for single ones the upper half is zero on both sides.
fn halves(a: u32, b: u32, add: fn(u16, u16) -> u16) -> u64 {
    let low = add(a as u16, b as u16);
    let high = add((a >> 16) as u16, (b >> 16) as u16);
    u64::from(low) | u64::from(high) << 16
}
