use super::KvRows;
use stheno_codegen::plan::{BufferId, Dim, Plan, Segment};

/// What a call of a segment computed. Reuse one to save allocations.
#[derive(Debug, Default)]
pub struct Forward {
    outputs: Vec<Output>,
    pub(super) kv: KvRows,
}

/// Contents of one of the segment's outputs, [rows or output rows, columns] in f32.
#[derive(Debug)]
struct Output {
    buffer: BufferId,
    name: String,
    values: Vec<f32>,
}

impl Forward {
    /// Outputs are exchanged with the buffers that they are in, since copying logits costs as much as some ops do.
    pub(super) fn take(
        &mut self,
        plan: &Plan,
        segment: &Segment,
        buffers: &mut [Vec<f32>],
        rows: usize,
        output_rows: usize,
    ) {
        let same = std::iter::zip(&self.outputs, &segment.outputs).all(|(o, b)| o.buffer == *b)
            && self.outputs.len() == segment.outputs.len();
        if !same {
            let outputs = segment.outputs.iter().map(|&buffer| Output {
                buffer,
                name: plan.buffer(buffer).name.clone(),
                values: Vec::new(),
            });
            self.outputs = outputs.collect();
        }
        for output in &mut self.outputs {
            let decl = plan.buffer(output.buffer);
            let rows = match decl.rows {
                Dim::Rows => rows,
                Dim::OutputRows => output_rows,
            };
            std::mem::swap(&mut output.values, &mut buffers[output.buffer.index()]);
            output.values.truncate(rows * decl.columns as usize);
        }
    }

    /// Contents of the output of that name, [rows or output rows, columns]; `None` if the segment has no such output.
    pub fn output(&self, name: &str) -> Option<&[f32]> {
        let output = self.outputs.iter().find(|output| output.name == name)?;
        Some(&output.values)
    }

    /// Logits [output rows, vocab_size] of the rows with [`stheno_codegen::plan::Row::output`] set, in their order; empty
    /// before the first call.
    pub fn logits(&self) -> &[f32] {
        self.output("logits").unwrap_or_default()
    }

    /// The residual stream after layer `layer` of the output rows, [output rows, hidden_size]; `None` if the plan does
    /// not keep it: see [`crate::model::PlanOptions::taps`].
    pub fn tap(&self, layer: u32) -> Option<&[f32]> {
        self.output(&format!("tap.{layer}"))
    }

    /// What a draft is fed of all rows, [rows, columns]; `None` if the plan has no draft that wants anything.
    pub fn features(&self) -> Option<&[f32]> {
        self.output("features")
    }

    /// K and V of the rows of the call, and of those that it continued.
    pub fn kv(&self) -> &KvRows {
        &self.kv
    }
}
