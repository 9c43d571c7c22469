//! References of matrix products.

use crate::case::{Case, Size, Target};
use crate::data::{Dtype, Init, Values, bytes_of, e4m3_number, f16_number, round_to_tf32};
use crate::expect::Expect;
use crate::reduce::{BF16_ROUNDING, F32_UNIT};

/// Result and sum of magnitudes of every dot product of `a`'s rows (k each) with the columns that `b(depth, col)` gives.
fn product(a: &[f64], b: impl Fn(usize, usize) -> f64, n: usize, k: usize) -> Vec<(f64, f64)> {
    let dot = |row: &[f64], col: usize| {
        row.iter()
            .enumerate()
            .fold((0.0, 0.0), |(sum, size), (depth, a)| {
                let term = a * b(depth, col);
                (sum + term, size + term.abs())
            })
    };
    a.chunks(k)
        .flat_map(|row| (0..n).map(move |col| dot(row, col)))
        .collect()
}

/// Error of a tensor-core sum of k terms relative to the sum of their magnitudes: terms are aligned to the largest
/// and cut to 24 bits, 8 at a time, and the running sum is cut with them.
fn mma_error(k: usize) -> f64 {
    1.25 * k as f64 * F32_UNIT
}

fn near(product: Vec<(f64, f64)>, relative: f64) -> Expect {
    Expect::Near(
        product
            .into_iter()
            .map(|(sum, size)| (sum, size * relative))
            .collect(),
    )
}

pub fn gemm_f32(size: Size) -> Case {
    let (m, n, k) = size.pick((130, 201, 133), (67, 70, 19));
    let mut case = Case::new(
        "gemm_f32",
        [usize::div_ceil(n, 64), usize::div_ceil(m, 64)],
        [256, 1],
    );
    let a = case.input(Dtype::F32, m * k, Init::Random).numbers();
    let b = case.input(Dtype::F32, k * n, Init::Random).numbers();
    let c = product(&a, |depth, col| b[depth * n + col], n, k);
    case.output(Dtype::F32, m * n, near(c, k as f64 * F32_UNIT));
    case.sizes([m, n, k]);
    case
}

pub fn gemm_bf16(size: Size) -> Case {
    let (m, n, k) = size.pick((150, 136, 264), (70, 72, 104));
    let mut case = Case::new(
        "gemm_bf16",
        [usize::div_ceil(n, 64), usize::div_ceil(m, 64)],
        [128, 1],
    );
    case.dynamic_shared = 4 * 9728;
    let a = case.input(Dtype::Bf16, m * k, Init::Random).numbers();
    let b = case.input(Dtype::Bf16, k * n, Init::Random).numbers();
    let c = product(&a, |depth, col| b[depth * n + col], n, k).into_iter();
    let c = c.map(|(sum, size)| (sum, size * mma_error(k) + sum.abs() * BF16_ROUNDING));
    case.output(Dtype::Bf16, m * n, Expect::Near(c.collect()));
    case.sizes([m, n, k]);
    case
}

/// A product with a transposed right side: what `gemm_f16`, `gemm_tf32`, `gemm_int8` and `gemm_fp8` have in common.
struct Transposed {
    case: Case,
    a: Values,
    b: Values,
    m: usize,
    n: usize,
    k: usize,
}

impl Transposed {
    fn new(kernel: &'static str, [m, n, k]: [usize; 3], dtype: Dtype, a: Init, b: Init) -> Self {
        let mut case = Case::new(
            kernel,
            [usize::div_ceil(n, 64), usize::div_ceil(m, 64)],
            [128, 1],
        );
        let a = case.input(dtype, m * k, a);
        let b = case.input(dtype, n * k, b);
        Transposed {
            case,
            a,
            b,
            m,
            n,
            k,
        }
    }

    fn product(&self, numbers: impl Fn(&Values) -> Vec<f64>) -> Vec<(f64, f64)> {
        let (a, b) = (numbers(&self.a), numbers(&self.b));
        product(&a, |depth, col| b[col * self.k + depth], self.n, self.k)
    }

    fn finish(mut self, dtype: Dtype, c: Expect) -> Case {
        self.case.output(dtype, self.m * self.n, c);
        self.case.sizes([self.m, self.n, self.k]);
        self.case
    }
}

pub fn gemm_f16(size: Size) -> Case {
    let shape = size.pick([150, 139, 264], [70, 66, 104]);
    // Magnitudes 0.125 to 1; negative on the left, since a range of patterns has one sign.
    let (a, b) = (Init::Range(0xB000, 0xBC00), Init::Range(0x3000, 0x3C00));
    let product_case = Transposed::new("gemm_f16", shape, Dtype::U16, a, b);
    let c = product_case.product(|values| values.u16s().into_iter().map(f16_number).collect());
    product_case.finish(Dtype::F32, near(c, mma_error(shape[2])))
}

pub fn gemm_tf32(size: Size) -> Case {
    let shape = size.pick([130, 139, 148], [70, 66, 36]);
    let product_case = Transposed::new("gemm_tf32", shape, Dtype::F32, Init::Random, Init::Random);
    let c = product_case.product(|values| values.f32s().into_iter().map(round_to_tf32).collect());
    product_case.finish(Dtype::F32, near(c, mma_error(shape[2])))
}

pub fn gemm_int8(size: Size) -> Case {
    let shape = size.pick([150, 139, 528], [70, 66, 208]);
    let bytes = Init::Range(0, 256);
    let product_case = Transposed::new("gemm_int8", shape, Dtype::U8, bytes, bytes);
    let c = product_case.product(|values| {
        values
            .bytes
            .iter()
            .map(|&byte| f64::from(byte as i8))
            .collect()
    });
    let c = c.into_iter().map(|(sum, _)| (sum as i32).to_le_bytes());
    product_case.finish(Dtype::I32, Expect::Exact(bytes_of(c)))
}

pub fn gemm_fp8(size: Size) -> Case {
    let shape = size.pick([150, 139, 208], [70, 66, 80]);
    // Magnitudes 0.5 to 1.875; negative on the left, since a range of patterns has one sign.
    let (a, b) = (Init::Range(0xB0, 0xC0), Init::Range(0x30, 0x40));
    let mut product_case = Transposed::new("gemm_fp8", shape, Dtype::U8, a, b);
    product_case.case.target = Target::Ada;
    let c =
        product_case.product(|values| values.bytes.iter().map(|&byte| e4m3_number(byte)).collect());
    // Some units keep only 13 bits of a sum of fp8 products: a term loses up to 2^-13 of the sum so far, on average a
    // half of half the final sum, less here because the products have few bits.
    product_case.finish(Dtype::F32, near(c, shape[2] as f64 / 8.0 / 8192.0))
}

pub fn specialised_gemm(size: Size) -> Case {
    let (m, n, k) = size.pick((260, 139, 448), (100, 40, 256));
    let mut case = Case::new(
        "specialised_gemm",
        [usize::div_ceil(n, 64), usize::div_ceil(m, 128)],
        [384, 1],
    );
    case.target = Target::HopperSpecific;
    case.dynamic_shared = 3 * 27648 + 64;
    let a = case.input(Dtype::Bf16, m * k, Init::Random).numbers();
    let b = case.input(Dtype::Bf16, n * k, Init::Random).numbers();
    let c = product(&a, |depth, col| b[col * k + depth], n, k);
    case.output(Dtype::F32, m * n, near(c, mma_error(k)));
    case.sizes([m, n, k]);
    case
}

pub fn w4a16(size: Size) -> Case {
    let (m, n, k) = size.pick((37, 136, 512), (5, 72, 128));
    let groups = k / 32;
    let mut case = Case::new(
        "w4a16",
        [usize::div_ceil(n, 64), usize::div_ceil(m, 16)],
        [128, 1],
    );
    case.dynamic_shared = 16 * (k as u32 + 8) * 2;
    let x = case.input(Dtype::Bf16, m * k, Init::Random).numbers();
    let w = case
        .input(Dtype::U32, n * groups * 4, Init::Range(0, 1 << 32))
        .u32s();
    let scales = case.input(Dtype::Bf16, n * groups, Init::Random).numbers();
    let weight = |depth: usize, col: usize| {
        let (group, depth) = (depth / 32, depth % 32);
        let word = w[(col * groups + group) * 4 + depth % 8 / 2];
        let nibble = word >> (4 * (depth / 8 + 4 * (depth % 2))) & 15;
        (f64::from(nibble) - 8.0) * scales[col * groups + group]
    };
    let y = product(&x, weight, n, k);
    case.output(
        Dtype::F32,
        m * n,
        near(y, mma_error(32) + groups as f64 * F32_UNIT),
    );
    case.sizes([m, n, k]);
    case
}

pub fn gemv_bf16(size: Size) -> Case {
    let (rows, cols) = size.pick((257, 2056), (11, 1032));
    let mut case = Case::new("gemv_bf16", [usize::div_ceil(rows, 4), 1], [128, 1]);
    let w = case.input(Dtype::Bf16, rows * cols, Init::Random).numbers();
    let x = case.input(Dtype::Bf16, cols, Init::Random).numbers();
    let y = product(&w, |depth, _| x[depth], 1, cols);
    case.output(
        Dtype::F32,
        rows,
        near(y, (cols as f64 / 128.0 + 17.0) * F32_UNIT),
    );
    case.sizes([rows, cols]);
    case
}

pub fn bit_planes(size: Size) -> Case {
    let (rows, words) = size.pick((501, 250), (21, 37));
    let mut case = Case::new("bit_planes", [usize::div_ceil(rows, 4), 1], [128, 1]);
    let w = case
        .input(Dtype::U32, rows * 3 * words, Init::Range(0, 1 << 32))
        .u32s();
    let x = case
        .input(Dtype::U32, 4 * words, Init::Range(0, 1 << 32))
        .u32s();
    let bit = |planes: &[u32], plane: usize, col: usize| {
        (planes[plane * words + col / 32] >> (col % 32) & 1) as i32
    };
    let y = w.chunks(3 * words).map(|row| {
        let weight = |col| bit(row, 0, col) + 2 * bit(row, 1, col) - 4 * bit(row, 2, col);
        let activation = |col| {
            (0..4)
                .map(|plane| bit(&x, plane, col) << plane)
                .sum::<i32>()
        };
        (0..32 * words)
            .map(|col| weight(col) * activation(col))
            .sum::<i32>()
    });
    let y = Expect::Exact(bytes_of(y.map(i32::to_le_bytes)));
    case.output(Dtype::I32, rows, y);
    case.sizes([rows, words]);
    case
}
