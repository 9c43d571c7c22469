//! What was measured, as a table and as JSON, and what it decides.

use crate::gpu::Facts;
use crate::sample::Sample;
use serde::Serialize;
use std::fmt;

/// One number.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The measurement that it belongs to.
    pub measurement: &'static str,
    /// What it is.
    pub name: String,
    /// In which unit.
    pub unit: &'static str,
    /// The number.
    #[serde(flatten)]
    pub sample: Sample,
    /// Rates of memory: the share of the measured copy rate, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_copy: Option<f64>,
}

impl Row {
    /// A number without a share.
    pub fn new(name: impl Into<String>, unit: &'static str, sample: Sample) -> Row {
        Row {
            measurement: "",
            name: name.into(),
            unit,
            sample,
            share_of_copy: None,
        }
    }
}

/// Unit of rates that are shares of the copy rate.
pub const GB_PER_S: &str = "GB/s";
/// The row that is the copy rate: bytes read and bytes written.
pub const COPY: &str = "copy_best";
/// Rows of rings with eight stages begin so.
pub const RING: &str = "ring_8x16KiB";
/// Rows of edges by counters under load begin so.
pub const EDGE: &str = "edge_streaming_counter";

/// Whether a number allows the design.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The condition.
    pub condition: &'static str,
    /// The measured number, if it was measured.
    pub measured: Option<f64>,
    /// The answer: nothing where the condition does not apply or was not measured.
    pub go: Option<bool>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<&'static str>,
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the probe.
    pub version: &'static str,
    /// The device.
    #[serde(flatten)]
    pub facts: Facts,
    /// The numbers, in the order of measurement.
    pub rows: Vec<Row>,
    /// What they decide.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// A report on rows of one device.
    pub fn new(facts: Facts, mut rows: Vec<Row>) -> Report {
        let copy = rows
            .iter()
            .find(|row| row.name == COPY)
            .map(|row| row.sample.median);
        for row in rows
            .iter_mut()
            .filter(|row| row.unit == GB_PER_S && row.name != COPY)
        {
            row.share_of_copy = copy
                .filter(|rate| *rate > 0.0)
                .map(|rate| row.sample.median / rate);
        }
        let of = |prefix: &'static str| {
            let rows = rows.iter().filter(move |row| {
                row.name.starts_with(prefix) && !row.name.ends_with("_row_major")
            });
            rows.map(|row| row.sample.median)
        };
        let ring = of(RING).reduce(f64::max);
        let edge = of(EDGE).reduce(f64::min);
        let verdicts = vec![
            verdict(
                &facts,
                "ring of 8 stages of 16 KiB reads at least 2900 GB/s",
                ring,
                |rate| rate >= 2900.0,
            ),
            verdict(
                &facts,
                "edge by counters while streaming takes at most 2.0 us",
                edge,
                |time| time <= 2.0,
            ),
        ];
        Report {
            version: env!("CARGO_PKG_VERSION"),
            facts,
            rows,
            verdicts,
        }
    }
}

/// The conditions are for H100-class devices: compute capability 9.0 with HBM3, which the PCIe card lacks.
fn verdict(
    facts: &Facts,
    condition: &'static str,
    measured: Option<f64>,
    holds: impl Fn(f64) -> bool,
) -> Verdict {
    let why_not = if facts.is_virtual {
        Some("not applicable: the device is virtual and its numbers are no times")
    } else if facts.capability != (9, 0) || facts.name.contains("PCIe") {
        Some("not applicable: the condition is for H100 SXM and H200")
    } else if measured.is_none() {
        Some("not measured")
    } else {
        None
    };
    let go = measured.filter(|_| why_not.is_none()).map(holds);
    Verdict {
        condition,
        measured,
        go,
        why_not,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts {
            name,
            capability: (major, minor),
            multiprocessors,
            driver_version,
            ..
        } = &self.facts;
        let (cuda, release) = (driver_version / 1000, driver_version % 1000 / 10);
        writeln!(
            f,
            "{name}, compute capability {major}.{minor}, {multiprocessors} SMs, driver of CUDA {cuda}.{release}"
        )?;
        if self.facts.is_virtual {
            writeln!(
                f,
                "The device is virtual: the numbers show that the probe works, and are no times."
            )?;
        }
        writeln!(
            f,
            "{:<44} {:>12} {:>12} {:>12}  {:<11} of copy",
            "", "median", "min", "max", "unit"
        )?;
        for row in &self.rows {
            let Sample {
                median, min, max, ..
            } = row.sample;
            write!(
                f,
                "{:<44} {median:>12.3} {min:>12.3} {max:>12.3}  {:<11}",
                row.name, row.unit
            )?;
            match row.share_of_copy {
                Some(share) => writeln!(f, " {:.1} %", share * 100.0)?,
                None => writeln!(f)?,
            }
        }
        for verdict in &self.verdicts {
            let answer = match verdict.go {
                Some(true) => "GO",
                Some(false) => "NO GO",
                None => "no verdict",
            };
            write!(f, "{answer}: {}", verdict.condition)?;
            if let (Some(_), Some(measured)) = (verdict.go, verdict.measured) {
                write!(f, "; measured {measured:.3}")?;
            }
            match verdict.why_not {
                Some(why) => writeln!(f, " ({why})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, is_virtual: bool, capability: (u32, u32)) -> Facts {
        Facts {
            name: name.to_owned(),
            is_virtual,
            capability,
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_bytes: 232_448,
            memory_bytes: 80 << 30,
            clock_mhz: 1980,
            driver_version: 12_080,
        }
    }

    fn rows(ring: f64, edge: f64) -> Vec<Row> {
        let row = |name: &str, unit, value| Row::new(name, unit, Sample::of(&[value]));
        vec![
            row(COPY, GB_PER_S, 3000.0),
            row("ring_8x16KiB", GB_PER_S, ring),
            row("ring_8x16KiB_row_major", GB_PER_S, 9999.0),
            row("edge_streaming_counter_1", "us", edge + 1.0),
            row("edge_streaming_counter_4", "us", edge),
        ]
    }

    #[test]
    fn verdicts_are_given_for_the_h100_alone() {
        let go = |facts, ring, edge| {
            let report = Report::new(facts, rows(ring, edge));
            report
                .verdicts
                .iter()
                .map(|verdict| verdict.go)
                .collect::<Vec<_>>()
        };
        let h100 = || facts("NVIDIA H100 80GB HBM3", false, (9, 0));
        assert_eq!(go(h100(), 2950.0, 1.9), [Some(true), Some(true)]);
        assert_eq!(go(h100(), 2850.0, 2.1), [Some(false), Some(false)]);
        assert_eq!(
            go(facts("NVIDIA A100", false, (8, 0)), 2950.0, 1.9),
            [None, None]
        );
        assert_eq!(
            go(facts("H100 (virtual)", true, (9, 0)), 2950.0, 1.9),
            [None, None]
        );
        let none = Report::new(h100(), Vec::new());
        assert!(
            none.verdicts
                .iter()
                .all(|verdict| verdict.go.is_none() && verdict.why_not == Some("not measured"))
        );
    }

    #[test]
    fn rates_are_shares_of_the_copy_rate() {
        let report = Report::new(
            facts("NVIDIA H100 80GB HBM3", false, (9, 0)),
            rows(2850.0, 1.0),
        );
        assert_eq!(report.rows[1].share_of_copy, Some(0.95));
        assert_eq!(report.rows[3].share_of_copy, None);
        let text = report.to_string();
        assert!(
            text.contains("95.0 %") && text.contains("NO GO: ring") && text.contains("GO: edge"),
            "{text}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["virtual"], false);
        assert_eq!(json["rows"][1]["median"], 2850.0);
    }
}
