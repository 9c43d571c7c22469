//! Copy and read rate of plain kernels.

use crate::arguments::StreamArguments;
use crate::bench::{Bench, Tape};
use crate::report::{COPY, GB_PER_S, Row};
use anyhow::Result;

/// Half of the buffer to its other half by the driver and by kernels of several shapes; the whole read by kernels. The
/// best of the copies by its median is the copy rate.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let unit = u64::from(bench.blocks()) * 32 * 1024;
    let tape = bench.tape(2 * unit)?;
    let half = tape.bytes / 2;
    let (from, to) = (tape.at, tape.at + half);
    let sum = bench.zeros(4)?;
    let copied = move |time: f64| 2.0 * half as f64 / time / 1000.0;
    let mut copies = vec![Row::new(
        "copy_driver",
        GB_PER_S,
        bench
            .repeat(|bench| bench.copy(to, from, half))?
            .map(copied),
    )];
    let mut reads = Vec::new();
    // The second half becomes the words of the first, whose sum says whether the copy is right.
    let copy_of_first = Tape {
        at: to,
        bytes: half,
    };
    bench.read_back(copy_of_first, sum, bench.blocks() * 2, 512)?;
    for (per_sm, threads) in bench.pick(
        vec![(2, 512), (4, 256), (4, 512), (8, 256)],
        vec![(4, 512)],
        vec![(2, 256)],
    ) {
        let blocks = bench.blocks() * per_sm;
        let arguments = StreamArguments {
            from,
            to,
            vectors: half / 16,
            sum,
        }
        .to_bytes();
        // Other words, which a kernel that copies nothing would leave.
        bench.fill(copy_of_first, half / 4)?;
        let time = bench.repeat(|bench| {
            let launch = bench.plain("stream", "copy", per_sm, threads, &arguments);
            bench.launch(&launch)
        })?;
        copies.push(Row::new(
            format!("copy_{per_sm}x{threads}"),
            GB_PER_S,
            time.map(copied),
        ));
        bench.read_back(copy_of_first, sum, blocks, threads)?;
        let first = Tape {
            at: from,
            bytes: half,
        };
        let time = bench.repeat(|bench| bench.read_back(first, sum, blocks, threads))?;
        reads.push(Row::new(
            format!("read_{per_sm}x{threads}"),
            GB_PER_S,
            time.map(|time| half as f64 / time / 1000.0),
        ));
    }
    let best = copies
        .iter()
        .max_by(|a, b| a.sample.median.total_cmp(&b.sample.median));
    let best = best.map(|row| Row::new(COPY, GB_PER_S, row.sample));
    copies.extend(best);
    copies.extend(reads);
    Ok(copies)
}
