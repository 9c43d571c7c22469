//! Products of every format, and what their bits do not depend on.

use crate::matrix::{Matrices, Order, Table, kinds};
use crate::runner::{
    Call, LARGE, LOGITS, Linear, Machine, Rows, SMALL, Sizes, b_order, floats, module,
};
use crate::weights::{Kind, Random};
use half::bf16;
use stheno_codegen::layout::{Codes, Group};
use stheno_codegen::plan::Dtype;
use virtual_gpu::LaunchReport;

/// bf16 activations [row][k], the same for a row whatever other rows there are.
pub fn activations(rows: u32, k: u32) -> Vec<Vec<f32>> {
    let row = |row: u32| {
        let mut random = Random(u64::from(row) << 32 | 77);
        let value = |_| bf16::from_f32(random.next() as f32 / 2f32.powi(30) - 1.0).to_f32();
        (0..k).map(value).collect()
    };
    (0..rows).map(row).collect()
}

/// Those in B order, padded columns 0; rows that pad hold numbers that nobody may see.
pub fn in_b_order(x: &[Vec<f32>], row_tiles: u32) -> Vec<u8> {
    let k = x[0].len() as u32;
    let padded = k.next_multiple_of(64);
    let mut bytes = vec![0; (padded * row_tiles * 16) as usize];
    for row in 0..8 * row_tiles {
        for column in 0..padded {
            let value = match x.get(row as usize) {
                _ if column >= k => 0.0,
                Some(x) => x[column as usize],
                None => 1e4,
            };
            let at = b_order(row_tiles, row, column);
            bytes[at..at + 2].copy_from_slice(&bf16::from_f32(value).to_le_bytes());
        }
    }
    bytes
}

/// How a product is run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub sizes: Sizes,
    pub blocks: u32,
    pub rows: u32,
    pub virtual_architecture: u32,
    pub seed: u64,
}

/// y [row][n] of one matrix, stored as logits.
pub fn product(kind: Kind, n: u32, k: u32, run: Run) -> (Matrices, Vec<f32>, LaunchReport) {
    let cut = run.sizes.cut(run.blocks);
    let matrices = Matrices::new(kind, &[n], k, Order::Plain, Table::None, cut);
    let call = Call::new(run.rows);
    let input = in_b_order(&activations(run.rows, k), call.row_tiles(Rows::All));
    let output = input.len();
    let bytes = output + (run.rows * n * 4) as usize;
    let spans = matrices.spans();
    let mut machine = Machine::new(run.blocks, &matrices.arena, &spans, &[], &input, bytes);
    let exponent = matrices.mapping(0).exponent as u32;
    let mut linear = Linear::new(
        k.next_multiple_of(64),
        LOGITS,
        vec![[0, n, exponent, u32::MAX, 0]],
    );
    (linear.output, linear.output_columns) = (output as u32, n);
    let module = module(matrices.format(), run.sizes, run.virtual_architecture);
    let report = machine.run(&module, run.sizes, &call, &[linear.phase()], run.seed);
    let y = floats(&machine.workspace()[output..]);
    (matrices, y, report)
}

/// The sums have at most k / 16 + 8 roundings of tensor cores and warps, none of them above 2^-22 of the sum of the sizes
/// so far, and two more for each fold.
pub fn bound(k: u32, size: f64) -> f64 {
    (f64::from(k) / 8.0 + 16.0) * 2f64.powi(-22) * size
}

pub fn check(matrices: &Matrices, x: &[Vec<f32>], y: &[f32], n: u32) {
    let k = x[0].len() as u32;
    for row in 0..n {
        let (w, sizes) = (matrices.row(0, row), matrices.sizes(0, row));
        for (token, x) in x.iter().enumerate() {
            let exact: f64 = x
                .iter()
                .zip(&w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum();
            let size: f64 = x
                .iter()
                .zip(&sizes)
                .map(|(x, s)| f64::from(x.abs() * s))
                .sum();
            let found = f64::from(y[token * n as usize + row as usize]);
            assert!(
                (found - exact).abs() <= bound(k, size),
                "{} row {row}, token {token}: {found} for {exact}",
                matrices.format()
            );
        }
    }
}

/// Both ways of copying, all row tiles: within the bound, without bank conflicts, and bits that depend on neither rows,
/// widths, groups, blocks nor schedule.
fn compare(kind: Kind, n: u32, k: u32) {
    let run = |sizes, blocks, rows, virtual_architecture, seed| Run {
        sizes,
        blocks,
        rows,
        virtual_architecture,
        seed,
    };
    let runs = [
        run(SMALL, 1, 8, 90, 0),
        run(LARGE, 3, 3, 80, 1),
        run(SMALL, 2, 13, 90, 2),
        run(LARGE, 1, 32, 80, 3),
        run(SMALL, 1, 64, 90, 4),
    ];
    let mut widest: Vec<f32> = Vec::new();
    for run in runs {
        let (matrices, y, report) = product(kind, n, k, run);
        check(&matrices, &activations(run.rows, k), &y, n);
        let same = widest.len().min(y.len());
        let bits = |y: &[f32]| y[..same].iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert!(bits(&y) == bits(&widest), "{}: {run:?}", matrices.format());
        if y.len() > widest.len() {
            widest = y;
        }
        assert!(report.counters.memory.shared_wavefronts > 100);
        for line in &report.counters.lines {
            let (file, number) = (&line.file, line.line);
            let conflicts = line.memory.bank_conflicts();
            assert_eq!(conflicts, 0, "{} {file}:{number}", matrices.format());
        }
    }
}

/// Two chunks, the second short; several tile groups; a last tile that is not full.
#[test]
#[ignore = "minutes: run with --include-ignored"]
fn every_format() {
    for kind in kinds() {
        compare(kind, 56, 576);
    }
}

/// K of one slice, of less than a slice, and of whole chunks.
#[test]
fn every_length() {
    let four_bits = Kind::Coded(Codes::Centred { bits: 4, zero: 8 }, Group::G32);
    for kind in [Kind::Dense(Dtype::BF16), four_bits] {
        compare(kind, 40, 64);
        compare(kind, 24, 48);
        compare(kind, 40, 1536);
    }
}

/// A program without short chunks has the bits of one with them.
#[test]
fn whole_chunks() {
    let kind = Kind::Coded(Codes::Centred { bits: 4, zero: 8 }, Group::G128);
    let whole = Sizes {
        has_short_chunks: false,
        ..LARGE
    };
    for rows in [3, 40] {
        let run = |sizes| Run {
            sizes,
            blocks: 2,
            rows,
            virtual_architecture: 90,
            seed: 7,
        };
        let (matrices, y, _) = product(kind, 184, 1536, run(whole));
        check(&matrices, &activations(rows, 1536), &y, 184);
        assert_eq!(product(kind, 184, 1536, run(LARGE)).1, y);
    }
}

/// The widest calls with two slots of activations, several tiles of accumulators and whole tiles in the exchange.
#[test]
fn wide_calls_with_room() {
    let sizes = Sizes {
        slots: [2; 4],
        scratch_bytes: 131072,
        residual_bytes: 4096,
        ..LARGE
    };
    for kind in [
        Kind::Dense(Dtype::F16),
        Kind::Coded(Codes::Offset { bits: 4 }, Group::G16),
    ] {
        let run = |sizes, rows| Run {
            sizes,
            blocks: 1,
            rows,
            virtual_architecture: 90,
            seed: 5,
        };
        let (matrices, y, _) = product(kind, 88, 1088, run(sizes, 64));
        check(&matrices, &activations(64, 1088), &y, 88);
        let (_, narrow, _) = product(kind, 88, 1088, run(SMALL, 16));
        assert_eq!(narrow[..], y[..narrow.len()]);
    }
}

/// A program of 8 rows needs little memory, and its bits are those of one of 64.
#[test]
fn the_smallest_program() {
    let sizes = Sizes {
        row_capacity: 8,
        slots: [1; 4],
        scratch_bytes: 8192,
        partial_bytes: 4096,
        ..SMALL
    };
    for kind in [
        Kind::Coded(Codes::E4M3, Group::G128),
        Kind::Coded(Codes::Offset { bits: 6 }, Group::G16),
    ] {
        let run = |sizes| Run {
            sizes,
            blocks: 2,
            rows: 7,
            virtual_architecture: 90,
            seed: 6,
        };
        let (matrices, y, _) = product(kind, 120, 640, run(sizes));
        check(&matrices, &activations(7, 640), &y, 120);
        assert_eq!(product(kind, 120, 640, run(SMALL)).1, y);
    }
}

/// More blocks than tiles.
#[test]
fn blocks_without_tiles() {
    let kind = Kind::Coded(Codes::Offset { bits: 4 }, Group::G32);
    let run = Run {
        sizes: SMALL,
        blocks: 8,
        rows: 5,
        virtual_architecture: 90,
        seed: 9,
    };
    let (matrices, y, _) = product(kind, 90, 320, run);
    check(&matrices, &activations(5, 320), &y, 90);
}
