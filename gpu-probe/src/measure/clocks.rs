//! The clock of the SMs under load: their own counters against the device's timer.

use super::mma::products;
use super::ring::{Ring, Way};
use crate::bench::{Bench, clock_mhz};
use crate::report::Row;
use anyhow::Result;

/// While tensor cores work, and while the ring streams.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let (sums, stamps) = (
        bench.zeros(bench.blocks() as usize * 4)?,
        bench.stamp_buffer()?,
    );
    let count = bench.pick(1 << 18, 1 << 15, 8);
    let tensor = bench.repeat(|bench| {
        Ok(clock_mhz(
            &products(bench, "mma_rate_bf16", count, sums, stamps)?.0,
        ))
    })?;
    let ring = Ring::new(bench)?;
    let way = [8, 6, 5, 4]
        .map(Way::of)
        .into_iter()
        .find(|way| way.fits(bench))
        .unwrap_or(Way::of(2));
    let arguments = ring.arguments(bench, &way);
    let streaming = bench.repeat(|bench| Ok(clock_mhz(&ring.run(bench, arguments)?.1)))?;
    Ok(vec![
        Row::new("clock_mma", "MHz", tensor),
        Row::new("clock_ring", "MHz", streaming),
    ])
}
