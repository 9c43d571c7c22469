//! Counters in sections, in the manner of NVIDIA's Nsight Compute. What that measures and this cannot know, such as hits in
//! caches and cycles, is not there.

use std::fmt::Write;

use crate::launch::LaunchConfig;
use crate::profile::Profile;
use crate::profile::counters::{Counters, LineCounters};
use crate::profile::roofline::{MEASURED, Roofline};

/// What is known of a kernel before it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Static {
    /// Registers of a thread as the real compiler allots them; 0 if unknown.
    pub registers: u32,
    /// Bytes of static shared memory.
    pub shared: u32,
}

/// Lines of the source that are listed.
const LINES: usize = 10;

struct Section {
    title: &'static str,
    rows: Vec<(String, &'static str, String)>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    fn row(&mut self, name: impl Into<String>, unit: &'static str, value: impl ToString) {
        self.rows.push((name.into(), unit, value.to_string()));
    }

    fn write(&self, text: &mut String) {
        let width = |of: fn(&(String, &'static str, String)) -> usize, least: usize| {
            self.rows.iter().map(of).max().unwrap_or(0).max(least)
        };
        let name = width(|row| row.0.chars().count(), 26);
        let unit = width(|row| row.1.len(), 11);
        let value = width(|row| row.2.len(), 12);
        let rule = format!(
            "    {} {} {}\n",
            "-".repeat(name),
            "-".repeat(unit),
            "-".repeat(value)
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    Section: {}", self.title);
        text.push_str(&rule);
        let (a, b, c) = ("Metric Name", "Metric Unit", "Metric Value");
        let _ = writeln!(text, "    {a:<name$} {b:>unit$} {c:>value$}");
        text.push_str(&rule);
        for (a, b, c) in &self.rows {
            let _ = writeln!(text, "    {a:<name$} {b:>unit$} {c:>value$}");
        }
        text.push_str(&rule);
        text.push('\n');
    }
}

/// The sections of a launch.
pub fn ncu(
    counters: &Counters,
    config: &LaunchConfig,
    kernel: Static,
    profile: &Profile,
) -> String {
    let shared = kernel.shared + config.dynamic_shared;
    let threads = config.threads();
    let resident = profile.blocks_per_multiprocessor(threads, shared, kernel.registers);
    let estimate = Roofline::of(counters, profile, resident);
    let ([gx, gy, gz], [bx, by, bz]) = (config.grid, config.block);
    let (major, minor) = profile.capability;
    let mut text = format!(
        "  {} ({gx}, {gy}, {gz})x({bx}, {by}, {bz}), Device 0: {}, CC {major}.{minor}\n",
        counters.kernel, profile.name
    );
    text.push_str("    Counts of PTX instructions; nothing here was timed, and estimates are bounds from counts.\n\n");
    for section in [
        light(&estimate),
        memory(counters),
        compute(counters),
        launch(counters, config, kernel),
        occupancy(profile, threads, shared, kernel.registers, &estimate),
        source(counters),
    ] {
        section.write(&mut text);
    }
    let _ = writeln!(text, "    Of the estimate: {MEASURED}.");
    text
}

fn light(estimate: &Roofline) -> Section {
    let mut section = Section::new("GPU Speed Of Light (an estimate)");
    for bound in &estimate.bounds {
        section.row(
            format!("Least Time, {}", bound.part),
            "us",
            micro(bound.seconds),
        );
    }
    section.row("Bound By", "", estimate.bound().unwrap_or("nothing"));
    section.row("Least Time", "us", micro(estimate.least));
    section.row("Least Time, Warm L2", "us", micro(estimate.warm));
    section.row("Least Time With Latencies", "us", micro(estimate.most));
    section
}

fn micro(seconds: f64) -> String {
    format!("{:.3}", seconds * 1e6)
}

fn memory(counters: &Counters) -> Section {
    let memory = &counters.memory;
    let mut section = Section::new("Memory Workload Analysis");
    section.row("Global Requests", "request", memory.global_requests);
    section.row("Global Sectors", "sector", memory.global_sectors);
    section.row(
        "Sectors/Request",
        "",
        format!("{:.2}", memory.sectors_per_request()),
    );
    section.row("Global Bytes Read", "byte", memory.global_read_bytes);
    section.row(
        "  Of These First Reads",
        "byte",
        memory.global_unique_read_bytes,
    );
    section.row("Global Bytes Written", "byte", memory.global_written_bytes);
    section.row("Local Bytes", "byte", memory.local_bytes);
    section.row("Asynchronous Bytes", "byte", memory.async_bytes);
    section.row("Shared Requests", "request", memory.shared_requests);
    section.row("Shared Wavefronts", "wavefront", memory.shared_wavefronts);
    section.row(
        "  Of These Bank Conflicts",
        "wavefront",
        memory.bank_conflicts(),
    );
    section.row("Atomics Of Lanes", "", memory.atomics);
    section.row("  Most At One Address", "", counters.atomics_at_one_address);
    section
}

fn compute(counters: &Counters) -> Section {
    let mut section = Section::new("Compute Workload Analysis");
    section.row("Executed Instructions", "inst", counters.warp_instructions);
    for class in &counters.classes {
        let share = percent(class.warp_instructions, counters.warp_instructions);
        section.row(format!("  {}", class.class.name()), "%", share);
    }
    let lanes = counters.lane_instructions as f64 / counters.warp_instructions.max(1) as f64;
    section.row("Avg. Active Threads/Warp", "", format!("{lanes:.2}"));
    for tensor in &counters.tensor {
        section.row(tensor.shape.clone(), "inst", tensor.count);
    }
    section.row("Tensor Operations", "", counters.tensor_flops);
    section.row("Barrier Arrivals", "inst", counters.barriers);
    section.row("Polls", "inst", counters.memory.polls);
    section
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}", 100.0 * part as f64 / whole.max(1) as f64)
}

fn launch(counters: &Counters, config: &LaunchConfig, kernel: Static) -> Section {
    let mut section = Section::new("Launch Statistics");
    section.row("Grid Size", "block", config.blocks());
    section.row("Block Size", "thread", config.threads());
    section.row(
        "Threads",
        "thread",
        config.blocks() * u64::from(config.threads()),
    );
    section.row("Registers Per Thread", "register", known(kernel.registers));
    section.row("Static Shared Memory", "byte/block", kernel.shared);
    section.row("Dynamic Shared Memory", "byte/block", config.dynamic_shared);
    let warps = counters.blocks * u64::from(counters.threads.div_ceil(32));
    section.row(
        "Instructions Per Warp",
        "inst",
        counters.warp_instructions / warps.max(1),
    );
    section
}

fn known(registers: u32) -> String {
    match registers {
        0 => "unknown".into(),
        n => n.to_string(),
    }
}

fn occupancy(
    profile: &Profile,
    threads: u32,
    shared: u32,
    registers: u32,
    estimate: &Roofline,
) -> Section {
    let mut section = Section::new("Occupancy");
    let limits = profile.block_limits(threads, shared, registers);
    section.row("Block Limit SM", "block", limits.blocks);
    let by_registers = limits
        .registers
        .map_or("unknown".into(), |blocks| blocks.to_string());
    section.row("Block Limit Registers", "block", by_registers);
    section.row("Block Limit Shared Mem", "block", limits.shared);
    section.row("Block Limit Warps", "block", limits.warps);
    let warps = threads.div_ceil(32);
    let most = (profile.threads / 32).max(1);
    let resident = estimate.resident * warps;
    section.row("Theoretical Active Warps per SM", "warp", resident);
    section.row(
        "Theoretical Occupancy",
        "%",
        percent(resident.into(), most.into()),
    );
    section.row("Occupancy Of This Grid", "%", estimate.occupancy);
    section.row("Waves", "", estimate.waves);
    section
}

fn source(counters: &Counters) -> Section {
    let mut section = Section::new("Source Counters");
    section.row("Divergent Branches", "", counters.divergent_branches);
    let mut lines: Vec<&LineCounters> = counters.lines.iter().collect();
    // Stable: lines of equal weight stay in their order.
    lines.sort_by_key(|line| u64::MAX - line.warp_instructions);
    for line in lines.into_iter().take(LINES) {
        let share = percent(line.warp_instructions, counters.warp_instructions);
        section.row(format!("{}:{}", line.file, line.line), "% of inst", share);
    }
    section
}
