//! What became of a launch: findings, counters and output, and the code that a GPU would give.

use crate::boundary::Answer;
use crate::config::Settings;
use crate::driver::Driver;
use crate::error::{
    ASSERT, COOPERATIVE_LAUNCH_TOO_LARGE, Code, ILLEGAL_ADDRESS, ILLEGAL_INSTRUCTION,
    INVALID_VALUE, LAUNCH_FAILED, LAUNCH_TIMEOUT, MISALIGNED_ADDRESS, OUT_OF_MEMORY,
};
use crate::operation::Launch;
use crate::queue::lock;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use virtual_gpu::check::finding::{Finding, FindingKind, Other};
use virtual_gpu::profile::roofline::Roofline;
use virtual_gpu::report::Static;
use virtual_gpu::{LaunchConfig, LaunchError, LaunchReport, Profile};

/// Tells the user of a launch, and gives its answer.
pub fn answer(
    driver: &Driver,
    settings: Settings,
    launch: &Launch,
    result: Result<LaunchReport, LaunchError>,
) -> Answer {
    let (kernel, config) = (launch.function.name(), &launch.config);
    let report = result.map_err(|error| {
        eprintln!("virtual-gpu: {kernel} was not launched: {error}");
        match error {
            LaunchError::Memory(_) => OUT_OF_MEMORY,
            _ => INVALID_VALUE,
        }
    })?;
    print!("{}", report.printed);
    let _ = std::io::stdout().flush();
    for finding in &report.findings {
        eprintln!("virtual-gpu: {finding}");
        if let Some(Other::Waiters { waiters }) = &finding.other {
            for waiter in waiters {
                let at = waiter.source.as_ref();
                let at = at.map_or(String::new(), |source| format!(" at {source}"));
                let [x, y, z] = waiter.block;
                eprintln!(
                    "virtual-gpu:   block ({x}, {y}, {z}) warp {} lanes {:#010x}: {}{at}",
                    waiter.warp, waiter.lanes, waiter.waits_for
                );
            }
        }
    }
    for warning in &report.warnings {
        eprintln!("virtual-gpu: warning: {kernel}: {warning}");
    }
    if let Some(path) = &driver.config.counters {
        append(path, &line(&driver.config.profile, kernel, config, &report));
    }
    let answer = match report.findings.last() {
        Some(finding) if !report.completed => Err(code(finding)),
        None if !report.completed => Err(LAUNCH_FAILED),
        Some(_) if settings.strict => Err(LAUNCH_FAILED),
        _ => Ok(()),
    };
    let facts = launch.function.facts()?;
    let known = Static {
        registers: facts.register_limit,
        shared: facts.static_shared,
    };
    lock(&driver.record).note(kernel, config, known, report, settings.options.counters);
    answer
}

/// The code of what ended a launch.
fn code(finding: &Finding) -> Code {
    match finding.kind {
        FindingKind::OutOfBounds | FindingKind::UseAfterFree | FindingKind::WriteToConstOrParam => {
            ILLEGAL_ADDRESS
        }
        FindingKind::Misaligned => MISALIGNED_ADDRESS,
        FindingKind::Trap if finding.message.starts_with("assertion") => ASSERT,
        FindingKind::Trap => ILLEGAL_INSTRUCTION,
        FindingKind::Deadlock => LAUNCH_TIMEOUT,
        FindingKind::GridNotResident => COOPERATIVE_LAUNCH_TOO_LARGE,
        _ => LAUNCH_FAILED,
    }
}

fn line(profile: &Profile, kernel: &str, launch: &LaunchConfig, report: &LaunchReport) -> Value {
    let findings: Vec<&str> = report
        .findings
        .iter()
        .map(|finding| finding.kind.name())
        .collect();
    json!({
        "kernel": kernel,
        "grid": launch.grid,
        "block": launch.block,
        "dynamic_shared": launch.dynamic_shared,
        "cooperative": launch.cooperative,
        "completed": report.completed,
        "findings": findings,
        "counters": report.counters,
        // How many blocks a multiprocessor holds depends on registers, which only the real compiler knows.
        "estimate": Roofline::of(&report.counters, profile, 0),
    })
}

fn append(path: &Path, line: &Value) {
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!(
            "virtual-gpu: counters could not be written to {}: {error}",
            path.display()
        );
    }
}
