use super::*;
use half::bf16;
use proptest::prelude::*;
use stheno_codegen::plan::Dtype;

fn dense(n: usize, k: usize, values: &[f32]) -> Matrix {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Matrix::Dense(DenseMatrix::new(n, k, Dtype::F32, Box::new(bytes)).unwrap())
}

fn rows(matrix: &Matrix) -> Vec<f32> {
    let mut all = vec![0.0; matrix.n() * matrix.k()];
    for (row, values) in all.chunks_mut(matrix.k()).enumerate() {
        matrix.dequantize_row(row, values);
    }
    all
}

fn affine(matrix: Matrix) -> AffineMatrix {
    match matrix {
        Matrix::Affine(matrix) => matrix,
        Matrix::Dense(matrix) => panic!("{matrix:?} stayed dense"),
    }
}

#[test]
fn what_can_be_represented_is_exact() {
    // Quanta -127..=127 and 0..=15 with scales, and minima, that f16 holds.
    let q8: Vec<f32> = (0..20 * 64)
        .map(|i| match i % 32 {
            0 => 127.0 * 0.375,
            i => ((i * 37 + i / 64) % 255 - 127) as f32 * 0.375,
        })
        .collect();
    assert_eq!(rows(&dense(20, 64, &q8).quantized(WeightDtype::Q8)), q8);
    let q4: Vec<f32> = (0..20 * 64)
        .map(|i| {
            let quantum = match i % 32 {
                0 => 0,
                1 => 15,
                i => (i * 7) % 16,
            };
            quantum as f32 * 0.25 - (i / 32) as f32
        })
        .collect();
    assert_eq!(rows(&dense(20, 64, &q4).quantized(WeightDtype::Q4)), q4);
}

#[test]
fn quanta_are_rounded_half_to_even() {
    let mut values = [0.0; 32];
    values[..5].copy_from_slice(&[127.0, 0.5, 1.5, -0.5, -2.5]);
    let matrix = affine(dense(1, 32, &values).quantized(WeightDtype::Q8));
    let quanta: Vec<u8> = (0..5).map(|k| matrix.quantum(0, k)).collect();
    assert_eq!(quanta, [255, 128, 130, 128, 126]);
    assert_eq!(matrix.group(0, 0), (1.0, -128.0));
}

#[test]
fn groups_of_one_value_are_exact() {
    for dtype in [WeightDtype::Q8, WeightDtype::Q4] {
        let zeros = [0.0; 3 * 32];
        assert_eq!(rows(&dense(3, 32, &zeros).quantized(dtype)), zeros);
    }
    let same = [-0.3125; 32];
    assert_eq!(rows(&dense(1, 32, &same).quantized(WeightDtype::Q4)), same);
    let nearest = f16::from_f32(0.1).to_f32();
    let same = rows(&dense(1, 32, &[0.1; 32]).quantized(WeightDtype::Q4));
    assert!(
        same.iter()
            .all(|x| (x - 0.1).abs() <= (nearest - 0.1).abs())
    );
}

#[test]
fn values_out_of_reach_leave_the_matrix_dense() {
    let with = |value: f32| {
        let mut values = [0.5; 20 * 32];
        values[19 * 32 + 7] = value;
        dense(20, 32, &values)
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e9] {
        for dtype in [WeightDtype::Q8, WeightDtype::Q4] {
            let matrix = with(value).quantized(dtype);
            assert!(matches!(matrix, Matrix::Dense(_)), "{value} {dtype:?}");
        }
    }
    // The largest that f16 reaches: as a scale times 127, and as a minimum.
    assert!(matches!(
        with(-8e6).quantized(WeightDtype::Q8),
        Matrix::Affine(_)
    ));
    assert!(matches!(
        with(9e6).quantized(WeightDtype::Q8),
        Matrix::Dense(_)
    ));
    assert!(matches!(
        with(-65504.0).quantized(WeightDtype::Q4),
        Matrix::Affine(_)
    ));
    assert!(matches!(
        with(-65600.0).quantized(WeightDtype::Q4),
        Matrix::Dense(_)
    ));
}

#[test]
fn what_has_no_such_form_stays_as_it_is() {
    let matrix = dense(2, 48, &[1.0; 96]).quantized(WeightDtype::Q8);
    assert!(matches!(matrix, Matrix::Dense(_)));
    let matrix = dense(2, 32, &[1.0; 64]).quantized(WeightDtype::AsStored);
    assert!(matches!(matrix, Matrix::Dense(_)));
    let q8 = affine(dense(2, 32, &[1.0; 64]).quantized(WeightDtype::Q8));
    let again = affine(Matrix::Affine(q8.clone()).quantized(WeightDtype::Q4));
    assert_eq!(again, q8);
}

#[test]
fn all_dense_types_are_read() {
    let values: Vec<f32> = (0..64).map(|i| (i - 32) as f32).collect();
    let half: Vec<u8> = (values.iter())
        .flat_map(|x| f16::from_f32(*x).to_le_bytes())
        .collect();
    let brain: Vec<u8> = (values.iter())
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect();
    let expected = affine(dense(2, 32, &values).quantized(WeightDtype::Q8));
    for (dtype, bytes) in [(Dtype::F16, half), (Dtype::BF16, brain)] {
        let matrix = Matrix::Dense(DenseMatrix::new(2, 32, dtype, Box::new(bytes)).unwrap());
        assert_eq!(affine(matrix.quantized(WeightDtype::Q8)), expected);
    }
}

proptest! {
    #[test]
    fn errors_are_bounded_by_the_step_of_the_group(
        n in 1_usize..40,
        groups in 1_usize..4,
        magnitude in -6.0_f32..4.0,
        shift in -2.0_f32..2.0,
        seed in any::<u64>(),
    ) {
        let k = 32 * groups;
        let mut state = seed;
        let values: Vec<f32> = (0..n * k)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let unit = (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
                (unit + shift) * 10_f32.powf(magnitude)
            })
            .collect();
        for dtype in [WeightDtype::Q8, WeightDtype::Q4] {
            let quantized = affine(dense(n, k, &values).quantized(dtype));
            let found = rows(&Matrix::Affine(quantized.clone()));
            for (i, (x, y)) in values.iter().zip(&found).enumerate() {
                let group = &values[i / 32 * 32..][..32];
                let (scale, _) = quantized.group(i / k, i % k / 32);
                let largest = group.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                // Half a step, and what f16 loses of the scale (over all steps) and of the minimum: 2^-11 of them,
                // or half the least subnormal.
                let steps = if dtype == WeightDtype::Q8 { 127.0 } else { 15.0 };
                let lost = |value: f32| (value * 2_f32.powi(-11)).max(2_f32.powi(-25));
                let min = if dtype == WeightDtype::Q8 { 0.0 } else { lost(largest) };
                let bound = 0.5 * scale + steps * lost(scale) + min + largest * 1e-6;
                prop_assert!((x - y).abs() <= bound, "{dtype:?}: {x} became {y}, bound {bound}");
            }
        }
    }
}
