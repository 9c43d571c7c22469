use serde::{Deserialize, Serialize};

/// Medusa heads and how they are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MedusaSettings {
    /// How many: head i guesses the token 2 + i after the one whose hidden state it is fed.
    pub heads: usize,
    /// Weight of head i's loss is this to the power of i. (Cai et al., 2024, use 0.8; their code sums without weights.)
    pub decay: f64,
    /// Whether each head learns a matrix of its own over the draft vocabulary, which begins as the target's rows. Otherwise
    /// all of them use the target's head, which stays as it is.
    pub own_matrices: bool,
    /// Whether heads learn the target's distribution instead of the text's token. The target's distribution at the
    /// position before the token is the one that saw the tokens between.
    pub soft_targets: bool,
}

impl Default for MedusaSettings {
    fn default() -> Self {
        MedusaSettings {
            heads: 3,
            decay: 0.8,
            own_matrices: false,
            soft_targets: false,
        }
    }
}
