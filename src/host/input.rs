//! The input of a linear op: normalised and rounded once, then read by every tile.

use super::context::Context;
use super::kernels::on_isa;
use super::kernels::row::{quantize, rms_norm};
use super::kernels::widen::round_bf16;
use super::kernels::{Isa, Q8Rows};
use super::shared::SharedSlice;
use super::team::Member;
use stheno_codegen::plan::{InputDtype, Linear};

/// Storage of the prepared rows of one linear op, grown as needed.
#[derive(Debug, Default)]
pub(super) struct InputStorage {
    wide: Vec<f32>,
    wide_sums16: Vec<f32>,
    wide_sums32: Vec<f32>,
    quanta: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    sums16: Vec<f32>,
    sums32: Vec<f32>,
}

impl InputStorage {
    /// Makes room for `elements` (rows times K) elements and shares it.
    pub fn share(&mut self, elements: usize) -> Input<'_> {
        let (halves, runs) = (elements.div_ceil(16), elements.div_ceil(32));
        self.wide.resize(elements, 0.0);
        self.wide_sums16.resize(halves, 0.0);
        self.wide_sums32.resize(runs, 0.0);
        self.quanta.resize(elements, 0);
        self.scales.resize(runs, 0.0);
        self.sums.resize(halves, 0);
        self.sums16.resize(halves, 0.0);
        self.sums32.resize(runs, 0.0);
        Input {
            wide: SharedSlice::new(&mut self.wide),
            wide_sums16: SharedSlice::new(&mut self.wide_sums16),
            wide_sums32: SharedSlice::new(&mut self.wide_sums32),
            quanta: SharedSlice::new(&mut self.quanta),
            scales: SharedSlice::new(&mut self.scales),
            sums: SharedSlice::new(&mut self.sums),
            sums16: SharedSlice::new(&mut self.sums16),
            sums32: SharedSlice::new(&mut self.sums32),
        }
    }
}

/// Prepared rows of the linear op that runs. Rows lie `k` elements apart, `k` being the op's.
pub(super) struct Input<'a> {
    /// Rounded input in f32, [rows, k].
    wide: SharedSlice<'a, f32>,
    /// Sums of 16 and of 32 elements, [rows, k / 16] and [rows, k / 32]; not made for 8-bit input.
    wide_sums16: SharedSlice<'a, f32>,
    wide_sums32: SharedSlice<'a, f32>,
    /// See [`Q8Rows`].
    quanta: SharedSlice<'a, i8>,
    scales: SharedSlice<'a, f32>,
    sums: SharedSlice<'a, i32>,
    sums16: SharedSlice<'a, f32>,
    sums32: SharedSlice<'a, f32>,
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
                InputDtype::Q8 => self.quantize_row(context.isa, row, wide),
            }
            if linear.input_dtype != InputDtype::Q8 && k.is_multiple_of(32) {
                self.sum_row(row, wide);
            }
        });
    }

    /// Rounds a row to 8 bits, and `wide` to the values that these stand for.
    fn quantize_row(&self, isa: Isa, row: usize, wide: &mut [f32]) {
        let runs = wide.len() / 32;
        for (i, x) in wide.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let run = row * runs + i;
            // SAFETY: unit `row` of the phase owns these elements.
            let (quanta, scale, sums, sums16, sums32) = unsafe {
                (
                    self.quanta.write(32 * run, 32),
                    &mut self.scales.write(run, 1)[0],
                    self.sums.write(2 * run, 2),
                    self.sums16.write(2 * run, 2),
                    &mut self.sums32.write(run, 1)[0],
                )
            };
            let Some(quanta) = quanta.first_chunk_mut::<32>() else {
                continue;
            };
            on_isa!(isa, {
                let (s, halves) = quantize(x, quanta);
                *scale = s;
                sums.copy_from_slice(&halves);
                sums16.copy_from_slice(&halves.map(|sum| s * sum as f32));
                *sums32 = s * (halves[0] + halves[1]) as f32;
                for (x, q) in x.iter_mut().zip(quanta) {
                    *x = f32::from(*q) * s;
                }
            });
        }
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

    /// The first `rows` rows in 8 bits.
    ///
    /// # Safety
    /// Their preparation must be over.
    pub unsafe fn q8(&self, rows: usize, k: usize) -> Q8Rows<'_> {
        // SAFETY: the caller's promise.
        unsafe {
            Q8Rows {
                k,
                quanta: self.quanta.read(0, rows * k),
                scales: self.scales.read(0, rows * k / 32),
                sums: self.sums.read(0, rows * k / 16),
                sums16: self.sums16.read(0, rows * k / 16),
                sums32: self.sums32.read(0, rows * k / 32),
            }
        }
    }
}
