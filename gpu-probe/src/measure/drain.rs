//! How fast consumers eat stages.

use crate::arguments::DrainArguments;
use crate::bench::{Bench, elapsed_ns};
use crate::gpu::Launch;
use crate::report::{GB_PER_S, Row};
use anyhow::{Result, ensure};

const TILES: usize = 4;
const CHUNK: usize = 512;
const STAGES: u32 = 4;
const THREADS: u32 = 256;
/// What the kernel has besides: its mbarriers, up to where the ring is aligned.
const STATIC_SHARED: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Bf16,
    Fp8,
    Int4,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Bf16 => "bf16",
            Format::Fp8 => "fp8",
            Format::Int4 => "int4",
        }
    }

    fn bits(self) -> usize {
        match self {
            Format::Bf16 => 16,
            Format::Fp8 => 8,
            Format::Int4 => 4,
        }
    }

    /// Groups of a block that have a scale.
    fn groups(self) -> usize {
        match self {
            Format::Bf16 => 0,
            Format::Fp8 => 1,
            Format::Int4 => CHUNK / 128,
        }
    }

    fn block_bytes(self) -> usize {
        16 * CHUNK * self.bits() / 8 + 32 * self.groups()
    }

    fn tiles_per_stage(self) -> usize {
        16 / self.bits()
    }
}

/// Codes that all formats have exactly: -8..=7.
fn code(stage: usize, tile: usize, row: usize, column: usize) -> i32 {
    let i = ((stage * TILES + tile) * 16 + row) * CHUNK + column;
    (i as u32).wrapping_mul(0x9e37_79b1).wrapping_shr(28) as i32 - 8
}

/// Scales that are powers of two: exponents of -2..=1.
fn scale_exponent(stage: usize, tile: usize, row: usize, group: usize) -> i32 {
    ((stage * 7 + tile * 5 + row * 3 + group) % 4) as i32 - 2
}

/// Activations that are small integers: -2..=2.
fn activation(column: usize, token: usize) -> i32 {
    ((column * 11 + token * 7 + column / 9) % 5) as i32 - 2
}

/// bf16 of a small integer: the upper half of its f32.
fn bf16(value: i32) -> u16 {
    ((value as f32).to_bits() >> 16) as u16
}

/// e4m3 of an integer in -8..=8: bias 7, three bits of mantissa, which hold it exactly.
fn e4m3(value: i32) -> u8 {
    if value == 0 {
        return 0;
    }
    let magnitude = value.unsigned_abs();
    let exponent = magnitude.ilog2();
    let mantissa = (magnitude << 3 >> exponent) & 7;
    u8::from(value < 0) << 7 | (((exponent + 7) << 3) | mantissa) as u8
}

/// f16 of a power of two.
fn f16_power(exponent: i32) -> u16 {
    ((exponent + 15) as u16) << 10
}

/// Columns that lane slot `t` holds in a k16 step: x0..x3 of the layout's documentation.
fn columns(step: usize, t: usize) -> [usize; 4] {
    let first = step / 2 * 32 + 8 * t + 4 * (step % 2);
    [first, first + 1, first + 2, first + 3]
}

/// A block of a tile as the layout documents it.
fn block(format: Format, stage: usize, tile: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(format.block_bytes());
    let steps_per_atom = 16 / format.bits();
    for atom in 0..CHUNK / 16 / steps_per_atom {
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4);
            for step in atom * steps_per_atom..(atom + 1) * steps_per_atom {
                let of = |row| columns(step, t).map(|column| code(stage, tile, row, column));
                let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (of(g), of(g + 8));
                match format {
                    Format::Bf16 => bytes.extend(
                        [x0, x1, y0, y1, x2, x3, y2, y3]
                            .into_iter()
                            .flat_map(|v| bf16(v).to_le_bytes()),
                    ),
                    Format::Fp8 => bytes.extend([x0, x1, y0, y1, x2, x3, y2, y3].map(e4m3)),
                    Format::Int4 => {
                        let nibble = |low: i32, high: i32| ((low + 8) | (high + 8) << 4) as u8;
                        bytes.extend([
                            nibble(x0, y0),
                            nibble(x2, y2),
                            nibble(x1, y1),
                            nibble(x3, y3),
                        ]);
                    }
                }
            }
        }
    }
    for group in 0..format.groups() {
        for g in 0..8 {
            for row in [g, g + 8] {
                bytes.extend(f16_power(scale_exponent(stage, tile, row, group)).to_le_bytes());
            }
        }
    }
    bytes
}

/// All stages: tile i of stage s is tile i of the group that the stage belongs to.
fn weights(format: Format) -> Vec<u8> {
    let per_stage = format.tiles_per_stage();
    let blocks = (0..STAGES as usize * per_stage).map(|i| (i / TILES, i % TILES));
    blocks
        .flat_map(|(chunk, tile)| block(format, chunk, tile))
        .collect()
}

/// [k32 block][token / 8][lane][16 bytes] of bf16.
fn activations(tokens: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for k32 in 0..CHUNK / 32 {
        for n in 0..tokens / 8 {
            for lane in 0..32 {
                let (g, t) = (lane / 4, lane % 4);
                let columns = (0..8).map(|i| k32 * 32 + 8 * t + i);
                bytes.extend(
                    columns.flat_map(|column| bf16(activation(column, n * 8 + g)).to_le_bytes()),
                );
            }
        }
    }
    bytes
}

/// What the kernel must come to, [tile][row][token]. All sums are multiples of 1/4 below 2^22, exact in f32 in any order.
fn results(format: Format, tokens: usize, count: usize) -> Vec<f32> {
    // Chunks that are in the ring, of which `count` are eaten in turn.
    let chunks = STAGES as usize * format.tiles_per_stage() / TILES;
    let group_columns = CHUNK / format.groups().max(1);
    let mut results = Vec::new();
    for tile in 0..TILES {
        for row in 0..16 {
            for token in 0..tokens {
                let of_chunk = |chunk: usize| -> f64 {
                    let product = |column: usize| {
                        let scale = match format {
                            Format::Bf16 => 0,
                            _ => scale_exponent(chunk, tile, row, column / group_columns),
                        };
                        f64::from(code(chunk, tile, row, column) * activation(column, token))
                            * 2f64.powi(scale)
                    };
                    (0..CHUNK).map(product).sum()
                };
                let turns =
                    |chunk: usize| (count / chunks + usize::from(chunk < count % chunks)) as f64;
                results.push(
                    (0..chunks)
                        .map(|chunk| turns(chunk) * of_chunk(chunk))
                        .sum::<f64>() as f32,
                );
            }
        }
    }
    results
}

/// Bytes of stages a second over all SMs.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let blocks = bench.blocks();
    let count: u32 = bench.pick(2000, 1000, 3);
    let mut rows = Vec::new();
    for format in [Format::Bf16, Format::Fp8, Format::Int4] {
        let weights = weights(format);
        for tokens in [8, 16, 32] {
            let activations = activations(tokens);
            let shared_bytes = u32::try_from(weights.len() + activations.len())?;
            if shared_bytes + STATIC_SHARED > bench.facts().shared_bytes {
                continue;
            }
            let expected = results(format, tokens, count as usize);
            let stamps = bench.stamp_buffer()?;
            let at = bench.zeros(blocks as usize * expected.len() * 4)?;
            let arguments = DrainArguments {
                weights: bench.bytes(&weights)?,
                activations: bench.bytes(&activations)?,
                results: at,
                stamps,
                fault: bench.fault(),
                stages: STAGES,
                count,
            }
            .to_bytes();
            let kernel = kernel(format, tokens);
            let time = bench.repeat(|bench| {
                let launch = Launch {
                    shared_bytes,
                    ..bench.plain("drain", kernel, 1, THREADS, &arguments)
                };
                bench.launch(&launch)?;
                let found = bench.words(at, blocks as usize * expected.len())?;
                for (i, (found, expected)) in found.iter().zip(expected.iter().cycle()).enumerate()
                {
                    let found = f32::from_bits(*found);
                    ensure!(
                        found == *expected,
                        "{kernel} computed {found} as result {i} where {expected} is right"
                    );
                }
                Ok(elapsed_ns(&bench.stamps(stamps, blocks)?))
            })?;
            let bytes = (blocks as usize * count as usize * TILES * format.block_bytes()) as f64;
            rows.push(Row::new(
                format!("drain_{}_{tokens}_rows", format.name()),
                GB_PER_S,
                time.map(|ns| bytes / ns),
            ));
        }
    }
    Ok(rows)
}

fn kernel(format: Format, tokens: usize) -> &'static str {
    match (format, tokens) {
        (Format::Bf16, 8) => "drain_bf16_8",
        (Format::Bf16, 16) => "drain_bf16_16",
        (Format::Bf16, _) => "drain_bf16_32",
        (Format::Fp8, 8) => "drain_fp8_8",
        (Format::Fp8, 16) => "drain_fp8_16",
        (Format::Fp8, _) => "drain_fp8_32",
        (Format::Int4, 8) => "drain_int4_8",
        (Format::Int4, 16) => "drain_int4_16",
        (Format::Int4, _) => "drain_int4_32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_codes_are_those_of_the_format() {
        assert_eq!(
            [0, 1, 2, 3, -8, 7, 5].map(e4m3),
            [0x00, 0x38, 0x40, 0x44, 0xd0, 0x4e, 0x4a]
        );
    }

    #[test]
    fn every_column_of_a_chunk_is_held_once() {
        let mut seen = [0; CHUNK];
        for step in 0..CHUNK / 16 {
            for t in 0..4 {
                columns(step, t)
                    .into_iter()
                    .for_each(|column| seen[column] += 1);
            }
        }
        assert_eq!(seen, [1; CHUNK]);
    }
}
