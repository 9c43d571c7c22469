use crate::device::{DeviceDrafter, Guesses};
use crate::engine::Engine;
use crate::model::{Features, ModelConfig, PlanOptions};
use crate::speculation::sampling::{Sampler, TokenCounts};
use crate::speculation::{Choices, Planner, SpeculationOptions, Tree};
use crate::{Error, Result};
use std::fmt::Debug;
use stheno_codegen::plan::PlanBuilder;

/// A kind of draft, loaded: what it adds to the plan of a target, and how a sequence drafts with it.
pub(crate) trait DraftModel: Debug + Send + Sync {
    /// Kind, for people and for `--json`.
    fn kind(&self) -> &'static str;

    /// What of the target's hidden states it is fed.
    fn features(&self) -> Features {
        Features::None
    }

    /// How it drafts in the loop of a device.
    fn on_device(&self) -> DeviceDrafter;

    /// Levels that it can guess, if they are bounded.
    fn deepest(&self) -> Option<u32> {
        None
    }

    /// What its logits stand for.
    fn guesses(&self) -> Guesses {
        Guesses::default()
    }

    /// Checks what a generation asks of it.
    ///
    /// # Errors
    /// If it cannot draft such trees.
    fn check(&self, options: &SpeculationOptions) -> Result<()> {
        match &options.choices {
            None => Ok(()),
            Some(_) => Err(Error::Invalid(format!(
                "static choices are for Medusa heads; the draft is of kind {}",
                self.kind()
            ))),
        }
    }

    /// Declares the draft and adds its segments. Weights of its own start with [`crate::plan::DRAFT_PREFIX`].
    ///
    /// # Errors
    /// If it does not fit the target.
    fn declare(
        &self,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<()>;

    /// The share of `tokens`, of a text that the target likes, at which the draft's best guess is the target's: how well
    /// this reading of the checkpoint does. Only asked of drafts that can be read in several ways.
    ///
    /// # Errors
    /// If a step fails.
    fn agreement(&self, _engine: &Engine, _tokens: &[u32]) -> Result<f64> {
        Ok(0.0)
    }

    /// The state of an empty sequence.
    fn start(&self) -> Box<dyn Drafter>;
}

/// Drafts for one sequence, whose tokens it follows.
pub(crate) trait Drafter: Debug + Send + Sync {
    /// Follows a commit of `tokens`; `features` of their rows are [tokens, columns of the plan's `features`].
    ///
    /// # Errors
    /// If a step of the draft fails.
    fn advance(&mut self, engine: &Engine, tokens: &[u32], features: &[f32]) -> Result<()>;

    /// Follows a truncation to `len` tokens.
    fn truncate(&mut self, len: usize);

    /// Whether candidates can be drawn from a distribution of its own.
    fn draws(&self) -> bool {
        true
    }

    /// Guesses at what follows `ask.root`.
    ///
    /// # Errors
    /// If a step of the draft fails.
    fn propose(&mut self, ask: &mut Ask<'_>) -> Result<Proposal>;

    /// A copy that goes on by itself.
    fn fork(&self) -> Box<dyn Drafter>;
}

/// What a round asks of a draft.
pub(crate) struct Ask<'a> {
    /// Runs the draft's segments.
    pub engine: &'a Engine,
    /// The last token, which the target has not seen yet.
    pub root: u32,
    /// How much is wanted.
    pub planner: &'a Planner,
    /// A static tree, for drafts that guess all levels at once.
    pub choices: Option<&'a Choices>,
    /// Set if candidates are to be drawn from the draft's distribution rather than be its best.
    pub draw: Option<Draw<'a>>,
}

/// How candidates are drawn.
pub(crate) struct Draw<'a> {
    /// Filters, with the target's parameters.
    pub sampler: &'a mut Sampler,
    /// Counts of the sequence, the root among them; left as found.
    pub counts: &'a mut TokenCounts,
    /// Position of the root.
    pub position: u32,
}

/// Guesses of a round.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub tree: Tree,
    /// Levels that were drafted one by one.
    pub levels: u32,
    /// Of drawn candidates: for each node the distribution over the target's vocabulary that its children were drawn
    /// from, in the order of the draws; `None` for nodes without.
    pub q: Vec<Option<Vec<f32>>>,
}

impl Proposal {
    /// Candidates that are the draft's best.
    pub fn of(tree: Tree, levels: u32) -> Self {
        let q = Vec::new();
        Proposal { tree, levels, q }
    }
}
