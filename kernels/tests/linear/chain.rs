//! Phases that hand the residual on: embedding, products that add to it, narrowing, export, norms and logits, over several
//! blocks with edges. Each phase is compared with f64 on what the phase before it wrote.

use crate::matrix::{Matrices, Order, Table, kinds, type_of};
use crate::products::bound;
use crate::runner::{
    Call, Embed, LARGE, LOGITS, Linear, Machine, NONE, RESIDUAL, Rows, SMALL, Sizes, b_order,
    export, floats, link, module, narrow,
};
use crate::weights::{BF16, Kind};
use half::bf16;
use stheno_codegen::layout::TablePlace;
use stheno_codegen::plan::{Dtype, WeightId};

/// Hidden size: nine tiles, 2.25 slices.
const H: u32 = 144;
const TILES: u32 = 9;
const EPS: f32 = 1e-5;

struct Chain {
    kind: Kind,
    table: Table,
    sizes: Sizes,
    blocks: u32,
    rows: u32,
    number: u32,
    activation: u32,
}

/// Offsets in the workspace.
struct Buffers {
    /// Views of the embedding and of the sum, and their sums of squares, of all rows.
    views: [u32; 2],
    stats: [u32; 2],
    /// The residual's output rows after the embedding and after the sum.
    residuals: [u32; 2],
    logits: u32,
    bytes: usize,
}

fn buffers(call: &Call) -> Buffers {
    let mut bytes = 0u32;
    let mut take = |size: u32| {
        let at = bytes;
        bytes = (bytes + size).next_multiple_of(128);
        at
    };
    let view = H.next_multiple_of(64) * call.row_tiles(Rows::All) * 16;
    let outputs = call.outputs.len() as u32;
    Buffers {
        views: [take(view), take(view)],
        stats: [take(call.rows * TILES * 4), take(call.rows * TILES * 4)],
        residuals: [take(outputs * H * 4), take(outputs * H * 4)],
        logits: take(outputs * H * 4),
        bytes: bytes as usize,
    }
}

/// Sum of squares of 16 channels as 16 lanes take it.
fn tile_stat(channels: &[f32]) -> f32 {
    let mut sums: Vec<f32> = channels.iter().map(|s| s * s).collect();
    for distance in [8, 4, 2, 1] {
        sums = (0..16).map(|i| sums[i] + sums[i ^ distance]).collect();
    }
    sums[0]
}

/// A row of a view.
fn view_row(workspace: &[u8], view: u32, tiles: u32, row: u32) -> Vec<bf16> {
    let value = |k| {
        let at = view as usize + b_order(tiles, row, k);
        bf16::from_le_bytes([workspace[at], workspace[at + 1]])
    };
    (0..H.next_multiple_of(64)).map(value).collect()
}

/// Sums of squares of a row's tiles.
fn stats_row(workspace: &[u8], stats: u32, row: u32) -> Vec<f32> {
    floats(&workspace[(stats + row * TILES * 4) as usize..][..TILES as usize * 4])
}

/// What the view of a row must be, to the bit.
fn check_view(view: &[bf16], stats: &[f32], residual: &[f32], weight: impl Fn(usize) -> f32) {
    let (row, padding) = view.split_at(H as usize);
    let residual_and_view = residual.iter().zip(row).enumerate();
    for (k, (s, found)) in residual_and_view {
        assert_eq!(*found, bf16::from_f32(s * weight(k)));
    }
    assert!(
        padding.iter().all(|x| x.to_bits() == 0),
        "nobody writes them"
    );
    let expected: Vec<f32> = residual.chunks(16).map(tile_stat).collect();
    assert_eq!(stats, expected);
}

fn activated(activation: u32, x: f64) -> f64 {
    match activation {
        0 => x,
        1 => x / (1.0 + (-x).exp()),
        _ => {
            let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + y.tanh())
        }
    }
}

/// `after` is before + activation(norm(x) W^T) of a row, `before` 0 where there is none.
fn check_row(
    matrices: &Matrices,
    view: &[bf16],
    stats: &[f32],
    activation: u32,
    before: Option<&[f32]>,
    after: &[f32],
) {
    let mean = stats.iter().copied().map(f64::from).sum::<f64>() / f64::from(H);
    let scale = 1.0 / (mean + f64::from(EPS)).sqrt();
    for (channel, found) in (0..H).zip(after) {
        let (w, sizes) = (matrices.row(0, channel), matrices.sizes(0, channel));
        let (mut sum, mut size) = (0.0, 0.0);
        for (x, (w, s)) in view.iter().zip(w.iter().zip(&sizes)) {
            sum += x.to_f64() * f64::from(*w);
            size += x.to_f64().abs() * f64::from(*s);
        }
        let before = before.map_or(0.0, |before| f64::from(before[channel as usize]));
        let expected = before + activated(activation, scale * sum);
        // Slopes of activations are below 1.2.
        let error = 1.2 * scale * bound(H, size) + 1e-6 * (1.0 + expected.abs() + before.abs());
        assert!(
            (f64::from(*found) - expected).abs() <= error,
            "{} channel {channel}: {found} for {expected} within {error}",
            matrices.format()
        );
    }
}

/// Runs the chain and checks it. The bits of what it gives for the output rows depend on nothing but rows and weights.
fn check(chain: &Chain, seed: u64) -> Vec<Vec<f32>> {
    let cut = chain.sizes.cut(chain.blocks);
    let matrices = Matrices::new(chain.kind, &[H], H, Order::Plain, chain.table, cut);
    let mut call = Call::new(chain.rows);
    call.tokens = (0..chain.rows).map(|row| row * 37 % H).collect();
    call.outputs = (0..chain.rows).filter(|row| row % 3 != 1).collect();
    let b = buffers(&call);
    let weight: Vec<f32> = (0..H).map(|i| 0.5 + i as f32 / 100.0).collect();
    let (place, mapping) = matrices.table();
    let (in_tiles, table, stride) = match place {
        TablePlace::Tiles(_) => (true, 0, 0),
        TablePlace::Rows { offset, stride, .. } => (false, offset, stride as u32),
    };
    let embed = Embed {
        in_tiles,
        is_f16: type_of(mapping.format) == "F16",
        columns: H,
        table_tiles: TILES,
        exponent: mapping.exponent,
        table_stride: stride,
        table,
        view: b.views[0],
        view_weight: 0,
        view_stats: b.stats[0],
    };
    let part = [0, H, matrices.mapping(0).exponent as u32, NONE, 0];
    let linear = |input: usize, rows, epilogue| Linear {
        input: b.views[input],
        input_rows: rows,
        stats: b.stats[input],
        stat_tiles: TILES,
        eps: EPS,
        inverse_n: 1.0 / H as f32,
        ..Linear::new(H.next_multiple_of(64), epilogue, vec![part])
    };
    let add = |rows| Linear {
        activation: chain.activation,
        view: b.views[1],
        view_stats: b.stats[1],
        view_tiles: TILES,
        ..linear(0, rows, RESIDUAL)
    };
    let logits = Linear {
        output: b.logits,
        output_columns: H,
        ..linear(1, Rows::Gathered, LOGITS)
    };
    let run = |mut phases: Vec<Vec<u32>>| {
        link(&mut phases, chain.blocks);
        let module = module(matrices.format(), chain.sizes, chain.number);
        let (arena, spans) = (&matrices.arena, matrices.spans());
        let mut machine = Machine::new(chain.blocks, arena, &spans, &weight, &[], b.bytes);
        machine.run(&module, chain.sizes, &call, &phases, seed);
        machine.workspace()
    };
    let whole = run(vec![
        embed.phase(),
        export(H, b.residuals[0]),
        add(Rows::All).phase(),
        export(H, b.residuals[1]),
        logits.phase(),
    ]);
    // The residual and its view of the output rows only, which must not change a bit of them.
    let narrowed = run(vec![
        embed.phase(),
        narrow(TILES),
        add(Rows::Gathered).phase(),
    ]);

    let id = WeightId(u32::from(chain.table == Table::Own));
    let tiles = (call.row_tiles(Rows::All), call.row_tiles(Rows::Output));
    let mut results = Vec::new();
    for (j, row) in (0..).zip(&call.outputs) {
        let floats_of = |at: u32| floats(&whole[(at + j * H * 4) as usize..][..H as usize * 4]);
        let (embedded, sum) = (floats_of(b.residuals[0]), floats_of(b.residuals[1]));
        let token = call.tokens[*row as usize];
        let expected = match place {
            TablePlace::Rows { .. } => matrices.weights.0[&id].row(token as usize),
            TablePlace::Tiles(place) => {
                let (layout, mappings) = (&matrices.layout, &matrices.mappings);
                let read = layout.read_row(&matrices.arena, mappings, place, id, token);
                read.unwrap()
            }
        };
        assert_eq!(embedded, expected, "{} {place:?}", matrices.format());
        let view = |i: usize| view_row(&whole, b.views[i], tiles.0, *row);
        let stats = |i: usize| stats_row(&whole, b.stats[i], *row);
        check_view(&view(0), &stats(0), &embedded, |k| weight[k]);
        check_row(
            &matrices,
            &view(0),
            &stats(0),
            chain.activation,
            Some(&embedded),
            &sum,
        );
        check_view(&view(1), &stats(1), &sum, |_| 1.0);
        let y = floats_of(b.logits);
        check_row(&matrices, &view(1), &stats(1), 0, None, &y);
        assert_eq!(view_row(&narrowed, b.views[1], tiles.1, j), view(1));
        assert_eq!(stats_row(&narrowed, b.stats[1], j), stats(1));
        results.extend([embedded, sum, y]);
    }
    results
}

/// Every format as weights and as a table, of the product's own tiles or others.
#[test]
#[ignore = "minutes: run with --include-ignored"]
fn every_format() {
    for (i, kind) in kinds().into_iter().enumerate() {
        let large = i % 2 == 0;
        let chain = Chain {
            kind,
            table: if i % 4 < 2 { Table::Tied } else { Table::Own },
            sizes: if large { LARGE } else { SMALL },
            blocks: 1 + i as u32 % 3,
            rows: if large { 5 } else { 18 },
            number: if large { 80 } else { 90 },
            activation: i as u32 % 3,
        };
        check(&chain, i as u64);
    }
}

/// 16-bit tables that are not tied lie row by row; all row tiles; more blocks than tiles. Bits are those of one block.
#[test]
fn bits_are_the_same_everywhere() {
    for kind in [BF16, Kind::Dense(Dtype::F16)] {
        let chain = |table, sizes, blocks, rows, number| Chain {
            kind,
            table,
            sizes,
            blocks,
            rows,
            number,
            activation: 1,
        };
        for table in [Table::Own, Table::Tied] {
            let expected = check(&chain(table, SMALL, 1, 64, 90), 0);
            for other in [
                chain(table, LARGE, 11, 4, 80),
                chain(table, LARGE, 3, 12, 80),
                chain(table, SMALL, 8, 30, 90),
            ] {
                let found = check(&other, 5);
                assert_eq!(found[..], expected[..found.len()]);
            }
        }
    }
}
