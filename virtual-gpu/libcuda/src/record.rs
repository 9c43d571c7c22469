//! What launches have left behind, for whoever asks through the functions of `include/virtual_gpu.h`.

use crate::boundary::{Answer, Out, Text, exports};
use crate::config::Settings;
use crate::driver::{Driver, driver};
use crate::error::{FILE_NOT_FOUND, INVALID_VALUE, NOT_FOUND};
use crate::queue::lock;
use serde_json::{Value, json};
use std::path::Path;
use virtual_gpu::check::finding::Finding;
use virtual_gpu::profile::coverage::Coverage;
use virtual_gpu::profile::roofline::Roofline;
use virtual_gpu::report::{Static, ncu, sanitizer};
use virtual_gpu::{LaunchConfig, LaunchReport, Profile};

/// Findings that are kept: a program that runs for long may have any number.
const MOST: usize = 1000;

/// A launch that was counted.
struct Counted {
    kernel: String,
    launch: LaunchConfig,
    known: Static,
    report: LaunchReport,
}

/// What is remembered of launches.
#[derive(Default)]
pub struct Record {
    launches: u64,
    /// Each with the shape of its blocks.
    findings: Vec<(Finding, [u32; 3])>,
    dropped: u64,
    warnings: Vec<String>,
    last: Option<Counted>,
    coverage: Coverage,
}

impl Record {
    /// Remembers a launch; `counted` says whether it was counted.
    pub fn note(
        &mut self,
        kernel: &str,
        launch: &LaunchConfig,
        known: Static,
        report: LaunchReport,
        counted: bool,
    ) {
        self.launches += 1;
        for finding in &report.findings {
            match self.findings.len() < MOST {
                true => self.findings.push((finding.clone(), launch.block)),
                false => self.dropped += 1,
            }
        }
        for warning in &report.warnings {
            let warning = format!("{kernel}: {warning}");
            if self.warnings.len() < MOST && !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self.coverage.merge(&report.coverage);
        self.last = counted.then(|| Counted {
            kernel: kernel.into(),
            launch: *launch,
            known,
            report,
        });
    }

    fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|(finding, block)| {
                let mut value = json!(finding);
                value["kernel"] = json!(finding.kernel);
                value["block_shape"] = json!(block);
                value
            })
            .collect();
        json!({
            "launches": self.launches,
            "findings": findings,
            "dropped": self.dropped,
            "warnings": self.warnings,
        })
    }

    fn sanitizer(&self) -> String {
        // Threads are named by the shape of their block, which launches may differ in.
        let same = self.findings.chunk_by(|(_, a), (_, b)| a == b);
        let texts: Vec<String> = same
            .map(|chunk| {
                let findings: Vec<Finding> =
                    chunk.iter().map(|(finding, _)| finding.clone()).collect();
                sanitizer(&findings, chunk[0].1)
            })
            .collect();
        if let [one] = &texts[..] {
            return one.clone();
        }
        // One head and one summary for all.
        let body = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[1..lines.len() - 1].join("\n")
        };
        let whole = sanitizer(&[], [1; 3]);
        let head = whole.lines().next().unwrap_or_default();
        let bodies: Vec<String> = texts.iter().map(|text| body(text) + "\n").collect();
        let errors = self.findings.len() as u64 + self.dropped;
        format!(
            "{head}\n{}========= ERROR SUMMARY: {errors} errors\n",
            bodies.concat()
        )
    }

    fn report(&self, format: u32, profile: &Profile) -> Answer<String> {
        let last = || self.last.as_ref().ok_or(NOT_FOUND);
        Ok(match format {
            0 => self.json().to_string(),
            1 => self.sanitizer(),
            2 => {
                let last = last()?;
                ncu(&last.report.counters, &last.launch, last.known, profile)
            }
            3 => {
                let last = last()?;
                let counters = &last.report.counters;
                let estimate = Roofline::of(counters, profile, 0);
                json!({"kernel": last.kernel, "counters": counters, "estimate": estimate})
                    .to_string()
            }
            _ => return Err(INVALID_VALUE),
        })
    }

    /// Writes the coverage to a file. Files that the compiler named stay as they are named.
    pub fn write_coverage(&self, path: &Path) -> Answer {
        let text = self.coverage.lcov(str::to_owned);
        std::fs::write(path, text).map_err(|error| {
            eprintln!(
                "virtual-gpu: coverage could not be written to {}: {error}",
                path.display()
            );
            FILE_NOT_FOUND
        })
    }
}

/// The driver, when all that was queued is done.
fn settled() -> Answer<&'static Driver> {
    let driver = driver()?;
    driver.queue.finish(driver.queue.last())?;
    Ok(driver)
}

/// Writes the coverage that the environment asks for, at the end of the process.
pub extern "C" fn at_exit() {
    if let Ok(driver) = driver()
        && let Some(path) = &driver.config.coverage
    {
        // What is still queued then is not waited for: a kernel may run for ever.
        let _ = lock(&driver.record).write_coverage(path);
    }
}

exports! {
    /// Sets an option for launches that begin from now on.
    fn virtualGpuSetOption(name: Text, value: Text) {
        let driver = driver()?;
        let (name, value) = (name.get()?, value.get()?);
        let set = |settings: &mut Settings| settings.set(&name, &value);
        driver.change_settings(set).map_err(|error| {
            eprintln!("virtual-gpu: {error}");
            INVALID_VALUE
        })
    }

    /// The number of findings so far.
    fn virtualGpuGetFindingCount(count: Out<usize>) {
        count.check()?;
        let record = lock(&settled()?.record);
        count.set(record.findings.len() + record.dropped as usize)
    }

    /// A report as text.
    fn virtualGpuGetReport(format: u32, text: Out<u8>, size: usize, needed: Out<usize>) {
        let driver = settled()?;
        let report = lock(&driver.record).report(format, &driver.config.profile)?;
        needed.set_if_wanted(report.len());
        match size {
            0 => Ok(()),
            size => text.set_text(&report, size),
        }
    }

    /// Forgets findings, warnings and the number of launches.
    fn virtualGpuResetFindings() {
        let mut record = lock(&settled()?.record);
        record.launches = 0;
        record.dropped = 0;
        record.findings.clear();
        record.warnings.clear();
        Ok(())
    }

    /// Writes what of the sources has run.
    fn virtualGpuWriteCoverage(path: Text) {
        let path = path.get()?;
        lock(&settled()?.record).write_coverage(Path::new(&path))
    }

    /// Forgets what has run.
    fn virtualGpuResetCoverage() {
        lock(&settled()?.record).coverage = Coverage::default();
        Ok(())
    }
}
