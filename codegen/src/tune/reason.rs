use std::fmt;

/// One decision and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What was decided.
    pub decision: &'static str,
    /// The outcome.
    pub choice: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, since: {}", self.decision, self.choice, self.why)
    }
}
