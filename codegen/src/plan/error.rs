use super::SegmentKind;
use std::fmt;

/// One op of a segment, for messages: `3 (attention)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpName {
    /// Index in the segment.
    pub index: usize,
    /// Kind of op.
    pub kind: &'static str,
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.index, self.kind)
    }
}

/// Why a plan cannot be run. Every variant names the thing at fault, and the segment and op where there is one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Two declarations share a name.
    #[error("the name `{name}` is declared twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A declaration is impossible in itself.
    #[error("`{name}`: {reason}")]
    Declaration {
        /// What is declared.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two segments have the same kind, or a segment has no rows.
    #[error("segment {segment}: {reason}")]
    Segment {
        /// The segment.
        segment: SegmentKind,
        /// What is wrong with it.
        reason: String,
    },
    /// An op names a weight, buffer, rotation or KV layer that is not declared.
    #[error("segment {segment}, op {op}: {what} {index} is not declared")]
    Undeclared {
        /// The segment.
        segment: SegmentKind,
        /// The op.
        op: OpName,
        /// Kind of thing.
        what: &'static str,
        /// Its index.
        index: u32,
    },
    /// A buffer is read before any op of the segment has written it.
    #[error("segment {segment}, op {op}: buffer `{buffer}` is read before it is written")]
    ReadBeforeWrite {
        /// The segment.
        segment: SegmentKind,
        /// The op.
        op: OpName,
        /// The buffer.
        buffer: String,
    },
    /// A shape does not fit.
    #[error("segment {segment}, op {op}: `{name}` is {found}, expected {expected}")]
    Shape {
        /// The segment.
        segment: SegmentKind,
        /// The op.
        op: OpName,
        /// The weight or buffer.
        name: String,
        /// What the op needs.
        expected: String,
        /// What is declared.
        found: String,
    },
    /// The op contradicts itself.
    #[error("segment {segment}, op {op}: {reason}")]
    Op {
        /// The segment.
        segment: SegmentKind,
        /// The op.
        op: OpName,
        /// What is wrong.
        reason: String,
    },
}
