//! What a release costs a block.

use crate::arguments::ReleaseArguments;
use crate::bench::Bench;
use crate::gpu::Launch;
use crate::report::Row;
use crate::sample::Sample;
use anyhow::Result;

/// The ways of `release.cu`, in its order.
const WAYS: [&str; 6] = [
    "red_relaxed",
    "red_release",
    "fence_red",
    "atom_relaxed",
    "atom_release",
    "fence_atom",
];
const THREADS: u32 = 256;

/// Clocks of a round of store, barrier, release, barrier; by one block alone and by all at once.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let count = bench.pick(2000, 500, 3);
    let mut rows = Vec::new();
    for (label, blocks) in [("alone", 1), ("all", bench.blocks())] {
        let counter = bench.zeros(4)?;
        let sink = bench.zeros((blocks * THREADS) as usize * 4)?;
        let clocks = bench.zeros(WAYS.len() * 8)?;
        let arguments = ReleaseArguments {
            counter,
            sink,
            clocks,
            count,
            pad: 0,
        }
        .to_bytes();
        let mut of_ways = vec![Vec::new(); WAYS.len()];
        let repeats = bench
            .repeat(|bench| {
                bench.zero(counter, 4)?;
                let launch = Launch {
                    blocks,
                    ..bench.plain("release", "release_cost", 1, THREADS, &arguments)
                };
                bench.launch(&launch)?;
                let found = bench.words(counter, 1)?;
                bench.check("the counter of releases", &found, |_| {
                    blocks * WAYS.len() as u32 * count
                })?;
                for (values, clocks) in of_ways
                    .iter_mut()
                    .zip(bench.long_words(clocks, WAYS.len())?)
                {
                    values.push(clocks as f64 / f64::from(count));
                }
                Ok(0.0)
            })?
            .repeats;
        for (way, values) in WAYS.iter().zip(&of_ways) {
            rows.push(Row::new(
                format!("release_{way}_{label}"),
                "clocks",
                Sample::of_last(values, repeats),
            ));
        }
    }
    Ok(rows)
}
