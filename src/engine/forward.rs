use super::executor::Computed;
use crate::plan::Row;

/// What a call of [`super::Engine::forward`] computed, and what it takes to commit a part of it.
///
/// Reuse one with [`super::Engine::forward_into`] to save allocations.
#[derive(Default)]
pub struct Forward {
    pub(super) rows: Vec<Row>,
    /// [`super::Session::state`] of the sequences of the call, in their order.
    pub(super) states: Vec<u64>,
    pub(super) inner: Computed,
}

impl Forward {
    /// The rows of the call.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Logits [output rows, vocab_size] of the rows with [`Row::output`] set, in their order.
    pub fn logits(&self) -> &[f32] {
        self.inner.output("logits").unwrap_or_default()
    }

    /// What the engine's draft is fed of all rows, [rows, columns]; `None` without a draft that wants anything.
    pub(crate) fn features(&self) -> Option<&[f32]> {
        self.inner.output("features")
    }

    /// The residual stream after layer `layer` of the output rows, [output rows, hidden_size]; `None` unless the
    /// engine was built with [`super::EngineBuilder::taps`] naming that layer.
    pub fn tap(&self, layer: u32) -> Option<&[f32]> {
        self.inner.output(&format!("tap.{layer}"))
    }
}

/// Without the logits, of which there are a vocabulary's for each output row.
impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward")
            .field("rows", &self.rows)
            .field("logits", &format_args!("{} values", self.logits().len()))
            .finish_non_exhaustive()
    }
}
