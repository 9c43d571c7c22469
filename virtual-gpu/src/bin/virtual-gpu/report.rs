//! The report for people.

use std::fmt::Write;

use virtual_gpu::case::Report;
use virtual_gpu::check::finding::{Finding, Other};
use virtual_gpu::profile::counters::Counters;

/// Waiters of a deadlock that are listed.
const WAITERS: usize = 8;

/// A paragraph for each finding, warnings, counters if they were asked for, and the verdict at the end.
pub fn text(kernel: &str, report: &Report<Finding, Counters>) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\n", paragraph(finding));
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}\n");
    }
    if let Some(counters) = &report.counters {
        let _ = writeln!(text, "{counters}");
    }
    if let Some(estimate) = &report.estimate {
        let _ = writeln!(text, "{estimate}");
    }
    let end = if report.completed {
        "ran to its end"
    } else {
        "did not come to its end"
    };
    let found = match report.findings.len() {
        0 => "no finding".to_string(),
        1 => "1 finding".to_string(),
        n => format!("{n} findings"),
    };
    let _ = writeln!(text, "{kernel} {end}: {found}");
    text
}

fn paragraph(finding: &Finding) -> String {
    let mut text = finding.to_string();
    match &finding.other {
        None => {}
        Some(Other::Access {
            access,
            source,
            ptx_line,
            block: [x, y, z],
            warp,
            lane,
        }) => {
            let place = source
                .as_ref()
                .map_or(String::new(), |source| format!(" at {source}"));
            let _ = write!(
                text,
                "\n  the other access: {access}{place}, PTX line {ptx_line}, block ({x}, {y}, {z}) warp {warp} lane {lane}"
            );
        }
        Some(Other::Waiters { waiters }) => {
            for waiter in waiters.iter().take(WAITERS) {
                let [x, y, z] = waiter.block;
                let place = waiter
                    .source
                    .as_ref()
                    .map_or(String::new(), |source| format!(" at {source}"));
                let _ = write!(
                    text,
                    "\n  block ({x}, {y}, {z}) warp {} lanes {:#010x}{place}: {}",
                    waiter.warp, waiter.lanes, waiter.waits_for
                );
            }
            if waiters.len() > WAITERS {
                let _ = write!(text, "\n  and {} more", waiters.len() - WAITERS);
            }
        }
    }
    text
}
