use super::KvSequence;
use crate::{Error, Result};
use stheno_codegen::plan::{Plan, Row, Segment};

/// The rows of one call, checked, with what ops need to know of them.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub rows: &'a [Row],
    pub sequences: &'a [&'a KvSequence],
    /// Rows whose output is wanted, in order.
    pub outputs: Vec<usize>,
    /// For each row: the rows from its first ancestor in the call down to itself. They hold positions from the
    /// committed length of the sequence on.
    pub paths: Vec<Vec<u32>>,
}

impl<'a> Batch<'a> {
    /// Checks rows against the segment, the plan and the sequences.
    pub fn new(
        plan: &Plan,
        segment: &Segment,
        rows: &'a [Row],
        sequences: &'a [&'a KvSequence],
    ) -> Result<Self> {
        let fail = |reason: String| Err(Error::Invalid(reason));
        if rows.is_empty() || rows.len() > segment.max_rows as usize {
            return fail(format!(
                "a call of segment {} takes 1 to {} rows, got {}",
                segment.kind,
                segment.max_rows,
                rows.len()
            ));
        }
        if let Some(sequence) = sequences.iter().find(|s| *s.decl() != plan.kv) {
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
            if row.token >= plan.vocab_size {
                return fail(format!(
                    "row {i}: token {} is not below the vocabulary size {}",
                    row.token, plan.vocab_size
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
                Some(parent) => match paths.get(parent as usize) {
                    Some(path) if rows[parent as usize].sequence == row.sequence => path.clone(),
                    _ => {
                        return fail(format!(
                            "row {i}: parent {parent} is no earlier row of its sequence"
                        ));
                    }
                },
            };
            let expected = sequence.len() + path.len();
            if row.position as usize != expected {
                return fail(format!(
                    "row {i} is at position {}, its sequence continues at {expected}",
                    row.position
                ));
            }
            path.push(i as u32);
            paths.push(path);
        }
        let outputs = (0..rows.len()).filter(|&i| rows[i].output).collect();
        Ok(Batch {
            rows,
            sequences,
            outputs,
            paths,
        })
    }

    /// The sequence that a row belongs to.
    pub fn sequence(&self, row: usize) -> &'a KvSequence {
        self.sequences[self.rows[row].sequence.0 as usize]
    }
}
