//! Read rate of the weight ring.

use crate::arguments::RingArguments;
use crate::bench::{Bench, Stamp, Tape};
use crate::expected::ring_sum;
use crate::gpu::Launch;
use crate::report::{GB_PER_S, Row};
use anyhow::Result;

/// Bytes of a stage unless stated otherwise.
pub const STAGE: u32 = 16 * 1024;
/// What the kernel has besides its stages, with some room.
const STATIC_SHARED: u32 = 2048;
const CONSUMER_WARPS: u32 = 8;

/// Buffers of a ring.
#[derive(Clone, Copy)]
pub struct Ring {
    /// What it streams.
    pub tape: Tape,
    sums: u64,
    stamps: u64,
}

/// One way to stream.
#[derive(Clone, Copy)]
pub struct Way {
    /// Stages.
    pub stages: u32,
    /// Bytes of each.
    pub stage_bytes: u32,
    /// Whether L2 is told to forget.
    pub evict_first: bool,
    /// Whether the blocks take turns in the buffer instead of having a tape each.
    pub row_major: bool,
    /// Producer warps.
    pub producers: u32,
}

impl Way {
    /// `stages` of 16 KiB out of tapes, without hint.
    pub fn of(stages: u32) -> Way {
        Way {
            stages,
            stage_bytes: STAGE,
            evict_first: false,
            row_major: false,
            producers: 1,
        }
    }

    /// Bytes of shared memory for the stages.
    pub fn shared_bytes(&self) -> u32 {
        self.stages * self.stage_bytes
    }

    /// Whether the device has the memory.
    pub fn fits(&self, bench: &Bench<'_>) -> bool {
        self.shared_bytes() + STATIC_SHARED <= bench.facts().shared_bytes
    }

    fn name(&self) -> String {
        let Way {
            stages,
            stage_bytes,
            evict_first,
            row_major,
            producers,
        } = self;
        let mut name = format!("ring_{stages}x{}KiB", stage_bytes / 1024);
        name += if *evict_first { "_evict_first" } else { "" };
        name += &if *producers > 1 {
            format!("_{producers}_producers")
        } else {
            String::new()
        };
        name + if *row_major { "_row_major" } else { "" }
    }
}

impl Ring {
    /// Allocates. Every stage size up to 32 KiB divides a block's part.
    pub fn new(bench: &mut Bench<'_>) -> Result<Ring> {
        let tape = bench.tape(u64::from(bench.blocks()) * bench.pick(6, 6, 4) * 32 * 1024)?;
        Ring::over(bench, tape)
    }

    /// A ring over this tape.
    pub fn over(bench: &mut Bench<'_>, tape: Tape) -> Result<Ring> {
        let sums = bench.zeros(bench.blocks() as usize * 4)?;
        Ok(Ring {
            tape,
            sums,
            stamps: bench.stamp_buffer()?,
        })
    }

    /// One pass over the tape.
    pub fn arguments(&self, bench: &Bench<'_>, way: &Way) -> RingArguments {
        let (blocks, bytes) = (u64::from(bench.blocks()), u64::from(way.stage_bytes));
        let count = self.tape.bytes / blocks / bytes;
        let (block_stride, stage_stride) = match way.row_major {
            true => (bytes, bytes * blocks),
            false => (count * bytes, bytes),
        };
        RingArguments {
            tape: self.tape.at,
            block_stride,
            stage_stride,
            sums: self.sums,
            stamps: self.stamps,
            fault: bench.fault(),
            stage_bytes: way.stage_bytes,
            stages: way.stages,
            wrap: count as u32,
            count: count as u32,
            hint: way.evict_first.into(),
            producers: way.producers,
        }
    }

    /// Clears the sums before a run.
    pub fn reset(&self, bench: &mut Bench<'_>) -> Result<()> {
        bench.zero(self.sums, bench.blocks() as usize * 4)
    }

    /// Checks the sums after a run, and gives its stamps.
    pub fn finish(&self, bench: &mut Bench<'_>, arguments: &RingArguments) -> Result<Vec<Stamp>> {
        let blocks = bench.blocks();
        let stamps = bench.stamps(self.stamps, blocks)?;
        let sums = bench.words(self.sums, blocks as usize)?;
        bench.check("the ring", &sums, |block| {
            let streamed = stamps.get(block as usize).map_or(0, |stamp| stamp.done);
            ring_sum(arguments, block, streamed)
        })?;
        Ok(stamps)
    }

    /// Runs a ring once; its microseconds and stamps.
    pub fn run(
        &self,
        bench: &mut Bench<'_>,
        arguments: RingArguments,
    ) -> Result<(f64, Vec<Stamp>)> {
        self.reset(bench)?;
        let bytes = arguments.to_bytes();
        let kernel = if bench.has_bulk() {
            "ring_bulk"
        } else {
            "ring_async"
        };
        let threads = 32 * (CONSUMER_WARPS + arguments.producers);
        let shared_bytes = arguments.stages * arguments.stage_bytes;
        let launch = Launch {
            shared_bytes,
            ..bench.plain("ring", kernel, 1, threads, &bytes)
        };
        let time = bench.launch(&launch)?;
        let stamps = self.finish(bench, &arguments)?;
        let right = stamps
            .iter()
            .all(|stamp| stamp.done == u64::from(arguments.count));
        anyhow::ensure!(
            right,
            "the ring did not stream all of its {} stages",
            arguments.count
        );
        Ok((time, stamps))
    }
}

/// The ways worth knowing.
fn ways(bench: &Bench<'_>) -> Vec<Way> {
    let stages = bench.pick(vec![2, 4, 6, 8, 10, 12], vec![4, 8, 12], vec![2, 8]);
    let producers = if bench.has_bulk() {
        vec![1]
    } else {
        vec![1, 4]
    };
    let mut ways = Vec::new();
    for producers in producers {
        for evict_first in [false, true] {
            ways.extend(stages.iter().map(|stages| Way {
                evict_first,
                producers,
                ..Way::of(*stages)
            }));
        }
    }
    let producers = if bench.has_bulk() { 1 } else { 4 };
    // The most of 8 stages that fits, which on small devices is fewer.
    let top = (1..=8)
        .rev()
        .map(Way::of)
        .find(|way| way.fits(bench))
        .map_or(1, |way| way.stages);
    for evict_first in [false, true] {
        ways.push(Way {
            row_major: true,
            evict_first,
            producers,
            ..Way::of(top)
        });
    }
    for stage_bytes in bench.pick(vec![4096, 8192, 32_768], vec![8192, 32_768], vec![8192]) {
        let stages = (top * STAGE / stage_bytes).min(16);
        ways.push(Way {
            stage_bytes,
            producers,
            ..Way::of(stages)
        });
    }
    ways.retain(|way| way.fits(bench));
    ways
}

/// The rate of one pass over a buffer far larger than L2.
pub fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let ring = Ring::new(bench)?;
    let mut rows = Vec::new();
    for way in ways(bench) {
        let arguments = ring.arguments(bench, &way);
        let bytes =
            u64::from(arguments.count) * u64::from(way.stage_bytes) * u64::from(bench.blocks());
        let time = bench.repeat(|bench| Ok(ring.run(bench, arguments)?.0))?;
        rows.push(Row::new(
            way.name(),
            GB_PER_S,
            time.map(|time| bytes as f64 / time / 1000.0),
        ));
    }
    Ok(rows)
}
