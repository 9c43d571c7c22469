//! A small model of any supported family, with the target's tokenizer.

use super::drafter::{Ask, DraftModel, Drafter, Proposal};
use super::grow::{LevelNode, Stepper, grow};
use crate::checkpoint::Checkpoint;
use crate::device::DeviceDrafter;
use crate::engine::Engine;
use crate::host::{Call, Forward, KvSequence};
use crate::model::{ModelConfig, PlanOptions, kv_decl, stack};
use crate::text::{Text, Tokenizer};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use stheno_codegen::plan::{
    DRAFT_PREFIX, DraftDecl, PlanBuilder, Row, Segment, SegmentKind, SequenceIndex,
};

/// Vocabularies are padded for the hardware's sake; sizes that differ by more than this are of other tokenizers.
const MOST_PADDING: u32 = 1024;

/// The draft, and what it is checked against.
#[derive(Debug)]
pub(super) struct SmallModel {
    path: PathBuf,
    config: ModelConfig,
}

impl SmallModel {
    /// Reads a checkpoint for a target whose tokenizer is `text`.
    ///
    /// # Errors
    /// If it is not a model of a supported family, or has another tokenizer.
    pub fn read(checkpoint: &Checkpoint, text: Option<&Text>) -> Result<Self> {
        let path = checkpoint.path();
        if let (Some(text), Some(own)) = (text, Text::load(checkpoint.text_source())?) {
            same_tokens(&own.tokenizer, &text.tokenizer, path)?;
        }
        Ok(SmallModel {
            path: path.to_owned(),
            config: ModelConfig::from_json(checkpoint.config(), path)?,
        })
    }

    /// What was inferred, for people.
    pub fn inferred(&self) -> String {
        let config = &self.config;
        format!(
            "small-model, {} layers, hidden_size {}, vocabulary {}",
            config.num_hidden_layers, config.hidden_size, config.vocab_size
        )
    }
}

/// Ids mean the same tokens in both, as far as both have them.
fn same_tokens(draft: &Tokenizer, target: &Tokenizer, path: &Path) -> Result<()> {
    let shared = draft.vocab_size().min(target.vocab_size()) as u32;
    let differs = |id: &u32| draft.token_bytes(*id) != target.token_bytes(*id);
    let Some(id) = (0..shared).find(differs) else {
        return Ok(());
    };
    let text =
        |tokenizer: &Tokenizer| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
    Err(Error::Invalid(format!(
        "the draft {} has another tokenizer than the model: token {id} is {:?} in one and {:?} in the other",
        path.display(),
        text(draft),
        text(target)
    )))
}

impl DraftModel for SmallModel {
    fn kind(&self) -> &'static str {
        "small-model"
    }

    fn on_device(&self) -> DeviceDrafter {
        DeviceDrafter::Model
    }

    fn declare(
        &self,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<()> {
        let (ours, theirs) = (self.config.vocab_size, target.vocab_size);
        if ours.abs_diff(theirs) > MOST_PADDING {
            return Err(Error::Invalid(format!(
                "the draft {} has a vocabulary of {ours} tokens, the model one of {theirs}; a draft model needs the \
                 model's own tokenizer",
                self.path.display()
            )));
        }
        let options = PlanOptions {
            taps: Vec::new(),
            features: crate::model::Features::None,
            ..options.clone()
        };
        builder.draft(DraftDecl {
            kind: self.kind().to_owned(),
            kv: kv_decl(&self.config, &options),
            vocab_size: ours,
        });
        let (ops, outputs) = stack(&self.config, &options, DRAFT_PREFIX, builder)?;
        let kinds = [
            (SegmentKind::DraftPrefill, options.max_prefill_rows),
            (SegmentKind::Extend, options.max_rows),
            (SegmentKind::Draft, options.max_rows),
        ];
        for (kind, max_rows) in kinds {
            builder.segment(Segment {
                kind,
                max_rows,
                inputs: Vec::new(),
                outputs: outputs.clone(),
                ops: ops.clone(),
            });
        }
        Ok(())
    }

    fn start(&self) -> Box<dyn Drafter> {
        Box::new(SmallModelDrafter {
            vocab_size: self.config.vocab_size,
            ..SmallModelDrafter::default()
        })
    }
}

/// Follows the sequence lazily: what was committed is computed when a round wants guesses.
#[derive(Debug, Default)]
struct SmallModelDrafter {
    vocab_size: u32,
    /// Tokens of the sequence.
    tokens: Vec<u32>,
    /// KV of a prefix of them, or of all of them and `root`; made with the first proposal.
    kv: Option<KvSequence>,
    root: u32,
    target_vocab_size: u32,
    /// The rows drafted last, after all of `kv`: token and parent.
    drafted: Vec<(u32, Option<u32>)>,
    /// First row of the level drafted last.
    level: usize,
    forward: Forward,
}

impl SmallModelDrafter {
    /// Commits those of the rows drafted last that came true: their K and V are what the draft would compute again.
    fn keep_drafted(&mut self, known: usize) -> Result<()> {
        let (Some(kv), drafted) = (&mut self.kv, std::mem::take(&mut self.drafted)) else {
            return Ok(());
        };
        if drafted.is_empty() {
            return Ok(());
        }
        let mut path: Vec<u32> = Vec::new();
        for &token in self.tokens.get(known..).unwrap_or_default() {
            let parent = path.last().copied();
            let mut rows = (0u32..).zip(&drafted);
            match rows.find(|(_, row)| **row == (token, parent)) {
                Some((row, _)) => path.push(row),
                None => break,
            }
        }
        kv.commit(self.forward.kv(), &path)
    }

    /// A token as the draft is fed it. Ids that only the target's padding has never come from text.
    fn fed(&self, token: u32) -> u32 {
        if token < self.vocab_size { token } else { 0 }
    }
}

impl Drafter for SmallModelDrafter {
    fn advance(&mut self, _: &Engine, tokens: &[u32], _: &[f32]) -> Result<()> {
        let before = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let Some(kv) = &mut self.kv else {
            return Ok(());
        };
        if kv.len() > before && tokens.first() != Some(&self.root) {
            // The round of that root was given up.
            kv.truncate(before);
            self.drafted.clear();
        }
        let known = kv.len();
        self.keep_drafted(known)
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.drafted.clear();
        if let Some(kv) = &mut self.kv {
            kv.truncate(len);
        }
    }

    fn propose(&mut self, ask: &mut Ask<'_>) -> Result<Proposal> {
        grow(ask, self)
    }

    fn fork(&self) -> Box<dyn Drafter> {
        Box::new(SmallModelDrafter {
            vocab_size: self.vocab_size,
            tokens: self.tokens.clone(),
            kv: self.kv.clone(),
            root: self.root,
            ..SmallModelDrafter::default()
        })
    }
}

impl Stepper for SmallModelDrafter {
    fn root(&mut self, ask: &Ask<'_>) -> Result<()> {
        let plan = ask.engine.plan();
        let mut kv = match self.kv.take() {
            Some(kv) => kv,
            None => KvSequence::new(plan.kv_of(SegmentKind::Draft)),
        };
        // The root may be there from the round before, when this one was given up.
        kv.truncate(self.tokens.len());
        self.drafted.clear();
        let behind = self.tokens.get(kv.len()..).unwrap_or_default().iter();
        let rest: Vec<u32> = behind.chain([&ask.root]).map(|t| self.fed(*t)).collect();
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let kind = match rest.len() {
                len if len
                    <= plan
                        .segment(SegmentKind::Extend)
                        .map_or(0, |s| s.max_rows as usize) =>
                {
                    SegmentKind::Extend
                }
                _ => SegmentKind::DraftPrefill,
            };
            let most = plan.segment(kind).map_or(1, |s| s.max_rows as usize);
            let (chunk, after) = rest.split_at(most.min(rest.len()));
            let rows = Row::chain(SequenceIndex(0), kv.len() as u32, chunk);
            let call = Call {
                segment: kind,
                rows: &rows,
                sequences: &[&kv],
                inputs: &[],
                continues: false,
            };
            ask.engine.call(&call, &mut self.forward)?;
            let path: Vec<u32> = (0..rows.len() as u32).collect();
            kv.commit(self.forward.kv(), &path)?;
            rest = after;
        }
        self.kv = Some(kv);
        self.root = ask.root;
        self.target_vocab_size = plan.vocab_size;
        self.level = 0;
        Ok(())
    }

    fn step(&mut self, ask: &Ask<'_>, level: &[LevelNode]) -> Result<()> {
        let Some(kv) = &self.kv else {
            return Ok(());
        };
        let first = self.drafted.len();
        let rows: Vec<Row> = level
            .iter()
            .map(|node| Row {
                token: self.fed(node.token),
                sequence: SequenceIndex(0),
                position: kv.len() as u32 + node.depth - 1,
                parent: node.parent.map(|parent| self.level as u32 + parent),
                delta: None,
                output: true,
            })
            .collect();
        let call = Call {
            segment: SegmentKind::Draft,
            rows: &rows,
            sequences: &[kv],
            inputs: &[],
            continues: first > 0,
        };
        ask.engine.call(&call, &mut self.forward)?;
        let drafted = std::iter::zip(level, &rows).map(|(node, row)| (node.token, row.parent));
        self.drafted.extend(drafted);
        self.level = first;
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        self.forward.output("draft.logits").unwrap_or_default()
    }

    fn target_id(&self, draft_id: u32) -> Option<u32> {
        Some(draft_id).filter(|id| *id < self.target_vocab_size)
    }
}
