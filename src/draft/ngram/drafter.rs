use super::super::drafter::{Ask, DraftModel, Drafter, Proposal};
use super::{ProposeOptions, SuffixIndex};
use crate::Result;
use crate::device::DeviceDrafter;
use crate::engine::Engine;
use crate::model::{ModelConfig, PlanOptions};
use crate::{Error, speculation::Acceptance, speculation::SpeculationOptions};
use stheno_codegen::plan::PlanBuilder;

/// Guesses what followed the last tokens where they stood before. No weights, and next to no time.
#[derive(Debug)]
pub(crate) struct Ngram;

/// Contexts longer than this say no more about what follows.
const LONGEST_MATCH: usize = 32;

/// Even a single token says something, and a second row costs little.
const SHORTEST_MATCH: usize = 1;

impl DraftModel for Ngram {
    fn kind(&self) -> &'static str {
        "ngram"
    }

    fn on_device(&self) -> DeviceDrafter {
        DeviceDrafter::Lookup
    }

    fn check(&self, options: &SpeculationOptions) -> Result<()> {
        let reason = match options {
            SpeculationOptions {
                choices: Some(_), ..
            } => "static choices are for Medusa heads",
            SpeculationOptions {
                acceptance: Acceptance::Rejection,
                ..
            } => "rejection needs a draft with probabilities to sample from",
            _ => return Ok(()),
        };
        Err(Error::Invalid(format!(
            "{reason}; the draft is of kind ngram"
        )))
    }

    fn declare(&self, _: &ModelConfig, _: &PlanOptions, builder: &mut PlanBuilder) -> Result<()> {
        builder.look_up();
        Ok(())
    }

    fn start(&self) -> Box<dyn Drafter> {
        Box::new(NgramDrafter {
            index: SuffixIndex::new(LONGEST_MATCH),
        })
    }
}

#[derive(Debug)]
struct NgramDrafter {
    index: SuffixIndex,
}

impl Drafter for NgramDrafter {
    fn advance(&mut self, _: &Engine, tokens: &[u32], _: &[f32]) -> Result<()> {
        self.index.extend(tokens);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.index.truncate(len);
    }

    fn draws(&self) -> bool {
        false
    }

    fn propose(&mut self, ask: &mut Ask<'_>) -> Result<Proposal> {
        let planner = ask.planner;
        let options = ProposeOptions {
            max_depth: planner.levels(),
            topk: planner.topk(),
            max_nodes: planner.nodes(),
            min_match: SHORTEST_MATCH,
        };
        let tree = self.index.propose(ask.root, &options)?;
        Ok(Proposal::of(planner.prune(&tree, 1), 1))
    }

    fn fork(&self) -> Box<dyn Drafter> {
        let index = self.index.clone();
        Box::new(NgramDrafter { index })
    }
}
