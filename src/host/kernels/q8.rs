use super::isa::Kind;
use super::{Isa, LANES, q8_portable};
use crate::checkpoint::AffineMatrix;

/// Rows of a linear op's input, rounded to 8 bits per group of 32 (see `InputDtype::Q8`).
#[derive(Debug, Clone, Copy)]
pub struct Q8Rows<'a> {
    /// Elements of one row, a multiple of 32.
    pub k: usize,
    /// [rows, k].
    pub quanta: &'a [i8],
    /// [rows, k / 32].
    pub scales: &'a [f32],
    /// Sum of quanta, [rows, k / 16].
    pub sums: &'a [i32],
    /// `scale * sum` of each 16 elements, [rows, k / 16].
    pub sums16: &'a [f32],
    /// `scale * sum` of each 32 elements, [rows, k / 32].
    pub sums32: &'a [f32],
}

/// Products of the 16 outputs of `tile` with rows `first..first + out.len()` of `x`, at most 8 rows.
///
/// Per output, over groups g in order from `acc = 0`, with `s` the integer dot product of quanta (8-bit weights
/// taken as q - 128 and their offset raised by 128 scales): `acc = fma(s, weight_scale * x_scale, acc)`, then
/// `acc = fma(offset, x_scale * x_sum, acc)`. Integer sums are exact, so any instruction set gives these bits.
pub fn q8_tile(
    isa: Isa,
    w: &AffineMatrix,
    tile: usize,
    x: &Q8Rows<'_>,
    first: usize,
    out: &mut [[f32; LANES]],
) {
    let shape = w.shape();
    assert!(x.k == shape.k && out.len() <= 8 && tile * LANES < shape.n);
    let rows = first + out.len();
    assert!(rows * x.k <= x.quanta.len() && rows * x.k / 32 <= x.scales.len());
    assert!(
        rows * x.k / 16 <= x.sums.len().min(x.sums16.len()) && rows * x.k / 32 <= x.sums32.len()
    );
    match isa.kind() {
        Kind::Portable => q8_portable::tile(w, tile, x, first, out),
        // SAFETY: an `Isa` is made only where its features are; the bounds that the kernel relies on are those
        // asserted above and the sizes of planes that `AffineMatrix` guarantees.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { super::q8_avx2::tile(w, tile, x, first, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { super::q8_avx512::tile(w, tile, x, first, out) },
    }
}
