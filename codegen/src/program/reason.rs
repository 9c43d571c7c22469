use super::ProgramError;
use crate::plan::SegmentKind;

/// Why an op cannot be lowered: a reason that needs its place said, or an error that says all.
pub(super) enum Reason {
    Text(String),
    Error(ProgramError),
}

impl Reason {
    /// The error of an op.
    pub fn at(self, segment: SegmentKind, op: usize) -> ProgramError {
        match self {
            Reason::Text(reason) => ProgramError::Op {
                segment,
                op,
                reason,
            },
            Reason::Error(error) => error,
        }
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Reason::Text(text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Reason::Text(text.to_owned())
    }
}

impl From<ProgramError> for Reason {
    fn from(error: ProgramError) -> Self {
        Reason::Error(error)
    }
}
