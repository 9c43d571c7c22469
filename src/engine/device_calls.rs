//! Calls over several sequences on a device.

use super::executor::{SessionKv, foreign, lock};
use crate::device::{DeviceExecutor, DeviceForward, DeviceKv};
use crate::plan::{Dim, Row, SegmentKind, SequenceIndex};
use crate::{Error, Result};
use std::sync::Mutex;

/// What a call left on a device. One works on one sequence at a time: each that has rows has a call of its own, one after the other.
/// Since a row's bits depend on its own tokens alone, they are those of one call.
#[derive(Debug, Default)]
pub(super) struct DeviceCalls {
    /// One for each sequence.
    calls: Vec<DeviceForward>,
    /// Where each row is; of several sequences only.
    places: Vec<Place>,
    /// Outputs of all rows, in their order; of several sequences only.
    merged: Vec<(String, Vec<f32>)>,
}

/// A row of the whole call in the call of its sequence.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: usize,
    row: u32,
}

impl DeviceCalls {
    /// The output of that name, [rows or output rows, columns].
    pub fn output(&self, name: &str) -> Option<&[f32]> {
        match &*self.calls {
            [call] => call.output(name),
            _ => {
                let found = self.merged.iter().find(|(other, _)| other == name)?;
                Some(&found.1)
            }
        }
    }

    /// Runs rows over the committed content of sequences.
    pub fn run(
        &mut self,
        executor: &DeviceExecutor,
        segment: SegmentKind,
        rows: &[Row],
        sequences: &[&SessionKv],
    ) -> Result<()> {
        let sequences = sequences.iter().map(|kv| match kv {
            SessionKv::Device(kv) => Ok(kv),
            SessionKv::Host(_) => Err(foreign("a session")),
        });
        let sequences: Vec<&Mutex<DeviceKv>> = sequences.collect::<Result<_>>()?;
        self.places.clear();
        self.merged.clear();
        self.calls
            .resize_with(sequences.len(), DeviceForward::default);
        if let ([kv], [call]) = (&*sequences, &mut *self.calls) {
            return executor.forward(segment, rows, &mut lock(kv), call);
        }
        executor.check_count(segment, rows.len())?;
        let parts = self.place(rows, sequences.len())?;
        check(executor, segment, &parts, &sequences)?;
        for ((part, kv), call) in parts.iter().zip(sequences).zip(&mut self.calls) {
            *call = DeviceForward::default();
            if !part.is_empty() {
                executor.forward(segment, part, &mut lock(kv), call)?;
            }
        }
        self.merge(executor, rows);
        Ok(())
    }

    /// The rows of each sequence, as a call over it alone has them.
    fn place(&mut self, rows: &[Row], count: usize) -> Result<Vec<Vec<Row>>> {
        let mut parts = vec![Vec::new(); count];
        for (i, row) in rows.iter().enumerate() {
            let sequence = row.sequence.0 as usize;
            let Some(part) = parts.get_mut(sequence) else {
                return Err(Error::Invalid(format!(
                    "row {i} names sequence {sequence}, which is not there"
                )));
            };
            let parent = match row.parent {
                None => None,
                Some(parent) => match self.places.get(parent as usize) {
                    Some(place) if place.sequence == sequence => Some(place.row),
                    _ => {
                        return Err(Error::Invalid(format!(
                            "row {i}: parent {parent} is no earlier row of its sequence"
                        )));
                    }
                },
            };
            self.places.push(Place {
                sequence,
                row: part.len() as u32,
            });
            part.push(Row {
                sequence: SequenceIndex(0),
                parent,
                ..*row
            });
        }
        Ok(parts)
    }

    /// Puts the outputs of all calls in the order of the rows.
    fn merge(&mut self, executor: &DeviceExecutor, rows: &[Row]) {
        for output in &executor.program().outputs {
            let of_call = |call| DeviceForward::output(call, &output.name);
            if self.calls.iter().all(|call| of_call(call).is_none()) {
                continue;
            }
            let values = self
                .calls
                .iter()
                .map(|call| of_call(call).unwrap_or_default());
            let columns = output.columns as usize;
            let mut left: Vec<_> = values.map(|values| values.chunks(columns)).collect();
            let mut merged = Vec::new();
            for (row, place) in rows.iter().zip(&self.places) {
                if output.rows == Dim::Rows || row.output {
                    merged.extend_from_slice(left[place.sequence].next().unwrap_or_default());
                }
            }
            self.merged.push((output.name.clone(), merged));
        }
    }

    /// Appends the rows `path` of the call to the sequence that they were computed over.
    pub fn commit(&self, executor: &DeviceExecutor, kv: &mut DeviceKv, path: &[u32]) -> Result<()> {
        if let [call] = &*self.calls {
            return executor.commit(kv, call, path);
        }
        let place = |row: &u32| self.places.get(*row as usize);
        let Some(first) = path.first() else {
            return Ok(());
        };
        let sequence = place(first).map(|place| place.sequence);
        let own = |row| place(row).filter(|place| Some(place.sequence) == sequence);
        let rows: Option<Vec<u32>> = path.iter().map(|row| Some(own(row)?.row)).collect();
        match (sequence, rows) {
            (Some(sequence), Some(rows)) => executor.commit(kv, &self.calls[sequence], &rows),
            _ => Err(Error::Invalid(format!(
                "{path:?} is no path of the call: its rows are of several sequences"
            ))),
        }
    }
}

/// Checks the rows of all sequences before any of them runs, which would overwrite what an earlier call has left uncommitted.
fn check(
    executor: &DeviceExecutor,
    segment: SegmentKind,
    parts: &[Vec<Row>],
    sequences: &[&Mutex<DeviceKv>],
) -> Result<()> {
    for (index, (part, &kv)) in parts.iter().zip(sequences).enumerate() {
        if part.is_empty() {
            continue;
        }
        let is_same = |other: usize| !parts[other].is_empty() && std::ptr::eq(sequences[other], kv);
        // Its second call would overwrite what the first has computed.
        if let Some(same) = (0..index).find(|other| is_same(*other)) {
            return Err(Error::Invalid(format!(
                "sequences {same} and {index} of a call are one session; on a device give its rows one number, or fork it"
            )));
        }
        let checked = executor.check_rows(segment, part, &lock(kv));
        checked.map_err(|error| match error {
            Error::Invalid(reason) => {
                Error::Invalid(format!("of the rows of sequence {index}: {reason}"))
            }
            error => error,
        })?;
    }
    Ok(())
}
