//! `kernel-bench report`: one report of what the parts of `scripts/gpu-suite.sh` left in a folder.

mod bits;
mod compared;
mod harness;
mod markdown;
mod part;
mod steps;

use crate::args::ReportArgs;
use crate::failure::print;
use crate::run::write;
use anyhow::{Context as _, Result, bail};
use part::{Part, Status};
use serde::Serialize;
use serde_json::Value;

/// Everything that the suite found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: u32,
    pub version: &'static str,
    pub date: String,
    /// What was asked for: `cuda:0`, `virtual`.
    pub asked: String,
    pub quick: bool,
    /// Whether a part says that its device is imitated: then no time is one of a GPU.
    pub is_virtual: bool,
    /// The device as a part describes it.
    pub device: Option<Value>,
    /// What nvidia-smi says of it, as CSV.
    pub nvidia_smi: Option<String>,
    /// Whether every part passed that was not skipped.
    pub passed: bool,
    pub parts: Vec<Part>,
}

/// `kernel-bench report`. Fails if a part did.
pub fn run(args: &ReportArgs) -> Result<()> {
    let list = args.folder.join("parts.tsv");
    let list = std::fs::read_to_string(&list).with_context(|| format!("{}", list.display()))?;
    let is_virtual = args.device == "virtual";
    let parts: Vec<Part> = list
        .lines()
        .map(|line| Part::read(&args.folder, line, is_virtual))
        .collect::<Result<_>>()?;
    if parts.is_empty() {
        bail!(
            "{}: the suite ran no part",
            args.folder.join("parts.tsv").display()
        );
    }
    let report = Report {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string(),
        asked: args.device.clone(),
        quick: args.quick,
        is_virtual: is_virtual || parts.iter().any(|part| part.is_virtual() == Some(true)),
        device: parts.iter().find_map(|part| part.device().cloned()),
        nvidia_smi: std::fs::read_to_string(args.folder.join("nvidia-smi.csv")).ok(),
        passed: parts
            .iter()
            .all(|part| matches!(part.status, Status::Passed | Status::Skipped)),
        parts,
    };
    let json = serde_json::to_string_pretty(&report)? + "\n";
    write(&args.folder.join("report.json"), json.as_bytes())?;
    let text = markdown::of(&report);
    write(&args.folder.join("report.md"), text.as_bytes())?;
    print(&text)?;
    let bad: Vec<&str> = report.failures().map(|part| part.name.as_str()).collect();
    if !bad.is_empty() {
        bail!("failed: {}", bad.join(", "));
    }
    Ok(())
}

impl Report {
    /// Parts that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Part> {
        let good = |status| matches!(status, Status::Passed | Status::Skipped);
        self.parts.iter().filter(move |part| !good(part.status))
    }
}
