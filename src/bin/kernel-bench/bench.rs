use crate::cases::{BenchOp, DRAFT_WIDTH, ops_of};
use crate::compiler::{ARCHITECTURE, Report};
use crate::counters::{Counted, Counters};
use crate::estimate::Estimate;
use crate::place::Place;
use crate::record::{CompilerReport, Record};
use crate::rows;
use crate::shape::Shape;
use crate::timing::{self, Timed};
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;
use stheno::device::{
    Cublas, DeviceBuffer, DeviceCall, DeviceExecutor, ExecutorOptions, GemmShape, Stepper,
};
use stheno::draft::RandomDraft;
use stheno::model::{RandomFormat, RandomWeights};
use stheno::plan::{Op, SegmentKind, WeightShape};
use stheno::speculation::sampling::SamplingParams;
use stheno_codegen::jit::Cache;
use stheno_codegen::program::abi::{NONE, PhaseKind};

/// One compiled program and the calls that are measured of it.
#[derive(Debug, Clone)]
pub struct Program {
    pub shape: Shape,
    /// Of the model.
    pub layers: u32,
    /// That are run.
    pub layers_run: u32,
    pub format: RandomFormat,
    /// Rows that it is laid out for.
    pub layout_rows: u32,
    /// Rows of calls.
    pub rows: Vec<u32>,
    /// Positions before calls.
    pub contexts: Vec<u32>,
    /// The draft whose calls are measured rather than those of the model.
    pub draft: Option<RandomDraft>,
    pub ops: Vec<BenchOp>,
}

/// What holds for all programs of a run.
pub struct Bench {
    pub place: Place,
    pub cache: Option<Cache>,
    pub cublas: Option<Cublas>,
    pub measurements: u32,
    pub edge_seconds: f64,
}

/// What was measured of a program, but for the compiler's report.
pub struct Measured {
    records: Vec<Record>,
    report: Report,
    dynamic_shared: u32,
}

/// A call of a program while it is measured.
struct Call<'a> {
    bench: &'a Bench,
    program: &'a Program,
    executor: &'a Arc<DeviceExecutor>,
    rows: u32,
    context: u32,
    /// What it is as a whole.
    whole: BenchOp,
    /// Line of `copies.cuh` that fetches weights.
    bulk_line: usize,
}

impl Bench {
    /// Measures everything of a program. The compiler's report, which takes as long, is under way when this returns.
    pub fn run(&self, program: &Program, progress: &dyn Fn(&str)) -> Result<Measured> {
        let positions = program.contexts.iter().max().copied().unwrap_or(0) + 64;
        let plan = program
            .shape
            .plan(program.layers_run, positions, program.draft)?;
        let (plan, guesses) = (Arc::new(plan.0), plan.1);
        progress("making weights");
        let weights = RandomWeights::new(&plan, program.format, 0)?;
        let options = ExecutorOptions {
            max_rows: program.layout_rows,
            cache: self.cache.clone(),
            guesses,
        };
        let context = &self.place.context;
        progress("compiling");
        let executor = DeviceExecutor::new(context, plan, &weights, &options, &mut |done, all| {
            progress(&format!(
                "packing weights, {} of {} MB",
                done >> 20,
                all >> 20
            ));
        })?;
        let executor = Arc::new(executor);
        let report = Report::begin(&executor, self.cache.clone());
        let mut records = Vec::new();
        let call = |rows, context, whole| Call {
            bench: self,
            program,
            executor: &executor,
            rows,
            context,
            whole,
            bulk_line: bulk_line(&executor),
        };
        for &rows in &program.rows {
            for (index, &context) in program.contexts.iter().enumerate() {
                progress(&format!("{rows} rows after {context} positions"));
                let chain = call(rows, context, BenchOp::Step);
                chain.measure_phases(index == 0, &mut records)?;
                if self.place.counters.is_none() {
                    chain.measure_whole(&mut records)?;
                }
                if rows > 1 {
                    call(rows, context, BenchOp::TreeVerify).measure_whole(&mut records)?;
                }
            }
        }
        let rows = executor.rows_of(SegmentKind::Prefill) as u32;
        progress(&format!("a prompt chunk of {rows} rows"));
        call(rows, 0, BenchOp::Prefill).measure_whole(&mut records)?;
        for op in program.ops.iter().filter(|op| op.is_draft()) {
            let contexts = program.contexts.iter();
            let count = if op.sees_context() { usize::MAX } else { 1 };
            for &context in contexts.take(count) {
                for &rows in op.draft_rows() {
                    progress(&format!("{op} of {rows} rows after {context} positions"));
                    call(rows, context, *op).measure_whole(&mut records)?;
                }
            }
        }
        Ok(Measured {
            records,
            report,
            dynamic_shared: executor.program().sizes.shared_bytes,
        })
    }
}

impl Measured {
    /// The records, once the compiler has reported.
    pub fn finish(mut self) -> Result<Vec<Record>> {
        let report = self.report.wait()?;
        for record in &mut self.records {
            record.compiler = Some(CompilerReport {
                architecture: ARCHITECTURE.to_owned(),
                registers: report.registers,
                spill_stores: report.spill_stores,
                spill_loads: report.spill_loads,
                stack: report.stack,
                dynamic_shared: self.dynamic_shared,
            });
        }
        Ok(self.records)
    }
}

impl Call<'_> {
    fn stepper(&self) -> Result<Stepper> {
        let plan = self.executor.plan();
        let vocab = u64::from(plan.vocab_size);
        // Ids that differ and do not depend on luck; what they mean makes no difference to the work.
        let ids =
            (1..=u64::from(self.rows)).map(|i| (i.wrapping_mul(2_654_435_761) % vocab) as u32);
        let tokens: Vec<u32> = ids.collect();
        let segment = self.whole.segment();
        let rows = rows::of(self.whole, self.context, &tokens);
        let inputs = plan.segment(segment).map(|segment| &*segment.inputs);
        let inputs = inputs.unwrap_or_default().iter();
        let inputs =
            inputs.map(|input| rows::hidden_states(rows.len(), plan.buffer(*input).columns));
        let inputs: Vec<Vec<f32>> = inputs.collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let call = DeviceCall {
            inputs: &inputs,
            topk: match segment.is_draft() {
                true => DRAFT_WIDTH as usize,
                false => 0,
            },
            ..DeviceCall::new(segment, &rows)
        };
        Ok(Stepper::new(self.executor, self.context as usize, &call)?)
    }

    /// Measures single phases. What does not depend on the context is left out unless `all`.
    fn measure_phases(&self, all: bool, records: &mut Vec<Record>) -> Result<()> {
        let wanted = |op: &&BenchOp| self.program.ops.contains(op) && (all || op.sees_context());
        let stepper = self.stepper()?;
        let ops: Vec<Vec<BenchOp>> = (0..stepper.phases().len())
            .map(|phase| {
                let ops = ops_of(&stepper, phase).iter();
                ops.filter(wanted).copied().collect()
            })
            .collect();
        let whole = self.program.ops.contains(&BenchOp::Step);
        match &self.bench.place.counters {
            Some(counters) => self.count_phases(stepper, &ops, counters, whole, records),
            None => self.time_phases(stepper, &ops, records),
        }
    }

    /// Launches phase after phase; of those of an op in several layers the first counts.
    fn count_phases(
        &self,
        mut stepper: Stepper,
        ops: &[Vec<BenchOp>],
        counters: &Counters,
        whole: bool,
        records: &mut Vec<Record>,
    ) -> Result<()> {
        let count = |stepper: &Stepper, phases: Range<usize>| -> Result<Counted> {
            stepper.synchronize()?;
            counters.skip()?;
            stepper.launch(phases)?;
            stepper.synchronize()?;
            counters.take(self.bulk_line)
        };
        let whole = whole && self.program.layers > 0;
        let last = ops.iter().rposition(|ops| !ops.is_empty());
        // What ends a call, the next one, is for whole launches.
        let end = if whole {
            ops.len() - 1
        } else {
            last.map_or(0, |last| last + 1)
        };
        let mut all: Vec<(Counted, u64, u32)> = Vec::new();
        let mut empty = count(&stepper, 0..0)?;
        let mut seen: Vec<BenchOp> = Vec::new();
        for (phase, ops) in ops.iter().enumerate().take(end) {
            if phase == 1 {
                empty = count(&stepper, 1..1)?;
            }
            let mut own: Vec<Option<BenchOp>> = ops
                .iter()
                .filter(|op| !seen.contains(op))
                .map(|op| Some(*op))
                .collect();
            if own.is_empty() {
                own.push(None);
            }
            for (index, op) in own.into_iter().enumerate() {
                if let Some(op) = op.filter(|op| op.is_choice()) {
                    let (params, logprobs) = choice(op);
                    stepper.choose_by(&params, logprobs)?;
                }
                let counted = count(&stepper, phase..phase + 1)?.minus(&empty);
                let edges = self.edges(&stepper, phase);
                if index == 0 {
                    all.push((counted, self.repeats(&stepper, phase), edges));
                }
                if let Some(op) = op {
                    let mut record = self.record(op, &stepper, phase..phase + 1);
                    let phases = [(counted, 1, edges)];
                    record.estimate = Some(Estimate::of(&phases, self.bench.edge_seconds));
                    record.counters = Some(counted);
                    records.push(record);
                    seen.push(op);
                }
            }
        }
        if whole {
            let mut record = self.record(self.whole, &stepper, 0..end);
            let sum = all
                .iter()
                .fold(Counted::default(), |sum, (counted, times, _)| {
                    sum.plus(*times, counted)
                });
            record.estimate = Some(Estimate::of(&all, self.bench.edge_seconds));
            record.counters = Some(sum);
            records.push(record);
        }
        Ok(())
    }

    /// Edges that a phase waits for.
    fn edges(&self, stepper: &Stepper, phase: usize) -> u32 {
        let phase = stepper.phases().get(phase);
        u32::from(phase.is_some_and(|phase| phase.edge_in != NONE))
    }

    /// How often a phase comes in a call of the model of which some layers are run: the first layer stands for those that are
    /// not.
    fn repeats(&self, stepper: &Stepper, phase: usize) -> u64 {
        if self.whole.is_draft() {
            return 1;
        }
        let is = |phase: usize, op| ops_of(stepper, phase).contains(&op);
        let first = (0..=phase).filter(|phase| is(*phase, BenchOp::Qkv)).count() == 1;
        let after = (0..phase).any(|phase| is(phase, BenchOp::Down));
        match first && !after {
            true => u64::from(1 + self.program.layers - self.program.layers_run),
            false => 1,
        }
    }

    fn time_phases(
        &self,
        mut stepper: Stepper,
        ops: &[Vec<BenchOp>],
        records: &mut Vec<Record>,
    ) -> Result<()> {
        let Some(last) = ops.iter().rposition(|ops| !ops.is_empty()) else {
            return Ok(());
        };
        // All phases once, so that each may be launched again.
        stepper.launch(0..last + 1)?;
        stepper.synchronize()?;
        let measurements = self.bench.measurements;
        let empty = timing::empty_launch(&stepper, measurements)?;
        for op in BenchOp::ALL {
            // The same op in all layers, so that its weights are more than the cache holds.
            let phases = (0..ops.len()).filter(|phase| ops[*phase].contains(&op));
            let phases: Vec<usize> = phases.collect();
            let Some(&first) = phases.first() else {
                continue;
            };
            if op.is_choice() {
                let (params, logprobs) = choice(op);
                stepper.choose_by(&params, logprobs)?;
            }
            let mut record = self.record(op, &stepper, first..first + 1);
            record.time = Some(timing::phases(&stepper, &phases, measurements)?);
            record.empty_launch = Some(empty);
            record.cublas = self.cublas(&stepper, &phases)?;
            records.push(record);
        }
        Ok(())
    }

    /// Measures the call as a whole, if that is wanted.
    fn measure_whole(&self, records: &mut Vec<Record>) -> Result<()> {
        if !self.program.ops.contains(&self.whole) || self.program.layers == 0 {
            return Ok(());
        }
        let stepper = self.stepper()?;
        if let Some(counters) = &self.bench.place.counters {
            let none = vec![Vec::new(); stepper.phases().len()];
            return self.count_phases(stepper, &none, counters, true, records);
        }
        // Between two calls of a draft comes one of its model.
        let context = stepper.context();
        let swept = self.whole.is_draft().then(|| {
            let bytes = 2 * context.facts().l2_bytes;
            DeviceBuffer::zeroed(context, bytes, "what replaces a draft in the cache")
        });
        let swept = swept.transpose()?;
        let mut record = self.record(self.whole, &stepper, 0..stepper.phases().len());
        let measurements = self.bench.measurements;
        record.time = Some(timing::whole(&stepper, measurements, swept.as_ref())?);
        records.push(record);
        Ok(())
    }

    /// What is known of a launch of some phases before it is measured.
    fn record(&self, op: BenchOp, stepper: &Stepper, phases: Range<usize>) -> Record {
        let mut record = Record {
            op,
            shape: self.program.shape.to_string(),
            layers: self.program.layers,
            layers_run: self.program.layers_run,
            format: self.program.format.to_string(),
            rows: self.rows,
            layout_rows: self.program.layout_rows,
            context: self.context,
            sms: self.executor.program().sizes.architecture.sm_count,
            format_bytes: 0,
            streamed_bytes: 0,
            edges: 0,
            compiler: None,
            counters: None,
            estimate: None,
            time: None,
            empty_launch: None,
            cublas: None,
        };
        for index in phases {
            let Some(phase) = stepper.phases().get(index) else {
                continue;
            };
            let times = match op.is_whole() {
                true => self.repeats(stepper, index),
                false => 1,
            };
            record.streamed_bytes += times * self.executor.program().weight_bytes(phase);
            record.edges += times as u32 * self.edges(stepper, index);
            // A copy that comes before a product is of the same op.
            let linear = match stepper.op(index) {
                Some(Op::Linear(linear)) if phase.kind == PhaseKind::Linear as u32 => Some(linear),
                _ => None,
            };
            if let Some(linear) = linear {
                for part in &linear.parts {
                    let shape = self.executor.plan().weight(part.weight).shape;
                    if let WeightShape::Matrix { n, k } = shape {
                        let bytes = self.program.format.bytes(n.into(), k.into());
                        record.format_bytes += times * bytes;
                    }
                }
            }
        }
        record
    }

    /// The same products by cuBLAS: matrices of a phase's op as one, other weights for each layer.
    fn cublas(&self, stepper: &Stepper, phases: &[usize]) -> Result<Option<Timed>> {
        let (Some(cublas), Some(&first)) = (&self.bench.cublas, phases.first()) else {
            return Ok(None);
        };
        let Some(Op::Linear(linear)) = stepper.op(first) else {
            return Ok(None);
        };
        let plan = self.executor.plan();
        let mut shape = GemmShape {
            rows: self.rows,
            n: 0,
            k: 0,
        };
        for part in &linear.parts {
            if let WeightShape::Matrix { n, k } = plan.weight(part.weight).shape {
                shape.n += n;
                shape.k = k;
            }
        }
        let bytes = |rows: u32, columns: u32| 2 * u64::from(rows) * u64::from(columns);
        let context = stepper.context();
        let matrix = bytes(shape.n, shape.k);
        // As many matrices as exceed the cache by far.
        let count = (4 * context.facts().l2_bytes)
            .div_ceil(matrix.max(1))
            .clamp(1, 64);
        let weights = DeviceBuffer::zeroed(context, count * matrix, "weights for cuBLAS")?;
        let x = DeviceBuffer::zeroed(context, bytes(shape.rows, shape.k), "rows for cuBLAS")?;
        let y = DeviceBuffer::zeroed(context, bytes(shape.rows, shape.n), "products of cuBLAS")?;
        let mut refused = false;
        let once = || {
            (0..count).try_for_each(|i| {
                refused |= !cublas.gemm(shape, (&weights, i * matrix), &x, &y)?;
                Ok(())
            })
        };
        let measurements = self.bench.measurements;
        let timed = Timed::measure(context, measurements, count as usize, || Ok(()), once)?;
        Ok((!refused).then_some(timed))
    }
}

fn choice(op: BenchOp) -> (SamplingParams, Option<usize>) {
    match op {
        BenchOp::ChooseTopP => {
            let params = SamplingParams {
                temperature: 0.8,
                top_p: 0.95,
                ..SamplingParams::default()
            };
            (params, None)
        }
        BenchOp::ChooseLogprobs => (SamplingParams::greedy(), Some(8)),
        _ => (SamplingParams::greedy(), None),
    }
}

/// Line of `copies.cuh` at which stages of weights are fetched, from 1; 0 if there is none.
fn bulk_line(executor: &DeviceExecutor) -> usize {
    let headers = executor.program().source.headers();
    let text = headers.iter().find(|(name, _)| name == "copies.cuh");
    let line = text.and_then(|(_, text)| {
        let mut lines = text.lines();
        lines.position(|line| line.contains("cp.async.bulk.shared"))
    });
    line.map_or(0, |line| line + 1)
}
