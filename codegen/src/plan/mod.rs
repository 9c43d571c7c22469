//! The plan: what a decode program computes, without saying where.
//!
//! A [`Plan`] declares weights, buffers and RoPE tables, and lists [`Op`]s in [`Segment`]s. One call of
//! a segment processes a batch of [`Row`]s: one token, a prompt chunk, a tree and several sequences are
//! all just rows. [`Plan::validate`] proves that ops agree with what they name, and `Display` prints a plan
//! for people.

mod builder;
mod coverage;
mod display;
mod dtype;
mod error;
mod op;
mod row;
mod segment;
mod validate;

pub use builder::PlanBuilder;
pub use dtype::{Dtype, InputDtype};
pub use error::{OpName, PlanError};
pub use op::{Activation, Columns, Epilogue, Linear, Norm, Op, Part, QkvEpilogue};
pub use row::{DeltaId, KV_PAGE, Row, SequenceIndex};
pub use segment::{
    BufferDecl, BufferId, DRAFT_PREFIX, Dim, DraftDecl, DynamicNtk, KvDecl, Plan, RopeDecl, RopeId,
    Segment, SegmentKind, WeightDecl, WeightId, WeightShape,
};
