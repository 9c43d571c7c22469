use super::{LANES, Q8Rows};
use crate::checkpoint::AffineMatrix;

/// The definition of [`super::q8_tile`], element by element.
pub fn tile(w: &AffineMatrix, tile: usize, x: &Q8Rows<'_>, first: usize, out: &mut [[f32; LANES]]) {
    let shape = w.shape();
    let bias: u8 = if shape.bits == 8 { 128 } else { 0 };
    for (m, lanes) in out.iter_mut().enumerate() {
        let row = first + m;
        for (lane, y) in lanes.iter_mut().enumerate() {
            let n = tile * LANES + lane;
            let mut acc = 0f32;
            for group in 0..shape.k / shape.group {
                let (scale, mut offset) = w.group(n, group);
                if bias != 0 {
                    offset = f32::from(bias).mul_add(scale, offset);
                }
                let start = group * shape.group;
                let mut sum = 0i32;
                for k in start..start + shape.group {
                    let q = i32::from(w.quantum(n, k)) - i32::from(bias);
                    sum += q * i32::from(x.quanta[row * x.k + k]);
                }
                let x_scale = x.scales[(row * x.k + start) / 32];
                let x_sum = match shape.group {
                    16 => x.sums16[(row * x.k + start) / 16],
                    _ => x.sums32[(row * x.k + start) / 32],
                };
                acc = (sum as f32).mul_add(scale * x_scale, acc);
                acc = offset.mul_add(x_sum, acc);
            }
            *y = acc;
        }
    }
}
