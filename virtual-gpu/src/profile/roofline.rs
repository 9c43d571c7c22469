//! What a launch may take at least on a real device: the time that each part of it would need for what was counted, if
//! nothing else held it up.
//!
//! It is no clock. Instructions are those of PTX, caches are perfect or empty, and nobody waits but where latencies say so.
//! What it is good for is which part bounds a kernel, and whether a change can pay. How far it is from an H100 stands in
//! [`MEASURED`].

use std::fmt;

use serde::Serialize;

use super::Profile;
use super::counters::{Class, Counters};

/// How far estimates are from an H100: whole decode steps of a model, one launch of 132 persistent blocks each, measured
/// seconds over [`Roofline::least`]. `cargo test -p virtual-gpu --test counters -- roofline --nocapture` computes them from what
/// lies in `benches/results`.
pub const MEASURED: &str = "an H100 took 1.13 times the least in bf16, 1.37 times the least in fp8 and 1.77 times the least in int4 \
                            for decode steps of an 8B model";

/// Clocks from an access to memory until its value is there, nothing else under way: measured on an H100 by the probe's
/// `release_atom_relaxed_alone`, of which loads are the half; assumed for others.
const MEMORY_CLOCKS: f64 = 500.0;
/// Clocks that a barrier of a block costs its warps: assumed.
const BARRIER_CLOCKS: f64 = 30.0;
/// Seconds of a launch that does nothing, between two events: measured on an H100 by the probe's `launch_empty`.
const LAUNCH: f64 = 7.9e-6;

/// The time that one part needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// The part: `memory`, `l2`, `issue`, `integer`, `float32`, `float64`, `special`, `shared`, `tensor`, `atomics`.
    pub part: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// An estimate of a launch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// The device.
    pub profile: String,
    /// Parts, the slowest first; those with nothing to do are left out.
    pub bounds: Vec<Bound>,
    /// Seconds of the slowest part, everything else hidden behind it, with an empty L2 cache.
    pub least: f64,
    /// The same, if all that fits into the L2 cache was there before.
    pub warm: f64,
    /// Seconds that waves of blocks wait for their first value from memory and at barriers, if nothing hides it.
    pub latency: f64,
    /// `least`, `latency` and nothing hidden between them.
    pub most: f64,
    /// Seconds that a launch takes beside that.
    pub launch: f64,
    /// Blocks that a multiprocessor holds at a time; 0 if that is not known.
    pub resident: u32,
    /// Rounds in which the device takes the blocks.
    pub waves: u64,
    /// Warps of a multiprocessor of those that it could hold, in hundredths.
    pub occupancy: u32,
}

impl Roofline {
    /// Estimates a launch on `profile` from its counters. `resident` is how many of its blocks a multiprocessor holds at a
    /// time ([`Profile::blocks_per_multiprocessor`]), which the registers of the real compiler decide; 0 if it is not known.
    pub fn of(counters: &Counters, profile: &Profile, resident: u32) -> Self {
        let machine = Machine::of(profile, counters.blocks);
        let mut bounds = machine.bounds(counters);
        bounds.retain(|bound| bound.seconds > 0.0);
        // Stable: parts of equal time stay in their order.
        bounds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let slowest = |skip: &str| {
            let mut others = bounds.iter().filter(|bound| bound.part != skip);
            others.next().map_or(0.0, |bound| bound.seconds)
        };
        let (least, without_memory) = (slowest(""), slowest("memory"));
        let memory = &counters.memory;
        let footprint = memory.global_unique_read_bytes + memory.global_written_bytes;
        let fits = footprint <= profile.l2;
        let held = match resident {
            0 => u64::from(profile.blocks),
            resident => u64::from(resident),
        };
        let waves = counters
            .blocks
            .div_ceil(held * u64::from(profile.multiprocessors));
        let latency = machine.latency(counters, waves);
        let warps = u64::from(counters.threads.div_ceil(32));
        let there = held.min(counters.blocks.div_ceil(u64::from(profile.multiprocessors)));
        let most_warps = u64::from(profile.threads / 32).max(1);
        Self {
            profile: profile.name.clone(),
            least,
            warm: if fits { without_memory } else { least },
            latency,
            most: least + latency,
            launch: LAUNCH,
            resident,
            waves,
            occupancy: (100 * there * warps / most_warps).min(100) as u32,
            bounds,
        }
    }

    /// The part that bounds the launch; none if it did nothing.
    pub fn bound(&self) -> Option<&'static str> {
        self.bounds.first().map(|bound| bound.part)
    }
}

/// Rates of a device while a launch of so many blocks runs on it.
struct Machine<'a> {
    profile: &'a Profile,
    /// Clocks a second.
    clock: f64,
    /// Part of the whole work that the busiest multiprocessor has.
    busiest: f64,
}

impl<'a> Machine<'a> {
    fn of(profile: &'a Profile, blocks: u64) -> Self {
        let blocks = blocks.max(1);
        let rounds = blocks.div_ceil(u64::from(profile.multiprocessors.max(1)));
        Self {
            profile,
            clock: f64::from(profile.clock) * 1e3,
            busiest: rounds as f64 / blocks as f64,
        }
    }

    /// Seconds that the busiest multiprocessor needs for its part of `count`, at `rate` a clock.
    fn each(&self, count: u64, rate: f64) -> f64 {
        count as f64 * self.busiest / (rate * self.clock)
    }

    fn bounds(&self, counters: &Counters) -> Vec<Bound> {
        let (memory, rates) = (&counters.memory, &self.profile.rates);
        let moved = memory.global_read_bytes + memory.global_written_bytes;
        let unique = memory.global_unique_read_bytes + memory.global_written_bytes;
        let bandwidth = self.profile.bandwidth() * f64::from(rates.memory_reached) / 1e3;
        // A multiprocessor takes 64 bytes a clock from L2, however fast L2 is.
        let l2 = (moved as f64 / (f64::from(rates.l2) * self.clock)).max(self.each(moved, 64.0));
        let lanes = |class: Class, lanes: u32| {
            let found = counters.classes.iter().find(|each| each.class == class);
            // A warp instruction takes the lanes of a whole warp, whoever is active.
            let warps = found.map_or(0, |each| each.warp_instructions);
            self.each(32 * warps, f64::from(lanes))
        };
        let bound = |part, seconds| Bound { part, seconds };
        vec![
            bound("memory", unique as f64 / bandwidth),
            bound("l2", l2),
            bound("issue", self.each(counters.warp_instructions, 4.0)),
            bound("integer", lanes(Class::Integer, rates.integer)),
            bound("float32", lanes(Class::Float32, rates.float32)),
            bound("float64", lanes(Class::Float64, rates.float64)),
            bound("special", lanes(Class::Special, rates.special)),
            bound("shared", self.each(memory.shared_wavefronts, 1.0)),
            bound("tensor", self.tensor(counters)),
            bound(
                "atomics",
                counters.atomics_at_one_address as f64 / self.clock,
            ),
        ]
    }

    fn tensor(&self, counters: &Counters) -> f64 {
        let rates = &self.profile.rates;
        let each = counters.tensor.iter().map(|product| {
            // `m16n8k16 f32.bf16.bf16.f32`: shape, and types of D, A, B and C. Products of a group of warps are 64 rows.
            let rate = match product.shape.starts_with("m64") {
                true => rates.tensor,
                false => rates.tensor_sync,
            };
            let input = product.shape.split([' ', '.']).nth(2).unwrap_or_default();
            let rate = match input {
                "f64" => f64::from(rates.tensor_f64),
                "tf32" => f64::from(rate) / 2.0,
                "f16" | "bf16" => f64::from(rate),
                // Of 8 bits and fewer.
                _ => f64::from(rate) * 2.0,
            };
            self.each(product.flops, rate)
        });
        each.sum()
    }

    /// Each wave of blocks waits for its first value, and its warps at each of their barriers.
    fn latency(&self, counters: &Counters, waves: u64) -> f64 {
        let warps = counters.blocks * u64::from(counters.threads.div_ceil(32));
        let barriers = counters.barriers as f64 / warps.max(1) as f64;
        let first = match counters.memory.global_requests {
            0 => 0.0,
            _ => MEMORY_CLOCKS,
        };
        waves as f64 * (first + barriers * BARRIER_CLOCKS) / self.clock
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<30}{:>16}{:>18}",
            "estimate (no clock)", "us", "of the slowest"
        )?;
        for Bound { part, seconds } in &self.bounds {
            let share = 100.0 * seconds / self.least;
            writeln!(
                f,
                "{:<30}{:>16.3}{:>17.1}%",
                format!("  {part}"),
                seconds * 1e6,
                share
            )?;
        }
        let mut row = |what: &str, seconds: f64| writeln!(f, "{what:<30}{:>16.3}", seconds * 1e6);
        row("at least", self.least)?;
        row("  with a warm L2 cache", self.warm)?;
        row("latencies", self.latency)?;
        row("at least, with latencies", self.most)?;
        row("an empty launch", self.launch)?;
        let resident = match self.resident {
            0 => "unknown".to_string(),
            resident => resident.to_string(),
        };
        writeln!(f, "{:<30}{resident:>16}", "blocks of a multiprocessor")?;
        writeln!(f, "{:<30}{:>16}", "waves of blocks", self.waves)?;
        writeln!(
            f,
            "{:<30}{:>15}%",
            "warps of those possible", self.occupancy
        )?;
        writeln!(f, "{MEASURED}")
    }
}
