use super::attention::{self, Attention};
use super::batch::Batch;
use super::context::Context;
use super::input::InputStorage;
use super::kernels::Isa;
use super::kernels::widen::{Bf16, Element, F16, round_bf16};
use super::rope::RopeTable;
use super::shared::SharedSlice;
use super::team::{Member, Team};
use super::{Forward, KvRows, KvSequence, copy, embed, gather, linear};
use crate::checkpoint::Matrix;
use crate::{Error, Result};
use std::sync::Arc;
use stheno_codegen::plan::{
    Dim, Dtype, Epilogue, InputDtype, KV_PAGE, Op, Plan, Row, Segment, SegmentKind, WeightShape,
};

/// A constant input of a plan, loaded.
#[derive(Debug, Clone)]
pub enum Weight {
    /// For [`WeightShape::Matrix`].
    Matrix(Arc<Matrix>),
    /// For [`WeightShape::Vector`].
    Vector(Arc<[f32]>),
}

/// One call of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What to run.
    pub segment: SegmentKind,
    /// Over what.
    pub rows: &'a [Row],
    /// What [`Row::sequence`] counts.
    pub sequences: &'a [&'a KvSequence],
    /// Contents of [`Segment::inputs`] in their order, [rows or output rows, columns] each.
    pub inputs: &'a [&'a [f32]],
    /// The rows go on from those of the calls before it into the same [`Forward`], whose K and V they see: row indices,
    /// and so parents, count all of them, and a commit may take any.
    pub continues: bool,
}

/// Runs a plan on the CPU.
///
/// The result for a row is a function of its tokens and positions alone: neither the number of threads, the
/// instruction set nor the other rows of a call change a bit of it.
#[derive(Debug)]
pub struct HostExecutor {
    plan: Arc<Plan>,
    weights: Vec<Weight>,
    team: Team,
    isa: Isa,
    buffers: Vec<Vec<f32>>,
    input: InputStorage,
    products: Vec<f32>,
    ropes: Vec<RopeTable>,
    scores: Vec<f32>,
    /// Largest K, and largest sum of widths of a qkv op.
    max_k: usize,
    max_products: usize,
}

impl HostExecutor {
    /// Prepares a plan with its weights, one for each declaration in order, on `threads` threads.
    ///
    /// # Errors
    /// If the plan is not valid, weights do not fit its declarations, or threads cannot be started.
    pub fn new(plan: Arc<Plan>, weights: Vec<Weight>, threads: usize) -> Result<Self> {
        plan.validate()?;
        check_weights(&plan, &weights)?;
        let ops = || plan.segments.iter().flat_map(|segment| &segment.ops);
        let linears = || {
            ops().filter_map(|op| {
                if let Op::Linear(l) = op {
                    Some(l)
                } else {
                    None
                }
            })
        };
        let width = |op: &stheno_codegen::plan::Linear| -> usize {
            let widths = op
                .parts
                .iter()
                .map(|part| match &weights[part.weight.index()] {
                    Weight::Matrix(matrix) => matrix.n(),
                    Weight::Vector(_) => 0,
                });
            widths.sum()
        };
        for op in linears().filter(|op| op.input_dtype == InputDtype::Q8) {
            let k = plan.buffer(op.input).columns;
            if !k.is_multiple_of(32) {
                let name = &plan.buffer(op.input).name;
                let reason =
                    format!("buffer `{name}` has {k} columns: 8-bit input needs a multiple of 32");
                return Err(Error::Invalid(reason));
            }
        }
        let max_k = linears()
            .map(|op| plan.buffer(op.input).columns as usize)
            .max();
        let qkvs = linears().filter(|op| matches!(op.epilogue, Epilogue::Qkv(_)));
        let max_products = qkvs.map(width).max();
        Ok(HostExecutor {
            max_k: max_k.unwrap_or(0),
            max_products: max_products.unwrap_or(0),
            team: Team::new(threads)?,
            isa: Isa::detect(),
            buffers: vec![Vec::new(); plan.buffers.len()],
            input: InputStorage::default(),
            products: Vec::new(),
            ropes: plan.ropes.iter().map(|_| RopeTable::default()).collect(),
            scores: Vec::new(),
            plan,
            weights,
        })
    }

    /// Runs on another instruction set than the best one. Results do not change.
    pub fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Threads that run it.
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// Instruction set that it runs on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of weights that one row reads: every matrix once, but of the embedding one row.
    pub fn bytes_per_row(&self) -> usize {
        let Some(segment) = self.plan.segment(SegmentKind::Target) else {
            return 0;
        };
        let bytes = |weight: &Weight| match weight {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Vector(vector) => 4 * vector.len(),
        };
        let linears = segment.ops.iter().filter_map(|op| {
            if let Op::Linear(l) = op {
                Some(l)
            } else {
                None
            }
        });
        linears
            .flat_map(|l| &l.parts)
            .map(|part| bytes(&self.weights[part.weight.index()]))
            .sum()
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
        let call = Call {
            segment,
            rows,
            sequences,
            inputs: &[],
            continues: false,
        };
        self.call(&call, out)
    }

    /// Runs a segment. Nothing is committed: see [`KvSequence::commit`].
    ///
    /// # Errors
    /// Those of [`HostExecutor::forward`], and if inputs have other sizes than the segment declares, or the call
    /// continues rows of another segment's KV cache.
    pub fn call(&mut self, call: &Call<'_>, out: &mut Forward) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let Some(segment) = plan.segment(call.segment) else {
            let segment = call.segment;
            return Err(Error::Invalid(format!("the plan has no segment {segment}")));
        };
        if !call.continues {
            out.kv.clear();
        }
        let batch = Batch::new(&plan, segment, call, &out.kv)?;
        self.take_inputs(segment, &batch, call.inputs)?;
        match plan.kv_of(segment.kind).dtype {
            Dtype::F32 => self.run::<f32>(segment, &batch, &mut out.kv),
            Dtype::F16 => self.run::<F16>(segment, &batch, &mut out.kv),
            Dtype::BF16 => self.run::<Bf16>(segment, &batch, &mut out.kv),
        }
        let (rows, outputs) = (batch.rows.len(), batch.outputs.len());
        out.take(&plan, segment, &mut self.buffers, rows, outputs);
        Ok(())
    }

    fn take_inputs(
        &mut self,
        segment: &Segment,
        batch: &Batch<'_>,
        inputs: &[&[f32]],
    ) -> Result<()> {
        let (found, expected) = (inputs.len(), segment.inputs.len());
        if found != expected {
            let kind = segment.kind;
            let reason = format!("segment {kind} takes {expected} inputs, got {found}");
            return Err(Error::Invalid(reason));
        }
        for (&id, values) in segment.inputs.iter().zip(inputs) {
            let decl = self.plan.buffer(id);
            let rows = match decl.rows {
                Dim::Rows => batch.rows.len(),
                Dim::OutputRows => batch.outputs.len(),
            };
            if values.len() != rows * decl.columns as usize {
                return Err(Error::Invalid(format!(
                    "input `{}` has {} elements, expected {rows} rows of {}",
                    decl.name,
                    values.len(),
                    decl.columns
                )));
            }
            let buffer = &mut self.buffers[id.index()];
            buffer.clear();
            buffer.extend_from_slice(values);
            match decl.dtype {
                Dtype::F32 => {}
                Dtype::BF16 => buffer.iter_mut().for_each(|x| *x = round_bf16(*x)),
                Dtype::F16 => buffer
                    .iter_mut()
                    .for_each(|x| *x = half::f16::from_f32(*x).to_f32()),
            }
        }
        Ok(())
    }

    fn run<E: Element>(&mut self, segment: &Segment, batch: &Batch<'_>, kv: &mut KvRows) {
        let rows = batch.rows.len();
        for (buffer, decl) in self.buffers.iter_mut().zip(&self.plan.buffers) {
            let rows = match decl.rows {
                Dim::Rows => rows,
                Dim::OutputRows => batch.outputs.len(),
            };
            buffer.resize(rows * decl.columns as usize, 0.0);
        }
        self.products.resize(rows * self.max_products, 0.0);
        for (table, decl) in self.ropes.iter_mut().zip(&self.plan.ropes) {
            table.fill(decl, batch.rows);
        }
        let positions = batch
            .rows
            .iter()
            .map(|row| row.position as usize + 1)
            .max()
            .unwrap_or(0);
        // Grown by pages, so that a decoding loop does not reallocate at every token.
        let all_rows = batch.first + rows;
        let scores_per_member =
            attention::work_space(positions.next_multiple_of(KV_PAGE), all_rows);
        self.scores
            .resize(scores_per_member * self.team.size(), 0.0);
        let kv_decl = self.plan.kv_of(segment.kind);
        let kv_elements = kv.append::<E>(&kv_decl, batch.rows);
        let kv_shared = SharedSlice::new(kv_elements);
        let context = Context {
            plan: &self.plan,
            weights: &self.weights,
            isa: self.isa,
            batch,
            buffers: self
                .buffers
                .iter_mut()
                .map(|buffer| SharedSlice::new(buffer))
                .collect(),
            input: self.input.share(rows * self.max_k),
            products: SharedSlice::new(&mut self.products),
            ropes: &self.ropes,
            kv: kv_shared,
            kv_layout: super::kv::KvRowsLayout::new(&kv_decl, all_rows),
            scores: SharedSlice::new(&mut self.scores),
            scores_per_member,
        };
        self.team.run(|member| {
            for op in &segment.ops {
                run_op(&context, member, op);
            }
        });
    }
}

fn run_op<E: Element>(context: &Context<'_, E>, member: &Member<'_>, op: &Op) {
    match *op {
        Op::Embed { table, output } => embed::embed(context, member, table, output),
        Op::Linear(ref op) => linear::linear(context, member, op),
        Op::Attention {
            q,
            output,
            layer,
            scale,
            window,
        } => {
            let attention = Attention {
                q,
                output,
                layer,
                scale,
                window,
            };
            attention.run(context, member);
        }
        Op::Gather { input, output } => gather::gather(context, member, input, output),
        Op::Copy {
            input,
            norm,
            output,
        } => copy::copy(context, member, input, norm, output),
    }
}

fn check_weights(plan: &Plan, weights: &[Weight]) -> Result<()> {
    if weights.len() != plan.weights.len() {
        let reason = format!(
            "{} weights for {} declarations",
            weights.len(),
            plan.weights.len()
        );
        return Err(Error::Invalid(reason));
    }
    for (decl, weight) in plan.weights.iter().zip(weights) {
        let found = match weight {
            Weight::Matrix(matrix) => WeightShape::Matrix {
                n: matrix.n() as u32,
                k: matrix.k() as u32,
            },
            Weight::Vector(vector) => WeightShape::Vector {
                n: vector.len() as u32,
            },
        };
        if found != decl.shape {
            let reason = format!(
                "weight `{}` is {found}, the plan declares {}",
                decl.name, decl.shape
            );
            return Err(Error::Invalid(reason));
        }
    }
    Ok(())
}
