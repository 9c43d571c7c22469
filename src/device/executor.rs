//! Runs a plan on a device: the decode program, compiled and loaded, with the weights in device memory.

use super::profile::copy_rate;
use super::recording::Recording;
use super::state::State;
use super::{
    ArenaUpload, Context, DeviceBuffer, DeviceError, Function, Guesses, Image, LaunchShape,
    Lowered, ModelWeights, Module, Profile, UploadError, find_nvrtc, program_request,
};
use crate::plan::{Plan, SegmentKind};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stheno_codegen::jit::{Cache, Origin};
use stheno_codegen::program::abi;
use stheno_codegen::program::{COMMIT_KERNEL, Constant, DeviceProgram, KERNEL};
use stheno_codegen::tune::THREADS;

/// Polls after which a wait inside the kernel is given up: seconds, where a wait that works takes microseconds.
const PATIENCE: u32 = 1 << 25;

/// How a program is built.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Rows of one step: 8, 16, 32 or 64.
    pub max_rows: u32,
    /// Where compiled programs are kept; `None` compiles anew.
    pub cache: Option<Cache>,
    /// What the draft's logits stand for.
    pub guesses: Guesses,
}

/// What building a program took.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// The sizes, each with its reason.
    pub sizes: String,
    /// Whether the kernels were compiled or found in the cache.
    pub origin: Origin,
    /// Time for that.
    pub compile: Duration,
    /// Time to map, pack and copy the weights.
    pub upload: Duration,
    /// Registers of a thread.
    pub registers: u32,
}

/// A plan on a device. Calls may come from any thread; the device runs them in order.
#[derive(Debug)]
pub struct DeviceExecutor {
    pub(super) plan: Arc<Plan>,
    pub(super) program: DeviceProgram,
    function: Function,
    pub(super) commit: Function,
    pub(super) shape: LaunchShape,
    /// Everything that kernels only read.
    pub(super) arena: DeviceBuffer,
    constants: DeviceBuffer,
    /// The target's id of each of the draft's; empty if they are the same.
    pub(super) target_ids: DeviceBuffer,
    logit_scale: f32,
    phases: DeviceBuffer,
    segments: DeviceBuffer,
    spans: DeviceBuffer,
    stages: DeviceBuffer,
    tapes: DeviceBuffer,
    /// Buffers of a call; a launch leaves nothing in it that a later one reads, outputs apart.
    pub(super) workspace: DeviceBuffer,
    /// For calls of [`DeviceExecutor::forward`]. Whoever holds it may queue launches: between the launch of a call and the
    /// reading of its outputs, or the launches of a call in steps, no other may come.
    state: Mutex<State>,
    report: BuildReport,
    /// Polls before a wait in the kernel is given up; 0: never.
    patience: u32,
    recording: Mutex<Option<Recording>>,
}

impl DeviceExecutor {
    /// Maps and packs the weights, compiles the program and loads both. `progress` is told the bytes of weights that are on
    /// the device and the bytes in all.
    ///
    /// # Errors
    /// The plan has no device program, NVRTC is missing or refuses it, or device memory does not suffice; the error says what
    /// was needed.
    pub fn new(
        context: &Context,
        plan: Arc<Plan>,
        weights: &dyn ModelWeights,
        options: &ExecutorOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<DeviceExecutor> {
        let facts = context.facts();
        let start = Instant::now();
        let guesses = &options.guesses;
        let lowered = Lowered::new(facts, &plan, weights, options.max_rows)?;
        guesses.check(&lowered.program)?;
        lowered.demand(&plan, guesses).check(context.memory()?)?;
        let Lowered {
            mappings,
            layout,
            program,
        } = lowered;
        let sizes = &program.sizes;
        let mapped = start.elapsed();

        let start = Instant::now();
        let nvrtc = find_nvrtc(Some(facts)).map_err(program_error)?;
        let mut request = program_request(&program.source, facts.target())?;
        request.line_info |= facts.is_virtual;
        let (compiled, origin) = match &options.cache {
            Some(cache) => cache.compile(&nvrtc, &request).map_err(program_error)?,
            None => (
                nvrtc.compile(&request).map_err(program_error)?,
                Origin::Compiler,
            ),
        };
        let image = Image::of(&compiled)
            .ok_or_else(|| Error::Unsupported("NVRTC gave nothing to load".into()))?;
        let module = Module::load(context, "decode", image)?;
        let function = module.function(KERNEL)?;
        let commit = module.function(COMMIT_KERNEL)?;
        let shared_bytes = sizes.shared_bytes;
        function.set_dynamic_shared(shared_bytes)?;
        let compile = start.elapsed();

        let start = Instant::now();
        let arena = DeviceBuffer::zeroed(context, layout.arena_bytes, "the weights")?;
        let mut upload = ArenaUpload::new(&arena);
        layout
            .build(&plan, &mappings, weights, &mut upload, &mut *progress)
            .map_err(|error| match error {
                UploadError::Layout(error) => program_error(error),
                UploadError::Device(error) => Error::Device(error),
            })?;
        let upload_bytes = |bytes: &[u8], what: &str| -> Result<DeviceBuffer, DeviceError> {
            let buffer = DeviceBuffer::zeroed(context, bytes.len() as u64, what)?;
            buffer.write(0, bytes)?;
            Ok(buffer)
        };
        let constants = upload_bytes(
            &constants(&plan, &program, weights)?,
            "vectors and rotations",
        )?;
        let target_ids = guesses.target_ids.as_deref().unwrap_or_default();
        let target_ids = upload_bytes(bytemuck::cast_slice(target_ids), "the draft's token ids")?;
        let report = BuildReport {
            sizes: sizes.to_string(),
            origin,
            compile,
            upload: mapped + start.elapsed(),
            registers: function.registers()?,
        };
        Ok(DeviceExecutor {
            shape: LaunchShape {
                grid: facts.sm_count,
                block: THREADS,
                shared_bytes,
                cooperative: true,
            },
            function,
            commit,
            phases: upload_bytes(bytemuck::cast_slice(&program.phases), "the phases")?,
            segments: upload_bytes(bytemuck::cast_slice(&program.segments), "the segments")?,
            spans: upload_bytes(bytemuck::cast_slice(&program.spans), "the spans")?,
            stages: upload_bytes(bytemuck::cast_slice(&program.stages), "the tapes")?,
            tapes: upload_bytes(bytemuck::cast_slice(&program.tapes), "the ranges of tapes")?,
            workspace: DeviceBuffer::zeroed(
                context,
                program.workspace.bytes(),
                "the buffers of a call",
            )?,
            state: Mutex::new(State::new(context, &plan, &program, 0)?),
            // A virtual device finds out by itself that all its blocks wait.
            patience: if facts.is_virtual { 0 } else { PATIENCE },
            recording: Mutex::new(None),
            arena,
            constants,
            target_ids,
            logit_scale: guesses.logit_scale,
            plan,
            program,
            report,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The program.
    pub fn program(&self) -> &DeviceProgram {
        &self.program
    }

    /// Where it runs.
    pub fn context(&self) -> &Context {
        self.arena.context()
    }

    /// What building it took.
    pub fn report(&self) -> &BuildReport {
        &self.report
    }

    /// Rows of one call of a segment, at most.
    pub fn rows_of(&self, segment: SegmentKind) -> usize {
        let sizes = &self.program.sizes;
        let rows = match segment {
            SegmentKind::Prefill | SegmentKind::DraftPrefill => sizes.prefill_rows,
            SegmentKind::Target | SegmentKind::Extend | SegmentKind::Draft => sizes.max_rows,
        };
        rows as usize
    }

    /// Phases of a segment; 0 if the plan has no such segment.
    pub fn phases_of(&self, segment: SegmentKind) -> u32 {
        let index = self.plan.segments.iter().position(|s| s.kind == segment);
        index.map_or(0, |index| self.program.phases_of(index).len() as u32)
    }

    /// Records when the blocks were in which phase of the calls and generations from now on, for `calls` calls at most (fewer
    /// if their times take much memory). What was recorded before is forgotten. One generation or call may run at a time.
    ///
    /// # Errors
    /// Device memory does not suffice.
    pub fn record(&self, calls: u32) -> Result<()> {
        let recording = Recording::new(self.context(), &self.program, calls)?;
        *self.recording() = Some(recording);
        Ok(())
    }

    /// Ends recording and says where the time went; `None` if nothing was recorded. Measures how fast the device copies.
    ///
    /// # Errors
    /// The device failed before.
    pub fn take_profile(&self) -> Result<Option<Profile>> {
        let Some(recording) = self.recording().take() else {
            return Ok(None);
        };
        let calls = recording.into_calls();
        if calls.is_empty() {
            return Ok(None);
        }
        let (facts, rate) = (self.context().facts(), copy_rate(self.context())?);
        Ok(Some(Profile::new(
            &self.plan,
            &self.program,
            facts,
            rate,
            calls,
        )))
    }

    /// Takes the stamps of a generation or call that has ended, if they are recorded.
    pub(super) fn collect(&self) -> Result<(), DeviceError> {
        self.recording().as_mut().map_or(Ok(()), Recording::collect)
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        // Whoever panicked while holding it has lost a profile, no more.
        self.recording
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to queue launches until it is dropped.
    pub(super) fn turn(&self) -> MutexGuard<'_, State> {
        // A panic in another thread's call leaves nothing that matters: every call writes its state anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a launch: as many calls as `rounds`, or the phases of one call. The caller has the turn.
    pub(super) fn launch(
        &self,
        state: &State,
        rounds: u32,
        phases: Range<u32>,
    ) -> Result<(), DeviceError> {
        let parameter = abi::Program {
            arena: self.arena.address(),
            constants: self.constants.address(),
            workspace: self.workspace.address(),
            phases: self.phases.address(),
            segments: self.segments.address(),
            stages: self.stages.address(),
            tapes: self.tapes.address(),
            spans: self.spans.address(),
            edges: state.edges.address(),
            control: state.control.address(),
            history: state.history.address(),
            followers: state.followers.address(),
            counts: state.counts.address(),
            bias: state.bias.address(),
            mask: 0,
            host: state.host.address(),
            timers: self.recording().as_ref().map_or(0, Recording::address),
            kv: [
                self.pool(SegmentKind::Target, &state.pages),
                self.pool(SegmentKind::Draft, &state.draft_pages),
            ],
            span_count: self.program.span_count,
            patience: self.patience,
            phase_begin: phases.start,
            phase_end: phases.end,
            rounds,
            home: self.program.home,
            target_ids: match self.target_ids.len() {
                0 => 0,
                _ => self.target_ids.address(),
            },
            logit_scale: self.logit_scale,
            unused: 0,
        };
        // SAFETY: the kernel takes this structure, whose layout `codegen/tests/program/abi.rs` compares with the header's.
        // All memory in it belongs to this executor, to `state` or to pages that the sequence of `state` holds; buffers
        // wait for the stream before they are freed, and whoever drops pages has ended the generation before.
        unsafe { self.function.launch(self.shape, &parameter) }
    }

    /// Makes a phase wait for one arrival more than there are, and waits end after `patience` polls; returns the edge.
    #[cfg(test)]
    pub(super) fn plant(
        &mut self,
        segment: usize,
        phase: usize,
        patience: u32,
    ) -> Result<u32, DeviceError> {
        let first = self.program.segments[segment].first_phase as usize;
        let phase = &mut self.program.phases[first + phase];
        phase.arrivals_in += 1;
        let edge = phase.edge_in;
        self.patience = patience;
        let phases = bytemuck::cast_slice(&self.program.phases);
        self.phases.write(0, phases)?;
        Ok(edge)
    }
}

/// Why a model has no program here. Texts name the tensor, op or size.
pub(super) fn program_error(error: impl std::fmt::Display) -> Error {
    Error::Device(DeviceError::Program {
        reason: error.to_string(),
    })
}

/// Vectors and tables of rotations as they lie in device memory.
fn constants(plan: &Plan, program: &DeviceProgram, weights: &dyn ModelWeights) -> Result<Vec<u8>> {
    let mut bytes = vec![0; program.constants.bytes() as usize];
    for (constant, offset) in program.constants.entries() {
        let values: Vec<f32> = match *constant {
            Constant::Vector(weight) => match weights.vector(weight) {
                Some(vector) => vector.to_vec(),
                None => {
                    let name = &plan.weight(weight).name;
                    return Err(Error::Invalid(format!("`{name}` is no vector")));
                }
            },
            Constant::Rope(rope) => crate::host::rotations(plan.rope(rope), 0..plan.context_length),
        };
        let values: &[u8] = bytemuck::cast_slice(&values);
        bytes[*offset as usize..][..values.len()].copy_from_slice(values);
    }
    Ok(bytes)
}
