//! What a prefetch into L2 buys a ring that has been idle.

use super::ring::{Ring, STAGE, Way};
use crate::arguments::{PrefetchArguments, StreamArguments};
use crate::bench::{Bench, Tape, elapsed_ns};
use crate::report::Row;
use anyhow::Result;

/// One pass over a span that L2 holds: after other data went through L2, after that and a prefetch, and again.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let unit = u64::from(bench.blocks()) * u64::from(STAGE);
    let stages = bench.pick(1, 1, 0) * ((24u64 << 20).min(bench.facts().l2_bytes / 2) / unit);
    let span = bench.tape_of(stages.max(2) * unit)?;
    let other = bench.tape(unit)?;
    let sum = bench.zeros(4)?;
    let ring = Ring::over(bench, span)?;
    let way = [8, 6, 5, 4]
        .map(Way::of)
        .into_iter()
        .find(|way| way.fits(bench))
        .unwrap_or(Way::of(2));
    let arguments = ring.arguments(bench, &way);
    let prefetch = PrefetchArguments {
        tape: span.at,
        block_bytes: arguments.block_stride,
    }
    .to_bytes();
    let mut rows = Vec::new();
    for (name, flushes, prefetches) in [
        ("cold", true, false),
        ("prefetched", true, true),
        ("warm", false, false),
    ] {
        let time = bench.repeat(|bench| {
            if flushes {
                flush(bench, other, sum)?;
            }
            if prefetches {
                let launch = bench.plain("ring", "prefetch", 1, 256, &prefetch);
                bench.launch(&launch)?;
            }
            Ok(elapsed_ns(&ring.run(bench, arguments)?.1) / 1000.0)
        })?;
        rows.push(Row::new(
            format!("prefetch_{name}_{}KiB", span.bytes / 1024),
            "us",
            time,
        ));
    }
    Ok(rows)
}

/// Reads more than L2 holds.
fn flush(bench: &mut Bench<'_>, other: Tape, sum: u64) -> Result<()> {
    let arguments = StreamArguments {
        from: other.at,
        vectors: other.bytes / 16,
        sum,
        ..StreamArguments::default()
    };
    let bytes = arguments.to_bytes();
    let launch = bench.plain("stream", "read", 4, 512, &bytes);
    bench.launch(&launch)?;
    Ok(())
}
