//! What becomes of products: gates, queries, keys and values, biases and exponents, best logits.

use crate::matrix::{Matrices, Order, Table, kinds};
use crate::products::{activations, bound, in_b_order};
use crate::runner::{
    Call, GATED, LARGE, LOGITS, Linear, Machine, NONE, QKV, Rows, SMALL, Sizes, b_order, floats,
    module,
};
use crate::weights::{BF16, Kind};
use half::bf16;
use stheno_codegen::plan::Dtype;

const K: u32 = 144;

/// y of one row of a matrix for one token in f64, and how far off it may be.
fn exact(matrices: &Matrices, matrix: u32, row: u32, x: &[f32]) -> (f64, f64) {
    let (w, sizes) = (matrices.row(matrix, row), matrices.sizes(matrix, row));
    let sum = x
        .iter()
        .zip(&w)
        .map(|(x, w)| f64::from(*x) * f64::from(*w))
        .sum();
    let size = x
        .iter()
        .zip(&sizes)
        .map(|(x, s)| f64::from(x.abs() * s))
        .sum();
    (sum, bound(x.len() as u32, size))
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

/// Part records: those of a stack whose matrices follow each other, with biases one after the other in the constants.
fn parts(matrices: &Matrices, biased: bool) -> Vec<[u32; 5]> {
    let (mut column, mut records) = (0, Vec::new());
    for (i, part) in (0..).zip(&matrices.linear().stack.parts) {
        let exponent = matrices.mapping(i).exponent as u32;
        let bias = if biased { 4 * column } else { NONE };
        records.push([part.first_tile, part.n, exponent, bias, column]);
        column += part.n;
    }
    records
}

/// Gate and up of 68 rows: their last tile is not full, and nobody writes the columns that pad.
#[test]
#[ignore = "minutes: run with --include-ignored"]
fn gated() {
    for (i, kind) in kinds().into_iter().enumerate() {
        let (sizes, rows) = if i % 2 == 0 { (SMALL, 21) } else { (LARGE, 6) };
        let blocks = 1 + i as u32 % 3;
        let n = 68;
        let cut = sizes.cut(blocks);
        let matrices = Matrices::new(kind, &[n, n], K, Order::Gated, Table::None, cut);
        let call = Call::new(rows);
        let (x, tiles) = (activations(rows, K), call.row_tiles(Rows::All));
        let input = in_b_order(&x, tiles);
        let output_bytes = 128 * tiles * 16;
        let bytes = input.len() + output_bytes as usize;
        let spans = matrices.spans();
        let mut machine = Machine::new(blocks, &matrices.arena, &spans, &[], &input, bytes);
        let mut records = parts(&matrices, false);
        records[1][4] = 0;
        let mut linear = Linear::new(K.next_multiple_of(64), GATED, records);
        (linear.output, linear.activation) = (input.len() as u32, 1 + i as u32 % 2);
        let number = if i % 2 == 0 { 90 } else { 80 };
        let module = module(matrices.format(), sizes, number);
        machine.run(&module, sizes, &call, &[linear.phase()], i as u64);
        let output = &machine.workspace()[input.len()..];
        let at = |row, column| {
            let at = b_order(tiles, row, column);
            f64::from(bf16::from_le_bytes([output[at], output[at + 1]]).to_f32())
        };
        for row in 0..8 * tiles {
            for column in 0..128 {
                if row >= rows || column >= n {
                    assert_eq!(at(row, column), 0.0);
                    continue;
                }
                let x = &x[row as usize];
                let (gate, error) = exact(&matrices, 0, column, x);
                let (up, up_error) = exact(&matrices, 1, column, x);
                let active = if linear.activation == 1 {
                    silu(gate)
                } else {
                    gelu(gate)
                };
                // Slopes of both are below 1.2.
                let error = 1.2 * error * up.abs() + up_error * active.abs() + 1e-6;
                let (expected, found) = (active * up, at(row, column));
                let difference = (found - expected).abs();
                assert!(
                    difference <= error + expected.abs() / 256.0,
                    "{} row {row}, column {column}: {found} for {expected}",
                    matrices.format()
                );
            }
        }
    }
}

/// Runs q, k and v; gives [row][112].
fn queries(kind: Kind, sizes: Sizes, blocks: u32, exponents: [i32; 3], bias: &[f32]) -> Vec<f32> {
    let cut = sizes.cut(blocks);
    let matrices = Matrices::new(kind, &[48, 24, 40], K, Order::Plain, Table::None, cut);
    let call = Call::new(5);
    let x = activations(5, K);
    let input = in_b_order(&x, 1);
    let bytes = input.len() + 5 * 112 * 4;
    let spans = matrices.spans();
    let mut machine = Machine::new(blocks, &matrices.arena, &spans, bias, &input, bytes);
    let mut records = parts(&matrices, !bias.is_empty());
    for (record, exponent) in records.iter_mut().zip(exponents) {
        record[2] = record[2].wrapping_add(exponent as u32);
    }
    let mut linear = Linear::new(K.next_multiple_of(64), QKV, records);
    (linear.output, linear.output_columns) = (input.len() as u32, 112);
    let module = module(matrices.format(), sizes, 90);
    machine.run(&module, sizes, &call, &[linear.phase()], 3);
    let y = floats(&machine.workspace()[input.len()..]);
    if exponents == [0; 3] {
        for (token, x) in x.iter().enumerate() {
            let mut column = 0;
            for (matrix, n) in [(0, 48), (1, 24), (2, 40)] {
                for row in 0..n {
                    let (expected, error) = exact(&matrices, matrix, row, x);
                    let bias = f64::from(bias.get(column).copied().unwrap_or(0.0));
                    let found = f64::from(y[token * 112 + column]);
                    let error = error + (expected + bias).abs() * 2f64.powi(-23);
                    assert!(
                        (found - expected - bias).abs() <= error,
                        "{}",
                        matrices.format()
                    );
                    column += 1;
                }
            }
        }
    }
    y
}

/// Parts that do not end with a tile, with biases, for every format.
#[test]
#[ignore = "minutes: run with --include-ignored"]
fn queries_keys_and_values() {
    let bias: Vec<f32> = (0..112).map(|i| i as f32 / 8.0 - 7.0).collect();
    for (i, kind) in kinds().into_iter().enumerate() {
        queries(kind, SMALL, 1 + i as u32 % 4, [0; 3], &bias);
    }
}

/// Exponents as large as +-200 are exact where the result is a normal number, and overflow only where it does.
#[test]
fn exponents() {
    let plain = queries(BF16, SMALL, 1, [0; 3], &[]);
    let exponents = [-200, 100, 200];
    let scaled = queries(BF16, SMALL, 1, exponents, &[]);
    let small = queries(BF16, SMALL, 1, [-100, -126, 127], &[]);
    for (i, y) in plain.iter().enumerate() {
        let part = match i % 112 {
            0..48 => 0,
            48..72 => 1,
            _ => 2,
        };
        let times = |e: i32| (f64::from(*y) * 2f64.powi(e)) as f32;
        assert_eq!(scaled[i], times(exponents[part]));
        assert_eq!(small[i], times([-100, -126, 127][part]));
    }
}

/// The key of the largest logit: the logit's order above, the complement of its column below.
fn key(y: &[f32]) -> u64 {
    let key = |(column, y): (u32, &f32)| {
        let bits = if *y == 0.0 { 0 } else { y.to_bits() };
        let ordered = if bits >> 31 == 1 {
            !bits
        } else {
            bits | 1 << 31
        };
        u64::from(ordered) << 32 | u64::from(!column)
    };
    (0..).zip(y).map(key).max().unwrap()
}

/// Each block's best logit of each row. Rows 3 and 4 of the matrix are alike, so that equal logits occur; of eight blocks
/// some have no tile.
#[test]
fn best_logits() {
    for (kind, n, blocks, rows) in [
        (BF16, 70, 8, 3),
        (Kind::Dense(Dtype::F16), 70, 2, 11),
        (BF16, 200, 1, 40),
    ] {
        let sizes = LARGE;
        let cut = sizes.cut(blocks);
        let matrices = Matrices::new(kind, &[n], K, Order::Plain, Table::None, cut);
        let mut call = Call::new(rows + 2);
        // All but the first and the third of the rows.
        call.outputs = (0..rows + 2).filter(|row| row % 4 != 0).collect();
        let x = activations(rows + 2, K);
        let input = in_b_order(&x, call.row_tiles(Rows::All));
        let outputs = call.outputs.len() as u32;
        let best = input.len() as u32 + outputs * n * 4;
        let best = best.next_multiple_of(8);
        let bytes = best + outputs * blocks * 8;
        let spans = matrices.spans();
        let mut machine =
            Machine::new(blocks, &matrices.arena, &spans, &[], &input, bytes as usize);
        let mut linear = Linear::new(K.next_multiple_of(64), LOGITS, parts(&matrices, false));
        (linear.output, linear.output_columns) = (input.len() as u32, n);
        (linear.best, linear.input_rows) = (best, Rows::Gathered);
        let module = module(matrices.format(), sizes, 90);
        // Twice: the second run begins anew.
        machine.run(&module, sizes, &call, &[linear.phase(), linear.phase()], 7);
        let workspace = machine.workspace();
        let y = floats(&workspace[input.len()..best as usize]);
        for (j, row) in call.outputs.iter().enumerate() {
            let y = &y[j * n as usize..][..n as usize];
            for (column, found) in (0..).zip(y) {
                let (expected, error) = exact(&matrices, 0, column, &x[*row as usize]);
                assert!((f64::from(*found) - expected).abs() <= error);
            }
            let keys = &workspace[best as usize + j * blocks as usize * 8..];
            let keys: Vec<u64> = keys[..blocks as usize * 8]
                .chunks(8)
                .map(|key| u64::from_le_bytes(key.try_into().unwrap()))
                .collect();
            assert_eq!(keys.iter().copied().max().unwrap(), key(y));
            let idle = (0..blocks as usize).filter(|b| matrices.linear().tiles(*b).is_empty());
            for block in idle {
                assert_eq!(keys[block], 0);
            }
        }
    }
}

/// Logits that are no numbers, infinite, or zeros of either sign, and equal ones: made by biases on a matrix of zeros.
#[test]
fn strange_logits() {
    let (n, k) = (40, 64);
    let cases: [(&[(usize, f32)], u32); 5] = [
        (&[(3, f32::NAN), (7, 1.0)], 7),
        (&[(5, f32::MAX), (9, f32::INFINITY), (4, f32::MAX)], 4),
        (&[(30, 2.0), (21, 2.0), (22, 2.0)], 21),
        (&[(0, -0.0)], 0),
        (&[(2, f32::NEG_INFINITY), (11, f32::NAN)], 0),
    ];
    for (biases, expected) in cases {
        let matrices = Matrices::new(BF16, &[n], k, Order::Plain, Table::None, SMALL.cut(1));
        let mut call = Call::new(1);
        call.outputs = vec![0];
        let mut bias = vec![0.0; n as usize];
        biases.iter().for_each(|(at, value)| bias[*at] = *value);
        let input = in_b_order(&[vec![0.0; k as usize]], 1);
        let best = input.len() as u32 + n * 4;
        let spans = matrices.spans();
        let bytes = best as usize + 8;
        let mut machine = Machine::new(1, &matrices.arena, &spans, &bias, &input, bytes);
        let mut linear = Linear::new(k, LOGITS, vec![[0, n, 0, 0, 0]]);
        (linear.output, linear.output_columns) = (input.len() as u32, n);
        (linear.best, linear.input_rows) = (best, Rows::Output);
        let module = module(matrices.format(), SMALL, 90);
        machine.run(&module, SMALL, &call, &[linear.phase()], 0);
        let key = &machine.workspace()[best as usize..];
        assert_eq!(!u32::from_le_bytes(key[..4].try_into().unwrap()), expected);
    }
}
