//! The input of a linear op: normalised and rounded once, then read by every tile.

use super::context::Context;
use super::executor::Weight;
use super::kernels::on_isa;
use super::kernels::row::{quantize, rms_norm};
use super::kernels::widen::round_bf16;
use super::kernels::{Isa, Q8_BLOCK, Q8Block, Q8Group};
use super::shared::SharedSlice;
use super::team::Member;
use crate::checkpoint::Matrix;
use stheno_codegen::plan::{InputDtype, Linear, Part};

/// Storage of the prepared rows of one linear op, grown as needed.
#[derive(Debug, Default)]
pub(super) struct InputStorage {
    wide: Vec<f32>,
    wide_sums16: Vec<f32>,
    wide_sums32: Vec<f32>,
    q8: Vec<Q8Group>,
}

impl InputStorage {
    /// Makes room for `elements` (rows times K) elements and shares it.
    pub fn share(&mut self, elements: usize) -> Input<'_> {
        let (halves, runs) = (elements.div_ceil(16), elements.div_ceil(32));
        self.wide.resize(elements, 0.0);
        self.wide_sums16.resize(halves, 0.0);
        self.wide_sums32.resize(runs, 0.0);
        self.q8.resize(runs, Q8Group::default());
        Input {
            wide: SharedSlice::new(&mut self.wide),
            wide_sums16: SharedSlice::new(&mut self.wide_sums16),
            wide_sums32: SharedSlice::new(&mut self.wide_sums32),
            q8: SharedSlice::new(&mut self.q8),
        }
    }
}

/// Prepared rows of the linear op that runs. Rows lie `k` elements apart, `k` being the op's.
pub(super) struct Input<'a> {
    /// Rounded input in f32, [rows, k]; of 8-bit input only where a matrix of the op is not quantized.
    wide: SharedSlice<'a, f32>,
    /// Sums of 16 and of 32 elements, [rows, k / 16] and [rows, k / 32]; not made for 8-bit input.
    wide_sums16: SharedSlice<'a, f32>,
    wide_sums32: SharedSlice<'a, f32>,
    /// Blocks of rows, one after another: see [`Q8Block`].
    q8: SharedSlice<'a, Q8Group>,
}

impl Input<'_> {
    /// Prepares `rows` rows of a linear op's input, as one phase.
    pub fn prepare<E: Send + Sync>(
        &self,
        context: &Context<'_, E>,
        member: &Member<'_>,
        linear: &Linear,
        rows: usize,
    ) {
        let k = context.columns(linear.input);
        // A matrix that is not quantized multiplies the values that 8 bits stand for.
        let dense = |part: &Part| {
            !matches!(&context.weights[part.weight.index()],
                Weight::Matrix(matrix) if matches!(**matrix, Matrix::Affine(_)))
        };
        let widened = linear.parts.iter().any(dense);
        member.phase(rows, |row| {
            // SAFETY: nobody writes the input buffer in this phase; unit `row` owns row `row` of what it prepares.
            let (from, wide) = unsafe {
                (
                    context.read(linear.input, row, 0, k),
                    self.wide.write(row * k, k),
                )
            };
            on_isa!(
                context.isa,
                match linear.norm {
                    Some(norm) => rms_norm(from, context.vector(norm.weight), norm.eps, wide),
                    None => wide.copy_from_slice(from),
                }
            );
            match linear.input_dtype {
                InputDtype::F32 => {}
                InputDtype::BF16 => wide.iter_mut().for_each(|x| *x = round_bf16(*x)),
                InputDtype::Q8 => self.quantize_row(context.isa, row, rows, wide, widened),
            }
            if linear.input_dtype != InputDtype::Q8 && k.is_multiple_of(32) {
                self.sum_row(row, wide);
            }
        });
    }

    /// Rounds a row of `rows` to 8 bits, and if `widened` its values to those that the quanta stand for.
    fn quantize_row(&self, isa: Isa, row: usize, rows: usize, wide: &mut [f32], widened: bool) {
        let runs = wide.len() / 32;
        let first = row - row % Q8_BLOCK;
        let block_rows = Q8_BLOCK.min(rows - first);
        let wide = wide.as_chunks_mut::<32>().0;
        on_isa!(isa, {
            for (i, x) in wide.iter_mut().enumerate() {
                let at = first * runs + i * block_rows + row - first;
                // SAFETY: unit `row` of the phase owns the groups of its row.
                let group = unsafe { &mut self.q8.write(at, 1)[0] };
                quantize(x, group);
                if widened {
                    for (x, q) in x.iter_mut().zip(&group.quanta) {
                        *x = f32::from(*q) * group.scale;
                    }
                }
            }
        });
    }

    fn sum_row(&self, row: usize, wide: &[f32]) {
        let runs = wide.len() / 32;
        for (i, x) in wide.as_chunks::<32>().0.iter().enumerate() {
            let run = row * runs + i;
            // SAFETY: unit `row` of the phase owns these elements.
            let (sums16, sums32) = unsafe {
                (
                    self.wide_sums16.write(2 * run, 2),
                    self.wide_sums32.write(run, 1),
                )
            };
            let sum = |x: &[f32], start: f32| x.iter().fold(start, |a, x| a + x);
            sums16[0] = sum(&x[..16], 0.0);
            sums16[1] = sum(&x[16..], 0.0);
            sums32[0] = sum(&x[16..], sums16[0]);
        }
    }

    /// Row `row` in f32, [k].
    ///
    /// # Safety
    /// Its preparation must be over.
    pub unsafe fn wide(&self, row: usize, k: usize) -> &[f32] {
        // SAFETY: the caller's promise.
        unsafe { self.wide.read(row * k, k) }
    }

    /// Sums of groups of `group` (16 or 32) elements of row `row`.
    ///
    /// # Safety
    /// Its preparation must be over.
    pub unsafe fn group_sums(&self, row: usize, k: usize, group: usize) -> &[f32] {
        // SAFETY: the caller's promise.
        unsafe {
            match group {
                16 => self.wide_sums16.read(row * k / 16, k / 16),
                _ => self.wide_sums32.read(row * k / 32, k / 32),
            }
        }
    }

    /// The block of `rows` rows in 8 bits that begins with row `first`, a multiple of [`Q8_BLOCK`].
    ///
    /// # Safety
    /// Their preparation must be over.
    pub unsafe fn q8(&self, first: usize, rows: usize, k: usize) -> Q8Block<'_> {
        // SAFETY: the caller's promise.
        let groups = unsafe { self.q8.read(first * k / 32, rows * k / 32) };
        Q8Block { rows, groups }
    }
}
