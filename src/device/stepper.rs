//! One call, phase by phase: what a profiler or a benchmark of single ops launches.

use super::control::sampling_of;
use super::state::State;
use super::{Context, DeviceCall, DeviceError, DeviceExecutor, DeviceKv};
use crate::plan::Op;
use crate::speculation::sampling::SamplingParams;
use crate::{Error, Result};
use bytemuck::Zeroable;
use std::ops::Range;
use std::sync::Arc;
use stheno_codegen::program::abi::{self, Control, NONE, Phase, ROW_LIMIT, TOP_LIMIT};

/// Runs the phases of one call in launches of their own. The bits are those of a whole call: what blocks keep in shared memory
/// rests in device memory between launches.
///
/// Phases must be launched in order before any is launched again; a phase that is repeated reads and multiplies the same.
#[derive(Debug)]
pub struct Stepper {
    executor: Arc<DeviceExecutor>,
    state: State,
    kv: DeviceKv,
    control: Control,
    segment: usize,
}

impl Stepper {
    /// Prepares a call after `start` positions, of which K and V are zeros. A target chooses a token for each output row, a draft
    /// lists [`DeviceCall::topk`], as in its loop without storing logits where a block has room for what they are listed of.
    ///
    /// # Errors
    /// Those of [`DeviceExecutor::call`].
    pub fn new(
        executor: &Arc<DeviceExecutor>,
        start: usize,
        call: &DeviceCall<'_>,
    ) -> Result<Stepper> {
        let context = executor.context();
        let DeviceCall { segment, rows, .. } = *call;
        let mut told = executor.tree(segment, start, rows)?;
        executor.check_inputs(call, &mut told)?;
        let lists = executor.wanted_lists(call, &told)?;
        told.chooses = u32::from(lists.is_some() || !segment.is_draft());
        if lists.is_some() && told.output_rows as usize * call.topk <= ROW_LIMIT {
            told.listed = call.topk as u32;
        }
        let mut kv = DeviceKv::new(executor.plan());
        // A draft that attends to nothing keeps nothing.
        if let Some(cache) = kv.cache_mut(segment) {
            cache.reserve(context, start + rows.len())?;
            cache.advance(start);
        }
        executor.write_inputs(call, &told)?;
        let segment = told.segment as usize;
        let mut control = Control::zeroed();
        control.round = 1;
        control.call = told;
        control.generation.topk = call.topk as u32;
        control.sampling = sampling(&SamplingParams::greedy(), None)?;
        let stepper = Stepper {
            executor: Arc::clone(executor),
            state: State::new(context, executor.plan(), executor.program(), 0)?,
            kv,
            control,
            segment,
        };
        stepper.begin()?;
        Ok(stepper)
    }

    /// The phases of the call.
    pub fn phases(&self) -> &[Phase] {
        self.executor.program().phases_of(self.segment)
    }

    /// The op that a phase is made of; `None` for what ends every call: choices, exports and the next call.
    pub fn op(&self, phase: usize) -> Option<&Op> {
        let segment = self.executor.plan().segments.get(self.segment)?;
        segment.ops.get(self.phases().get(phase)?.op as usize)
    }

    /// Goes back to before the first phase.
    ///
    /// # Errors
    /// The device failed before.
    pub fn begin(&self) -> Result<(), DeviceError> {
        self.state.begin(&self.control, &self.kv)
    }

    /// How the phases that choose tokens choose, from the next launch on; greedily if it was not said.
    ///
    /// # Errors
    /// Penalties, biases, or more log-probabilities than the device lists; or the device failed before.
    pub fn choose_by(&mut self, params: &SamplingParams, logprobs: Option<usize>) -> Result<()> {
        self.control.sampling = sampling(params, logprobs)?;
        Ok(self
            .state
            .control
            .write(0, bytemuck::bytes_of(&self.control))?)
    }

    /// Queues a launch of some phases.
    ///
    /// # Errors
    /// The device failed before.
    pub fn launch(&self, phases: Range<usize>) -> Result<(), DeviceError> {
        self.executor
            .launch(&self.state, 1, phases.start as u32..phases.end as u32)
    }

    /// Queues a launch of the whole call; [`Stepper::begin`] comes before each.
    ///
    /// # Errors
    /// The device failed before.
    pub fn launch_whole(&self) -> Result<(), DeviceError> {
        self.executor.launch(&self.state, 1, 0..NONE)
    }

    /// Waits until all that was queued is done.
    ///
    /// # Errors
    /// A kernel failed; the error says which wait it gave up, if it was that.
    pub fn synchronize(&self) -> Result<()> {
        let waited = self.context().synchronize();
        waited.map_err(|error| {
            self.state
                .explain(self.executor.plan(), self.executor.program(), error)
        })
    }

    /// Where it runs.
    pub fn context(&self) -> &Context {
        self.executor.context()
    }
}

fn sampling(params: &SamplingParams, logprobs: Option<usize>) -> Result<abi::Sampling> {
    let listed = logprobs.is_none_or(|n| n <= TOP_LIMIT);
    if params.has_penalties() || !params.logit_bias.is_empty() || !listed {
        return Err(Error::Unsupported(
            "penalties, biases and long lists of log-probabilities in a single step".into(),
        ));
    }
    Ok(sampling_of(params, logprobs, 0))
}
