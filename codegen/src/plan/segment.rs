use super::{Dtype, KV_PAGE, Op};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl $name {
            /// Position in the list of declarations.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// Names one of [`Plan::weights`].
    WeightId
);
index!(
    /// Names one of [`Plan::buffers`].
    BufferId
);
index!(
    /// Names one of [`Plan::ropes`].
    RopeId
);

/// A whole decode program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Model family, for people.
    pub name: String,
    /// Number of token ids.
    pub vocab_size: u32,
    /// Largest number of positions of one sequence.
    pub context_length: u32,
    /// The KV cache that attention ops read and Qkv epilogues write.
    pub kv: KvDecl,
    /// The draft that speculates for the model, if its segments are part of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftDecl>,
    /// Whether a decode loop may guess what followed the same tokens before (n-gram lookup), which takes no segment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looks_up: bool,
    /// Constant inputs.
    pub weights: Vec<WeightDecl>,
    /// Values that live for one call of a segment.
    pub buffers: Vec<BufferDecl>,
    /// Rotation tables.
    pub ropes: Vec<RopeDecl>,
    /// What can be called.
    pub segments: Vec<Segment>,
}

impl Plan {
    /// The segment of that kind, if the plan has it.
    pub fn segment(&self, kind: SegmentKind) -> Option<&Segment> {
        self.segments.iter().find(|s| s.kind == kind)
    }

    /// The buffer of that name, if the plan has it.
    pub fn buffer_named(&self, name: &str) -> Option<BufferId> {
        let index = self.buffers.iter().position(|b| b.name == name)?;
        Some(BufferId(index as u32))
    }

    /// The KV cache of a segment: the target's, or the draft's own.
    pub fn kv_of(&self, kind: SegmentKind) -> KvDecl {
        match &self.draft {
            Some(draft) if kind.is_draft() => draft.kv,
            _ => self.kv,
        }
    }

    /// Token ids that the rows of a segment may have are below this.
    pub fn vocab_size_of(&self, kind: SegmentKind) -> u32 {
        match &self.draft {
            Some(draft) if kind.is_draft() => draft.vocab_size,
            _ => self.vocab_size,
        }
    }

    /// Declaration of a weight. The id must come from this plan.
    pub fn weight(&self, id: WeightId) -> &WeightDecl {
        &self.weights[id.index()]
    }

    /// Declaration of a buffer. The id must come from this plan.
    pub fn buffer(&self, id: BufferId) -> &BufferDecl {
        &self.buffers[id.index()]
    }

    /// Declaration of a rotation. The id must come from this plan.
    pub fn rope(&self, id: RopeId) -> &RopeDecl {
        &self.ropes[id.index()]
    }
}

/// Shape and type of the KV cache. Per layer and position it holds K and V of
/// [num_key_value_heads, head_dim] each, in pages of [`KV_PAGE`] positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvDecl {
    /// Number of layers.
    pub layers: u32,
    /// Heads of K and of V.
    pub num_key_value_heads: u32,
    /// Elements of one head.
    pub head_dim: u32,
    /// Type that K and V are rounded to when appended.
    pub dtype: Dtype,
}

impl KvDecl {
    /// Bytes of K and V of one layer in one page.
    pub fn layer_bytes(&self) -> usize {
        let elements = 2 * self.num_key_value_heads as usize * self.head_dim as usize;
        elements * KV_PAGE * self.dtype.size()
    }

    /// Bytes of a page: K and V of [`KV_PAGE`] positions, all layers.
    pub fn page_bytes(&self) -> usize {
        self.layer_bytes() * self.layers as usize
    }
}

/// A draft: a small model whose guesses at the tokens to come the target verifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftDecl {
    /// Kind of draft, for people.
    pub kind: String,
    /// The KV cache of its segments; no layers if it has no attention.
    pub kv: KvDecl,
    /// Number of token ids that it can be fed.
    pub vocab_size: u32,
}

/// What the names of a draft's own weights and buffers start with, so that they cannot meet the target's.
pub const DRAFT_PREFIX: &str = "draft.";

/// A constant input, known by its checkpoint name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WeightDecl {
    /// Name in the checkpoint, Hugging Face spelling; after [`DRAFT_PREFIX`] the name in the draft's checkpoint.
    pub name: String,
    /// Shape and role.
    pub shape: WeightShape,
}

/// Shape of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightShape {
    /// Row-major [n, k]: `y = x W^T`. May be quantized.
    Matrix {
        /// Outputs.
        n: u32,
        /// Inputs.
        k: u32,
    },
    /// `[n]`, used in f32.
    Vector {
        /// Elements.
        n: u32,
    },
}

impl fmt::Display for WeightShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightShape::Matrix { n, k } => write!(f, "[{n}, {k}]"),
            WeightShape::Vector { n } => write!(f, "[{n}]"),
        }
    }
}

/// How many rows a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dim {
    /// The rows of the call.
    Rows,
    /// The rows of the call whose [`super::Row::output`] is set.
    OutputRows,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dim::Rows => "rows",
            Dim::OutputRows => "output rows",
        })
    }
}

/// A value of [rows, columns] that lives for one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferDecl {
    /// Unique name.
    pub name: String,
    /// Element type; writes round to it.
    pub dtype: Dtype,
    /// First dimension.
    pub rows: Dim,
    /// Second dimension.
    pub columns: u32,
}

/// Rotation of the pairs (i, i + n) of a head by `position * inv_freq[i]`, n being the length of `inv_freq`;
/// elements from 2 n on pass unrotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeDecl {
    /// Inverse frequencies, all scaling applied. At most head_dim / 2.
    pub inv_freq: Vec<f32>,
    /// Multiplies both sine and cosine (the attention factor of YaRN; 1 otherwise).
    pub attention_factor: f32,
    /// Replaces `inv_freq` at late positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicNtk>,
}

/// Frequencies of a position p at or beyond `trained_length` (NTK-aware scaling), for pair i of `dims / 2`, with
/// length = p + 1: `1 / b^(2 i / dims)`, `b = theta (factor length / trained_length - (factor - 1))^(dims / (dims - 2))`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DynamicNtk {
    /// Base of the unscaled frequencies.
    pub theta: f64,
    /// Strength of the stretch.
    pub factor: f64,
    /// Positions that the model was trained on; before them the frequencies are `RopeDecl::inv_freq`.
    pub trained_length: u32,
}

impl RopeDecl {
    /// The inverse frequencies that rotate a position, [`Self::inv_freq`]'s length.
    pub fn inv_freq_at(&self, position: u32) -> Cow<'_, [f32]> {
        match self.dynamic {
            Some(ntk) if position >= ntk.trained_length => {
                let dims = 2 * self.inv_freq.len();
                let stretch = f64::from(position) + 1.0;
                let stretch = ntk.factor * stretch / f64::from(ntk.trained_length);
                let exponent = dims as f64 / (dims as f64 - 2.0);
                let base = ntk.theta * (stretch - (ntk.factor - 1.0)).powf(exponent);
                let power = |i: usize| (base as f32).powf((2 * i) as f32 / dims as f32);
                (0..dims / 2).map(|i| 1.0 / power(i)).collect()
            }
            _ => Cow::Borrowed(&self.inv_freq),
        }
    }

    /// Whether heads of that size can be rotated by it; what is wrong if not.
    pub(super) fn check(&self, head_dim: u32) -> Result<(), String> {
        let rotated = 2 * self.inv_freq.len();
        if rotated > head_dim as usize {
            return Err(format!("it rotates {rotated} of {head_dim} head dims"));
        }
        if let Some(f) = self.inv_freq.iter().find(|f| !f.is_finite()) {
            return Err(format!("its frequency {f} is no finite number"));
        }
        if !self.attention_factor.is_finite() {
            let factor = self.attention_factor;
            return Err(format!("its factor {factor} is no finite number"));
        }
        if let Some(DynamicNtk {
            theta,
            factor,
            trained_length,
        }) = self.dynamic
        {
            let positive = |x: f64| x > 0.0 && x.is_finite();
            if !positive(theta) || !positive(factor) || trained_length == 0 {
                return Err(format!(
                    "it scales base {theta} by {factor} from position {trained_length}"
                ));
            }
        }
        Ok(())
    }
}

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// Prompt chunks: wide, compute-bound.
    Prefill,
    /// One decoding or verification step.
    Target,
    /// The draft over prompt chunks.
    DraftPrefill,
    /// The draft over the rows that a verify accepted, from what the target computed at them.
    Extend,
    /// One step of drafting: a frontier of the tree, from what the draft itself computed.
    Draft,
}

impl SegmentKind {
    /// Whether it runs the draft, over the draft's KV cache.
    pub fn is_draft(self) -> bool {
        match self {
            SegmentKind::Prefill | SegmentKind::Target => false,
            SegmentKind::DraftPrefill | SegmentKind::Extend | SegmentKind::Draft => true,
        }
    }
}

impl fmt::Display for SegmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SegmentKind::Prefill => "prefill",
            SegmentKind::Target => "target",
            SegmentKind::DraftPrefill => "draft prefill",
            SegmentKind::Extend => "extend",
            SegmentKind::Draft => "draft",
        })
    }
}

/// Ops that run one after the other over the rows of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What it is for.
    pub kind: SegmentKind,
    /// Largest number of rows of one call.
    pub max_rows: u32,
    /// Buffers that hold values before the first op runs: results of other segments, for each row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<BufferId>,
    /// Buffers that outlive the call.
    pub outputs: Vec<BufferId>,
    /// Executed in order.
    pub ops: Vec<Op>,
}
