use crate::layout::LayoutError;
use crate::plan::SegmentKind;
use crate::tune::TuneError;

/// Why a plan has no device program.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProgramError {
    /// The sizes cannot be chosen.
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// The weights cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An op has no device form.
    #[error("{segment} op {op}: {reason}")]
    Op {
        /// Its segment.
        segment: SegmentKind,
        /// Its index there.
        op: usize,
        /// What is missing.
        reason: String,
    },
    /// The plan as a whole has no device form.
    #[error("the plan cannot run on a device: {0}")]
    Plan(String),
    /// Offsets are 32-bit.
    #[error("{what} would take {bytes} bytes, a program addresses 4 GiB of them")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// A program contradicts itself: found before it is launched.
    #[error("the device program is wrong: {0}")]
    Invalid(String),
}
