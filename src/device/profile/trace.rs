//! The trace event format, as Perfetto and chrome://tracing read it.

use super::{Profile, ProfiledCall, ProfiledPhase};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Slices of a trace, about: more is slow to look at.
const SLICES: usize = 200_000;

/// The track of the whole device, before those of blocks.
const DEVICE_TRACK: usize = 0;

impl Profile {
    /// Writes a trace as JSON: the phases of the whole device on the first track, each from when the phase before was done
    /// everywhere, then blocks, each with its phases and its waits for edges. If blocks are too many, some are left out, evenly.
    /// One microsecond of the trace is one of the device; of a virtual one it is 1000 warp instructions.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_trace(&self, out: &mut dyn Write) -> io::Result<()> {
        let unit = match self.is_virtual {
            true => "1 us is 1000 warp instructions: the device is imitated and has no time",
            false => "time of the device",
        };
        let about =
            json!({ "device": self.device, "unit": unit, "copy_bytes_per_second": self.copy_rate });
        write!(
            out,
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":["
        )?;
        let mut first = true;
        let mut event = |event: Value| -> io::Result<()> {
            let comma = if first { "\n" } else { ",\n" };
            first = false;
            write!(out, "{comma}{event}")
        };
        event(named("process_name", DEVICE_TRACK, &self.device))?;
        event(named("thread_name", DEVICE_TRACK, "device"))?;
        let blocks = self.shown_blocks();
        for &block in &blocks {
            event(named("thread_name", block + 1, &format!("block {block}")))?;
        }
        let origin = self.calls.first().and_then(first_begin).unwrap_or(0);
        for (number, call) in self.calls.iter().enumerate() {
            let mut at = first_begin(call).unwrap_or(origin);
            for (index, phase) in call.phases.iter().enumerate() {
                let name = phase.stage.kind.to_string();
                let args = arguments(call, phase, (number, index));
                let span = (at - origin, at + phase.time - origin);
                event(slice(&name, "phase", DEVICE_TRACK, span, args.clone()))?;
                at += phase.time;
                for &block in &blocks {
                    let Some(stamp) = phase.stamps.get(block) else {
                        continue;
                    };
                    let since = |at: u64| at.saturating_sub(origin);
                    if stamp.ready > stamp.begin {
                        let span = (since(stamp.begin), since(stamp.ready));
                        let wait = json!({ "before": name });
                        event(slice("wait", "wait", block + 1, span, wait))?;
                    }
                    let mut args = args.clone();
                    args["stalled_us"] = micros(stamp.stalled).into();
                    let span = (since(stamp.ready), since(stamp.end));
                    event(slice(&name, "phase", block + 1, span, args))?;
                }
            }
        }
        out.write_all(b"\n]}\n")
    }

    fn shown_blocks(&self) -> Vec<usize> {
        let phases: usize = self.calls.iter().map(|call| call.phases.len()).sum();
        let most = (SLICES / (2 * phases).max(1)).clamp(1, self.blocks);
        (0..most).map(|i| i * self.blocks / most).collect()
    }
}

fn first_begin(call: &ProfiledCall) -> Option<u64> {
    let first = call.phases.first()?;
    first.stamps.iter().map(|stamp| stamp.begin).min()
}

fn micros(time: u64) -> f64 {
    time as f64 / 1e3
}

fn named(what: &str, track: usize, name: &str) -> Value {
    json!({ "ph": "M", "name": what, "pid": 0, "tid": track, "args": { "name": name } })
}

fn slice(name: &str, category: &str, track: usize, (begin, end): (u64, u64), args: Value) -> Value {
    json!({
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": 0,
        "tid": track,
        "ts": micros(begin),
        "dur": micros(end.saturating_sub(begin)),
        "args": args,
    })
}

fn arguments(call: &ProfiledCall, phase: &ProfiledPhase, (number, index): (usize, usize)) -> Value {
    json!({
        "call": number,
        "segment": call.segment.to_string(),
        "rows": call.shape.rows,
        "phase": index,
        "op": phase.stage.op,
        "layer": phase.stage.layer,
        "weight_bytes": phase.traffic.weights + phase.traffic.table,
        "kv_bytes": phase.traffic.kv,
        "activation_bytes": phase.traffic.activations,
    })
}
