//! What the loop on the device starts from: the control block of a generation, with its first call.

use super::generation::{DeviceDrafter, GenerationInput};
use super::state::stops;
use super::{DeviceExecutor, DeviceKv};
use crate::plan::SegmentKind;
use crate::speculation::sampling::SamplingParams;
use crate::speculation::{Acceptance, Choices, TreeShape};
use crate::{Error, Result};
use bytemuck::Zeroable;
use stheno_codegen::program::abi::{self, Control, NONE, ROW_LIMIT};

/// Positions that the draft's cache holds.
pub(super) fn draft_len(kv: &DeviceKv) -> u32 {
    kv.draft().map_or(0, DeviceKv::len) as u32
}

/// The control block of a generation over a sequence.
///
/// # Errors
/// It has more stop ids than the kernel compares, or no token to begin with.
pub(super) fn control(
    executor: &DeviceExecutor,
    kv: &DeviceKv,
    input: &GenerationInput<'_>,
) -> Result<Control> {
    let params = input.sampling;
    let (stop_count, stops) = stops(input.stop_ids)
        .ok_or_else(|| Error::Unsupported(format!("{} stop ids", input.stop_ids.len())))?;
    let mut control = Control::zeroed();
    control.round = 1;
    control.pause_round = NONE;
    control.generation.mode = abi::MODE_GENERATE;
    control.generation.length = kv.len() as u32;
    control.generation.known = input.tokens.len() as u32;
    control.generation.begin = input.tokens.len() as u32;
    control.generation.limit = input.limit as u32;
    control.generation.stop_count = stop_count;
    control.generation.stops = stops;
    let shape = input.tree.unwrap_or(TreeShape::chain(0));
    control.generation.levels = shape.num_steps;
    control.generation.topk = shape.topk;
    control.generation.nodes = shape.num_draft_tokens;
    control.generation.traces = u32::from(input.traces);
    if let Some(choices) = input.choices {
        control.static_tree = static_tree(choices);
        // Of each head as many candidates are listed.
        control.generation.topk = choices.max_rank().map_or(0, |rank| rank + 1);
        control.generation.levels = shape.num_steps.min(choices.depth());
        control.generation.nodes = shape.num_draft_tokens.min(choices.nodes() as u32);
    }
    let chooses = match input.acceptance {
        Acceptance::Exact => abi::CHOOSES_TOKENS,
        Acceptance::Typical(params) => {
            control.generation.acceptance = abi::ACCEPT_TYPICAL;
            control.generation.posterior_threshold = params.posterior_threshold;
            control.generation.posterior_alpha = params.posterior_alpha;
            abi::CHOOSES_TYPICAL
        }
        Acceptance::Rejection => {
            control.generation.acceptance = abi::ACCEPT_REJECTION;
            abi::CHOOSES_VERIFIED
        }
    };
    if let Some(learnt) = input.learnt {
        control.planner = abi::Planner {
            behind: 1,
            drafted: 0.0,
            ..learnt.drafter
        };
        control.lookup = learnt.lookup;
    }
    // It has no distribution to draw from.
    let draws = input.acceptance == Acceptance::Rejection;
    control.generation.looks_up = u32::from(input.looks_up && !draws);
    control.tree.nodes = 1;
    control.tree.tokens[0] = input.tokens.last().copied().unwrap_or(0);
    control.tree.parents[0] = NONE;
    control.generation.drafter = match input.drafter {
        DeviceDrafter::Lookup => abi::DRAFTER_LOOKUP,
        DeviceDrafter::Model => abi::DRAFTER_MODEL,
        DeviceDrafter::Layer => abi::DRAFTER_LAYER,
        DeviceDrafter::Heads => abi::DRAFTER_HEADS,
    };
    control.generation.draft_length = draft_len(kv);
    control.sampling = sampling_of(params, input.logprobs, input.prompt);
    let left = input.tokens.len().saturating_sub(kv.len());
    let mut levels =
        (input.limit.saturating_sub(input.tokens.len() + 1)).min(shape.num_steps as usize);
    // As in `finish_step`: a pause goes on. Where a prompt comes first, it is that which begins the first round.
    if left == 1 && levels > 0 && control.planner.left > 0 {
        control.planner.left -= 1;
        levels = 0;
    }
    // What `write_call` of kernels/rounds.cuh would have written.
    let (kind, start) = match left {
        0 => {
            return Err(Error::Invalid(
                "a generation needs a token whose K and V are not committed".into(),
            ));
        }
        1 if input.drafter == DeviceDrafter::Model && levels > 0 => {
            control.generation.drafting = abi::DRAFTING_ROOT;
            let start = draft_len(kv) as usize;
            let behind = input.tokens.len() - start;
            match behind <= executor.rows_of(SegmentKind::Extend) {
                true => (SegmentKind::Extend, start),
                false => (SegmentKind::DraftPrefill, start),
            }
        }
        1 => (SegmentKind::Target, kv.len()),
        _ => (SegmentKind::Prefill, kv.len()),
    };
    let left = &input.tokens[start..];
    let rows = left.len().min(executor.rows_of(kind));
    let is_last = rows == left.len();
    control.call = executor.chain(kind, start, &left[..rows], |row| is_last && row + 1 == rows)?;
    // As in `write_step`: the first token after the prompt is nobody's guess.
    control.call.chooses = match kind == SegmentKind::Target && input.tokens.len() > input.prompt {
        true => chooses,
        false => abi::CHOOSES_TOKENS,
    };
    if let Some(runs) = (control.generation.runs).get_mut(control.call.segment as usize) {
        *runs = 1;
    }
    Ok(control)
}

/// A static tree, as the kernel takes it. Paths have at most [`ROW_LIMIT`] - 1 ranks.
fn static_tree(choices: &Choices) -> abi::StaticTree {
    let mut tree = abi::StaticTree::zeroed();
    tree.nodes = choices.nodes() as u32;
    tree.levels = choices.depth();
    let parents = choices.parents();
    for (node, (path, parent)) in (1..ROW_LIMIT).zip(choices.paths().iter().zip(&parents[1..])) {
        tree.parents[node] = parent.unwrap_or(0) as u8;
        tree.ranks[node] = path.last().copied().unwrap_or(0) as u8;
        tree.depths[node] = path.len() as u8;
    }
    tree
}

/// How tokens are chosen, as the kernel takes it.
pub(super) fn sampling_of(
    params: &SamplingParams,
    logprobs: Option<usize>,
    prompt: usize,
) -> abi::Sampling {
    abi::Sampling {
        seed: params.seed,
        temperature: params.temperature,
        top_p: params.top_p,
        min_p: params.min_p,
        repetition_penalty: params.repetition_penalty,
        presence_penalty: params.presence_penalty,
        frequency_penalty: params.frequency_penalty,
        top_k: u32::try_from(params.top_k).unwrap_or(0),
        penalty_window: u32::try_from(params.penalty_last_n).unwrap_or(NONE),
        greedy: u32::from(params.is_greedy()),
        penalises: u32::from(params.has_penalties()),
        bias_count: params.logit_bias.len() as u32,
        masked: 0,
        top_logprobs: logprobs.map_or(NONE, |n| n as u32),
        prompt_length: prompt as u32,
    }
}
