use crate::plan::SegmentKind;

/// Why weights cannot be laid out, or a layout cannot be trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LayoutError {
    /// A weight cannot be brought into a device form.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// Name in the plan.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The sizes that the layout is cut by are impossible.
    #[error("the cut of the weights: {reason}")]
    Cut {
        /// What is wrong with them.
        reason: String,
    },
    /// A linear op does not find its weights whole and once.
    #[error("segment {segment}, op {op}: {reason}")]
    Phase {
        /// The segment.
        segment: SegmentKind,
        /// Index of the op.
        op: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two things lie on the same bytes, or one lies outside.
    #[error("arena: {reason}")]
    Arena {
        /// What is wrong.
        reason: String,
    },
}
