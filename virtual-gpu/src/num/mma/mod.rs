//! `mma.sync`: fragment layouts and sums of the dense warp-level matrix instructions (PTX ISA, "Multiply-and-Accumulate
//! Instruction: mma").
//!
//! A fragment is a slice of registers, each an array over the 32 lanes of a warp. An `.f64` register is two of them,
//! whose 64 words in order are the 32 lanes' values, low word first.
//!
//! Two kinds of sums: [`MmaMode::Exact`] models the bits of the hardware (Xie et al., "MMA-Sim", arXiv 2511.10909),
//! [`MmaMode::Fast`] adds single-precision products one after the other. Integer and double-precision forms are the
//! same in both.

mod double;
mod exact;
mod fast;
mod fragment;
#[cfg(target_arch = "x86_64")]
mod vector;

use super::ScalarType;
use fragment::{Accumulators, MAX_K, Operands};
use std::borrow::Borrow;
#[cfg(target_arch = "x86_64")]
pub(crate) use vector::{add_products_of_16, add_products_of_16_exactly, add_whole_products_of_16};

/// A register in the 32 lanes of a warp, or a reference to one.
pub trait Row: Borrow<[u32; 32]> {}

impl<T: Borrow<[u32; 32]>> Row for T {}

/// Rows of A, columns of B, and the length of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PTX's own.
pub struct MmaShape {
    pub m: u32,
    pub n: u32,
    pub k: u32,
}

/// A generation of tensor cores whose sums are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// sm_80 and sm_86.
    Ampere,
    /// sm_89.
    Ada,
    /// sm_90.
    Hopper,
    /// sm_100 and sm_120.
    Blackwell,
}

/// How to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaMode {
    /// The bits of the hardware. Measurements behind the model cover every form but 8-bit floats on Ampere, which
    /// does not have them and counts as Ada, and on Hopper, which counts as Blackwell.
    Exact(Arch),
    /// Single-precision products, added in ascending k to the accumulator.
    Fast,
}

/// Who makes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A warp: `mma.sync`.
    Warp,
    /// Four warps: `wgmma`, which only Hopper has.
    Warpgroup,
}

/// An `mma.sync` instruction without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    /// Shape of the product.
    pub shape: MmaShape,
    /// Type of A (row-major).
    pub a: ScalarType,
    /// Type of B (column-major).
    pub b: ScalarType,
    /// Type of the accumulators that go in.
    pub c: ScalarType,
    /// Type of the result.
    pub d: ScalarType,
    /// `.satfinite` of integer forms: clamps instead of wrapping.
    pub satfinite: bool,
}

impl Mma {
    /// Whether this is a form that [`Mma::run`] computes; if not, a sentence that says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        use ScalarType::*;
        let MmaShape { m, n, k } = self.shape;
        let (same, known, accumulators): (bool, &[u32], &[ScalarType]) = match self.a {
            F16 => (self.b == F16, &[8, 16], &[F16, F32]),
            BF16 => (self.b == BF16, &[8, 16], &[F32]),
            TF32 => (self.b == TF32, &[4, 8], &[F32]),
            E4M3 | E5M2 => (matches!(self.b, E4M3 | E5M2), &[16, 32], &[F16, F32]),
            S8 | U8 => (matches!(self.b, S8 | U8), &[16, 32], &[S32]),
            F64 => (self.b == F64, &[4, 8, 16], &[F64]),
            _ => (false, &[], &[]),
        };
        if !same {
            return Err(format!(
                "mma with {:?} for A and {:?} for B is not supported",
                self.a, self.b
            ));
        }
        let small = self.a == F64 && (m, n, k) == (8, 8, 4);
        let large = (m, n) == (16, 8) && known.contains(&k);
        if !small && !large {
            return Err(format!(
                "mma has no shape m{m}n{n}k{k} for {:?}; m16n8 with k of {known:?} exists",
                self.a
            ));
        }
        if self.c != self.d || !accumulators.contains(&self.c) {
            return Err(format!(
                "mma with {:?} for A takes C and D of one type among {accumulators:?}, not {:?} and {:?}",
                self.a, self.c, self.d
            ));
        }
        if self.satfinite && self.c != S32 {
            return Err(format!("mma.satfinite needs integers, not {:?}", self.a));
        }
        Ok(())
    }

    /// Numbers of 32-bit registers in the fragments of A, B, and C or D.
    #[inline(always)]
    pub fn registers(&self) -> (usize, usize, usize) {
        let MmaShape { m, n, k } = self.shape;
        let count = |elements: u32, ty: ScalarType| (elements * ty.bytes()) as usize / 128;
        (
            count(m * k, self.a),
            count(k * n, self.b),
            count(m * n, self.c),
        )
    }

    /// `d = a * b + c` for a warp. The slices have the lengths that [`Mma::registers`] says; the instruction must have
    /// passed [`Mma::check`].
    ///
    /// # Panics
    ///
    /// If a slice is too short.
    #[inline(always)]
    pub fn run(
        &self,
        mode: MmaMode,
        a: &[impl Row],
        b: &[impl Row],
        c: &[impl Row],
        d: &mut [[u32; 32]],
    ) {
        if self.a == ScalarType::F64 {
            double::run(self.shape, a, b, c, d);
        } else {
            self.run_by(Unit::Warp, mode, a, b, c, d);
        }
    }

    /// As [`Mma::run`], of what fits single precision, with the sums of one unit or the other.
    #[inline(always)]
    pub(crate) fn run_by(
        &self,
        unit: Unit,
        mode: MmaMode,
        a: &[impl Row],
        b: &[impl Row],
        c: &[impl Row],
        d: &mut [[u32; 32]],
    ) {
        if self.shape.k <= 16 {
            self.run_single::<16>(unit, mode, a, b, c, d);
        } else {
            self.run_single::<MAX_K>(unit, mode, a, b, c, d);
        }
    }

    /// Forms whose operands fit single precision, with sums of at most `K` products.
    #[inline(always)]
    fn run_single<const K: usize>(
        &self,
        unit: Unit,
        mode: MmaMode,
        a: &[impl Row],
        b: &[impl Row],
        c: &[impl Row],
        d: &mut [[u32; 32]],
    ) {
        let k = self.shape.k as usize;
        let operands = Operands::<K>::unpack(self, a, b);
        match self.c {
            ScalarType::S32 => {
                // Sums of products of bytes are below 2^22, so that singles add them exactly.
                let mut sums = Accumulators::ZERO;
                fast::add_products(&operands, k, &mut sums);
                sums.add_integers(c, self.satfinite, d);
            }
            ty => {
                let mut sums = Accumulators::unpack(ty, c);
                match mode {
                    MmaMode::Fast => fast::add_products(&operands, k, &mut sums),
                    MmaMode::Exact(arch) => {
                        exact::add_products(self, (unit, arch), &operands, &mut sums)
                    }
                }
                sums.pack(ty, d);
            }
        }
    }
}
