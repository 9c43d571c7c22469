use super::affine::{AffineMatrix, AffineShape, TILE_ROWS};
use super::builder::{AffineBuilder, AffineForm, Tile};
use super::{DenseMatrix, Matrix};
use half::f16;
use rayon::prelude::*;
use std::ops::RangeInclusive;

/// Elements that share a scale.
const GROUP: usize = 32;

/// What dense weights become when they are loaded; weights that are quantized already stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightDtype {
    /// As they are in the file.
    #[default]
    AsStored,
    /// 8 bits, symmetric, a scale per group of 32 (the arithmetic of ggml's Q8_0).
    Q8,
    /// 4 bits with a scale and a minimum per group of 32 (that of ggml's Q4_1).
    Q4,
}

impl Matrix {
    /// The matrix [n, k] with dense elements rounded to `dtype`, in all threads of the current pool.
    ///
    /// Q8: scale = max |x| / 127 of the group in f16, quanta x / scale, at zero point 128. Q4: minimum = min x in f16,
    /// scale = (max x - minimum) / 15 in f16, quanta (x - minimum) / scale. Quanta are rounded half to even.
    ///
    /// What has no such form stays as it is: quantized matrices, a k that is no multiple of 32, and elements that are
    /// not finite or beyond what a scale or minimum in f16 reaches (8.3e6 for Q8, 65504 for Q4).
    pub fn quantized(self, dtype: WeightDtype) -> Self {
        let quantized = match (&self, dtype) {
            (Matrix::Affine(_), _) | (_, WeightDtype::AsStored) => None,
            (Matrix::Dense(dense), WeightDtype::Q8) => quantize::<Q8>(dense),
            (Matrix::Dense(dense), WeightDtype::Q4) => quantize::<Q4>(dense),
        };
        quantized.map_or(self, Matrix::Affine)
    }
}

/// How a group is rounded.
trait Form {
    const BITS: u32;
    /// Zero point; `None` if groups have a minimum.
    const ZERO: Option<u8>;

    /// Scale, minimum (0 where there is none) and quanta; `None` if they do not reach all elements.
    fn round(group: &[f32; GROUP]) -> Option<(f16, f16, [u8; GROUP])>;
}

struct Q8;

impl Form for Q8 {
    const BITS: u32 = 8;
    const ZERO: Option<u8> = Some(128);

    fn round(group: &[f32; GROUP]) -> Option<(f16, f16, [u8; GROUP])> {
        let (lowest, highest) = extremes(group);
        let largest = highest.max(-lowest);
        let scale = finite(largest / 127.0)?;
        let quanta = quanta(group, 0.0, scale.to_f32(), -127.0..=127.0, 128);
        Some((scale, f16::ZERO, quanta))
    }
}

struct Q4;

impl Form for Q4 {
    const BITS: u32 = 4;
    const ZERO: Option<u8> = None;

    fn round(group: &[f32; GROUP]) -> Option<(f16, f16, [u8; GROUP])> {
        let (lowest, highest) = extremes(group);
        let min = finite(lowest)?;
        // The minimum may have been rounded to above all of them.
        let scale = finite((highest - min.to_f32()).max(0.0) / 15.0)?;
        let quanta = quanta(group, min.to_f32(), scale.to_f32(), 0.0..=15.0, 0);
        Some((scale, min, quanta))
    }
}

/// The least and the greatest of finite numbers, in lanes that one register holds.
fn extremes(group: &[f32; GROUP]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for values in group.as_chunks::<8>().0 {
        for (lane, x) in values.iter().enumerate() {
            low[lane] = if *x < low[lane] { *x } else { low[lane] };
            high[lane] = if *x > high[lane] { *x } else { high[lane] };
        }
    }
    let lowest = low.into_iter().fold(f32::INFINITY, f32::min);
    (lowest, high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

fn finite(value: f32) -> Option<f16> {
    Some(f16::from_f32(value)).filter(|value| value.is_finite())
}

/// `(x - min) / scale`, kept in a range, rounded half to even, at a zero point.
fn quanta(
    group: &[f32; GROUP],
    min: f32,
    scale: f32,
    range: RangeInclusive<f32>,
    zero: u8,
) -> [u8; GROUP] {
    /// 1.5 * 2^23: the sum of it and a small number has the integer nearest to that in its low bits. Unlike
    /// `round_ties_even` it is one instruction, and in vectors, on every processor.
    const SHIFT: f32 = 12_582_912.0;
    if scale == 0.0 {
        return [zero; GROUP];
    }
    group.map(|x| {
        let quantum = ((x - min) / scale).clamp(*range.start(), *range.end());
        ((quantum + SHIFT).to_bits() as u8).wrapping_add(zero)
    })
}

fn quantize<F: Form>(dense: &DenseMatrix) -> Option<AffineMatrix> {
    let (n, k) = dense.shape();
    let shape = AffineShape {
        n,
        k,
        bits: F::BITS,
        group: GROUP,
    };
    let form = AffineForm {
        two_level: false,
        zero: F::ZERO,
    };
    let mut builder = AffineBuilder::new(shape, form)?;
    let complete = builder.par_tiles().enumerate().map_init(
        || vec![0.0; k],
        |row_values, (index, mut tile)| {
            let rows = TILE_ROWS * index..n.min(TILE_ROWS * (index + 1));
            rows.enumerate().all(|(r, row)| {
                dense.widen_row(row, row_values);
                put_row::<F>(&mut tile, r, row_values).is_some()
            })
        },
    );
    complete.all(|complete| complete).then(|| builder.finish())
}

/// Rounds row `r` of a tile; `None` if one of its groups has no such form.
fn put_row<F: Form>(tile: &mut Tile<'_>, r: usize, row: &[f32]) -> Option<()> {
    for (index, group) in row.as_chunks::<GROUP>().0.iter().enumerate() {
        // Comparisons pass over what is not a number.
        if !group.iter().all(|x| x.is_finite()) {
            return None;
        }
        let (scale, min, quanta) = F::round(group)?;
        tile.scales.floats[index * TILE_ROWS + r] = scale.to_bits();
        if F::ZERO.is_none() {
            tile.mins.floats[index * TILE_ROWS + r] = min.to_bits();
        }
        let quads = quanta.as_chunks::<4>().0;
        let words = std::array::from_fn(|j| u32::from_le_bytes(quads[j]));
        tile.put_run(F::BITS, index, r, words);
    }
    Some(())
}

#[cfg(test)]
mod tests;
