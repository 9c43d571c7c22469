//! Handlers made of a function on one lane.

use super::inst::{Flow, Handler, Inst, Predicate};
use super::isa::{Code, handler};
use super::machine::Machine;
use super::row::{FULL, Slot};
use std::marker::PhantomData;

/// Lanes that are worked on together: as many 32-bit lanes as a 256-bit vector has.
const CHUNK: usize = 8;
const CHUNKS: usize = 4;

/// A value of one lane: `u32` in a row, `u64` in two rows, `bool` in a predicate.
pub trait Word: Copy + Default + 'static {
    /// Where the values of a warp are.
    type Place: Copy;

    /// Lanes `8 chunk..8 chunk + 8`.
    ///
    /// # Safety
    /// The place is one of the program that the machine runs.
    unsafe fn read(machine: &Machine<'_>, place: Self::Place, chunk: usize) -> [Self; CHUNK];

    /// Writes those lanes.
    ///
    /// # Safety
    /// As for `read`; the place is no constant.
    unsafe fn write(
        machine: &mut Machine<'_>,
        place: Self::Place,
        chunk: usize,
        values: [Self; CHUNK],
    );

    /// Picks the destination of an instruction.
    fn destination(inst: &Inst) -> Self::Place;
    /// Picks its sources.
    fn source_a(inst: &Inst) -> Self::Place;
    /// Second source.
    fn source_b(inst: &Inst) -> Self::Place;
    /// Third source.
    fn source_c(inst: &Inst) -> Self::Place;
}

macro_rules! word {
    ($ty:ty) => {
        impl Word for $ty {
            type Place = Slot;

            #[inline(always)]
            unsafe fn read(machine: &Machine<'_>, place: Slot, chunk: usize) -> [Self; CHUNK] {
                // SAFETY: a slot has 32 values of its register's width.
                unsafe {
                    machine
                        .pointer(place)
                        .cast::<[$ty; CHUNK]>()
                        .add(chunk)
                        .read()
                }
            }

            #[inline(always)]
            unsafe fn write(
                machine: &mut Machine<'_>,
                place: Slot,
                chunk: usize,
                values: [Self; CHUNK],
            ) {
                // SAFETY: a slot has 32 values of its register's width.
                unsafe {
                    machine
                        .pointer(place)
                        .cast::<[$ty; CHUNK]>()
                        .add(chunk)
                        .write(values)
                }
            }

            #[inline(always)]
            fn destination(inst: &Inst) -> Slot {
                inst.d
            }
            #[inline(always)]
            fn source_a(inst: &Inst) -> Slot {
                inst.a
            }
            #[inline(always)]
            fn source_b(inst: &Inst) -> Slot {
                inst.b
            }
            #[inline(always)]
            fn source_c(inst: &Inst) -> Slot {
                inst.c
            }
        }
    };
}

word!(u32);
word!(u64);

impl Word for bool {
    type Place = Predicate;

    #[inline(always)]
    unsafe fn read(machine: &Machine<'_>, place: Predicate, chunk: usize) -> [bool; CHUNK] {
        // SAFETY: passed on.
        let bits = unsafe { machine.predicate(place) } >> (CHUNK * chunk);
        std::array::from_fn(|lane| bits >> lane & 1 != 0)
    }

    #[inline(always)]
    unsafe fn write(
        machine: &mut Machine<'_>,
        place: Predicate,
        chunk: usize,
        values: [bool; CHUNK],
    ) {
        let mut bits = 0;
        for lane in 0..CHUNK {
            bits |= u32::from(values[lane]) << lane;
        }
        let shift = CHUNK * chunk;
        // SAFETY: passed on.
        unsafe {
            let old = machine.predicate(place) & !(0xff << shift);
            machine.set_predicate(place, old | bits << shift);
        }
    }

    #[inline(always)]
    fn destination(inst: &Inst) -> Predicate {
        inst.p
    }
    #[inline(always)]
    fn source_a(inst: &Inst) -> Predicate {
        inst.q
    }
    #[inline(always)]
    fn source_b(inst: &Inst) -> Predicate {
        inst.r
    }
    #[inline(always)]
    fn source_c(inst: &Inst) -> Predicate {
        inst.q
    }
}

/// Values of a function type without captures.
#[inline(always)]
fn conjure<F: Copy + 'static>() -> F {
    const { assert!(size_of::<F>() == 0, "lane functions capture nothing") };
    // SAFETY: F has no bytes, and the caller of `unary`, `binary` or `ternary` had a value of it.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// Writes a chunk for the active lanes only.
#[inline(always)]
unsafe fn blend<D: Word>(
    machine: &mut Machine<'_>,
    place: D::Place,
    chunk: usize,
    values: [D; CHUNK],
) {
    let mask = machine.mask;
    // SAFETY: passed on.
    unsafe {
        if mask == FULL {
            D::write(machine, place, chunk, values);
        } else {
            let old = D::read(machine, place, chunk);
            let bits = mask >> (CHUNK * chunk);
            let mixed = std::array::from_fn(|lane| {
                if bits >> lane & 1 != 0 {
                    values[lane]
                } else {
                    old[lane]
                }
            });
            D::write(machine, place, chunk, mixed);
        }
    }
}

struct Unary<D, A, F>(PhantomData<(D, A, F)>);

impl<D: Word, A: Word, F: Fn(A) -> D + Copy + 'static> Code for Unary<D, A, F> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let f = conjure::<F>();
        for chunk in 0..CHUNKS {
            // SAFETY: passed on; lane i of the destination depends on lane i of the sources alone, and rows are the
            // same or apart, so chunks may be written as they come.
            unsafe {
                let a = A::read(machine, A::source_a(inst), chunk);
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(a[lane]);
                }
                blend(machine, D::destination(inst), chunk, out);
            }
        }
        Flow::Next
    }
}

struct Binary<D, A, B, F>(PhantomData<(D, A, B, F)>);

impl<D: Word, A: Word, B: Word, F: Fn(A, B) -> D + Copy + 'static> Code for Binary<D, A, B, F> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let f = conjure::<F>();
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary.
            unsafe {
                let a = A::read(machine, A::source_a(inst), chunk);
                let b = B::read(machine, B::source_b(inst), chunk);
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(a[lane], b[lane]);
                }
                blend(machine, D::destination(inst), chunk, out);
            }
        }
        Flow::Next
    }
}

struct Ternary<D, A, B, C, F>(PhantomData<(D, A, B, C, F)>);

impl<D: Word, A: Word, B: Word, C: Word, F: Fn(A, B, C) -> D + Copy + 'static> Code
    for Ternary<D, A, B, C, F>
{
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let f = conjure::<F>();
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary.
            unsafe {
                let a = A::read(machine, A::source_a(inst), chunk);
                let b = B::read(machine, B::source_b(inst), chunk);
                let c = C::read(machine, C::source_c(inst), chunk);
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(a[lane], b[lane], c[lane]);
                }
                blend(machine, D::destination(inst), chunk, out);
            }
        }
        Flow::Next
    }
}

/// `d = f(a)` in every active lane.
pub fn unary<D: Word, A: Word, F: Fn(A) -> D + Copy + 'static>(_: F) -> Handler {
    handler::<Unary<D, A, F>>()
}

/// `d = f(a, b)` in every active lane.
pub fn binary<D: Word, A: Word, B: Word, F: Fn(A, B) -> D + Copy + 'static>(_: F) -> Handler {
    handler::<Binary<D, A, B, F>>()
}

/// `d = f(a, b, c)` in every active lane.
pub fn ternary<D: Word, A: Word, B: Word, C: Word, F: Fn(A, B, C) -> D + Copy + 'static>(
    _: F,
) -> Handler {
    handler::<Ternary<D, A, B, C, F>>()
}
