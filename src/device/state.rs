//! What one user of a program has on the device: the control block, counters, history, and the memory that the host sees.

use super::{Context, DeviceBuffer, DeviceError, DeviceKv, MappedBuffer};
use crate::plan::{KV_PAGE, Plan};
use crate::{Error, Result};
use bytemuck::Zeroable;
use std::sync::atomic::Ordering;
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::program::abi::{self, Call, Control, NONE, STOP_LIMIT};

/// Bytes from edge to edge.
const EDGE_STRIDE: u64 = 128;

/// Words of `HostRing` (kernels/token_ring.cuh), of 32 bits.
pub(super) mod host_words {
    /// 1 once the fault is written: then block, phase, wait, seen, wanted, segment.
    pub const FAULT: usize = 0;
    /// Set by the host.
    pub const CANCEL: usize = 8;
    /// Why the generation ended.
    pub const FINISH: usize = 9;
    /// Tokens written.
    pub const TAIL: usize = 10;
    /// Positions whose K and V are valid.
    pub const LENGTH: usize = 11;
    /// Entries that there are.
    pub const CAPACITY: usize = 12;
    /// Positions whose K and V the draft has.
    pub const DRAFT_LENGTH: usize = 13;
    /// First entry.
    pub const ENTRIES: usize = 32;
    /// Words of an entry.
    pub const ENTRY: usize = 4;
    /// Words of a round's tree: the number of nodes, then from word [`NODES`] on its nodes, [`NODE`] words each.
    pub const ROUND: usize = NODES + NODE * super::abi::ROW_LIMIT;
    pub const NODES: usize = 4;
    pub const NODE: usize = 4;
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub control: DeviceBuffer,
    pub edges: DeviceBuffer,
    pub history: DeviceBuffer,
    /// What lookup counts with.
    pub followers: DeviceBuffer,
    pub counts: DeviceBuffer,
    pub bias: DeviceBuffer,
    pub pages: DeviceBuffer,
    pub draft_pages: DeviceBuffer,
    pub host: MappedBuffer,
}

/// Bytes in device memory of a [`State`] without token counts and bias, which follow the options of a generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateBytes {
    control: u64,
    edges: u64,
    history: u64,
    followers: u64,
    pages: u64,
    draft_pages: u64,
}

impl StateBytes {
    /// Of a state for generations, or one for calls.
    pub fn new(plan: &Plan, program: &DeviceProgram, generates: bool) -> StateBytes {
        let positions = u64::from(plan.context_length);
        // The rows of a tree may lie past the context's end.
        let pages = positions.div_ceil(KV_PAGE as u64) + 1;
        StateBytes {
            control: size_of::<Control>() as u64,
            edges: EDGE_STRIDE * u64::from(program.edges),
            history: match generates {
                true => 4 * (positions + abi::ROW_LIMIT as u64 + 1),
                false => 0,
            },
            followers: match generates && plan.looks_up {
                true => 4 * u64::from(plan.vocab_size),
                false => 0,
            },
            pages: 8 * pages,
            draft_pages: match plan.draft.is_some() {
                true => 8 * pages,
                false => 0,
            },
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let tokens = self.history + self.followers;
        self.control + self.edges + tokens + self.pages + self.draft_pages
    }
}

impl State {
    /// With room for `capacity` entries of the ring; 0 for calls that generate nothing.
    pub fn new(
        context: &Context,
        plan: &Plan,
        program: &DeviceProgram,
        capacity: usize,
    ) -> Result<State, DeviceError> {
        let zeroed = |bytes: u64, what: &str| DeviceBuffer::zeroed(context, bytes, what);
        let bytes = StateBytes::new(plan, program, capacity > 0);
        let words = host_words::ENTRIES + capacity * host_words::ENTRY;
        Ok(State {
            control: zeroed(bytes.control, "the control block")?,
            edges: zeroed(bytes.edges, "the edges")?,
            history: zeroed(bytes.history, "the history of tokens")?,
            followers: zeroed(bytes.followers, "the counts of lookup")?,
            counts: zeroed(0, "token counts")?,
            bias: zeroed(0, "the bias of logits")?,
            pages: zeroed(bytes.pages, "the table of pages")?,
            draft_pages: zeroed(bytes.draft_pages, "the draft's table of pages")?,
            host: MappedBuffer::zeroed(context, words.div_ceil(2), "the ring of tokens")?,
        })
    }

    /// Prepares one call of the host's; a draft lists `topk` guesses if it chooses.
    pub fn begin_call(&self, call: Call, topk: u32, kv: &DeviceKv) -> Result<(), DeviceError> {
        let mut control = Control::zeroed();
        control.round = 1;
        control.sampling.top_logprobs = NONE;
        control.call = call;
        control.generation.topk = topk;
        self.begin(&control, kv)
    }

    /// Puts the control block and the table of pages in place; counters begin anew.
    pub fn begin(&self, control: &Control, kv: &DeviceKv) -> Result<(), DeviceError> {
        self.edges.fill_async(0..self.edges.len(), 0)?;
        self.pages.write(0, bytemuck::cast_slice(&kv.table()))?;
        if let Some(draft) = kv.draft() {
            self.draft_pages
                .write(0, bytemuck::cast_slice(&draft.table()))?;
        }
        self.control.write(0, bytemuck::bytes_of(control))
    }

    /// Says of a failure which wait the kernel gave up, if it was that.
    pub fn explain(&self, plan: &Plan, program: &DeviceProgram, error: DeviceError) -> Error {
        let words = self.host.words32();
        let word = |index: usize| words[host_words::FAULT + index].load(Ordering::Acquire);
        if word(0) == 0 {
            return Error::Device(error);
        }
        let (block, phase, wait, seen, wanted) = (word(1), word(2), word(3), word(4), word(5));
        let (segment, index) = (word(6) as usize, phase as usize);
        let awaited = || program.awaited(segment, index);
        let what = match wait {
            1 => awaited().unwrap_or_else(|| "an edge".to_owned()),
            2 => "a stage of weights to arrive".to_owned(),
            4 => "all warps to read a stage of weights".to_owned(),
            5 => "all warps' sums of a pass".to_owned(),
            _ => "the next call".to_owned(),
        };
        let place = match phase {
            NONE => "between calls".to_owned(),
            _ => program.place(plan, segment, index),
        };
        Error::Device(DeviceError::Stuck {
            block,
            place,
            what,
            seen,
            wanted,
        })
    }
}

/// Stop ids as the kernel takes them; `None` if they are too many.
pub(super) fn stops(ids: &[u32]) -> Option<(u32, [u32; STOP_LIMIT])> {
    let mut stops = [NONE; STOP_LIMIT];
    stops.get_mut(..ids.len())?.copy_from_slice(ids);
    Some((ids.len() as u32, stops))
}
