use crate::{Error, Result};

/// Ids of the draft for tokens of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DraftIds {
    /// `[vocab_size]`.
    of: Vec<Option<u32>>,
}

impl DraftIds {
    /// Of a draft vocabulary: ids of the target, rising.
    pub fn new(vocabulary: &[u32], vocab_size: usize) -> Result<Self> {
        if vocabulary.is_empty() || !vocabulary.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid(
                "a draft vocabulary is a rising list of at least one token id".to_owned(),
            ));
        }
        let mut of = vec![None; vocab_size];
        for (own, &id) in (0..).zip(vocabulary) {
            let slot = of.get_mut(id as usize).ok_or_else(|| {
                Error::Invalid(format!(
                    "the draft vocabulary has token {id}, the target's vocabulary has {vocab_size}"
                ))
            })?;
            *slot = Some(own);
        }
        Ok(DraftIds { of })
    }

    pub fn of(&self, token: u32) -> Option<u32> {
        self.of.get(token as usize).copied().flatten()
    }
}

/// Rows of a matrix of rows of `width`, one after another. Ids are within the matrix.
pub(crate) fn rows(matrix: &[f32], width: usize, ids: impl IntoIterator<Item = u32>) -> Vec<f32> {
    let rows = ids
        .into_iter()
        .map(|id| &matrix[id as usize * width..][..width]);
    rows.flatten().copied().collect()
}

/// Tells lists of tokens apart (FNV-1a).
pub(crate) fn fingerprint(tokens: &[u32]) -> u64 {
    let bytes = tokens.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
