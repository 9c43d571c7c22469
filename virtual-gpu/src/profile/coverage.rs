//! Which lines of the source and which sides of its branches threads have come to, over one launch or several.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::exec::{Class, Grid};

/// A branch with a condition, of one kernel. A line has several if it was inlined, unrolled or has several conditions. What
/// the compiler turned into a selection is no branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BranchCoverage {
    /// The kernel.
    pub kernel: String,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Times that threads took it.
    pub taken: u64,
    /// Times that threads came to it and went on at the next instruction.
    pub passed: u64,
}

/// A line of the source with code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineCoverage {
    /// Times that threads executed it: of its instructions the one that was executed most often. Compilers move parts of a
    /// line to where they run for nothing, such as addresses before a branch; what branches did is surer.
    pub threads: u64,
    /// Its branches.
    pub branches: Vec<BranchCoverage>,
}

/// A kernel and where it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCoverage {
    /// File, as the compiler wrote it.
    pub file: String,
    /// Line of its first instruction.
    pub line: u32,
    /// Threads that entered it.
    pub threads: u64,
}

/// What of the source has run. It is there for PTX with line information alone, and where launches count
/// ([`LaunchOptions::counters`](crate::LaunchOptions::counters)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Kernels by name.
    pub kernels: BTreeMap<String, KernelCoverage>,
    /// Lines with code, by file as the compiler wrote it and by line.
    pub files: BTreeMap<String, BTreeMap<u32, LineCoverage>>,
}

impl Coverage {
    /// The coverage of a launch that has run.
    pub(crate) fn of(grid: &Grid) -> Self {
        let mut coverage = Self::default();
        if !grid.options.counters {
            return coverage;
        }
        let program = &grid.program;
        for (pc, (origin, count)) in program.origins.iter().zip(&grid.counts).enumerate() {
            let Some(location) = origin.location else {
                continue;
            };
            let named = grid.files.iter().find(|(index, _)| *index == location.file);
            let Some((_, file)) = named else {
                continue;
            };
            coverage
                .kernels
                .entry(program.name.clone())
                .or_insert_with(|| KernelCoverage {
                    file: file.clone(),
                    line: location.line,
                    threads: count.lanes,
                });
            let lines = coverage.files.entry(file.clone()).or_default();
            let line = lines.entry(location.line).or_default();
            line.threads = line.threads.max(count.lanes);
            if origin.class == Class::Branch && program.code[pc].guarded {
                line.branches.push(BranchCoverage {
                    kernel: program.name.clone(),
                    ptx_line: origin.ptx_line,
                    taken: count.lanes,
                    passed: count.reached.saturating_sub(count.lanes),
                });
            }
        }
        coverage
    }

    /// Adds another launch, of the same or of another kernel.
    pub fn merge(&mut self, other: &Self) {
        for (name, kernel) in &other.kernels {
            match self.kernels.get_mut(name) {
                Some(own) => own.threads += kernel.threads,
                None => {
                    self.kernels.insert(name.clone(), kernel.clone());
                }
            }
        }
        for (file, lines) in &other.files {
            let own_lines = self.files.entry(file.clone()).or_default();
            for (line, found) in lines {
                let own = own_lines.entry(*line).or_default();
                own.threads += found.threads;
                for branch in &found.branches {
                    let same = |own: &&mut BranchCoverage| {
                        own.kernel == branch.kernel && own.ptx_line == branch.ptx_line
                    };
                    match own.branches.iter_mut().find(same) {
                        Some(own) => {
                            own.taken += branch.taken;
                            own.passed += branch.passed;
                        }
                        None => own.branches.push(branch.clone()),
                    }
                }
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// As `lcov` writes it, for `genhtml` and for editors: `path` gives the place of a file that the compiler named.
    pub fn lcov(&self, path: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        for (file, lines) in &self.files {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "TN:\nSF:{}", path(file));
            let kernels = || {
                self.kernels
                    .iter()
                    .filter(|(_, kernel)| kernel.file == *file)
            };
            for (name, kernel) in kernels() {
                let _ = writeln!(text, "FN:{},{name}", kernel.line);
            }
            for (name, kernel) in kernels() {
                let _ = writeln!(text, "FNDA:{},{name}", kernel.threads);
            }
            let hit = kernels().filter(|(_, kernel)| kernel.threads > 0).count();
            let _ = writeln!(text, "FNF:{}\nFNH:{hit}", kernels().count());
            let (mut sides, mut sides_hit) = (0, 0);
            for (line, found) in lines {
                for (block, branch) in found.branches.iter().enumerate() {
                    for (side, times) in [branch.taken, branch.passed].into_iter().enumerate() {
                        // A branch that nobody came to has no sides yet.
                        let times = match branch.taken + branch.passed {
                            0 => "-".to_string(),
                            _ => times.to_string(),
                        };
                        let _ = writeln!(text, "BRDA:{line},{block},{side},{times}");
                        sides += 1;
                        sides_hit += usize::from(times != "-" && times != "0");
                    }
                }
            }
            let _ = writeln!(text, "BRF:{sides}\nBRH:{sides_hit}");
            for (line, found) in lines {
                let _ = writeln!(text, "DA:{line},{}", found.threads);
            }
            let hit = lines.values().filter(|line| line.threads > 0).count();
            let _ = writeln!(text, "LF:{}\nLH:{hit}\nend_of_record", lines.len());
        }
        text
    }

    /// The sources with what has run before each line: times that threads executed it, `#####` for code that none did,
    /// nothing for lines without code; then branches of which threads took one side only, or none. `source` gives the text
    /// of a file, if there is one.
    pub fn annotated(&self, source: impl Fn(&str) -> Option<String>) -> String {
        let mut text = String::new();
        for (file, lines) in &self.files {
            let hit = lines.values().filter(|line| line.threads > 0).count();
            let _ = writeln!(
                text,
                "{file}: {hit} of {} lines with code have run",
                lines.len()
            );
            match source(file) {
                Some(source) => {
                    for (number, written) in (1..).zip(source.lines()) {
                        annotate(&mut text, number, lines.get(&number), written);
                    }
                }
                None => {
                    for (number, line) in lines {
                        annotate(&mut text, *number, Some(line), "");
                    }
                }
            }
        }
        text
    }
}

fn annotate(text: &mut String, number: u32, line: Option<&LineCoverage>, written: &str) {
    let times = match line {
        None => String::new(),
        Some(line) if line.threads == 0 => "#####".into(),
        Some(line) => line.threads.to_string(),
    };
    let _ = writeln!(text, "{times:>14} {number:>5} | {written}");
    for branch in line.into_iter().flat_map(|line| &line.branches) {
        let what = match (branch.taken, branch.passed) {
            (0, 0) if line.is_some_and(|line| line.threads > 0) => {
                "no thread came to it".to_string()
            }
            (0, 0) => continue,
            (0, passed) => format!("never taken, {passed} times passed"),
            (taken, 0) => format!("always taken, {taken} times"),
            _ => continue,
        };
        let _ = writeln!(
            text,
            "{:>22} branch of {}, PTX line {}: {what}",
            "", branch.kernel, branch.ptx_line
        );
    }
}
