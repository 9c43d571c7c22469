//! Plain single-precision sums.

use super::fragment::{Accumulators, MAX_K, Operands};

/// Adds the products to the accumulators in ascending k. A product of two 8-bit, 16-bit or `.tf32` numbers is exact unless
/// it leaves the range of a single, so that fused operations would give the same sums.
#[inline(always)]
pub(super) fn add_products(operands: &Operands, k: usize, sums: &mut Accumulators) {
    let k = k.min(MAX_K);
    // Four rows at a time are enough independent sums to hide the latency of an addition.
    for (rows, sums) in operands.a.chunks_exact(4).zip(sums.0.chunks_exact_mut(4)) {
        let mut four = [sums[0], sums[1], sums[2], sums[3]];
        for (l, b) in operands.b[..k].iter().enumerate() {
            for (sum, row) in four.iter_mut().zip(rows) {
                let a = row[l];
                for (s, b) in sum.iter_mut().zip(b) {
                    *s += a * b;
                }
            }
        }
        sums.copy_from_slice(&four);
    }
}
