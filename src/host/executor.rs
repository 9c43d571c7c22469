use super::{KvRows, KvSequence};
use crate::Result;
use crate::checkpoint::Matrix;
use std::sync::Arc;
use stheno_codegen::plan::{Plan, Row, SegmentKind};

/// A constant input of a plan, loaded.
#[derive(Debug, Clone)]
pub enum Weight {
    /// For [`stheno_codegen::plan::WeightShape::Matrix`].
    Matrix(Arc<Matrix>),
    /// For [`stheno_codegen::plan::WeightShape::Vector`].
    Vector(Arc<[f32]>),
}

/// Runs a plan on the CPU.
#[derive(Debug)]
pub struct HostExecutor {
    plan: Arc<Plan>,
}

impl HostExecutor {
    /// Prepares a plan with its weights, one for each declaration in order, on `threads` threads.
    ///
    /// # Errors
    /// If weights do not fit the declarations or the plan is not valid.
    pub fn new(plan: Arc<Plan>, weights: Vec<Weight>, threads: usize) -> Result<Self> {
        let _ = (weights, threads);
        Ok(HostExecutor { plan })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Runs a segment over `rows`. Nothing is committed: see [`KvSequence::commit`].
    ///
    /// # Errors
    /// If rows contradict each other or the sequences, or exceed the segment or the context.
    pub fn forward(
        &mut self,
        segment: SegmentKind,
        rows: &[Row],
        sequences: &[&KvSequence],
        out: &mut Forward,
    ) -> Result<()> {
        let _ = (segment, rows, sequences, out);
        Ok(())
    }
}

/// What a call of a segment computed. Reuse one to save allocations.
#[derive(Debug, Default)]
pub struct Forward {
    /// [output rows, vocab_size], the buffer `logits` of the plan.
    logits: Vec<f32>,
    /// K and V of all rows.
    kv: KvRows,
}

impl Forward {
    /// Logits [output rows, vocab_size] of the rows with [`Row::output`] set, in their order.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Contents in f32 of the plan's buffer `tap.{layer}`: the residual stream after layer `layer` of the output rows,
    /// [output rows, hidden_size]; `None` if the plan has no such buffer.
    pub fn tap(&self, layer: u32) -> Option<&[f32]> {
        let _ = layer;
        None
    }

    /// K and V of the rows of the call.
    pub fn kv(&self) -> &KvRows {
        &self.kv
    }
}
