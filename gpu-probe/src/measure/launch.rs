//! What a launch costs.

use crate::arguments::StreamArguments;
use crate::bench::Bench;
use crate::gpu::Launch;
use crate::report::Row;
use anyhow::Result;

/// An empty kernel between two events, with a block for each SM.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let arguments = StreamArguments::default().to_bytes();
    let mut rows = Vec::new();
    for (name, cooperative) in [("launch_empty", false), ("launch_empty_cooperative", true)] {
        let time = bench.repeat(|bench| {
            let launch = Launch {
                cooperative,
                ..bench.plain("stream", "empty", 1, 384, &arguments)
            };
            bench.launch(&launch)
        })?;
        rows.push(Row::new(name, "us", time));
    }
    Ok(rows)
}
