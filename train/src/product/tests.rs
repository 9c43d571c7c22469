use super::*;
use crate::parameters::{matrix, read};
use crate::random::Random;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, TensorData};

fn numbers(count: usize, stream: u64) -> Vec<f32> {
    Random::new(11, stream).uniform(count, 1.0)
}

fn rounded(values: &[f32]) -> Vec<f64> {
    let round = |&x: &f32| f64::from(half::bf16::from_f32(x).to_f32());
    values.iter().map(round).collect()
}

/// In f64, of numbers that a closure finds.
fn expected(
    [m, k, n]: [usize; 3],
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(m * n);
    for row in 0..m {
        for column in 0..n {
            out.push((0..k).map(|i| a(row, i) * b(i, column)).sum());
        }
    }
    out
}

fn close(found: &[f32], expected: &[f64], k: usize) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let off = (f64::from(*found) - expected).abs();
        assert!(off < 1e-6 * k as f64 + 1e-6, "{found} and {expected}");
    }
}

#[test]
fn multiplies_what_it_rounds() {
    let device = Device::flex();
    for [m, k, n] in [
        [1, 1, 1],
        [7, 33, 5],
        [16, 32, 16],
        [33, 95, 70],
        [130, 64, 31],
    ] {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let (ra, rb) = (rounded(&a), rounded(&b));
        let product = |a, b| read(Precision::Bf16.product::<2>(a, b)).unwrap();
        let plain = expected([m, k, n], |r, i| ra[r * k + i], |i, c| rb[i * n + c]);
        let whole = |values: &[f32], shape| matrix(values.to_vec(), shape, &device);
        close(&product(whole(&a, [m, k]), whole(&b, [k, n])), &plain, k);
        // The same numbers as columns.
        let turned = expected([m, k, n], |r, i| ra[i * m + r], |i, c| rb[c * k + i]);
        let (a, b) = (whole(&a, [k, m]).transpose(), whole(&b, [n, k]).transpose());
        close(&product(a, b), &turned, k);
    }
}

#[test]
fn processors_without_tiles_find_the_same() {
    let [m, k, n] = [9, 70, 12];
    let (a, b) = (numbers(m * k, 8), numbers(k * n, 9));
    let (ra, rb) = (rounded(&a), rounded(&b));
    let of = |values, shape: [usize; 2]| FlexTensor::from_data(TensorData::new(values, shape));
    let found = extension::without_tiles(of(a, [m, k]), of(b, [k, n]));
    let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
    let plain = expected([m, k, n], |r, i| ra[r * k + i], |i, c| rb[i * n + c]);
    close(&found, &plain, k);
}

#[test]
fn takes_parts_and_stacks() {
    let device = Device::flex();
    let [batch, m, k, n] = [3, 18, 40, 21];
    let (a, b) = (numbers(batch * m * (k + 3), 3), numbers(k * batch * n, 4));
    let (ra, rb) = (rounded(&a), rounded(&b));
    let of = |values, shape: [usize; 3]| -> Tensor<3> {
        Tensor::from_data(TensorData::new(values, shape), &device)
    };
    let a = of(a, [batch, m, k + 3]).narrow(2, 2, k);
    let b = of(b, [k, batch, n]).swap_dims(0, 1);
    let found = Precision::Bf16.product(a, b);
    assert_eq!(found.dims(), [batch, m, n]);
    let found: Vec<f32> = found.try_into_vec_as().unwrap();
    for (index, found) in found.chunks_exact(m * n).enumerate() {
        let a = |r: usize, i: usize| ra[(index * m + r) * (k + 3) + 2 + i];
        let b = |i: usize, c: usize| rb[(i * batch + index) * n + c];
        close(found, &expected([m, k, n], a, b), k);
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let device = Device::flex();
    let a = matrix(vec![f32::from_bits(0x7fff_ffff), 1.0], [1, 2], &device);
    let b = matrix(vec![1.0, 1.0], [2, 1], &device);
    let found = read(Precision::Bf16.product(a, b)).unwrap();
    assert!(found[0].is_nan());
}

#[test]
fn gradients_are_products_too() {
    let device = Device::flex();
    let [m, k, n] = [20, 37, 18];
    let (a, b, g) = (numbers(m * k, 5), numbers(k * n, 6), numbers(m * n, 7));
    let leaf = |values: &[f32], shape| {
        let leaf = matrix(values.to_vec(), shape, &device);
        leaf.autodiff().require_grad()
    };
    let (left, right) = (leaf(&a, [m, k]), leaf(&b, [k, n]));
    let known = matrix(g.clone(), [m, n], &device);
    let out = Precision::Bf16.product(left.clone(), right.clone());
    let mut gradients = (out * Tensor::from_inner(known)).sum().backward();
    let (ra, rb, rg) = (rounded(&a), rounded(&b), rounded(&g));
    let of_a = expected([m, n, k], |r, c| rg[r * n + c], |c, i| rb[i * n + c]);
    let of_b = expected([k, m, n], |i, r| ra[r * k + i], |r, c| rg[r * n + c]);
    let found =
        |leaf: &Tensor<2>, gradients: &mut _| read(leaf.grad_remove(gradients).unwrap()).unwrap();
    close(&found(&left, &mut gradients), &of_a, n);
    close(&found(&right, &mut gradients), &of_b, m);
    // A constant factor asks for nothing.
    let constant = matrix(b, [k, n], &device);
    let out = Precision::Bf16.product(left.clone(), Tensor::from_inner(constant));
    let known = matrix(g, [m, n], &device);
    let mut gradients = (out * Tensor::from_inner(known)).sum().backward();
    close(&found(&left, &mut gradients), &of_a, n);
}
