//! Edges between all blocks.

use super::ring::{Ring, Way};
use crate::arguments::EdgeArguments;
use crate::bench::{Bench, elapsed_ns};
use crate::expected::{EDGE_THREADS, FLAGGED_WORDS, counter_sum, flagged_sum};
use crate::gpu::Launch;
use crate::report::{EDGE, GB_PER_S, Row};
use crate::sample::Sample;
use anyhow::{Result, ensure};

const COUNTER: u32 = 0;
const FLAGGED: u32 = 1;
const EMPTY: u32 = 2;
/// Counters lie 256 bytes apart.
const COUNTER_BYTES: usize = 256;
const MAX_SPREAD: u32 = 4;

/// Buffers of edges.
#[derive(Clone, Copy)]
struct Edges {
    arguments: EdgeArguments,
    payload_bytes: usize,
}

impl Edges {
    fn new(bench: &mut Bench<'_>, kind: u32, spread: u32) -> Result<Edges> {
        let blocks = bench.blocks() as usize;
        let payload_bytes =
            2 * blocks * (EDGE_THREADS as usize * 4).max(FLAGGED_WORDS as usize * 8);
        let arguments = EdgeArguments {
            counters: bench.zeros(MAX_SPREAD as usize * COUNTER_BYTES)?,
            payload: bench.zeros(payload_bytes)?,
            sums: bench.zeros(blocks * 4)?,
            stamps: bench.stamp_buffer()?,
            fault: bench.fault(),
            kind,
            spread,
            count: bench.pick(2000, 500, 4),
            warm: bench.pick(64, 64, 2),
        };
        Ok(Edges {
            arguments,
            payload_bytes,
        })
    }

    fn reset(&self, bench: &mut Bench<'_>) -> Result<()> {
        bench.zero(self.arguments.counters, MAX_SPREAD as usize * COUNTER_BYTES)?;
        bench.zero(self.arguments.payload, self.payload_bytes)?;
        bench.zero(self.arguments.sums, bench.blocks() as usize * 4)
    }

    /// Checks what the blocks read; microseconds an edge.
    fn finish(&self, bench: &mut Bench<'_>) -> Result<f64> {
        let EdgeArguments {
            kind,
            count,
            warm,
            sums,
            stamps,
            ..
        } = self.arguments;
        let blocks = bench.blocks();
        let expected = match kind {
            COUNTER => counter_sum(blocks, warm + count),
            FLAGGED => flagged_sum(blocks, warm + count),
            _ => 0,
        };
        let found = bench.words(sums, blocks as usize)?;
        bench.check("an edge", &found, |_| expected)?;
        let stamps = bench.stamps(stamps, blocks)?;
        ensure!(
            stamps.iter().all(|stamp| stamp.done == u64::from(count)),
            "a block did not cross its {count} edges"
        );
        Ok(elapsed_ns(&stamps) / 1000.0 / f64::from(count))
    }

    fn idle(&self, bench: &mut Bench<'_>) -> Result<Sample> {
        let bytes = self.arguments.to_bytes();
        bench.repeat(|bench| {
            self.reset(bench)?;
            let launch = Launch {
                cooperative: true,
                ..bench.plain("edge", "edge_idle", 1, EDGE_THREADS, &bytes)
            };
            bench.launch(&launch)?;
            self.finish(bench)
        })
    }
}

/// A grid barrier of counters, without payload.
pub fn barrier(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    [1, MAX_SPREAD]
        .into_iter()
        .map(|spread| {
            let edges = Edges::new(bench, EMPTY, spread)?;
            Ok(Row::new(
                format!("barrier_counter_{spread}"),
                "us",
                edges.idle(bench)?,
            ))
        })
        .collect()
}

const KINDS: [(&str, u32, u32); 3] = [
    ("counter_1", COUNTER, 1),
    ("counter_4", COUNTER, MAX_SPREAD),
    ("flagged", FLAGGED, 1),
];

/// Edges of an idle device.
pub fn idle(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    KINDS
        .into_iter()
        .map(|(name, kind, spread)| {
            let edges = Edges::new(bench, kind, spread)?;
            Ok(Row::new(
                format!("edge_idle_{name}"),
                "us",
                edges.idle(bench)?,
            ))
        })
        .collect()
}

/// Edges while eight other warps of each block consume a ring that streams, and what the ring then reads.
pub fn streaming(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let ring = Ring::new(bench)?;
    let way = [8, 6, 5, 4]
        .map(Way::of)
        .into_iter()
        .find(|way| way.fits(bench))
        .unwrap_or(Way::of(2));
    let mut rows = Vec::new();
    for (name, kind, spread) in KINDS {
        let edges = Edges::new(bench, kind, spread)?;
        let mut streamed = ring.arguments(bench, &way);
        // Until the edges are done: hours, if they never are.
        streamed.count = u32::MAX - 1;
        let bytes = [streamed.to_bytes(), edges.arguments.to_bytes()].concat();
        let mut rates = Vec::new();
        let time = bench.repeat(|bench| {
            edges.reset(bench)?;
            ring.reset(bench)?;
            let kernel = if bench.has_bulk() {
                "edge_loaded_bulk"
            } else {
                "edge_loaded_async"
            };
            let launch = Launch {
                cooperative: true,
                shared_bytes: way.shared_bytes(),
                ..bench.plain("edge", kernel, 1, 544, &bytes)
            };
            bench.launch(&launch)?;
            let stamps = ring.finish(bench, &streamed)?;
            let stages: u64 = stamps.iter().map(|stamp| stamp.done).sum();
            rates.push((stages * u64::from(way.stage_bytes)) as f64 / elapsed_ns(&stamps));
            edges.finish(bench)
        })?;
        let label = match kind {
            COUNTER => format!("{EDGE}_{spread}"),
            _ => format!("edge_streaming_{name}"),
        };
        rows.push(Row::new(
            format!("ring_beside_{name}"),
            GB_PER_S,
            Sample::of_last(&rates, time.repeats),
        ));
        rows.push(Row::new(label, "us", time));
    }
    Ok(rows)
}
