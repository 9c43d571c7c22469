//! The measurements.

mod broadcast;
mod clocks;
mod drain;
mod edge;
mod host;
mod launch;
mod mma;
mod prefetch;
mod release;
mod ring;
mod stream;

use crate::bench::Bench;
use crate::report::Row;
use anyhow::{Context, Result};

/// One measurement.
#[derive(Clone, Copy)]
pub struct Measurement {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// What it says of a device.
    pub about: &'static str,
    run: fn(&mut Bench<'_>) -> Result<Vec<Row>>,
}

/// Every measurement, in order.
pub const ALL: [Measurement; 13] = [
    Measurement {
        name: "copy",
        about: "copy and read rate of plain kernels: what all else is a share of",
        run: stream::run,
    },
    Measurement {
        name: "launch",
        about: "what a launch costs, plain and cooperative",
        run: launch::run,
    },
    Measurement {
        name: "ring",
        about: "read rate of the weight ring by stages, bytes, hint and order",
        run: ring::run,
    },
    Measurement {
        name: "barrier",
        about: "an empty barrier of the grid",
        run: edge::barrier,
    },
    Measurement {
        name: "edge",
        about: "an edge between all blocks of an idle device",
        run: edge::idle,
    },
    Measurement {
        name: "load",
        about: "an edge while the ring streams at full rate",
        run: edge::streaming,
    },
    Measurement {
        name: "broadcast",
        about: "all SMs read the same bytes out of L2",
        run: broadcast::run,
    },
    Measurement {
        name: "mma",
        about: "rate of mma.sync",
        run: mma::run,
    },
    Measurement {
        name: "drain",
        about: "how fast consumers eat stages: bf16, fp8, int4 by rows",
        run: drain::run,
    },
    Measurement {
        name: "host",
        about: "a token to the host through mapped memory and an answer",
        run: host::run,
    },
    Measurement {
        name: "release",
        about: "what a release costs a block",
        run: release::run,
    },
    Measurement {
        name: "prefetch",
        about: "a ring's pass after a prefetch into L2",
        run: prefetch::run,
    },
    Measurement {
        name: "clocks",
        about: "the clock of the SMs under load",
        run: clocks::run,
    },
];

impl Measurement {
    /// Measures, checks the kernels' results, and frees its buffers.
    ///
    /// # Errors
    /// A kernel failed, or computed a wrong result.
    pub fn run(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>> {
        let mut rows = (self.run)(bench).with_context(|| format!("measurement {}", self.name))?;
        bench.clear()?;
        for row in &mut rows {
            row.measurement = self.name;
        }
        Ok(rows)
    }
}
