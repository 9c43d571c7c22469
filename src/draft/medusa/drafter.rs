use super::super::drafter::{Ask, Drafter, Proposal};
use super::super::features::FeatureTail;
use super::super::grow::{LevelNode, Stepper, grow};
use crate::Result;
use crate::engine::Engine;
use crate::host::{Call, Forward, KvSequence};
use crate::speculation::sampling::likeliest;
use crate::speculation::{Choices, Tree};
use std::sync::Arc;
use stheno_codegen::plan::{Row, SegmentKind, SequenceIndex};

/// Follows one sequence: all heads look at its last hidden state, so there is nothing else to keep.
#[derive(Debug, Clone)]
pub(super) struct MedusaDrafter {
    heads: usize,
    logit_scale: f32,
    /// The target's ids of the rows of a head; `None` if they are the same.
    target_ids: Option<Arc<[u32]>>,
    features: FeatureTail,
    len: usize,
    /// Logits of every head at the last position.
    heads_logits: Vec<Vec<f32>>,
    /// Those of a level, once for each of its nodes.
    level: Vec<f32>,
}

impl MedusaDrafter {
    pub fn new(
        heads: usize,
        hidden_size: usize,
        logit_scale: f32,
        target_ids: Option<Arc<[u32]>>,
    ) -> Self {
        MedusaDrafter {
            heads,
            logit_scale,
            target_ids,
            features: FeatureTail::new(hidden_size),
            len: 0,
            heads_logits: Vec::new(),
            level: Vec::new(),
        }
    }

    /// Runs all heads on the last hidden state.
    fn run(&mut self, ask: &Ask<'_>) -> Result<()> {
        let Some(features) = self.features.rows(self.len.saturating_sub(1), self.len) else {
            return Ok(());
        };
        let kv = KvSequence::new(ask.engine.plan().kv_of(SegmentKind::Draft));
        let rows = Row::chain(SequenceIndex(0), 0, &[ask.root]);
        let call = Call {
            segment: SegmentKind::Draft,
            rows: &rows,
            sequences: &[&kv],
            inputs: &[features],
            continues: false,
        };
        let mut forward = Forward::default();
        ask.engine.call(&call, &mut forward)?;
        let scale = self.logit_scale;
        let of_head = |head| {
            let logits = forward.output(&format!("draft.logits.{head}"));
            let logits = logits.unwrap_or_default().iter();
            logits.map(|logit| logit * scale).collect()
        };
        self.heads_logits = (0..self.heads).map(of_head).collect();
        Ok(())
    }

    /// A static tree over the best of each head.
    fn fill(&self, root: u32, choices: &Choices) -> Result<Tree> {
        let depths = (1..=choices.depth()).zip(&self.heads_logits);
        let candidates: Vec<Vec<(u32, f32)>> = depths
            .map(|(depth, logits)| {
                let count = choices
                    .max_rank_at(depth)
                    .map_or(0, |rank| rank as usize + 1);
                let top = likeliest(logits, count).into_iter();
                top.filter_map(|c| Some((self.target_id(c.token)?, c.logprob)))
                    .collect()
            })
            .collect();
        choices.fill(root, &candidates)
    }
}

impl Drafter for MedusaDrafter {
    fn advance(&mut self, _: &Engine, tokens: &[u32], features: &[f32]) -> Result<()> {
        self.len += tokens.len();
        self.features.push(tokens.len(), features);
        self.features.release(self.len);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.features.truncate(len);
    }

    fn propose(&mut self, ask: &mut Ask<'_>) -> Result<Proposal> {
        let last = self.len.saturating_sub(1);
        if self
            .features
            .rows(last, self.len)
            .is_none_or(<[f32]>::is_empty)
        {
            return Ok(Proposal::of(Tree::new(ask.root), 0));
        }
        match ask.choices.filter(|_| ask.draw.is_none()) {
            None => grow(ask, self),
            Some(choices) => {
                self.run(ask)?;
                let tree = self.fill(ask.root, choices)?;
                Ok(Proposal::of(ask.planner.prune(&tree, 1), 1))
            }
        }
    }

    fn fork(&self) -> Box<dyn Drafter> {
        Box::new(self.clone())
    }
}

impl Stepper for MedusaDrafter {
    fn root(&mut self, ask: &Ask<'_>) -> Result<()> {
        self.run(ask)?;
        self.level.clear();
        let first = self.heads_logits.first();
        (self.level).extend_from_slice(first.map_or(&[], Vec::as_slice));
        Ok(())
    }

    fn step(&mut self, _: &Ask<'_>, level: &[LevelNode]) -> Result<()> {
        self.level.clear();
        for node in level {
            // A head guesses at a position, whatever comes before it.
            let logits = self.heads_logits.get(node.depth as usize);
            self.level
                .extend_from_slice(logits.map_or(&[], Vec::as_slice));
        }
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        &self.level
    }

    fn deepest(&self) -> Option<u32> {
        Some(self.heads as u32)
    }

    fn target_id(&self, draft_id: u32) -> Option<u32> {
        match &self.target_ids {
            Some(ids) => ids.get(draft_id as usize).copied(),
            None => Some(draft_id),
        }
    }
}
