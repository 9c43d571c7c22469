use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Results of ops on a device, compared with those of the virtual GPU.
#[derive(Debug, Serialize)]
pub struct Bits {
    /// Bytes compared.
    pub bytes: u64,
    /// Of them not equal.
    pub differing: u64,
    /// By test and kernel.
    pub lines: Vec<Line>,
}

/// What one test compared of one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub test: Option<String>,
    pub kernels: String,
    pub bytes: u64,
    pub differing: u64,
}

impl Bits {
    /// Reads a file with a line of JSON for each launch or so.
    pub fn read(path: &Path) -> Result<Bits> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("nothing was compared: {}", path.display()))?;
        let mut sums: BTreeMap<(Option<String>, String), (u64, u64)> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            let sum = sums.entry((line.test, line.kernels)).or_default();
            sum.0 = sum.0.saturating_add(line.bytes);
            sum.1 = sum.1.saturating_add(line.differing);
        }
        let lines: Vec<Line> = sums
            .into_iter()
            .map(|((test, kernels), (bytes, differing))| Line {
                test,
                kernels,
                bytes,
                differing,
            })
            .collect();
        let sum = |of: fn(&Line) -> u64| lines.iter().map(of).fold(0, u64::saturating_add);
        Ok(Bits {
            bytes: sum(|line| line.bytes),
            differing: sum(|line| line.differing),
            lines,
        })
    }
}
