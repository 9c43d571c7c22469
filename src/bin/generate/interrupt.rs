use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stheno::engine::CancellationToken;

/// What Ctrl-C does: in an answer the first one cancels it, so that what there is gets printed; the second one, or
/// any outside an answer, ends the program.
#[derive(Debug, Clone)]
pub struct Interrupt {
    pub cancellation: CancellationToken,
    answering: Arc<AtomicBool>,
}

impl Interrupt {
    pub fn install() -> Result<Self> {
        let interrupt = Interrupt {
            cancellation: CancellationToken::new(),
            answering: Arc::default(),
        };
        let handler = interrupt.clone();
        ctrlc::set_handler(move || {
            let again = handler.cancellation.is_cancelled();
            if again || !handler.answering.load(Ordering::Relaxed) {
                std::process::exit(super::failure::INTERRUPTED.into());
            }
            handler.cancellation.cancel();
        })
        .context("Ctrl-C cannot be caught")?;
        Ok(interrupt)
    }

    /// Says whether an answer is being printed.
    pub fn answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::Relaxed);
    }
}
