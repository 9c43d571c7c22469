//! Rate of mma.sync.

use crate::arguments::MmaArguments;
use crate::bench::{Bench, Stamp, elapsed_ns};
use crate::report::Row;
use crate::sample::Sample;
use anyhow::Result;

const THREADS: u32 = 512;
const CHAINS: u32 = 8;
/// Multiplications and additions of one m16n8k16.
const OPERATIONS: f64 = 2.0 * 16.0 * 8.0 * 16.0;

/// Runs products on all SMs; checks them, and gives the stamps and the operations of a block.
pub fn products(
    bench: &mut Bench<'_>,
    kernel: &'static str,
    count: u32,
    sums: u64,
    stamps: u64,
) -> Result<(Vec<Stamp>, f64)> {
    let blocks = bench.blocks();
    bench.zero(sums, blocks as usize * 4)?;
    let arguments = MmaArguments {
        sums,
        stamps,
        count,
        pad: 0,
    }
    .to_bytes();
    let launch = bench.plain("mma", kernel, 1, THREADS, &arguments);
    bench.launch(&launch)?;
    let found = bench.words(sums, blocks as usize)?;
    // Each thread holds four sums of every chain.
    bench.check("mma.sync", &found, |_| THREADS * CHAINS * 4)?;
    let operations = f64::from(THREADS / 32 * CHAINS) * f64::from(count) * OPERATIONS;
    Ok((bench.stamps(stamps, blocks)?, operations))
}

/// Of the whole device, and of an SM in its own clocks.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let blocks = bench.blocks();
    let (sums, stamps) = (bench.zeros(blocks as usize * 4)?, bench.stamp_buffer()?);
    let count = bench.pick(16_384, 4096, 8);
    let mut rows = Vec::new();
    for (kernel, name) in [("mma_rate_bf16", "bf16"), ("mma_rate_f16", "f16")] {
        let mut by_clock = Vec::new();
        let rate = bench.repeat(|bench| {
            let (stamps, operations) = products(bench, kernel, count, sums, stamps)?;
            let slowest = stamps
                .iter()
                .map(|stamp| stamp.clocks)
                .max()
                .unwrap_or(0)
                .max(1);
            by_clock.push(operations / slowest as f64);
            Ok(operations * f64::from(blocks) / elapsed_ns(&stamps) / 1000.0)
        })?;
        rows.push(Row::new(format!("mma_{name}"), "TFLOP/s", rate));
        rows.push(Row::new(
            format!("mma_{name}_per_sm"),
            "FLOP/clock",
            Sample::of_last(&by_clock, rate.repeats),
        ));
    }
    Ok(rows)
}
