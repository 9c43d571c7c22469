use super::{Profile, ProfiledCall, StageSums};
use crate::plan::SegmentKind;
use std::fmt;
use stheno_codegen::program::StageKind;

/// A line of the table: segment, stage, and layer if lines are by layer.
type Key = (SegmentKind, StageKind, Option<u32>);

impl Profile {
    /// Sums of the phases of each segment and stage (and layer, if asked for), in the order in which they first ran.
    pub fn stages(&self, by_layer: bool) -> Vec<(Key, StageSums)> {
        let mut lines: Vec<(Key, StageSums)> = Vec::new();
        for call in &self.calls {
            for phase in &call.phases {
                let layer = phase.stage.layer.filter(|_| by_layer);
                let key = (call.segment, phase.stage.kind, layer);
                let sums = phase.sums();
                match lines.iter_mut().find(|(other, _)| *other == key) {
                    Some((_, line)) => *line += sums,
                    None => lines.push((key, sums)),
                }
            }
        }
        lines
    }

    /// The table, with a line for each layer if asked for.
    pub fn table(&self, by_layer: bool) -> String {
        let mut text = format!("{}, {} calls recorded\n", self.device, self.calls.len());
        let mut segments: Vec<SegmentKind> = Vec::new();
        for call in &self.calls {
            if !segments.contains(&call.segment) {
                segments.push(call.segment);
            }
        }
        let lines = self.stages(by_layer);
        for segment in segments {
            let calls: Vec<&ProfiledCall> =
                self.calls.iter().filter(|c| c.segment == segment).collect();
            let rows: u32 = calls.iter().map(|call| call.shape.rows).sum();
            text += &format!(
                "{segment}: {} calls, {rows} rows; of one call:\n",
                calls.len()
            );
            text += &self.heading();
            let mut total = StageSums::default();
            let of_segment = || lines.iter().filter(|((other, ..), _)| *other == segment);
            of_segment().for_each(|(_, sums)| total += *sums);
            for ((_, kind, layer), sums) in of_segment() {
                let name = match layer {
                    Some(layer) => format!("{kind} {layer}"),
                    None => kind.to_string(),
                };
                text += &self.line(&name, sums, &total, calls.len());
            }
            text += &self.line("sum", &total, &total, calls.len());
        }
        text += &match self.is_virtual {
            true => format!(
                "times are warp instructions of the whole device, polls included (it is imitated and has no time); estimate: memory \
                 bytes at {:.0} GB/s, which the imitated device would reach, about; VIRTUAL_GPU_COUNTERS=FILE counts each launch\n",
                self.copy_rate / 1e9
            ),
            false => format!(
                "copy: {:.0} GB/s, read and written, measured; work, wait, stall: of a block in the mean\n",
                self.copy_rate / 1e9
            ),
        };
        text
    }

    fn heading(&self) -> String {
        let (time, last) = match self.is_virtual {
            true => ("instr", ["estimate us", "of all"]),
            false => ("us", ["GB/s", "of copy"]),
        };
        format!(
            "  {:14}{:>7}{:>12}{:>7}{:>12}{:>12}{:>12}{:>12}{:>11}{:>11}{:>13}{:>9}\n",
            "stage",
            "phases",
            time,
            "share",
            "longest",
            "work",
            "wait",
            "stall",
            "memory MB",
            "L2 MB",
            last[0],
            last[1]
        )
    }

    fn line(&self, name: &str, sums: &StageSums, total: &StageSums, calls: usize) -> String {
        let calls = calls.max(1) as f64;
        let digits = if self.is_virtual { 0 } else { 2 };
        let unit = if self.is_virtual { 1.0 } else { 1e-3 };
        let time = |value: f64| format!("{:.digits$}", value * unit / calls);
        let memory = sums.traffic.memory() as f64;
        let share = |part: f64, whole: f64| match whole > 0.0 {
            true => format!("{:.1}%", 100.0 * part / whole),
            false => "-".to_owned(),
        };
        let (rate, of) = if self.is_virtual {
            let all = total.traffic.memory() as f64;
            (
                number(1e6 * memory / calls / self.copy_rate),
                share(memory, all),
            )
        } else {
            // Bytes a nanosecond.
            let rate = memory / sums.time;
            (number(rate), share(rate * 1e9, self.copy_rate))
        };
        format!(
            "  {name:14}{:>7}{:>12}{:>7}{:>12}{:>12}{:>12}{:>12}{:>11.3}{:>11.3}{rate:>13}{of:>9}\n",
            sums.phases / calls as usize,
            time(sums.time),
            share(sums.time, total.time),
            time(sums.longest),
            time(sums.mean),
            time(sums.wait),
            time(sums.stalled),
            memory / calls / 1e6,
            sums.traffic.activations as f64 / calls / 1e6,
        )
    }
}

/// What is not known, or divided by nothing, is a dash.
fn number(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:.2}"),
        false => "-".to_owned(),
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(false))
    }
}
