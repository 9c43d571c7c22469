//! All SMs read the same bytes.

use super::ring::{Ring, STAGE, Way};
use crate::arguments::BroadcastArguments;
use crate::bench::{Bench, elapsed_ns};
use crate::expected::word_sum;
use crate::report::Row;
use anyhow::Result;

/// By plain loads and through the ring.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let blocks = bench.blocks();
    let rounds = bench.pick(64, 32, 2);
    let mut rows = Vec::new();
    for kib in bench.pick(vec![64, 128, 256, 512], vec![64, 256], vec![64]) {
        let bytes = kib * 1024u32;
        let tape = bench.tape_of(bytes.into())?;
        let (sums, stamps) = (bench.zeros(blocks as usize * 4)?, bench.stamp_buffer()?);
        let rate = move |ns: f64| f64::from(blocks) * f64::from(bytes) * f64::from(rounds) / ns;
        let arguments = BroadcastArguments {
            from: tape.at,
            sums,
            stamps,
            vectors: bytes / 16,
            rounds,
        }
        .to_bytes();
        let once = word_sum(0, u64::from(bytes) / 4);
        let time = bench.repeat(|bench| {
            bench.zero(sums, blocks as usize * 4)?;
            let launch = bench.plain("broadcast", "broadcast", 1, 512, &arguments);
            bench.launch(&launch)?;
            let found = bench.words(sums, blocks as usize)?;
            bench.check("the broadcast", &found, |_| once.wrapping_mul(rounds))?;
            Ok(elapsed_ns(&bench.stamps(stamps, blocks)?))
        })?;
        rows.push(Row::new(
            format!("broadcast_loads_{kib}KiB"),
            "GB/s L2",
            time.map(rate),
        ));

        let ring = Ring::over(bench, tape)?;
        let way = [8, 6, 5, 4]
            .map(Way::of)
            .into_iter()
            .find(|way| way.fits(bench))
            .unwrap_or(Way::of(2));
        let mut arguments = ring.arguments(bench, &way);
        (arguments.block_stride, arguments.stage_stride) = (0, STAGE.into());
        arguments.wrap = bytes / STAGE;
        arguments.count = arguments.wrap * rounds;
        let time = bench.repeat(|bench| Ok(elapsed_ns(&ring.run(bench, arguments)?.1)))?;
        rows.push(Row::new(
            format!("broadcast_ring_{kib}KiB"),
            "GB/s L2",
            time.map(rate),
        ));
    }
    Ok(rows)
}
