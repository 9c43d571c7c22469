use serde::{Deserialize, Serialize};

/// Positions in one page of the KV cache. Every executor addresses KV through pages of this size.
pub const KV_PAGE: usize = 128;

/// Which of the sequences handed to a call a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SequenceIndex(pub u32);

/// Which loaded delta (adapter) a row runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeltaId(pub u32);

/// One token to process, and where it stands.
///
/// A row sees the committed positions of its sequence, then its ancestors among the rows of the same call
/// (following `parent`), then itself. A chain and a tree are rows of one sequence, a batch is rows of
/// several; rows of different sequences never see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Token id fed at this row.
    pub token: u32,
    /// Sequence the row belongs to.
    pub sequence: SequenceIndex,
    /// Absolute position in the sequence: its committed length for a row without a parent, and one more than
    /// the parent's otherwise.
    pub position: u32,
    /// Index in the same call of the row that comes before this one; always smaller than the row's own index.
    /// `None`: the row follows the last committed position.
    pub parent: Option<u32>,
    /// Delta applied to this row; `None` is the base model.
    pub delta: Option<DeltaId>,
    /// Whether the call returns logits (and hidden states) for this row.
    pub output: bool,
}

impl Row {
    /// Rows that feed `tokens` as a chain after `start` committed positions of sequence `sequence`; only
    /// the last one has `output` set.
    pub fn chain(sequence: SequenceIndex, start: u32, tokens: &[u32]) -> Vec<Row> {
        let last = tokens.len().saturating_sub(1);
        let rows = tokens.iter().zip(0u32..);
        rows.map(|(&token, i)| Row {
            token,
            sequence,
            position: start + i,
            parent: i.checked_sub(1),
            delta: None,
            output: i as usize == last,
        })
        .collect()
    }
}
