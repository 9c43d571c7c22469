//! Records of `kernel-bench run`, and of programs that write the same form, as they are read back.

use super::Report;
use super::part::Kind;
use serde_json::Value;

/// One measurement.
#[derive(Debug, Clone)]
pub struct Step {
    pub op: String,
    pub shape: String,
    pub layers: u64,
    pub format: String,
    pub rows: u64,
    pub context: u64,
    /// Seconds: median and half of the spread, or an estimate and 0.
    pub seconds: f64,
    pub spread: f64,
    pub is_estimate: bool,
    /// Bytes of weights, or whatever the op must read.
    pub bytes: f64,
    /// Bytes a second that copies reach on the same device, if that was measured.
    pub copy: Option<f64>,
}

impl Step {
    fn read(record: &Value, copy: Option<f64>) -> Option<Step> {
        let text = |key: &str| record[key].as_str().map(str::to_owned);
        let number = |key: &str| record[key].as_u64();
        let time = &record["time"];
        let measured = time["median"].as_f64();
        let estimate = record["estimate"]["least"].as_f64();
        let spread = time["most"].as_f64().zip(time["least"].as_f64());
        Some(Step {
            op: text("op")?,
            shape: text("shape")?,
            layers: number("layers")?,
            format: text("format")?,
            rows: number("rows")?,
            context: number("context")?,
            seconds: measured.or(estimate).filter(|seconds| *seconds > 0.0)?,
            spread: spread.map_or(0.0, |(most, least)| (most - least) / 2.0),
            is_estimate: measured.is_none(),
            bytes: record["streamed_bytes"].as_f64()?,
            copy,
        })
    }

    /// All of a kind of parts.
    pub fn all(report: &Report, kind: Kind) -> Vec<Step> {
        let parts = report.parts.iter().filter(|part| part.kind == kind);
        let reports = parts.filter_map(|part| part.report.as_ref());
        let steps = reports.flat_map(|report| {
            let copy = report["rates"]["copy"].as_f64();
            let records = report["records"].as_array().into_iter().flatten();
            records.filter_map(move |record| Step::read(record, copy))
        });
        steps.collect()
    }

    /// Microseconds with their spread; `~` marks an estimate.
    pub fn time(&self) -> String {
        let micros = 1e6 * self.seconds;
        match self.is_estimate {
            true => format!("~{micros:.1}"),
            false => format!("{micros:.1} ±{:.1}", 1e6 * self.spread),
        }
    }

    /// GB/s of weights, where it has any.
    pub fn rate(&self) -> String {
        let rate = self.bytes / self.seconds;
        let mark = if self.is_estimate { "~" } else { "" };
        match rate > 0.0 {
            true => format!("{mark}{:.0}", rate / 1e9),
            false => "-".to_owned(),
        }
    }

    /// Share of the copy rate.
    pub fn share(&self) -> String {
        let copy = self.copy.filter(|copy| *copy > 0.0 && self.bytes > 0.0);
        copy.map_or_else(
            || "-".to_owned(),
            |copy| format!("{:.1} %", 100.0 * self.bytes / self.seconds / copy),
        )
    }

    /// Whether it is the same work in the same format.
    pub fn is_like(&self, other: &Step) -> bool {
        let sees_context = matches!(
            self.op.as_str(),
            "step" | "attention" | "tree-verify" | "draft-layer" | "draft-extend"
        );
        let key = |step: &Step| {
            let context = if sees_context { step.context } else { 0 };
            let is_step = matches!(step.op.as_str(), "step" | "tree-verify");
            let whole = if is_step { step.layers } else { 0 };
            (step.rows, context, whole)
        };
        (&self.op, &self.shape, &self.format) == (&other.op, &other.shape, &other.format)
            && key(self) == key(other)
    }
}
