//! Plain single-precision sums.

use super::fragment::{Accumulators, Operands};

/// Adds the products to the accumulators in ascending k. A product of two 8-bit, 16-bit or `.tf32` numbers is exact
/// unless it leaves the range of a single, so that fused operations would give the same sums.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Loops over indices are the ones that the compiler keeps in registers.
pub(super) fn add_products<const K: usize>(
    operands: &Operands<K>,
    k: usize,
    sums: &mut Accumulators,
) {
    let k = k.min(K);
    // Eight rows at a time are enough independent sums to hide the latency of an addition.
    let (rows, _) = operands.a.as_chunks::<8>();
    let (sums, _) = sums.0.as_chunks_mut::<8>();
    for (rows, sums) in rows.iter().zip(sums) {
        let mut eight = *sums;
        for l in 0..k {
            let b = operands.b[l];
            for i in 0..8 {
                let a = rows[i][l];
                for j in 0..8 {
                    eight[i][j] += a * b[j];
                }
            }
        }
        *sums = eight;
    }
}
