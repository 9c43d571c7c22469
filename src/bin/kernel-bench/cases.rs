use serde::Serialize;
use std::fmt;
use stheno::Error;
use stheno::device::Stepper;
use stheno::draft::RandomDraft;
use stheno::plan::{Epilogue, Op, SegmentKind};
use stheno_codegen::program::abi::PhaseKind;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchOp {
    Embed,
    Qkv,
    Attention,
    O,
    GateUp,
    Down,
    Head,
    Matmul,
    ChooseGreedy,
    ChooseTopP,
    ChooseLogprobs,
    Step,
    TreeVerify,
    Prefill,
    DraftHeads,
    DraftHeadsOwn,
    DraftLayer,
    DraftExtend,
}

/// Medusa heads of a draft.
pub const HEADS: u32 = 4;

/// Nodes of a level of a tree, and tokens that a draft lists.
pub const DRAFT_WIDTH: u32 = 8;

/// Tokens that an EAGLE layer guesses at.
const LAYER_VOCAB: u32 = 32_000;

impl BenchOp {
    pub const ALL: [BenchOp; 18] = [
        BenchOp::Embed,
        BenchOp::Qkv,
        BenchOp::Attention,
        BenchOp::O,
        BenchOp::GateUp,
        BenchOp::Down,
        BenchOp::Head,
        BenchOp::Matmul,
        BenchOp::ChooseGreedy,
        BenchOp::ChooseTopP,
        BenchOp::ChooseLogprobs,
        BenchOp::Step,
        BenchOp::TreeVerify,
        BenchOp::Prefill,
        BenchOp::DraftHeads,
        BenchOp::DraftHeadsOwn,
        BenchOp::DraftLayer,
        BenchOp::DraftExtend,
    ];

    pub fn name(self) -> &'static str {
        match self {
            BenchOp::Embed => "embed",
            BenchOp::Qkv => "qkv",
            BenchOp::Attention => "attention",
            BenchOp::O => "o",
            BenchOp::GateUp => "gate-up",
            BenchOp::Down => "down",
            BenchOp::Head => "head",
            BenchOp::Matmul => "matmul",
            BenchOp::ChooseGreedy => "choose-greedy",
            BenchOp::ChooseTopP => "choose-top-p",
            BenchOp::ChooseLogprobs => "choose-logprobs",
            BenchOp::Step => "step",
            BenchOp::TreeVerify => "tree-verify",
            BenchOp::Prefill => "prefill",
            BenchOp::DraftHeads => "draft-heads",
            BenchOp::DraftHeadsOwn => "draft-heads-own",
            BenchOp::DraftLayer => "draft-layer",
            BenchOp::DraftExtend => "draft-extend",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            BenchOp::Embed => "rows of the embedding table, and their norm's input",
            BenchOp::Qkv => "norm, products with q, k and v",
            BenchOp::Attention => {
                "head norms, rotation, append to the KV cache, attention over --context positions"
            }
            BenchOp::O => "products with the output projection, added to the residual",
            BenchOp::GateUp => "norm, products with gate and up, silu(gate) * up",
            BenchOp::Down => "products with the down projection, added to the residual",
            BenchOp::Head => "norm, products with the head, largest logit of each block",
            BenchOp::Matmul => "products with one matrix, of shapes NxK",
            BenchOp::ChooseGreedy => "the most likely token out of the blocks' best",
            BenchOp::ChooseTopP => "a sampled token: temperature 0.8, top-p 0.95",
            BenchOp::ChooseLogprobs => "the most likely token and 8 log-probabilities",
            BenchOp::Step => "a whole call: embedding to chosen tokens",
            BenchOp::TreeVerify => "a whole call over a tree of as many nodes as rows, 2 or more",
            BenchOp::Prefill => "a whole chunk of a prompt, as wide as the program takes",
            BenchOp::DraftHeads => {
                "4 Medusa heads, a block each and the model's own head, on one row: 8 tokens of each"
            }
            BenchOp::DraftHeadsOwn => "the same where each has a matrix of its own",
            BenchOp::DraftLayer => {
                "a level of an EAGLE-3 layer with 32000 tokens, 1 and 8 rows: 8 tokens of each"
            }
            BenchOp::DraftExtend => {
                "the same layer over 8 accepted rows, fed the model's hidden states: the first level"
            }
        }
    }

    /// Whether it multiplies with weights, and nothing else.
    pub fn is_linear(self) -> bool {
        matches!(
            self,
            BenchOp::Qkv
                | BenchOp::O
                | BenchOp::GateUp
                | BenchOp::Down
                | BenchOp::Head
                | BenchOp::Matmul
        )
    }

    pub fn is_choice(self) -> bool {
        matches!(
            self,
            BenchOp::ChooseGreedy | BenchOp::ChooseTopP | BenchOp::ChooseLogprobs
        )
    }

    /// Whether it is a call of all phases.
    pub fn is_whole(self) -> bool {
        matches!(self, BenchOp::Step | BenchOp::TreeVerify | BenchOp::Prefill) || self.is_draft()
    }

    pub fn is_draft(self) -> bool {
        self.draft().is_some()
    }

    /// The draft that a draft's op is a call of.
    pub fn draft(self) -> Option<RandomDraft> {
        let heads = |own_matrices| RandomDraft::Heads {
            heads: HEADS,
            own_matrices,
        };
        match self {
            BenchOp::DraftHeads => Some(heads(false)),
            BenchOp::DraftHeadsOwn => Some(heads(true)),
            BenchOp::DraftLayer | BenchOp::DraftExtend => Some(RandomDraft::Layer {
                vocab_size: LAYER_VOCAB,
            }),
            _ => None,
        }
    }

    /// Rows of a draft's calls: heads look at one, levels of a tree have one or several, and a round accepts several.
    pub fn draft_rows(self) -> &'static [u32] {
        match self {
            BenchOp::DraftHeads | BenchOp::DraftHeadsOwn => &[1],
            BenchOp::DraftLayer => &[1, DRAFT_WIDTH],
            BenchOp::DraftExtend => &[DRAFT_WIDTH],
            _ => &[],
        }
    }

    /// The segment that a whole call is one of.
    pub fn segment(self) -> SegmentKind {
        match self {
            BenchOp::Prefill => SegmentKind::Prefill,
            BenchOp::DraftExtend => SegmentKind::Extend,
            op if op.is_draft() => SegmentKind::Draft,
            _ => SegmentKind::Target,
        }
    }

    /// Whether its cost depends on the positions before the call.
    pub fn sees_context(self) -> bool {
        matches!(
            self,
            BenchOp::Attention
                | BenchOp::Step
                | BenchOp::TreeVerify
                | BenchOp::DraftLayer
                | BenchOp::DraftExtend
        )
    }
}

impl fmt::Display for BenchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What `--op` names: one op or several.
#[derive(Debug, Clone)]
pub struct OpName(pub Vec<BenchOp>);

impl OpName {
    pub fn parse(text: &str) -> Result<OpName, Error> {
        let those = |which: fn(BenchOp) -> bool| {
            let ops = BenchOp::ALL.into_iter().filter(|op| which(*op));
            Ok(OpName(ops.collect()))
        };
        match text {
            "all" => those(|_| true),
            "linear" => those(BenchOp::is_linear),
            "choose" => those(BenchOp::is_choice),
            "draft" => those(BenchOp::is_draft),
            _ => match BenchOp::ALL.into_iter().find(|op| op.name() == text) {
                Some(op) => Ok(OpName(vec![op])),
                None => {
                    let names: Vec<_> = BenchOp::ALL.iter().map(|op| op.name()).collect();
                    let names = names.join(", ");
                    Err(Error::Invalid(format!(
                        "`{text:.100}` is no op; there are {names}, and linear, choose, draft and all"
                    )))
                }
            },
        }
    }
}

/// The ops that a phase is; none for what is part of whole calls only.
pub fn ops_of(stepper: &Stepper, phase: usize) -> &'static [BenchOp] {
    let Some(kind) = stepper.phases().get(phase).map(|phase| phase.kind) else {
        return &[];
    };
    if kind == PhaseKind::Choose as u32 {
        return &[
            BenchOp::ChooseGreedy,
            BenchOp::ChooseTopP,
            BenchOp::ChooseLogprobs,
        ];
    }
    if kind == PhaseKind::Embed as u32 {
        return &[BenchOp::Embed];
    }
    if kind == PhaseKind::Attention as u32 {
        return &[BenchOp::Attention];
    }
    if kind != PhaseKind::Linear as u32 {
        return &[];
    }
    let Some(Op::Linear(linear)) = stepper.op(phase) else {
        return &[];
    };
    match &linear.epilogue {
        Epilogue::Qkv(_) => &[BenchOp::Qkv],
        Epilogue::Gated { .. } => &[BenchOp::GateUp],
        Epilogue::Store { .. } if stepper.phases().iter().any(is_attention) => &[BenchOp::Head],
        Epilogue::Store { .. } => &[BenchOp::Matmul],
        Epilogue::Residual { .. } => {
            // The one that follows the gated feed-forward, or else attention.
            let before = (0..phase).rev().filter_map(|phase| stepper.op(phase));
            let mut before = before.filter_map(|op| match op {
                Op::Linear(linear) => Some(matches!(linear.epilogue, Epilogue::Gated { .. })),
                Op::Attention { .. } => Some(false),
                _ => None,
            });
            match before.next() {
                Some(true) => &[BenchOp::Down],
                _ => &[BenchOp::O],
            }
        }
    }
}

fn is_attention(phase: &stheno_codegen::program::abi::Phase) -> bool {
    phase.kind == PhaseKind::Attention as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for op in BenchOp::ALL {
            assert_eq!(OpName::parse(op.name()).unwrap().0, [op]);
        }
        assert_eq!(OpName::parse("all").unwrap().0.len(), BenchOp::ALL.len());
        assert_eq!(OpName::parse("choose").unwrap().0.len(), 3);
        let drafts = OpName::parse("draft").unwrap().0;
        assert_eq!(drafts.len(), 4);
        assert!(drafts.iter().all(|op| !op.draft_rows().is_empty()));
        let error = OpName::parse("gemm").unwrap_err().to_string();
        assert!(
            error.contains("`gemm`") && error.contains("gate-up"),
            "{error}"
        );
    }
}
