use super::{LANES, Q8Block};
use crate::checkpoint::{AffineMatrix, Offsets};

/// The definition of [`super::q8_tile`], element by element.
pub fn tile(w: &AffineMatrix, tile: usize, x: &Q8Block<'_>, out: &mut [[f32; LANES]]) {
    rows(w, tile, x, 0, out);
}

/// [`tile`] for the rows from `from` on.
pub fn rows(w: &AffineMatrix, tile: usize, x: &Q8Block<'_>, from: usize, out: &mut [[f32; LANES]]) {
    let shape = w.shape();
    let (zero, has_min) = match w.offsets() {
        Offsets::Zero(zero) => (*zero, false),
        Offsets::Min(_) => (0, true),
    };
    for (m, lanes) in out.iter_mut().enumerate() {
        for (lane, y) in lanes.iter_mut().enumerate() {
            let n = tile * LANES + lane;
            let mut acc = 0f32;
            for group in 0..shape.k / shape.group {
                let (scale, min) = w.group(n, group);
                let start = group * shape.group;
                let x = &x.groups[start / 32 * x.rows + from + m];
                let mut sum = 0i32;
                for k in start..start + shape.group {
                    let q = i32::from(w.quantum(n, k)) - i32::from(zero);
                    sum += q * i32::from(x.quanta[k % 32]);
                }
                acc = (sum as f32).mul_add(scale * x.scale, acc);
                if has_min {
                    let x_sum = match shape.group {
                        16 => x.sums16[start % 32 / 16],
                        _ => x.sum32,
                    };
                    acc = min.mul_add(x_sum, acc);
                }
            }
            *y = acc;
        }
    }
}
