use crate::{Error, Result};
use stheno::checkpoint::Checkpoint;
use stheno::model::ModelConfig;

/// What a draft shares with its target, as f32.
#[derive(Debug, Clone)]
pub struct Target {
    /// Sizes.
    pub config: ModelConfig,
    /// `model.embed_tokens.weight`, `[vocab_size, hidden_size]`.
    pub embedding: Vec<f32>,
    /// The output head, `[vocab_size, hidden_size]`; `None` if it is the embedding.
    pub lm_head: Option<Vec<f32>>,
    /// Weight of the final norm, `[hidden_size]`.
    pub norm: Vec<f32>,
}

impl Target {
    /// Reads embedding, head and final norm of a checkpoint.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape than the configuration says.
    pub fn read(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Self> {
        let (n, k) = (config.vocab_size as usize, config.hidden_size as usize);
        let rows = |name: &str| -> Result<Vec<f32>> {
            let matrix = checkpoint.matrix(name, n, k)?;
            let len = n.checked_mul(k).ok_or_else(|| {
                Error::Invalid(format!("`{name}` of {n} rows of {k} is too large"))
            })?;
            let mut out = vec![0.0; len];
            for (row, out) in out.chunks_exact_mut(k).enumerate() {
                matrix.dequantize_row(row, out);
            }
            Ok(out)
        };
        Ok(Target {
            embedding: rows("model.embed_tokens.weight")?,
            lm_head: match config.tie_word_embeddings {
                true => None,
                false => Some(rows("lm_head.weight")?),
            },
            norm: Self::final_norm(checkpoint, config)?,
            config: config.clone(),
        })
    }

    /// Reads the weight of the final norm alone, `[hidden_size]`.
    ///
    /// # Errors
    /// As [`Target::read`].
    pub fn final_norm(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Vec<f32>> {
        Ok(checkpoint.vector("model.norm.weight", config.hidden_size as usize)?)
    }

    /// The output head's matrix, `[vocab_size, hidden_size]`.
    pub fn head(&self) -> &[f32] {
        self.lm_head.as_deref().unwrap_or(&self.embedding)
    }
}
