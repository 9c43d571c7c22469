//! Why a PTX text was refused.

/// A PTX text that cannot be loaded, with the line and its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {message}: `{text}`")]
pub struct PtxError {
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// What is wrong and, where there is something to do, what to do.
    pub message: String,
    /// The line itself, trimmed.
    pub text: String,
}

impl PtxError {
    /// An error at `line` of `source`.
    pub(crate) fn new(source: &str, line: u32, message: impl Into<String>) -> Self {
        let text = source
            .lines()
            .nth(line.saturating_sub(1) as usize)
            .unwrap_or_default()
            .trim()
            .chars()
            .take(200)
            .collect();
        Self {
            line,
            message: message.into(),
            text,
        }
    }
}
