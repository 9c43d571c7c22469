//! One choice: what the kernel is given for it, and what the sampler makes of the same.

use std::collections::HashMap;

use crate::inputs::{Kind, Random};
use crate::source;
use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape};
use bytemuck::Zeroable;
use stheno::speculation::sampling::{
    Choice, Logprobs, Sampler, SamplingParams, TokenCounts, TokenMask,
};
use stheno_codegen::program::abi::{ChoosePhase, Program};
use virtual_gpu::{DevicePointer, LaunchOptions};

const NONE: u32 = u32::MAX;
const ROW_LIMIT: usize = 64;
const TOP_LIMIT: usize = 32;

/// A row to choose for, with all that decides on it.
#[derive(Clone, Debug)]
pub struct Case {
    pub params: SamplingParams,
    pub mask: Option<TokenMask>,
    /// Tokens listed beside the chosen one; None: no log-probabilities.
    pub logprobs: Option<usize>,
    /// Of the row, [vocab_size].
    pub logits: Vec<f32>,
    /// Whether the kernel is given the largest logit of each block.
    pub has_best: bool,
    pub history: Vec<u32>,
    pub prompt_length: usize,
    /// Tokens and parents of the call's rows, the root first.
    pub tokens: Vec<u32>,
    pub parents: Vec<u32>,
    pub outputs: Vec<u32>,
    /// Which of the outputs is chosen for.
    pub output: usize,
    /// How many tokens of history and root are counted by the host; the kernel counts the others.
    pub counted: usize,
    /// How often the block chooses; always the same.
    pub times: u32,
}

impl Case {
    /// Of default parameters: the root of a call after a short history.
    pub fn plain(random: &mut Random, vocab_size: usize, kind: Kind) -> Case {
        let mut token = || random.below(vocab_size) as u32;
        let history: Vec<u32> = (0..20).map(|_| token()).collect();
        let tokens = vec![token()];
        Case {
            params: SamplingParams {
                seed: random.next(),
                ..Default::default()
            },
            mask: None,
            logprobs: None,
            logits: kind.logits(random, vocab_size),
            has_best: false,
            counted: history.len() + 1,
            prompt_length: 8,
            history,
            tokens,
            parents: vec![NONE],
            outputs: vec![0],
            output: 0,
            times: 1,
        }
    }

    /// Of anything.
    pub fn random(random: &mut Random, vocab_size: usize) -> Case {
        let kind = random.pick(&Kind::ALL);
        let mut case = Case::plain(random, vocab_size, kind);
        case.params = random_params(random, vocab_size);
        case.has_best = random.one_in(2);
        if random.one_in(2) {
            case.logprobs = Some(random.pick(&[0, 1, 5, 20, TOP_LIMIT]));
        }
        if random.one_in(3) {
            let density = random.pick(&[0, 1, 3, 7]);
            let allowed = (0..vocab_size as u32).filter(|_| random.below(8) < density);
            case.mask = Some(TokenMask::from_tokens(vocab_size, allowed).unwrap());
        }
        // Few tokens in long sequences, so that some are in it often.
        let tokens = vocab_size.min(random.pick(&[3, 12, 1000]));
        let length = random.pick(&[0, 1, 5, 40, 700]);
        case.history = (0..length).map(|_| random.below(tokens) as u32).collect();
        let rows = random.pick(&[1, 2, 9, ROW_LIMIT]);
        case.tokens = (0..rows).map(|_| random.below(tokens) as u32).collect();
        let is_chain = random.one_in(2);
        case.parents = (0..rows as u32)
            .map(|row| match row {
                0 => NONE,
                _ if is_chain => row - 1,
                _ => random.below(row as usize) as u32,
            })
            .collect();
        case.outputs = (0..rows as u32).filter(|_| random.one_in(2)).collect();
        if case.outputs.is_empty() {
            case.outputs.push(rows as u32 - 1);
        }
        case.output = random.below(case.outputs.len());
        case.prompt_length = random.below(length + rows + 1);
        case.counted = random.below(length + 2);
        case.times = random.pick(&[1, 1, 2]);
        case
    }

    fn vocab_size(&self) -> usize {
        self.logits.len()
    }

    fn row(&self) -> usize {
        self.outputs[self.output] as usize
    }

    /// Tokens from the root to a row.
    fn path(&self, row: usize) -> Vec<u32> {
        let mut path = vec![self.tokens[row]];
        let mut node = self.parents[row];
        while node != NONE {
            path.push(self.tokens[node as usize]);
            node = self.parents[node as usize];
        }
        path.reverse();
        path
    }

    fn position(&self, row: usize) -> u32 {
        (self.history.len() + self.path(row).len() - 1) as u32
    }

    /// Counts at the row.
    fn token_counts(&self) -> TokenCounts {
        let mut sequence = self.history.clone();
        sequence.extend(self.path(self.row()));
        let (prompt, output) = sequence.split_at(self.prompt_length.min(sequence.len()));
        let mut counts = TokenCounts::new(prompt, self.params.penalty_last_n);
        output.iter().for_each(|&token| counts.push(token));
        counts
    }

    /// The logits after penalties, bias and mask; None: nothing changes them.
    fn adjusted(&self) -> Option<Vec<f32>> {
        let params = &self.params;
        if !params.has_penalties() && params.logit_bias.is_empty() && self.mask.is_none() {
            return None;
        }
        let mut logits = self.logits.clone();
        self.token_counts().apply(params, &mut logits);
        for &(token, add) in &params.logit_bias {
            logits[token as usize] += add;
        }
        if let Some(mask) = &self.mask {
            mask.apply(&mut logits).unwrap();
        }
        logits.iter_mut().for_each(|logit| *logit = finite(*logit));
        Some(logits)
    }

    /// By the sampler; None: nothing is left to choose.
    fn expected(&self) -> Option<(Choice, Option<Logprobs>)> {
        let counts = self.token_counts();
        let mut sampler = Sampler::new(self.params.clone(), self.vocab_size()).unwrap();
        let position = self.position(self.row()) + 1;
        let choice = sampler.choose(&self.logits, position, &counts, self.mask.as_ref());
        let choice = choice.ok()?;
        let logprobs = |n| Logprobs::new(&self.logits, choice.token, n);
        Some((choice, self.logprobs.map(logprobs)))
    }

    /// Counts of the first `counted` tokens of history and root.
    fn counts(&self) -> Vec<u32> {
        let mut sequence = self.history.clone();
        sequence.push(self.tokens[0]);
        sequence.truncate(self.counted);
        let window = usize::try_from(self.params.penalty_last_n).unwrap_or(usize::MAX);
        let start = sequence.len().saturating_sub(window);
        let mut counts = HashMap::<u32, [u32; 2]>::new();
        for (index, &token) in sequence.iter().enumerate().skip(start) {
            let count = counts.entry(token).or_default();
            count[0] += 1;
            count[1] += u32::from(index >= self.prompt_length);
        }
        let count = |token| counts.get(&token).copied().unwrap_or_default();
        (0..self.vocab_size() as u32).flat_map(count).collect()
    }
}

fn random_params(random: &mut Random, vocab_size: usize) -> SamplingParams {
    let mut params = SamplingParams {
        seed: random.next(),
        ..Default::default()
    };
    let warm = random.unit() * 2.0 + 0.1;
    params.temperature = random.pick(&[
        0.0,
        0.0,
        1.0,
        1.0,
        0.7,
        warm,
        warm,
        1e-45,
        1e-20,
        1e-3,
        100.0,
        1e31,
        f32::MAX,
    ]);
    if random.one_in(2) {
        let any = random.below(vocab_size) + 1;
        params.top_k = random.pick(&[1, 2, 5, 40, any, any, vocab_size, vocab_size + 5]);
    }
    if random.one_in(2) {
        let any = random.unit().max(f32::MIN_POSITIVE);
        params.top_p = random.pick(&[0.95, 0.5, 1e-3, f32::MIN_POSITIVE, 0.999_999_94, any, any]);
    }
    if random.one_in(3) {
        let any = random.unit();
        params.min_p = random.pick(&[0.05, 1.0, 1e-40, 0.5, 1e-12, any]);
    }
    if random.one_in(2) {
        params.penalty_last_n = random.pick(&[-1, -1, 0, 1, 3, 20, 64, 400]);
        if !random.one_in(3) {
            params.repetition_penalty = random.pick(&[1.1, 2.0, 0.5, f32::MIN_POSITIVE, f32::MAX]);
        }
        if random.one_in(2) {
            params.presence_penalty = random.bell() * random.pick(&[1.0, 10.0, f32::MAX]);
        }
        if random.one_in(2) {
            params.frequency_penalty = random.bell() * random.pick(&[1.0, 10.0, f32::MAX]);
        }
    }
    if random.one_in(3) {
        let entries = random.pick(&[1, 3, 30]);
        params.logit_bias = (0..entries)
            .map(|_| {
                let any = random.bell() * 20.0;
                let add = random.pick(&[any, any, any, f32::NEG_INFINITY, 1e30, f32::MIN]);
                (random.below(vocab_size) as u32, add)
            })
            .collect();
    }
    params
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values
        .into_iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

fn finite(logit: f32) -> f32 {
    if logit.is_nan() {
        f32::NEG_INFINITY
    } else {
        logit.min(f32::MAX)
    }
}

/// Orders as the kernel's keys do.
fn key(logit: f32, token: usize) -> u64 {
    let bits = (finite(logit) + 0.0).to_bits();
    let order = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    u64::from(order) << 32 | u64::from(!(token as u32))
}

/// What of a case lies where.
struct Placed {
    bytes: Vec<u8>,
    choice: DevicePointer,
    top: DevicePointer,
    adjusted: DevicePointer,
}

/// Puts a case on the device and returns the kernel's structure `Case`. Nothing of the workspace is initialised but what
/// the head would have written.
fn place(gpu: &mut Gpu, case: &Case, blocks: usize) -> Placed {
    let (vocab_size, rows) = (case.vocab_size(), case.outputs.len());
    let mut size = 0;
    let mut reserve = |bytes: usize| {
        let at = size;
        size += bytes.next_multiple_of(16);
        at as u32
    };
    let logits = reserve(4 * vocab_size * rows);
    let best = reserve(8 * blocks * rows);
    let choices = reserve(16 * rows);
    let top = reserve(8 * TOP_LIMIT * rows);
    let candidates = reserve(8 * vocab_size * rows);
    let adjusted = reserve(4 * vocab_size.next_multiple_of(4) * rows);
    let workspace = gpu.alloc(size);
    let at =
        |offset: u32, bytes: usize| DevicePointer(workspace.0 + u64::from(offset) + bytes as u64);
    let content = words(case.logits.iter().map(|logit| logit.to_bits()));
    let row_at = at(logits, 4 * vocab_size * case.output);
    gpu.write(row_at, &content);
    // Tokens go to blocks by turns; some blocks have none.
    let mut largest = vec![0; blocks];
    for (token, &logit) in case.logits.iter().enumerate() {
        let block = &mut largest[token / 8 % blocks];
        *block = key(logit, token).max(*block);
    }
    let content: Vec<u8> = largest.iter().flat_map(|key| key.to_le_bytes()).collect();
    let best_at = at(best, 8 * blocks * case.output);
    gpu.write(best_at, &content);

    let history = gpu.upload(&words(case.history.iter().copied()));
    let counts = gpu.upload(&words(case.counts()));
    let bias = &case.params.logit_bias;
    let entries = gpu.upload(&words(bias.iter().flat_map(|&(t, add)| [t, add.to_bits()])));
    let mask = case.mask.as_ref().map_or(Vec::new(), |mask| {
        let halves = mask
            .words()
            .iter()
            .flat_map(|w| [*w as u32, (w >> 32) as u32]);
        words(halves.take(vocab_size.div_ceil(32)))
    });
    let mask = gpu.upload(&mask);
    let mut sequence = case.history.clone();
    sequence.push(case.tokens[0]);
    let counted = gpu.upload(&words(sequence[case.counted..].iter().copied()));

    let mut bytes = Vec::new();
    let program = Program {
        workspace: workspace.0,
        history: history.0,
        counts: counts.0,
        bias: entries.0,
        mask: mask.0,
        ..Program::zeroed()
    };
    bytes.extend(bytemuck::bytes_of(&program));
    let params = &case.params;
    bytes.extend(params.seed.to_le_bytes());
    let floats = [
        params.temperature,
        params.top_p,
        params.min_p,
        params.repetition_penalty,
        params.presence_penalty,
        params.frequency_penalty,
    ];
    bytes.extend(words(floats.map(f32::to_bits)));
    bytes.extend(words([
        params.top_k as u32,
        u32::try_from(params.penalty_last_n).unwrap_or(NONE),
        u32::from(params.is_greedy()),
        u32::from(params.has_penalties()),
        bias.len() as u32,
        u32::from(case.mask.is_some()),
        case.logprobs.map_or(NONE, |n| n as u32),
        case.prompt_length as u32,
    ]));
    let length = case.history.len() as u32;
    let all = case.tokens.len() as u32;
    bytes.extend(words([0, 1, all, 8, rows as u32, 8, length, 1]));
    // No call is expected.
    bytes.extend(words([NONE, 0, 0, 0, 0, 0, 0, 0]));
    let positions: Vec<u32> = (0..case.tokens.len())
        .map(|row| case.position(row))
        .collect();
    for list in [&case.tokens, &positions, &case.parents, &case.outputs] {
        let mut list = list.clone();
        list.resize(ROW_LIMIT, 12_345);
        bytes.extend(words(list));
    }
    // Nothing has moved, and nothing is fed from outside.
    bytes.extend([0; 2 * ROW_LIMIT]);
    let best = if case.has_best { best } else { NONE };
    let phase = ChoosePhase {
        logits,
        vocab_size: vocab_size as u32,
        best,
        choices,
        top,
        candidates,
        adjusted,
        // The only head.
        head: 0,
        listed: NONE,
        unused: 0,
    };
    bytes.extend(bytemuck::bytes_of(&phase));
    let is_counted = u32::from(params.has_penalties());
    let tokens = (sequence.len() - case.counted) as u32;
    bytes.extend(words([
        case.output as u32,
        is_counted,
        case.counted as u32,
        tokens,
    ]));
    // And what aligns the next.
    bytes.extend(words([case.times, 0]));
    bytes.extend(counted.0.to_le_bytes());
    Placed {
        bytes,
        choice: at(choices, 16 * case.output),
        top: at(top, 8 * TOP_LIMIT * case.output),
        adjusted: at(adjusted, 4 * vocab_size.next_multiple_of(4) * case.output),
    }
}

/// Chooses for all cases in one launch and compares; returns the tokens.
pub fn run(cases: &[Case], seed: u64) -> Vec<u32> {
    let mut gpu = Gpu::new(cases.len() as u32);
    let placed: Vec<Placed> = cases
        .iter()
        .map(|c| place(&mut gpu, c, cases.len()))
        .collect();
    let content: Vec<u8> = placed
        .iter()
        .flat_map(|p| p.bytes.iter().copied())
        .collect();
    let structures = gpu.upload(&content);
    let shape = Shape {
        blocks: cases.len() as u32,
        threads: 256,
        shared: SHARED_WITHOUT_PRODUCTS,
    };
    let options = LaunchOptions {
        seed,
        ..Default::default()
    };
    let parameter = structures.0.to_le_bytes();
    gpu.launch(
        &source().module(80),
        "choose_cases",
        shape,
        &parameter,
        &options,
    );
    let word =
        |bytes: &[u8], i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
    let mut tokens = Vec::new();
    for (case, placed) in cases.iter().zip(placed) {
        let got = gpu.download(placed.choice, 16);
        let what = || {
            let logits = &case.logits[..case.vocab_size().min(20)];
            format!(
                "{:?} of {} logits {logits:?}",
                case.params,
                case.vocab_size()
            )
        };
        tokens.push(word(&got, 0));
        if let Some(expected) = case.adjusted() {
            let adjusted = gpu.download(placed.adjusted, 4 * expected.len());
            for (i, logit) in expected.iter().enumerate() {
                let got = f32::from_bits(word(&adjusted, i));
                assert_eq!(
                    got.to_bits(),
                    logit.to_bits(),
                    "token {i}: {got} for {logit}: {}",
                    what()
                );
            }
        }
        let Some((choice, logprobs)) = case.expected() else {
            assert_eq!(word(&got, 3), 1, "{}", what());
            continue;
        };
        assert_eq!(word(&got, 3), 0, "{}", what());
        let got_choice = (word(&got, 0), word(&got, 1) as usize);
        assert_eq!(got_choice, (choice.token, choice.kept), "{}", what());
        let Some(logprobs) = logprobs else { continue };
        assert_eq!(
            word(&got, 2),
            logprobs.chosen.logprob.to_bits(),
            "{}",
            what()
        );
        let top = gpu.download(placed.top, 8 * logprobs.top.len());
        for (i, expected) in logprobs.top.iter().enumerate() {
            let got = (word(&top, 2 * i), word(&top, 2 * i + 1));
            assert_eq!(
                got,
                (expected.token, expected.logprob.to_bits()),
                "{}",
                what()
            );
        }
    }
    tokens
}
