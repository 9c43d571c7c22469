//! Linear ops: tiles of 16 outputs are the units of work, rows share each tile's weights.

use super::context::Context;
use super::executor::Weight;
use super::kernels::on_isa;
use super::kernels::row::gate;
use super::kernels::widen::Element;
use super::kernels::{LANES, Q8_BLOCK, affine, dense, q8_tile};
use super::qkv;
use super::team::Member;
use crate::checkpoint::{AffineMatrix, DenseMatrix, Matrix};
use stheno_codegen::plan::{Activation, BufferId, Dim, Epilogue, InputDtype, Linear, Part};

/// Rows whose products with a tile are taken together: enough to pay for unpacking the weights, few enough that
/// sums stay in registers and first-level cache.
const ROW_BLOCK: usize = Q8_BLOCK;

/// Products of a tile with a block of rows.
type Products = [[f32; LANES]; ROW_BLOCK];

/// Runs a linear op.
pub(super) fn linear<E: Element>(context: &Context<'_, E>, member: &Member<'_>, op: &Linear) {
    let rows = match context.plan.buffer(op.input).rows {
        Dim::Rows => context.batch.rows.len(),
        Dim::OutputRows => context.batch.outputs.len(),
    };
    context.input.prepare(context, member, op, rows);
    let run = LinearRun { context, op, rows };
    match (&op.epilogue, op.parts.as_slice()) {
        (Epilogue::Store { output }, [part]) => run.store(member, *part, *output),
        (
            Epilogue::Residual {
                residual,
                activation,
            },
            [part],
        ) => run.add(member, *part, *activation, *residual),
        (Epilogue::Gated { activation, output }, [gate, up]) => {
            run.gated(member, *gate, *up, *activation, *output);
        }
        (Epilogue::Qkv(epilogue), parts) => {
            run.products(member, parts);
            qkv::finish(context, member, epilogue, parts);
        }
        // `Plan::validate` matches parts to epilogues.
        _ => {}
    }
}

struct LinearRun<'a, 'c, E> {
    context: &'a Context<'c, E>,
    op: &'a Linear,
    rows: usize,
}

impl<E: Element> LinearRun<'_, '_, E> {
    fn store(&self, member: &Member<'_>, part: Part, output: BufferId) {
        let ahead = |row, start| self.context.prefetch(output, row, start);
        self.tiles(member, part, ahead, |row, start, y| {
            // SAFETY: the unit of a tile owns the tile's columns of every row.
            let out = unsafe { self.context.write(output, row, start, y.len()) };
            copy(y, out);
            self.context.round(output, out);
        });
    }

    fn add(
        &self,
        member: &Member<'_>,
        part: Part,
        activation: Option<Activation>,
        residual: BufferId,
    ) {
        let ahead = |row, start| self.context.prefetch(residual, row, start);
        self.tiles(member, part, ahead, |row, start, y| {
            // SAFETY: the unit of a tile owns the tile's columns of every row.
            let out = unsafe { self.context.write(residual, row, start, y.len()) };
            match activation {
                None => out.iter_mut().zip(y).for_each(|(out, y)| *out += y),
                Some(activation) => {
                    let mut active = [0.0; LANES];
                    copy(y, &mut active[..y.len()]);
                    on_isa!(
                        self.context.isa,
                        gate(activation, &mut active, &[1.0; LANES])
                    );
                    out.iter_mut().zip(active).for_each(|(out, y)| *out += y);
                }
            }
            self.context.round(residual, out);
        });
    }

    fn gated(
        &self,
        member: &Member<'_>,
        gate_part: Part,
        up_part: Part,
        activation: Activation,
        output: BufferId,
    ) {
        let n = self.columns(gate_part);
        let (mut gates, mut ups) = (Products::default(), Products::default());
        member.phase(n.div_ceil(LANES), |tile| {
            let (start, width) = (tile * LANES, LANES.min(n - tile * LANES));
            self.blocks(|first, count| {
                (first..first + count).for_each(|row| self.context.prefetch(output, row, start));
                self.tile(gate_part, tile, first, &mut gates[..count]);
                self.tile(up_part, tile, first, &mut ups[..count]);
                on_isa!(self.context.isa, {
                    for (gates, ups) in gates.iter_mut().zip(&ups).take(count) {
                        gate(activation, gates, ups);
                    }
                });
                for (m, gates) in gates.iter().enumerate().take(count) {
                    // SAFETY: the unit of a tile owns the tile's columns of every row.
                    let out = unsafe { self.context.write(output, first + m, start, width) };
                    copy(&gates[..width], out);
                    self.context.round(output, out);
                }
            });
        });
    }

    /// All parts side by side into `Context::products`.
    fn products(&self, member: &Member<'_>, parts: &[Part]) {
        let widths: Vec<usize> = parts.iter().map(|part| self.columns(*part)).collect();
        let total: usize = widths.iter().sum();
        let tiles: usize = widths.iter().map(|n| n.div_ceil(LANES)).sum();
        let mut scratch = Products::default();
        member.phase(tiles, |unit| {
            let (mut tile, mut offset) = (unit, 0);
            for (part, n) in parts.iter().zip(&widths) {
                if tile < n.div_ceil(LANES) {
                    let at = |row, start| row * total + offset + start;
                    let ahead = |row, start| self.context.products.prefetch(at(row, start), LANES);
                    self.each(*part, tile, &mut scratch, &ahead, &mut |row, start, y| {
                        let at = at(row, start);
                        // SAFETY: the unit of a tile owns the tile's columns of every row.
                        copy(y, unsafe { self.context.products.write(at, y.len()) });
                    });
                    return;
                }
                tile -= n.div_ceil(LANES);
                offset += n;
            }
        });
    }

    /// Runs [`LinearRun::each`] over all tiles of a part as one phase.
    fn tiles(
        &self,
        member: &Member<'_>,
        part: Part,
        ahead: impl Fn(usize, usize),
        mut each: impl FnMut(usize, usize, &[f32]),
    ) {
        let n = self.columns(part);
        let mut scratch = Products::default();
        member.phase(n.div_ceil(LANES), |tile| {
            self.each(part, tile, &mut scratch, &ahead, &mut each);
        });
    }

    /// Hands (row, first column, products) of a tile to `each`; before they are computed, (row, first column) to `ahead`,
    /// which asks for the place that they go to, since another core or nobody may have it in a cache.
    fn each(
        &self,
        part: Part,
        tile: usize,
        products: &mut Products,
        ahead: &impl Fn(usize, usize),
        each: &mut impl FnMut(usize, usize, &[f32]),
    ) {
        let (start, n) = (tile * LANES, self.columns(part));
        let width = LANES.min(n - start);
        self.blocks(|first, count| {
            (first..first + count).for_each(|row| ahead(row, start));
            self.tile(part, tile, first, &mut products[..count]);
            for (m, y) in products.iter().enumerate().take(count) {
                each(first + m, start, &y[..width]);
            }
        });
    }

    fn blocks(&self, mut block: impl FnMut(usize, usize)) {
        for first in (0..self.rows).step_by(ROW_BLOCK) {
            block(first, ROW_BLOCK.min(self.rows - first));
        }
    }

    fn columns(&self, part: Part) -> usize {
        self.matrix(part).map_or(0, Matrix::n)
    }

    fn matrix(&self, part: Part) -> Option<&Matrix> {
        match &self.context.weights[part.weight.index()] {
            Weight::Matrix(matrix) => Some(matrix),
            // `HostExecutor::new` checks the kind of every weight.
            Weight::Vector(_) => None,
        }
    }

    /// Products (bias added) of a tile with rows `first..first + out.len()`.
    fn tile(&self, part: Part, tile: usize, first: usize, out: &mut [[f32; LANES]]) {
        match (self.matrix(part), self.op.input_dtype) {
            (Some(Matrix::Affine(w)), InputDtype::Q8) => {
                // SAFETY: the phase that prepared the input is over.
                let x = unsafe { self.context.input.q8(first, out.len(), w.shape().k) };
                q8_tile(self.context.isa, w, tile, &x, out);
            }
            (Some(Matrix::Affine(w)), _) => self.affine_tile(w, tile, first, out),
            (Some(Matrix::Dense(w)), _) => self.dense_tile(w, tile, first, out),
            (None, _) => {}
        }
        if let Some(bias) = part.bias {
            let bias = &self.context.vector(bias)[tile * LANES..];
            for row in out {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
    }

    fn affine_tile(&self, w: &AffineMatrix, tile: usize, first: usize, out: &mut [[f32; LANES]]) {
        let shape = w.shape();
        let isa = self.context.isa;
        // SAFETY: the phase that prepared the input is over.
        let (x, sums) = unsafe {
            (
                |m: usize| self.context.input.wide(first + m, shape.k),
                |m: usize| {
                    self.context
                        .input
                        .group_sums(first + m, shape.k, shape.group)
                },
            )
        };
        let (blocks, rest) = out.as_chunks_mut::<4>();
        let done = 4 * blocks.len();
        for (i, block) in blocks.iter_mut().enumerate() {
            let (x, sums) = (by(4 * i, x), by(4 * i, sums));
            *block = on_isa!(isa, affine::tile::<4>(w, tile, x, sums));
        }
        for (i, row) in rest.iter_mut().enumerate() {
            let (x, sums) = (by(done + i, x), by(done + i, sums));
            [*row] = on_isa!(isa, affine::tile::<1>(w, tile, x, sums));
        }
    }

    fn dense_tile(&self, w: &DenseMatrix, tile: usize, first: usize, out: &mut [[f32; LANES]]) {
        let (n, k) = w.shape();
        let start = tile * LANES;
        let isa = self.context.isa;
        let dtype = w.dtype();
        let stride = k * dtype.size();
        // Past the end the last row is read again; nobody looks at those products.
        let row = |i: usize| &w.bytes()[(start + i).min(n - 1) * stride..][..stride];
        // SAFETY: the phase that prepared the input is over.
        let x = |m: usize| unsafe { self.context.input.wide(first + m, k) };
        for i in (0..LANES).step_by(4) {
            if let [out] = out {
                let [y] = on_isa!(isa, dense::dots::<4, 1>(dtype, by(i, row), by(0, x)));
                out[i..i + 4].copy_from_slice(&y);
                continue;
            }
            for i in [i, i + 2] {
                let (blocks, rest) = out.as_chunks_mut::<3>();
                let done = 3 * blocks.len();
                for (b, block) in blocks.iter_mut().enumerate() {
                    let y = on_isa!(isa, dense::dots::<2, 3>(dtype, by(i, row), by(3 * b, x)));
                    for (out, y) in block.iter_mut().zip(y) {
                        out[i..i + 2].copy_from_slice(&y);
                    }
                }
                for (b, out) in rest.iter_mut().enumerate() {
                    let [y] = on_isa!(isa, dense::dots::<2, 1>(dtype, by(i, row), by(done + b, x)));
                    out[i..i + 2].copy_from_slice(&y);
                }
            }
        }
    }
}

/// Copies products of a tile. A whole one has a length that the compiler knows, and is a move or two instead of a call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match (<&[f32; LANES]>::try_from(from), to.first_chunk_mut()) {
        (Ok(from), Some(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// `[f(start), f(start + 1), ...]`.
fn by<T, const N: usize>(start: usize, f: impl Fn(usize) -> T) -> [T; N] {
    std::array::from_fn(|i| f(start + i))
}
