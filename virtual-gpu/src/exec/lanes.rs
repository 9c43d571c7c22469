//! Handlers made of a function on one lane.

use super::inst::{Handler, Inst, Predicate};
use super::isa::{LaneCode, lane_handler, source};
use super::masks::{bits_of_chunks, is_set, lanes_of};
use super::registers::Registers;
use super::row::Slot;
use std::marker::PhantomData;

/// Lanes that are worked on together: as many 32-bit lanes as a 256-bit vector has.
pub const CHUNK: usize = 8;
/// Such groups in a warp.
pub const CHUNKS: usize = 4;

/// A value of one lane: `u32` in a row, `u64` in two rows, `bool` in a predicate.
pub trait Word: Copy + Default + 'static {
    /// Where the values of a warp are.
    type Place: Copy;
    /// Those of as many lanes as are worked on together.
    type Chunk: Copy;
    /// What is kept until all chunks are there.
    type Pending: Default;

    /// Lanes `8 chunk..8 chunk + 8`.
    ///
    /// # Safety
    /// The place is one of the program whose registers these are.
    unsafe fn read<const AVX2: bool>(
        registers: Registers,
        place: Self::Place,
        chunk: usize,
    ) -> Self::Chunk;

    /// The chunk that all are, where all lanes are the same; nothing for predicates.
    ///
    /// # Safety
    /// As for `read`.
    unsafe fn read_constant(registers: Registers, place: Self::Place) -> Option<Self::Chunk>;

    /// One of those lanes.
    fn lane(chunk: &Self::Chunk, lane: usize) -> Self;

    /// Takes those lanes, in the order of the chunks, and writes the ones in `mask`, if not all are wanted, now or at
    /// the end.
    ///
    /// # Safety
    /// As for `read`; the place is no constant.
    unsafe fn write<const AVX2: bool, const WHOLE: bool>(
        pending: &mut Self::Pending,
        registers: Registers,
        place: Self::Place,
        mask: u32,
        chunk: usize,
        values: [Self; CHUNK],
    );

    /// All chunks are there.
    ///
    /// # Safety
    /// As for `write`.
    unsafe fn end<const AVX2: bool, const WHOLE: bool>(
        pending: Self::Pending,
        registers: Registers,
        place: Self::Place,
        mask: u32,
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
            type Chunk = [$ty; CHUNK];
            type Pending = ();

            #[inline(always)]
            unsafe fn read<const AVX2: bool>(
                registers: Registers,
                place: Slot,
                chunk: usize,
            ) -> [Self; CHUNK] {
                // SAFETY: a slot has 32 values of its register's width.
                unsafe {
                    registers
                        .pointer(place)
                        .cast::<[$ty; CHUNK]>()
                        .add(chunk)
                        .read()
                }
            }

            #[inline(always)]
            unsafe fn read_constant(registers: Registers, place: Slot) -> Option<[Self; CHUNK]> {
                // SAFETY: as for `read`.
                Some([unsafe { registers.pointer(place).cast::<$ty>().read() }; CHUNK])
            }

            #[inline(always)]
            fn lane(chunk: &[Self; CHUNK], lane: usize) -> Self {
                chunk[lane]
            }

            #[inline(always)]
            unsafe fn write<const AVX2: bool, const WHOLE: bool>(
                _: &mut (),
                registers: Registers,
                place: Slot,
                mask: u32,
                chunk: usize,
                mut values: [Self; CHUNK],
            ) {
                // SAFETY: a slot has 32 values of its register's width.
                unsafe {
                    if !WHOLE {
                        let old = Self::read::<AVX2>(registers, place, chunk);
                        let active = lanes_of::<AVX2>(mask, chunk);
                        for lane in 0..CHUNK {
                            values[lane] = if is_set(active[lane]) {
                                values[lane]
                            } else {
                                old[lane]
                            };
                        }
                    }
                    registers
                        .pointer(place)
                        .cast::<[$ty; CHUNK]>()
                        .add(chunk)
                        .write(values)
                }
            }

            #[inline(always)]
            unsafe fn end<const AVX2: bool, const WHOLE: bool>(
                _: (),
                _: Registers,
                _: Slot,
                _: u32,
            ) {
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
    type Chunk = [u32; CHUNK];
    /// All ones in the lanes where the predicate becomes true.
    type Pending = [[u32; CHUNK]; CHUNKS];

    #[inline(always)]
    unsafe fn read<const AVX2: bool>(
        registers: Registers,
        place: Predicate,
        chunk: usize,
    ) -> [u32; CHUNK] {
        // SAFETY: passed on.
        lanes_of::<AVX2>(unsafe { registers.predicate(place) }, chunk)
    }

    #[inline(always)]
    unsafe fn read_constant(_: Registers, _: Predicate) -> Option<[u32; CHUNK]> {
        None
    }

    #[inline(always)]
    fn lane(chunk: &[u32; CHUNK], lane: usize) -> bool {
        is_set(chunk[lane])
    }

    #[inline(always)]
    unsafe fn write<const AVX2: bool, const WHOLE: bool>(
        pending: &mut [[u32; CHUNK]; CHUNKS],
        _: Registers,
        _: Predicate,
        _: u32,
        chunk: usize,
        values: [bool; CHUNK],
    ) {
        for lane in 0..CHUNK {
            pending[chunk][lane] = if values[lane] { u32::MAX } else { 0 };
        }
    }

    #[inline(always)]
    unsafe fn end<const AVX2: bool, const WHOLE: bool>(
        pending: [[u32; CHUNK]; CHUNKS],
        registers: Registers,
        place: Predicate,
        mask: u32,
    ) {
        let mut bits = bits_of_chunks::<AVX2>(&pending);
        // SAFETY: passed on.
        unsafe {
            if !WHOLE {
                bits = registers.predicate(place) & !mask | bits & mask;
            }
            registers.set_predicate(place, bits);
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

/// What a source is in each chunk, if it is one of `CONSTANTS`.
///
/// # Safety
/// As for [`Word::read`]; the source is the same in all lanes.
#[inline(always)]
unsafe fn constant<W: Word, const CONSTANTS: u8, const SOURCE: u8>(
    registers: Registers,
    place: W::Place,
) -> Option<W::Chunk> {
    if CONSTANTS & SOURCE == 0 {
        return None;
    }
    // SAFETY: passed on.
    unsafe { W::read_constant(registers, place) }
}

struct Unary<D, A, F>(PhantomData<(D, A, F)>);

impl<D: Word, A: Word, F: Fn(A) -> D + Copy + 'static> LaneCode for Unary<D, A, F> {
    #[inline(always)]
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    ) {
        let f = conjure::<F>();
        let (to, mut pending) = (D::destination(inst), D::Pending::default());
        let from_a = A::source_a(inst);
        for chunk in 0..CHUNKS {
            // SAFETY: passed on; lane i of the destination depends on lane i of the sources alone, and rows are the
            // same or apart, so chunks may be written as they come.
            unsafe {
                let a = A::read::<AVX2>(registers, from_a, chunk);
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(A::lane(&a, lane));
                }
                D::write::<AVX2, WHOLE>(&mut pending, registers, to, mask, chunk, out);
            }
        }
        // SAFETY: passed on.
        unsafe { D::end::<AVX2, WHOLE>(pending, registers, to, mask) }
    }
}

struct Binary<D, A, B, F>(PhantomData<(D, A, B, F)>);

impl<D: Word, A: Word, B: Word, F: Fn(A, B) -> D + Copy + 'static> LaneCode for Binary<D, A, B, F> {
    #[inline(always)]
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    ) {
        let f = conjure::<F>();
        let (to, mut pending) = (D::destination(inst), D::Pending::default());
        let (from_a, from_b) = (A::source_a(inst), B::source_b(inst));
        // SAFETY: passed on.
        let b = unsafe { constant::<B, CONSTANTS, { source::B }>(registers, from_b) };
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary.
            unsafe {
                let a = A::read::<AVX2>(registers, from_a, chunk);
                let b = match b {
                    Some(b) => b,
                    None => B::read::<AVX2>(registers, from_b, chunk),
                };
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(A::lane(&a, lane), B::lane(&b, lane));
                }
                D::write::<AVX2, WHOLE>(&mut pending, registers, to, mask, chunk, out);
            }
        }
        // SAFETY: passed on.
        unsafe { D::end::<AVX2, WHOLE>(pending, registers, to, mask) }
    }
}

struct Ternary<D, A, B, C, F>(PhantomData<(D, A, B, C, F)>);

impl<D: Word, A: Word, B: Word, C: Word, F: Fn(A, B, C) -> D + Copy + 'static> LaneCode
    for Ternary<D, A, B, C, F>
{
    #[inline(always)]
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    ) {
        let f = conjure::<F>();
        let (to, mut pending) = (D::destination(inst), D::Pending::default());
        let (from_a, from_b) = (A::source_a(inst), B::source_b(inst));
        let from_c = C::source_c(inst);
        // SAFETY: passed on.
        let (b, c) = unsafe {
            (
                constant::<B, CONSTANTS, { source::B }>(registers, from_b),
                constant::<C, CONSTANTS, { source::C }>(registers, from_c),
            )
        };
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary.
            unsafe {
                let a = A::read::<AVX2>(registers, from_a, chunk);
                let b = match b {
                    Some(b) => b,
                    None => B::read::<AVX2>(registers, from_b, chunk),
                };
                let c = match c {
                    Some(c) => c,
                    None => C::read::<AVX2>(registers, from_c, chunk),
                };
                let mut out = [D::default(); CHUNK];
                for lane in 0..CHUNK {
                    out[lane] = f(A::lane(&a, lane), B::lane(&b, lane), C::lane(&c, lane));
                }
                D::write::<AVX2, WHOLE>(&mut pending, registers, to, mask, chunk, out);
            }
        }
        // SAFETY: passed on.
        unsafe { D::end::<AVX2, WHOLE>(pending, registers, to, mask) }
    }
}

struct Either<D, A, B, C, F, G, H>(PhantomData<(D, A, B, C, F, G, H)>);

impl<D, A, B, C, F, G, H> LaneCode for Either<D, A, B, C, F, G, H>
where
    D: Word,
    A: Word,
    B: Word,
    C: Word,
    F: Fn(A, B, C) -> (D, bool) + Copy + 'static,
    G: Fn(A, B, C) -> (D, bool) + Copy + 'static,
    H: Fn(A, B, C) -> D + Copy + 'static,
{
    #[inline(always)]
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    ) {
        let (fused, quick, sure) = (conjure::<F>(), conjure::<G>(), conjure::<H>());
        let (to, mut pending) = (D::destination(inst), D::Pending::default());
        let (from_a, from_b) = (A::source_a(inst), B::source_b(inst));
        let from_c = C::source_c(inst);
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary.
            unsafe {
                let a = A::read::<AVX2>(registers, from_a, chunk);
                let b = B::read::<AVX2>(registers, from_b, chunk);
                let c = C::read::<AVX2>(registers, from_c, chunk);
                let (mut out, mut wrong) = ([D::default(); CHUNK], 1);
                if AVX2 {
                    wrong = attempt(fused, &a, &b, &c, &mut out);
                }
                if wrong != 0 {
                    wrong = attempt(quick, &a, &b, &c, &mut out);
                }
                if wrong != 0 {
                    for lane in 0..CHUNK {
                        out[lane] = sure(A::lane(&a, lane), B::lane(&b, lane), C::lane(&c, lane));
                    }
                }
                D::write::<AVX2, WHOLE>(&mut pending, registers, to, mask, chunk, out);
            }
        }
        // SAFETY: passed on.
        unsafe { D::end::<AVX2, WHOLE>(pending, registers, to, mask) }
    }
}

/// Computes a chunk; not 0 if any lane's result says nothing.
#[inline(always)]
fn attempt<D: Word, A: Word, B: Word, C: Word>(
    f: impl Fn(A, B, C) -> (D, bool),
    a: &A::Chunk,
    b: &B::Chunk,
    c: &C::Chunk,
    out: &mut [D; CHUNK],
) -> u32 {
    let mut wrong = 0;
    for lane in 0..CHUNK {
        let (value, right) = f(A::lane(a, lane), B::lane(b, lane), C::lane(c, lane));
        out[lane] = value;
        wrong |= u32::from(!right);
    }
    wrong
}

struct Split<A, F, G>(PhantomData<(A, F, G)>);

impl<A, F, G> LaneCode for Split<A, F, G>
where
    A: Word,
    F: Fn(A) -> u32 + Copy + 'static,
    G: Fn(A) -> u32 + Copy + 'static,
{
    #[inline(always)]
    unsafe fn run<const AVX2: bool, const WHOLE: bool, const CONSTANTS: u8>(
        registers: Registers,
        mask: u32,
        inst: &Inst,
    ) {
        let (first, second) = (conjure::<F>(), conjure::<G>());
        let (from, to) = (A::source_a(inst), [inst.d, inst.extra_slot()]);
        for chunk in 0..CHUNKS {
            // SAFETY: as for unary; the source is read before either result is written.
            unsafe {
                let a = A::read::<AVX2>(registers, from, chunk);
                let mut out = [[0; CHUNK]; 2];
                for lane in 0..CHUNK {
                    out[0][lane] = first(A::lane(&a, lane));
                    out[1][lane] = second(A::lane(&a, lane));
                }
                for (to, out) in to.into_iter().zip(out) {
                    u32::write::<AVX2, WHOLE>(&mut (), registers, to, mask, chunk, out);
                }
            }
        }
    }
}

/// `d = f(a)` and `g(a)` in the slot that the immediate stands for, in every active lane.
pub fn split<A: Word, F, G>(_: F, _: G) -> Handler
where
    F: Fn(A) -> u32 + Copy + 'static,
    G: Fn(A) -> u32 + Copy + 'static,
{
    lane_handler::<Split<A, F, G>, 1>()
}

/// `d = sure(a, b, c)` in every active lane, by `fused` or else by `quick` where they say that they are right. `fused` is
/// for processors that have a fused multiply-add.
pub fn ternary_or<D: Word, A: Word, B: Word, C: Word, F, G, H>(
    _fused: F,
    _quick: G,
    _sure: H,
) -> Handler
where
    F: Fn(A, B, C) -> (D, bool) + Copy + 'static,
    G: Fn(A, B, C) -> (D, bool) + Copy + 'static,
    H: Fn(A, B, C) -> D + Copy + 'static,
{
    lane_handler::<Either<D, A, B, C, F, G, H>, 1>()
}

/// `d = f(a)` in every active lane.
pub fn unary<D: Word, A: Word, F: Fn(A) -> D + Copy + 'static>(_: F) -> Handler {
    lane_handler::<Unary<D, A, F>, 1>()
}

/// `d = f(a, b)` in every active lane.
pub fn binary<D: Word, A: Word, B: Word, F: Fn(A, B) -> D + Copy + 'static>(_: F) -> Handler {
    lane_handler::<Binary<D, A, B, F>, 2>()
}

/// `d = f(a, b, c)` in every active lane.
pub fn ternary<D: Word, A: Word, B: Word, C: Word, F: Fn(A, B, C) -> D + Copy + 'static>(
    _: F,
) -> Handler {
    lane_handler::<Ternary<D, A, B, C, F>, 3>()
}
