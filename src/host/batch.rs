use super::executor::Call;
use super::{KvRows, KvSequence};
use crate::{Error, Result};
use stheno_codegen::plan::{Plan, Row, Segment};

/// The rows of one call, checked, with what ops need to know of them.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub rows: &'a [Row],
    pub sequences: &'a [&'a KvSequence],
    /// Rows of the calls that this one continues: index of the first row among all.
    pub first: usize,
    /// Rows whose output is wanted, in order; counted from the first of this call.
    pub outputs: Vec<usize>,
    /// For each row: the rows, counted among all, from its first ancestor that is not committed down to itself. They
    /// hold positions from the committed length of the sequence on.
    pub paths: Vec<Vec<u32>>,
}

impl<'a> Batch<'a> {
    /// Checks rows against the segment, the plan and the sequences.
    pub fn new(plan: &Plan, segment: &Segment, call: &Call<'a>, earlier: &KvRows) -> Result<Self> {
        let (rows, sequences) = (call.rows, call.sequences);
        let first = earlier.len();
        let fail = |reason: String| Err(Error::Invalid(reason));
        if rows.is_empty() || rows.len() > segment.max_rows as usize {
            return fail(format!(
                "a call of segment {} takes 1 to {} rows, got {}",
                segment.kind,
                segment.max_rows,
                rows.len()
            ));
        }
        let kv = plan.kv_of(segment.kind);
        if first > 0 && earlier.decl() != Some(&kv) {
            return fail("the call continues rows of another KV shape".to_owned());
        }
        if let Some(sequence) = sequences.iter().find(|s| *s.decl() != kv) {
            return fail(format!(
                "the KV shape {:?} is not the plan's",
                sequence.decl()
            ));
        }
        let mut paths: Vec<Vec<u32>> = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let Some(sequence) = sequences.get(row.sequence.0 as usize) else {
                return fail(format!(
                    "row {i} names sequence {}, which is not there",
                    row.sequence.0
                ));
            };
            let vocab_size = plan.vocab_size_of(segment.kind);
            if row.token >= vocab_size {
                return fail(format!(
                    "row {i}: token {} is not below the vocabulary size {vocab_size}",
                    row.token
                ));
            }
            if row.position >= plan.context_length {
                return Err(Error::ContextOverflow {
                    needed: row.position as usize + 1,
                    context_length: plan.context_length as usize,
                });
            }
            if let Some(delta) = row.delta {
                return fail(format!(
                    "row {i} names delta {}, and none is loaded",
                    delta.0
                ));
            }
            let mut path = match row.parent {
                None => Vec::new(),
                Some(parent) => {
                    let (sequence, path) = match (parent as usize).checked_sub(first) {
                        None => (earlier.sequence(parent), earlier.path(parent)),
                        Some(own) => (
                            rows.get(own).map(|row| row.sequence),
                            paths.get(own).cloned().unwrap_or_default(),
                        ),
                    };
                    if sequence != Some(row.sequence) || path.is_empty() {
                        return fail(format!(
                            "row {i}: parent {parent} is no earlier row of its sequence"
                        ));
                    }
                    path
                }
            };
            let expected = sequence.len() + path.len();
            if row.position as usize != expected {
                return fail(format!(
                    "row {i} is at position {}, its sequence continues at {expected}",
                    row.position
                ));
            }
            path.push((first + i) as u32);
            paths.push(path);
        }
        let outputs = (0..rows.len()).filter(|&i| rows[i].output).collect();
        Ok(Batch {
            rows,
            sequences,
            first,
            outputs,
            paths,
        })
    }

    /// The sequence that a row belongs to.
    pub fn sequence(&self, row: usize) -> &'a KvSequence {
        self.sequences[self.rows[row].sequence.0 as usize]
    }
}
