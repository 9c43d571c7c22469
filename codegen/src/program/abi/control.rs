//! The structures of `kernels/control.cuh`: what a generation knows between calls.

use super::{Call, ROW_LIMIT, STOP_LIMIT, TOP_LIMIT};
use bytemuck::{Pod, Zeroable};

/// [`Generation::mode`]: the host wrote the call; it is run once and nothing is chosen.
pub const MODE_CALL: u32 = 0;

/// [`Generation::mode`]: what is known of the sequence is processed, then token after token is chosen.
pub const MODE_GENERATE: u32 = 1;

/// [`Generation::drafter`]: guesses are what followed the same tokens before.
pub const DRAFTER_LOOKUP: u32 = 0;

/// [`Generation::drafter`]: a small model grows a tree level after level.
pub const DRAFTER_MODEL: u32 = 1;

/// [`Generation::drafter`]: a layer that is fed hidden states as well does.
pub const DRAFTER_LAYER: u32 = 2;

/// [`Generation::drafter`]: heads guess a level each.
pub const DRAFTER_HEADS: u32 = 3;

/// [`Generation::drafting`]: the tree is what will be verified.
pub const DRAFTING_DONE: u32 = 0;

/// [`Generation::drafting`]: the draft has to see what is known.
pub const DRAFTING_ROOT: u32 = 1;

/// [`Call::chooses`]: a token is chosen for each output row; of a draft the likeliest are listed.
pub const CHOOSES_TOKENS: u32 = 1;

/// [`Call::chooses`]: guesses are judged by typical acceptance.
pub const CHOOSES_TYPICAL: u32 = 2;

/// [`Call::chooses`]: guesses that were drawn are accepted or rejected.
pub const CHOOSES_VERIFIED: u32 = 3;

/// [`Generation::acceptance`]: guesses count that plain decoding chooses.
pub const ACCEPT_EXACT: u32 = 0;

/// [`Generation::acceptance`]: guesses count that the target finds likely enough.
pub const ACCEPT_TYPICAL: u32 = 1;

/// [`Generation::acceptance`]: guesses are drawn, and rejection sampling keeps the target's distribution.
pub const ACCEPT_REJECTION: u32 = 2;

/// [`Generation::finish`]: no token could be chosen.
pub const FINISH_NOTHING_LEFT: u32 = 4;

/// See `struct Sampling`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Sampling {
    pub seed: u64,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub top_k: u32,
    pub penalty_window: u32,
    pub greedy: u32,
    pub penalises: u32,
    pub bias_count: u32,
    pub masked: u32,
    pub top_logprobs: u32,
    pub prompt_length: u32,
}

/// See `struct Bias`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Bias {
    pub token: u32,
    pub add: f32,
}

/// See `struct TopLogprob`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct TopLogprob {
    pub token: u32,
    pub logprob: f32,
}

/// See `struct Count`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Count {
    pub all: u32,
    pub output: u32,
}

/// See `struct Generation`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Generation {
    pub mode: u32,
    pub finish: u32,
    pub length: u32,
    pub known: u32,
    pub begin: u32,
    pub limit: u32,
    pub stop_count: u32,
    pub drafter: u32,
    pub draft_length: u32,
    pub drafting: u32,
    pub levels: u32,
    pub topk: u32,
    pub nodes: u32,
    pub moved: u32,
    pub last_row: u32,
    pub traces: u32,
    pub rounds: u32,
    pub acceptance: u32,
    pub posterior_threshold: f32,
    pub posterior_alpha: f32,
    pub looks_up: u32,
    pub looked_up: u32,
    pub unused: [u32; 2],
    pub stops: [u32; STOP_LIMIT],
    pub runs: [u32; 8],
    pub path: [u8; ROW_LIMIT],
}

/// See `struct Tree`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Tree {
    pub nodes: u32,
    pub levels: u32,
    pub tokens: [u32; ROW_LIMIT],
    pub parents: [u32; ROW_LIMIT],
    pub scores: [f32; ROW_LIMIT],
}

/// See `struct Candidate`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Candidate {
    pub key: u64,
    pub token: u32,
    pub parent: u32,
}

/// See `struct Growth`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Growth {
    pub levels: u32,
    pub records: u32,
    pub kept_count: u32,
    pub width: u32,
    pub rows: u32,
    pub last_row: u32,
    pub kept: [Candidate; ROW_LIMIT],
    pub frontier: [Candidate; TOP_LIMIT],
    pub parents: [u32; ROW_LIMIT],
}

/// Widths of steps whose cost a [`Planner`] knows: 1, 2, 4... 64 rows.
pub const COST_STEPS: usize = 7;

/// Buckets of a [`Planner`]'s calibration.
pub const CALIBRATION_BUCKETS: usize = 25;

/// See `struct Planner`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Planner {
    pub automatic: u32,
    pub steps: [f32; COST_STEPS],
    pub start: f32,
    pub level: f32,
    pub stretch: f32,
    pub child_rate: f32,
    pub gain: f32,
    pub rounds: u32,
    pub left: u32,
    pub length: u32,
    pub behind: u32,
    pub drafted: f32,
    pub trials: u32,
    pub tokens: f32,
    pub seconds: f32,
    pub passed: u32,
    pub offered: [f32; CALIBRATION_BUCKETS],
    pub accepted: [f32; CALIBRATION_BUCKETS],
}

/// See `struct Times`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Times {
    pub clock: u64,
    pub arrived: u64,
    pub draft: u64,
    pub verify: u64,
    pub accept: u64,
}

/// See `struct StaticTree`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct StaticTree {
    pub nodes: u32,
    pub levels: u32,
    pub unused: [u32; 2],
    pub parents: [u8; ROW_LIMIT],
    pub ranks: [u8; ROW_LIMIT],
    pub depths: [u8; ROW_LIMIT],
}

/// See `struct Judged`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Judged {
    pub score: f32,
    pub logprob: f32,
}

/// See `struct Control`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Control {
    pub round: u32,
    pub launch_round: u32,
    pub pause_round: u32,
    pub unused: u32,
    pub generation: Generation,
    pub sampling: Sampling,
    pub call: Call,
    pub tree: Tree,
    pub growth: Growth,
    pub planner: Planner,
    pub lookup: Planner,
    pub times: Times,
    pub draws: u64,
    pub static_tree: StaticTree,
    pub judged: [Judged; ROW_LIMIT],
}
