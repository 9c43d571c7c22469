//! Products of float rows with unquantized matrices, read where they lie.

use super::widen::{Bf16, Element, F16};
use super::{LANES, sum_lanes};
use stheno_codegen::plan::Dtype;

/// Dot products of `N` rows of W with `M` rows of f32, each in 16 lanes (lane = k mod 16, in order of k) summed
/// pairwise at the end. `w` holds each row's bytes.
#[inline(always)]
pub fn dots<const N: usize, const M: usize>(
    dtype: Dtype,
    w: [&[u8]; N],
    x: [&[f32]; M],
) -> [[f32; N]; M] {
    match dtype {
        Dtype::F32 => typed::<f32, 4, N, M>(w, x),
        Dtype::F16 => typed::<F16, 2, N, M>(w, x),
        Dtype::BF16 => typed::<Bf16, 2, N, M>(w, x),
    }
}

#[inline(always)]
fn typed<E: Element, const SIZE: usize, const N: usize, const M: usize>(
    w: [&[u8]; N],
    x: [&[f32]; M],
) -> [[f32; N]; M] {
    let k = x[0].len();
    let mut acc = [[[0f32; LANES]; N]; M];
    let whole = k / LANES;
    for chunk in 0..whole {
        let mut wide = [[0f32; LANES]; N];
        for n in 0..N {
            let bytes = &w[n][chunk * LANES * SIZE..][..LANES * SIZE];
            for lane in 0..LANES {
                // Files need not align tensors, so elements are read as bytes.
                let element: E = bytemuck::pod_read_unaligned(&bytes[lane * SIZE..][..SIZE]);
                wide[n][lane] = element.widen();
            }
        }
        for m in 0..M {
            let x = &x[m][chunk * LANES..][..LANES];
            for n in 0..N {
                for lane in 0..LANES {
                    acc[m][n][lane] = wide[n][lane].mul_add(x[lane], acc[m][n][lane]);
                }
            }
        }
    }
    for m in 0..M {
        for n in 0..N {
            for lane in 0..k % LANES {
                let i = whole * LANES + lane;
                let element: E = bytemuck::pod_read_unaligned(&w[n][i * SIZE..][..SIZE]);
                acc[m][n][lane] = element.widen().mul_add(x[m][i], acc[m][n][lane]);
            }
        }
    }
    acc.map(|row| row.map(sum_lanes))
}
