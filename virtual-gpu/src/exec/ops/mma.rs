//! `mma`: products of small matrices by the whole warp.

use crate::exec::inst::{Flow, Handler, Inst};
use crate::exec::isa::{Code, handler};
#[cfg(target_arch = "x86_64")]
use crate::exec::isa::{has_avx2, has_avx512};
use crate::exec::machine::Machine;
use crate::exec::program::Extra;
use crate::exec::row::{LANES, Row, Slot};
use crate::num::ScalarType;
#[cfg(target_arch = "x86_64")]
use crate::num::mma::{
    Arch, add_products_of_16, add_products_of_16_exactly, add_whole_products_of_16,
};
use crate::num::mma::{Mma, MmaMode, MmaShape, Unit};

/// Forms whose code is compiled for them alone, because most kernels use one of them.
mod form {
    pub const ANY: u8 = 0;
    pub const BF16: u8 = 1;
    pub const F16: u8 = 2;
}

const fn k16(ty: ScalarType) -> Mma {
    Mma {
        shape: MmaShape { m: 16, n: 8, k: 16 },
        a: ty,
        b: ty,
        c: ScalarType::F32,
        d: ScalarType::F32,
        satfinite: false,
    }
}

const BF16_FORM: Mma = k16(ScalarType::BF16);
const F16_FORM: Mma = k16(ScalarType::F16);

/// The handler of a form that has passed [`Mma::check`]. The instruction's extra data has the slots of D, A, B and C,
/// one for each 32-bit row.
pub fn product(mma: &Mma) -> Handler {
    match mma {
        form if *form == BF16_FORM => handler::<Product<{ form::BF16 }>>(),
        form if *form == F16_FORM => handler::<Product<{ form::F16 }>>(),
        form if form.a == ScalarType::F64 => handler::<ProductDouble>(),
        _ => handler::<Product<{ form::ANY }>>(),
    }
}

struct Product<const FORM: u8>;

impl<const FORM: u8> Code for Product<FORM> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        #[cfg(target_arch = "x86_64")]
        if FORM != form::ANY && has_avx2() {
            // SAFETY: the handler's contract.
            return unsafe { multiply_vectors::<FORM>(machine, inst) };
        }
        // SAFETY: the handler's contract; forms without double precision have at most 4, 2 and 4 rows.
        unsafe { multiply::<4, 2, 4, FORM>(machine, inst) }
    }
}

struct ProductDouble;

impl Code for ProductDouble {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; forms in double precision have at most 16, 8 and 8 rows.
        unsafe { multiply::<16, 8, 8, { form::ANY }>(machine, inst) }
    }
}

/// One of the forms with code of its own, by AVX2, which the processor has, or AVX-512 if it has that too.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn multiply_vectors<const FORM: u8>(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
    if let Err(flow) = machine.whole_warp() {
        return flow;
    }
    let Extra::Mma(_, slots) = &machine.grid.program.extras[inst.ext as usize] else {
        unreachable!("mma is lowered with its form and registers");
    };
    let (d, a, b, c) = (&slots[..4], &slots[4..8], &slots[8..10], &slots[10..14]);
    let mut sums = [[0; LANES]; 4];
    let mut rows = ([&NOTHING; 4], [&NOTHING; 2], [&NOTHING; 4]);
    // SAFETY: slots of the program; D has no constants, and is written when the others have been read. The caller
    // knows that the processor has AVX2, and `has_avx512` says whether it has the rest.
    unsafe {
        point(machine, &mut rows.0, a);
        point(machine, &mut rows.1, b);
        point(machine, &mut rows.2, c);
        let (a, b, c) = &rows;
        let done = sum_vectors::<FORM>(machine.grid.options.mma, a, b, c, &mut sums);
        if !done {
            return multiply::<4, 2, 4, FORM>(machine, inst);
        }
        for (slot, sum) in d.iter().zip(&sums) {
            machine.pointer(*slot).write(Row(*sum));
        }
    }
    Flow::Next
}

/// The sums of one of the forms with code of its own, or false if they need the general code.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn sum_vectors<const FORM: u8>(
    mode: MmaMode,
    a: &[&[u32; LANES]; 4],
    b: &[&[u32; LANES]; 2],
    c: &[&[u32; LANES]; 4],
    sums: &mut [[u32; LANES]; 4],
) -> bool {
    // SAFETY: the caller's promise, and `has_avx512` says whether the processor has the rest.
    unsafe {
        match (mode, FORM == form::F16) {
            (MmaMode::Fast, true) => {
                add_products_of_16::<true>(a, b, c, sums);
                true
            }
            (MmaMode::Fast, false) => {
                add_products_of_16::<false>(a, b, c, sums);
                true
            }
            (MmaMode::Exact(arch), true) => add_products_of_16_exactly::<true>(arch, a, b, c, sums),
            (MmaMode::Exact(arch), false) => {
                let one_group = matches!(arch, Arch::Hopper | Arch::Blackwell);
                one_group && has_avx512() && add_whole_products_of_16(a, b, c, sums)
                    || add_products_of_16_exactly::<false>(arch, a, b, c, sums)
            }
        }
    }
}

/// `d = a * b + c` with the sums of `wgmma`, by registers as [`Mma::registers`] counts them.
pub fn multiply_in_warpgroup(
    mma: &Mma,
    mode: MmaMode,
    a: &[[u32; LANES]; 4],
    b: &[[u32; LANES]; 2],
    c: &[[u32; LANES]; 4],
    d: &mut [[u32; LANES]; 4],
) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        let (a, b, c) = (a.each_ref(), b.each_ref(), c.each_ref());
        // SAFETY: the processor has AVX2.
        let done = unsafe {
            match *mma {
                BF16_FORM => sum_vectors::<{ form::BF16 }>(mode, &a, &b, &c, d),
                F16_FORM => sum_vectors::<{ form::F16 }>(mode, &a, &b, &c, d),
                _ => false,
            }
        };
        if done {
            return;
        }
    }
    let each = mma.registers().2;
    mma.run_by(Unit::Warpgroup, mode, a, b, &c[..each], &mut d[..each]);
}

/// Multiplies matrices of at most `A`, `B` and `C` rows of registers.
#[inline(always)]
unsafe fn multiply<const A: usize, const B: usize, const C: usize, const FORM: u8>(
    machine: &mut Machine<'_>,
    inst: &Inst,
) -> Flow {
    if let Err(flow) = machine.whole_warp() {
        return flow;
    }
    let Extra::Mma(any, slots) = &machine.grid.program.extras[inst.ext as usize] else {
        unreachable!("mma is lowered with its form and registers");
    };
    let mma = match FORM {
        form::BF16 => BF16_FORM,
        form::F16 => F16_FORM,
        _ => *any,
    };
    let (a_rows, b_rows, c_rows) = mma.registers();
    let (d, sources) = slots.split_at(c_rows);
    let (mut a, mut b, mut c) = ([&NOTHING; A], [&NOTHING; B], [&NOTHING; C]);
    // SAFETY: slots of the program; D has no constants, and is written when the others have been read.
    unsafe {
        point(machine, &mut a, &sources[..a_rows]);
        point(machine, &mut b, &sources[a_rows..a_rows + b_rows]);
        point(machine, &mut c, &sources[a_rows + b_rows..]);
        let mut sums = [[0; LANES]; C];
        mma.run(machine.grid.options.mma, &a, &b, &c, &mut sums);
        for (slot, sum) in d.iter().zip(&sums) {
            machine.pointer(*slot).write(Row(*sum));
        }
    }
    Flow::Next
}

static NOTHING: [u32; LANES] = [0; LANES];

/// Points `rows` at the registers of `slots`.
///
/// # Safety
/// The slots are those of the machine's program, and nobody writes to the registers while the references live.
#[inline(always)]
unsafe fn point(machine: &Machine<'_>, rows: &mut [&[u32; LANES]], slots: &[Slot]) {
    for (row, slot) in rows.iter_mut().zip(slots) {
        // SAFETY: passed on.
        *row = unsafe { &(*machine.pointer(*slot)).0 };
    }
}
