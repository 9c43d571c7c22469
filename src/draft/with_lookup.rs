//! N-gram lookup and another draft: each round is drafted from the text or by the other, whichever promises more.

use super::drafter::{DraftModel, Drafter};
use super::ngram::Ngram;
use crate::Result;
use crate::device::{DeviceDrafter, Guesses};
use crate::engine::Engine;
use crate::model::{Features, ModelConfig, PlanOptions};
use crate::speculation::SpeculationOptions;
use std::sync::Arc;
use stheno_codegen::plan::PlanBuilder;

/// A draft of any other kind, with lookup before it.
#[derive(Debug)]
pub(super) struct WithLookup {
    other: Arc<dyn DraftModel>,
}

impl WithLookup {
    pub fn new(other: Arc<dyn DraftModel>) -> Self {
        WithLookup { other }
    }
}

impl DraftModel for WithLookup {
    fn kind(&self) -> &'static str {
        match self.other.kind() {
            "medusa" => "ngram+medusa",
            "eagle" => "ngram+eagle",
            "eagle3" => "ngram+eagle3",
            _ => "ngram+small-model",
        }
    }

    fn features(&self) -> Features {
        self.other.features()
    }

    fn on_device(&self) -> DeviceDrafter {
        self.other.on_device()
    }

    fn deepest(&self) -> Option<u32> {
        self.other.deepest()
    }

    fn guesses(&self) -> Guesses {
        self.other.guesses()
    }

    /// What lookup cannot do is left to the other.
    fn check(&self, options: &SpeculationOptions) -> Result<()> {
        self.other.check(options)
    }

    fn declare(
        &self,
        target: &ModelConfig,
        options: &PlanOptions,
        builder: &mut PlanBuilder,
    ) -> Result<()> {
        self.other.declare(target, options, builder)
    }

    fn agreement(&self, engine: &Engine, tokens: &[u32]) -> Result<f64> {
        self.other.agreement(engine, tokens)
    }

    fn start(&self) -> Vec<Box<dyn Drafter>> {
        let mut drafters = Ngram.start();
        drafters.extend(self.other.start());
        drafters
    }
}
