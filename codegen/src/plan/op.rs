use super::InputDtype;
use super::segment::{BufferId, RopeId, WeightId};
use serde::{Deserialize, Serialize};

/// One fused operation. Row counts come from the buffers it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `output[r, :] = table[token(r), :]`.
    Embed {
        /// Matrix [vocab_size, hidden_size].
        table: WeightId,
        /// [rows, hidden_size].
        output: BufferId,
    },
    /// Optional norm, one or more matrix products that share the input, and an epilogue.
    Linear(Linear),
    /// Scaled dot-product attention of each row over its visible positions (see [`super::Row`]), with grouped
    /// query heads: `output[r, h, :] = sum_p softmax_p(scale * q[r, h, :] . K[p, h / group, :]) V[p, h / group, :]`.
    Attention {
        /// [rows, num_attention_heads * head_dim].
        q: BufferId,
        /// [rows, num_attention_heads * head_dim].
        output: BufferId,
        /// Layer of the KV cache.
        layer: u32,
        /// Multiplier of the scores, 1 / sqrt(head_dim) as a rule.
        scale: f32,
        /// Sliding window: a row at position p sees positions p - window + 1 ..= p only.
        window: Option<u32>,
    },
    /// `output` receives, in order, the rows of `input` whose [`super::Row::output`] is set.
    Gather {
        /// [rows, n].
        input: BufferId,
        /// [output rows, n].
        output: BufferId,
    },
    /// `output` receives `input`, normalised if so asked; either may be a part of the columns of its buffer.
    Copy {
        /// [rows, n].
        input: Columns,
        /// Applied to the n columns.
        norm: Option<Norm>,
        /// [rows, n].
        output: Columns,
    },
}

/// Columns `start..start + count` of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// [rows, at least start + count].
    pub buffer: BufferId,
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Op {
    /// Its kind in a word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::Linear(_) => "linear",
            Op::Attention { .. } => "attention",
            Op::Gather { .. } => "gather",
            Op::Copy { .. } => "copy",
        }
    }
}

/// `y_i = norm(x) W_i^T (+ bias_i)` for every part i, then the epilogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// [rows, K].
    pub input: BufferId,
    /// Applied to the input first.
    pub norm: Option<Norm>,
    /// Rounding of the (normalised) input.
    pub input_dtype: InputDtype,
    /// Matrices [N_i, K] over the same input.
    pub parts: Vec<Part>,
    /// What happens to the products.
    pub epilogue: Epilogue,
}

/// Root-mean-square norm over the last dimension: `x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// Vector `[K]`.
    pub weight: WeightId,
    /// Added to the mean square.
    pub eps: f32,
}

/// One matrix of a [`Linear`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Matrix [N, K].
    pub weight: WeightId,
    /// Vector `[N]`.
    pub bias: Option<WeightId>,
}

/// What a [`Linear`] does with its products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Epilogue {
    /// One part: `output = y`.
    Store {
        /// [rows, N].
        output: BufferId,
    },
    /// One part: `residual += y`, or `residual += activation(y)`.
    Residual {
        /// [rows, N], read and written.
        residual: BufferId,
        /// Applied to y.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<Activation>,
    },
    /// Two parts, gate and up: `output = activation(y_gate) * y_up`.
    Gated {
        /// Applied to the gate.
        activation: Activation,
        /// [rows, N].
        output: BufferId,
    },
    /// Three parts, q, k and v: head norms, RoPE, and the append of k and v to the KV cache.
    Qkv(QkvEpilogue),
}

impl Epilogue {
    /// The buffer that is written.
    pub fn output(&self) -> BufferId {
        match self {
            Epilogue::Store { output } | Epilogue::Gated { output, .. } => *output,
            Epilogue::Residual { residual, .. } => *residual,
            Epilogue::Qkv(qkv) => qkv.q,
        }
    }
}

/// Epilogue of the attention input projection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QkvEpilogue {
    /// [rows, num_attention_heads * head_dim], rotated queries.
    pub q: BufferId,
    /// Layer of the KV cache that k and v are appended to.
    pub layer: u32,
    /// Rotation applied to q and k, halves rotated against each other (not interleaved pairs).
    pub rope: RopeId,
    /// Norm over each head of q, before the rotation. Weight `[head_dim]`.
    pub q_norm: Option<Norm>,
    /// Norm over each head of k, before the rotation. Weight `[head_dim]`.
    pub k_norm: Option<Norm>,
}

/// Non-linearity of a feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU, tanh approximation.
    GeluTanh,
}
