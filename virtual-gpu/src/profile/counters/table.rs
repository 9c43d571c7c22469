//! Counters as text.

use std::fmt;

use super::{CacheHint, Counters, LineCounters};

/// Lines of the source that the table shows: those with most instructions.
const LINES: usize = 16;

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, .. } = self;
        writeln!(
            f,
            "{} on {}: {} blocks of {} threads",
            self.kernel, self.profile, self.blocks, self.threads
        )?;
        writeln!(f, "\n{:<30}{:>16}{:>18}", "instructions", "warps", "lanes")?;
        writeln!(
            f,
            "{:<30}{:>16}{:>18}",
            "all", self.warp_instructions, self.lane_instructions
        )?;
        for class in &self.classes {
            writeln!(
                f,
                "{:<30}{:>16}{:>18}",
                format!("  {}", class.class.name()),
                class.warp_instructions,
                class.lane_instructions
            )?;
        }
        let mut row = |what: &str, value: u64| writeln!(f, "{what:<30}{value:>16}");
        row("divergent branches", self.divergent_branches)?;
        row("barrier arrivals of warps", self.barriers)?;
        row("polls", memory.polls)?;
        row("global requests", memory.global_requests)?;
        row("  bytes read", memory.global_read_bytes)?;
        row("    for the first time", memory.global_unique_read_bytes)?;
        row("    again", memory.global_reread_bytes())?;
        row("  bytes written", memory.global_written_bytes)?;
        row("  sectors", memory.global_sectors)?;
        writeln!(
            f,
            "{:<30}{:>16.2}",
            "  sectors per request",
            memory.sectors_per_request()
        )?;
        for hint in &self.hints {
            let name = format!("  of these {}", hint.hint.name());
            if hint.hint != CacheHint::None {
                writeln!(f, "{name:<30}{:>16}{:>18} bytes", hint.requests, hint.bytes)?;
            }
        }
        let mut row = |what: &str, value: u64| writeln!(f, "{what:<30}{value:>16}");
        row("atomics of lanes", memory.atomics)?;
        row("  most at one address", self.atomics_at_one_address)?;
        row("shared requests", memory.shared_requests)?;
        row("  bytes", memory.shared_bytes)?;
        row("  passes over the banks", memory.shared_wavefronts)?;
        row("    of these for conflicts", memory.bank_conflicts())?;
        row("local bytes", memory.local_bytes)?;
        row("asynchronous bytes", memory.async_bytes)?;
        for tensor in &self.tensor {
            writeln!(
                f,
                "{:<30}{:>16}{:>18} operations",
                tensor.shape, tensor.count, tensor.flops
            )?;
        }
        self.write_lines(f)
    }
}

impl Counters {
    fn write_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<&LineCounters> = self.lines.iter().collect();
        // Stable: lines of equal weight stay in their order.
        lines.sort_by_key(|line| u64::MAX - line.warp_instructions);
        lines.truncate(LINES);
        if lines.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = lines
            .iter()
            .map(|line| format!("{}:{}", line.file, line.line))
            .collect();
        let width = names.iter().map(String::len).max().unwrap_or(0).max(12);
        writeln!(
            f,
            "\n{:<width$}{:>14}{:>16}{:>16}{:>10}{:>10}",
            "line", "warps", "lanes", "global bytes", "sectors", "conflicts"
        )?;
        for (line, name) in lines.iter().zip(&names) {
            let memory = &line.memory;
            writeln!(
                f,
                "{name:<width$}{:>14}{:>16}{:>16}{:>10}{:>10}",
                line.warp_instructions,
                line.lane_instructions,
                memory.global_read_bytes + memory.global_written_bytes,
                memory.global_sectors,
                memory.bank_conflicts()
            )?;
        }
        if self.lines.len() > lines.len() {
            writeln!(f, "and {} more lines", self.lines.len() - lines.len())?;
        }
        Ok(())
    }
}
