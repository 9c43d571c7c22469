use super::{
    BufferDecl, BufferId, Dim, DraftDecl, Dtype, KvDecl, Plan, PlanError, RopeDecl, RopeId,
    Segment, WeightDecl, WeightId, WeightShape,
};
use std::collections::HashMap;

/// Collects declarations and ops into a validated [`Plan`].
///
/// Declaring a weight, buffer or rotation twice with the same content gives the same id, so that segments built
/// by the same function share them.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: Plan,
    /// Ids of declared weights, of which a deep model has thousands.
    weight_ids: HashMap<WeightDecl, WeightId>,
}

impl PlanBuilder {
    /// An empty plan for a model.
    pub fn new(name: &str, vocab_size: u32, context_length: u32, kv: KvDecl) -> Self {
        PlanBuilder {
            plan: Plan {
                name: name.to_owned(),
                vocab_size,
                context_length,
                kv,
                draft: None,
                looks_up: false,
                weights: Vec::new(),
                buffers: Vec::new(),
                ropes: Vec::new(),
                segments: Vec::new(),
            },
            weight_ids: HashMap::new(),
        }
    }

    /// Lets a decode loop guess what followed the same tokens before.
    pub fn look_up(&mut self) {
        self.plan.looks_up = true;
    }

    /// Declares a matrix [n, k].
    pub fn matrix(&mut self, name: impl Into<String>, n: u32, k: u32) -> WeightId {
        self.weight(name.into(), WeightShape::Matrix { n, k })
    }

    /// Declares a vector `[n]`.
    pub fn vector(&mut self, name: impl Into<String>, n: u32) -> WeightId {
        self.weight(name.into(), WeightShape::Vector { n })
    }

    fn weight(&mut self, name: String, shape: WeightShape) -> WeightId {
        let decl = WeightDecl { name, shape };
        let next = WeightId(self.plan.weights.len() as u32);
        *self.weight_ids.entry(decl).or_insert_with_key(|decl| {
            self.plan.weights.push(decl.clone());
            next
        })
    }

    /// Declares a buffer of [rows, columns].
    pub fn buffer(&mut self, name: &str, dtype: Dtype, rows: Dim, columns: u32) -> BufferId {
        let decl = BufferDecl {
            name: name.to_owned(),
            dtype,
            rows,
            columns,
        };
        BufferId(intern(&mut self.plan.buffers, decl))
    }

    /// Columns of a declared buffer. The id must come from this builder.
    pub fn buffer_columns(&self, buffer: BufferId) -> u32 {
        self.plan.buffers[buffer.index()].columns
    }

    /// Declares a rotation.
    pub fn rope(&mut self, rope: RopeDecl) -> RopeId {
        RopeId(intern(&mut self.plan.ropes, rope))
    }

    /// Declares the draft.
    pub fn draft(&mut self, draft: DraftDecl) {
        self.plan.draft = Some(draft);
    }

    /// Adds a segment.
    pub fn segment(&mut self, segment: Segment) {
        self.plan.segments.push(segment);
    }

    /// Validates and hands out the plan.
    ///
    /// # Errors
    /// Whatever [`Plan::validate`] finds.
    pub fn finish(self) -> Result<Plan, PlanError> {
        self.plan.validate()?;
        Ok(self.plan)
    }
}

fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> u32 {
    let index = list.iter().position(|x| *x == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    });
    index as u32
}
