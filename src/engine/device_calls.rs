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
        for (index, part) in parts.iter().enumerate() {
            self.calls[index] = DeviceForward::default();
            if part.is_empty() {
                continue;
            }
            // Its second call would overwrite what the first has computed.
            if let Some(same) = sequences[..index]
                .iter()
                .position(|kv| std::ptr::eq(*kv, sequences[index]))
            {
                return Err(Error::Invalid(format!(
                    "sequences {same} and {index} of a call are one session; on a device give its rows one number, or fork it"
                )));
            }
            let mut kv = lock(sequences[index]);
            let done = executor.forward(segment, part, &mut kv, &mut self.calls[index]);
            done.map_err(|error| match error {
                Error::Invalid(reason) => {
                    Error::Invalid(format!("of the rows of sequence {index}: {reason}"))
                }
                error => error,
            })?;
        }
        self.merge(rows);
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
    fn merge(&mut self, rows: &[Row]) {
        let ran = self
            .calls
            .iter()
            .find(|call| call.outputs().next().is_some());
        let declared = ran.into_iter().flat_map(DeviceForward::outputs);
        let declared: Vec<(String, Dim)> = declared
            .map(|(name, dim, _)| (name.to_owned(), dim))
            .collect();
        for (name, dim) in declared {
            let counts = |row: &Row| dim == Dim::Rows || row.output;
            let mut left: Vec<&[f32]> = self
                .calls
                .iter()
                .map(|call| call.output(&name).unwrap_or_default())
                .collect();
            let mut counted = vec![0; left.len()];
            let places = || std::iter::zip(rows, &self.places).filter(|(row, _)| counts(row));
            places().for_each(|(_, place)| counted[place.sequence] += 1);
            let columns: Vec<usize> = std::iter::zip(&left, &counted)
                .map(|(values, count)| values.len() / (*count).max(1))
                .collect();
            let mut values = Vec::with_capacity(left.iter().map(|values| values.len()).sum());
            for (_, place) in places() {
                let (row, rest) = left[place.sequence].split_at(columns[place.sequence]);
                values.extend_from_slice(row);
                left[place.sequence] = rest;
            }
            self.merged.push((name, values));
        }
    }

    /// Appends the rows `path` of the call to the sequence that they were computed over.
    pub fn commit(&self, executor: &DeviceExecutor, kv: &mut DeviceKv, path: &[u32]) -> Result<()> {
        if let [call] = &*self.calls {
            return executor.commit(kv, call, path);
        }
        let places = path
            .iter()
            .map(|row| self.places.get(*row as usize).copied());
        let places: Option<Vec<Place>> = places.collect();
        let sequence = places
            .as_ref()
            .and_then(|places| places.first())
            .map(|place| place.sequence);
        let of_one =
            places.filter(|places| places.iter().all(|place| Some(place.sequence) == sequence));
        match (sequence, of_one) {
            (Some(sequence), Some(places)) => {
                let path: Vec<u32> = places.iter().map(|place| place.row).collect();
                executor.commit(kv, &self.calls[sequence], &path)
            }
            (None, Some(_)) => Ok(()),
            _ => Err(Error::Invalid(format!(
                "{path:?} is no path of the call: its rows are of several sequences"
            ))),
        }
    }
}
