use super::super::drafter::{Ask, Drafter, Proposal};
use super::super::features::FeatureTail;
use super::super::grow::{LevelNode, Stepper, grow};
use crate::Result;
use crate::engine::Engine;
use crate::host::{Call, Forward, KvSequence};
use crate::speculation::Tree;
use std::sync::Arc;
use stheno_codegen::plan::{Row, SegmentKind, SequenceIndex};

/// Rows that wait for a proposal at most; beyond, they are computed as they come.
const MOST_WAITING: usize = 256;

/// Follows one sequence. The row of position p holds the target's features of p and the token at p + 1; rows are made of
/// true features only, and what was drafted is forgotten after each round (trap 5 of the format's notes: keeping it costs
/// 8 to 15 % of the accepted length).
#[derive(Debug)]
pub(super) struct EagleDrafter {
    /// The target's ids of the draft's vocabulary; `None` if they are the same.
    target_ids: Option<Arc<[u32]>>,
    /// Tokens of the sequence.
    tokens: Vec<u32>,
    features: FeatureTail,
    /// KV of rows of the positions from `start` on; made with the first row.
    kv: Option<KvSequence>,
    /// Rotations are relative, so the draft may begin anywhere.
    start: usize,
    forward: Forward,
    /// What each node of the level drafted last hands to its children, [nodes, hidden_size]; first that of the root.
    hidden: Vec<f32>,
    root_hidden: Vec<f32>,
    /// Rows drafted in this round, and the first of the last level.
    drafted: usize,
    level: usize,
}

impl EagleDrafter {
    pub fn new(columns: usize, target_ids: Option<Arc<[u32]>>) -> Self {
        EagleDrafter {
            target_ids,
            tokens: Vec::new(),
            features: FeatureTail::new(columns),
            kv: None,
            start: 0,
            forward: Forward::default(),
            hidden: Vec::new(),
            root_hidden: Vec::new(),
            drafted: 0,
            level: 0,
        }
    }

    /// First position without a row.
    fn end(&self) -> usize {
        self.start + self.kv.as_ref().map_or(0, KvSequence::len)
    }

    /// Computes the rows that features and tokens are there for; with a root also the last one, whose hidden state and
    /// logits are then in `forward`. `false` if there is nothing to draft from.
    fn extend(&mut self, engine: &Engine, root: Option<u32>) -> Result<bool> {
        let plan = engine.plan();
        if self.features.from() > self.end() {
            // What came before is lost; the draft begins anew with what there is.
            self.start = self.features.from();
            self.kv = None;
        }
        let mut kv = match self.kv.take() {
            Some(kv) => kv,
            None => KvSequence::new(plan.kv_of(SegmentKind::Extend)),
        };
        let ready = self.features.end();
        let ready = match root {
            Some(_) => ready,
            None => ready.min(self.tokens.len().saturating_sub(1)),
        };
        let mut drawn = false;
        loop {
            let first = self.start + kv.len();
            let rest = ready.saturating_sub(first);
            if rest == 0 {
                break;
            }
            let most = |kind| plan.segment(kind).map_or(1, |s| s.max_rows as usize);
            let kind = match rest <= most(SegmentKind::Extend) {
                true => SegmentKind::Extend,
                false => SegmentKind::DraftPrefill,
            };
            let end = first + rest.min(most(kind));
            let next = |position: usize| self.tokens.get(position + 1).copied().or(root);
            let tokens: Vec<u32> = (first..end).filter_map(next).collect();
            let rows = Row::chain(SequenceIndex(0), kv.len() as u32, &tokens);
            let Some(features) = self.features.rows(first, end) else {
                break;
            };
            let call = Call {
                segment: kind,
                rows: &rows,
                sequences: &[&kv],
                inputs: &[features],
                continues: false,
            };
            engine.call(&call, &mut self.forward)?;
            kv.commit(
                self.forward.kv(),
                &(0..rows.len() as u32).collect::<Vec<_>>(),
            )?;
            drawn = true;
        }
        self.kv = Some(kv);
        self.features.release(self.end());
        Ok(drawn)
    }

    fn output(&self, name: &str) -> &[f32] {
        self.forward.output(name).unwrap_or_default()
    }
}

impl Drafter for EagleDrafter {
    fn advance(&mut self, engine: &Engine, tokens: &[u32], features: &[f32]) -> Result<()> {
        // A round that was given up left a row that stood on its root.
        let known = self.tokens.len();
        if self.end() >= known {
            self.truncate(known);
        }
        self.tokens.extend_from_slice(tokens);
        self.features.push(tokens.len(), features);
        if self.tokens.len() - self.end() > MOST_WAITING {
            self.extend(engine, None)?;
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.features.truncate(len);
        // The row of the last position stood on the token after it. Without the features to make it anew it stays: a
        // guess from a wrong token is a guess.
        let again = len.saturating_sub(1);
        let keep = match self.features.rows(again, len) {
            Some(_) => again,
            None => len,
        };
        if let Some(kv) = &mut self.kv {
            kv.truncate(keep.saturating_sub(self.start));
        }
        if keep < self.start {
            self.start = keep;
        }
    }

    fn propose(&mut self, ask: &mut Ask<'_>) -> Result<Proposal> {
        let known = self.tokens.len();
        if self.end() >= known {
            self.truncate(known);
        }
        if self.features.end() != known || self.features.from() >= known {
            // Nothing is known of the last position: a restored session, say.
            return Ok(Proposal::of(Tree::new(ask.root), 0));
        }
        grow(ask, self)
    }

    fn fork(&self) -> Box<dyn Drafter> {
        Box::new(EagleDrafter {
            tokens: self.tokens.clone(),
            features: self.features.clone(),
            kv: self.kv.clone(),
            start: self.start,
            ..EagleDrafter::new(0, self.target_ids.clone())
        })
    }
}

impl Stepper for EagleDrafter {
    fn root(&mut self, ask: &Ask<'_>) -> Result<()> {
        self.extend(ask.engine, Some(ask.root))?;
        self.root_hidden = self.output("draft.hidden").to_vec();
        self.hidden.clear();
        (self.drafted, self.level) = (0, 0);
        Ok(())
    }

    fn step(&mut self, ask: &Ask<'_>, level: &[LevelNode]) -> Result<()> {
        let Some(kv) = &self.kv else {
            return Ok(());
        };
        let width = self.root_hidden.len();
        let mut feedback = Vec::with_capacity(level.len() * width);
        for node in level {
            let hidden = match node.parent {
                Some(parent) => self.hidden.chunks(width).nth(parent as usize),
                None => Some(self.root_hidden.as_slice()),
            };
            feedback.extend_from_slice(hidden.unwrap_or_default());
        }
        let row = |node: &LevelNode| Row {
            token: node.token,
            sequence: SequenceIndex(0),
            position: kv.len() as u32 + node.depth - 1,
            parent: node.parent.map(|parent| self.level as u32 + parent),
            delta: None,
            output: true,
        };
        let rows: Vec<Row> = level.iter().map(row).collect();
        let call = Call {
            segment: SegmentKind::Draft,
            rows: &rows,
            sequences: &[kv],
            inputs: &[&feedback],
            continues: self.drafted > 0,
        };
        ask.engine.call(&call, &mut self.forward)?;
        self.level = self.drafted;
        self.drafted += rows.len();
        self.hidden.clear();
        let hidden = self.forward.output("draft.hidden").unwrap_or_default();
        self.hidden.extend_from_slice(hidden);
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        self.output("draft.logits")
    }

    fn target_id(&self, draft_id: u32) -> Option<u32> {
        match &self.target_ids {
            Some(ids) => ids.get(draft_id as usize).copied(),
            None => Some(draft_id),
        }
    }
}
