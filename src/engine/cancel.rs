use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops a generation from another thread or a signal handler. Clones share one state.
///
/// It is looked at before every chunk of the prompt and every decoding step.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken {
    cancelled: Arc<AtomicBool>,
}

impl CancellationToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds a clone to stop. Safe in a signal handler.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancellationToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
