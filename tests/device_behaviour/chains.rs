//! Calls of a device executor over chains of tokens, and what they leave, as bits.

use crate::bits;
use stheno::device::{DeviceExecutor, DeviceForward, DeviceKv};
use stheno::engine::Engine;
use stheno::plan::{Row, SegmentKind, SequenceIndex};

/// What a row leaves: logits, then the tap of layer 0 if the plan has it.
pub type RowBits = (Vec<u32>, Vec<u32>);

pub fn executor(engine: &Engine) -> &DeviceExecutor {
    engine.device_executor().unwrap()
}

/// Rows of `tokens` after what `kv` holds, each with outputs.
pub fn rows(kv: &DeviceKv, tokens: &[u32]) -> Vec<Row> {
    let mut rows = Row::chain(SequenceIndex(0), kv.len() as u32, tokens);
    rows.iter_mut().for_each(|row| row.output = true);
    rows
}

/// The outputs of a call, row by row.
pub fn outputs(executor: &DeviceExecutor, forward: &DeviceForward) -> Vec<RowBits> {
    let logits = forward.output("logits").unwrap();
    let count = logits.len() / executor.plan().vocab_size as usize;
    let tap = forward.output("tap.0").unwrap_or_default();
    let of = |values: &[f32], row: usize| {
        let columns = values.len() / count;
        bits(&values[row * columns..][..columns])
    };
    (0..count)
        .map(|row| (of(logits, row), of(tap, row)))
        .collect()
}

/// Runs a chain in one call and commits it.
pub fn chain(
    executor: &DeviceExecutor,
    segment: SegmentKind,
    kv: &mut DeviceKv,
    tokens: &[u32],
) -> Vec<RowBits> {
    let mut forward = DeviceForward::default();
    let rows = rows(kv, tokens);
    executor.forward(segment, &rows, kv, &mut forward).unwrap();
    let path: Vec<u32> = (0..tokens.len() as u32).collect();
    executor.commit(kv, &forward, &path).unwrap();
    outputs(executor, &forward)
}

/// A sequence that holds `tokens`, in chunks as wide as they can be.
pub fn sequence(executor: &DeviceExecutor, tokens: &[u32]) -> DeviceKv {
    let mut kv = DeviceKv::new(executor.plan());
    for chunk in tokens.chunks(executor.rows_of(SegmentKind::Prefill)) {
        chain(executor, SegmentKind::Prefill, &mut kv, chunk);
    }
    kv
}

/// What single steps leave.
pub struct Singles {
    pub rows: Vec<RowBits>,
    /// K and V after each number of steps.
    pub kv: Vec<Vec<u8>>,
}

/// One token a step after `prefix`.
pub fn singles(executor: &DeviceExecutor, prefix: &DeviceKv, tokens: &[u32]) -> Singles {
    let mut kv = prefix.clone();
    let mut singles = Singles {
        rows: Vec::new(),
        kv: vec![kv.read().unwrap()],
    };
    for token in tokens {
        let step = chain(executor, SegmentKind::Target, &mut kv, &[*token]);
        singles.rows.extend(step);
        singles.kv.push(kv.read().unwrap());
    }
    singles
}
