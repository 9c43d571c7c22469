//! What rejection sampling on a device emits has the target's distribution, however the draft's is: trees of two levels are drawn and
//! decided on by the program's own functions, seed after seed, on tiny vocabularies. Seeds are fixed, so that a run is as the last.
//! Rules that are wrong on purpose show that the statistic finds them.

use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use bytemuck::{Pod, Zeroable};
use stheno::speculation::sampling::{Sampler, SamplingParams, TokenCounts};
use stheno_codegen::program::abi::{
    ChoosePhase, Control, DRAFTER_HEADS, DRAFTER_MODEL, NONE, ROW_LIMIT, TOP_LIMIT,
};
use virtual_gpu::{Checks, DevicePointer, LaunchOptions};

const VOCAB: usize = 6;

/// Samples of a case, and blocks that share them.
const SAMPLES: usize = 1000;
const BLOCKS: usize = 30;

/// Standard deviations of the statistic, made normal: a right sampler is above that once in ten thousand cases.
const LIMIT: f64 = 3.72;

/// See `enum Planted` of the kernel.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    NoResidual,
    Likeliest,
}

fn source() -> Source {
    Source {
        name: "emitted.cu",
        variant: String::new(),
        text: include_str!("../../kernels/tests/rejection/emitted.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[
                ("SEGMENT_PREFILL", 0),
                ("SEGMENT_TARGET", 1),
                ("SEGMENT_EXTEND", 3),
                ("SEGMENT_DRAFT", 4),
                ("VOCAB_SIZE", VOCAB as u32),
            ],
        ]
        .concat(),
    }
}

/// Logits after the root, then after each token.
type Logits = [[f32; VOCAB]; 1 + VOCAB];

/// Of probabilities, which need not add up to 1.
fn logits(probabilities: [[f32; VOCAB]; 1 + VOCAB]) -> Logits {
    probabilities.map(|row| row.map(f32::ln))
}

struct Case {
    name: &'static str,
    target: Logits,
    draft: Logits,
    /// Guesses below the root.
    topk: u32,
    drafter: u32,
    params: SamplingParams,
    planted: Planted,
}

/// What is alike after every token but the weights' order, so that pairs differ.
fn turned(first: [f32; VOCAB]) -> Logits {
    let row = |by: usize| std::array::from_fn(|token| first[(token + by) % VOCAB]);
    logits(std::array::from_fn(row))
}

fn cases() -> Vec<Case> {
    let even = [0.3, 0.25, 0.2, 0.15, 0.07, 0.03];
    let warm = |change: fn(&mut SamplingParams)| {
        let mut params = SamplingParams {
            temperature: 1.0,
            ..SamplingParams::default()
        };
        change(&mut params);
        params
    };
    let case = |name, target, draft, topk| Case {
        name,
        target,
        draft,
        topk,
        drafter: DRAFTER_MODEL,
        params: warm(|_| ()),
        planted: Planted::Nothing,
    };
    // Where the target's weights fall, these rise.
    let against = [0.01, 0.02, 0.03, 0.1, 0.14, 0.7];
    let apart = |first: usize| {
        let own = move |token: usize| {
            if token / 3 == first {
                even[token % 3]
            } else {
                0.0
            }
        };
        logits([std::array::from_fn(own); 1 + VOCAB])
    };
    // Heads have one distribution for all nodes of a level.
    let heads = {
        let mut rows = [against; 1 + VOCAB];
        rows[0] = [0.05, 0.3, 0.05, 0.3, 0.05, 0.25];
        logits(rows)
    };
    vec![
        case("nothing in common, three guesses", apart(0), apart(1), 3),
        case(
            "a draft that is sure of the unlikely, one guess",
            turned(even),
            turned(against),
            1,
        ),
        case(
            "a draft that is sure of the unlikely, four guesses",
            turned(even),
            turned(against),
            4,
        ),
        case(
            "a draft that is right, two guesses",
            turned(even),
            turned(even),
            2,
        ),
        Case {
            params: warm(|p| p.top_k = 3),
            ..case("top-k 3", turned(even), turned(against), 3)
        },
        Case {
            params: warm(|p| (p.top_p, p.min_p, p.temperature) = (0.85, 0.05, 1.6)),
            ..case(
                "top-p 0.85, min-p 0.05, hot",
                turned(even),
                turned([0.1, 0.4, 0.1, 0.1, 0.2, 0.1]),
                2,
            )
        },
        Case {
            drafter: DRAFTER_HEADS,
            ..case("heads, three guesses", turned(even), heads, 3)
        },
    ]
}

/// Those that must be found out.
fn planted() -> Vec<Case> {
    let wrong = |planted| {
        let mut case = cases().remove(2);
        (case.planted, case.topk) = (planted, 2);
        case
    };
    vec![wrong(Planted::NoResidual), wrong(Planted::Likeliest)]
}

/// `struct Game` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Game {
    control: u64,
    workspace: u64,
    workspace_bytes: u64,
    target: u64,
    draft: u64,
    emitted: u64,
    seed: u64,
    samples: u32,
    planted: u32,
    phases: [ChoosePhase; 3],
}

/// Room for what a phase names, of as many rows as a call may have.
fn phase(size: &mut u32, head: u32, is_draft: bool) -> ChoosePhase {
    let rows = ROW_LIMIT;
    let mut reserve = |bytes: usize| {
        let at = *size;
        *size += bytes.next_multiple_of(16) as u32;
        at
    };
    ChoosePhase {
        logits: reserve(4 * VOCAB * rows),
        vocab_size: VOCAB as u32,
        best: if is_draft {
            reserve(8 * rows * BLOCKS)
        } else {
            NONE
        },
        choices: reserve(16 * rows),
        top: reserve(8 * TOP_LIMIT * rows),
        candidates: reserve(8 * VOCAB * rows.max(BLOCKS)),
        adjusted: NONE,
        head,
        listed: NONE,
        unused: 0,
    }
}

fn control(case: &Case, draws: DevicePointer) -> Control {
    let params = &case.params;
    let mut control = Control::zeroed();
    control.sampling.temperature = params.temperature;
    control.sampling.top_p = params.top_p;
    control.sampling.top_k = params.top_k as u32;
    control.sampling.min_p = params.min_p;
    control.sampling.top_logprobs = NONE;
    control.generation.known = 8;
    control.generation.levels = 2;
    control.generation.topk = case.topk;
    control.generation.drafter = case.drafter;
    (control.tree.tokens[0], control.tree.parents[0]) = (0, NONE);
    control.draws = draws.0;
    control
}

/// How often each pair of tokens was emitted.
type Counts = [[usize; VOCAB]; VOCAB];

/// Of all samples of a case.
///
/// Races and the like are looked for in a sample of each block, which all others are like.
fn counts(case: &Case, seed: u64) -> Counts {
    let all = LaunchOptions::default();
    emit(case, seed, BLOCKS, &all);
    let fast = LaunchOptions {
        checks: Checks::Bounds,
        counters: false,
        ..all
    };
    emit(case, seed, SAMPLES, &fast)
}

fn emit(case: &Case, seed: u64, samples: usize, options: &LaunchOptions) -> Counts {
    let mut gpu = Gpu::new(BLOCKS as u32);
    let draws = 4 * VOCAB * ROW_LIMIT;
    let controls: Vec<Control> = (0..BLOCKS)
        .map(|_| control(case, gpu.upload(&vec![0; draws])))
        .collect();
    let mut size = 0;
    let phases =
        [(0, true), (1, true), (0, false)].map(|(head, is_draft)| phase(&mut size, head, is_draft));
    let emitted = gpu.alloc(8 * samples);
    let game = Game {
        control: gpu.upload(bytemuck::cast_slice(&controls)).0,
        workspace: gpu.upload(&vec![0; size as usize * BLOCKS]).0,
        workspace_bytes: size.into(),
        target: gpu.upload(bytemuck::cast_slice(&case.target)).0,
        draft: gpu.upload(bytemuck::cast_slice(&case.draft)).0,
        emitted: emitted.0,
        seed,
        samples: samples as u32,
        planted: case.planted as u32,
        phases,
    };
    let shape = Shape {
        blocks: BLOCKS as u32,
        threads: 256,
        shared: SHARED_WITHOUT_PRODUCTS,
    };
    let parameter = gpu.upload(bytemuck::bytes_of(&game)).0.to_le_bytes();
    gpu.launch(&source().module(80), "emit", shape, &parameter, options);
    let mut counts = [[0; VOCAB]; VOCAB];
    for pair in gpu.download(emitted, 8 * samples).chunks_exact(8) {
        let [first, second]: [u32; 2] = bytemuck::pod_read_unaligned(pair);
        counts[first as usize][second as usize] += 1;
    }
    counts
}

/// Of a row of logits, as the target's parameters say.
fn probabilities(params: &SamplingParams, logits: &[f32]) -> Vec<f32> {
    let mut sampler = Sampler::new(params.clone(), VOCAB).unwrap();
    let mut out = Vec::new();
    let counts = TokenCounts::new(&[], 0);
    sampler
        .probabilities(logits, &counts, None, &mut out)
        .unwrap();
    out
}

/// The chi-square statistic over pairs that are expected at least 5 times, the others pooled, as a number of standard deviations
/// (Wilson and Hilferty, 1931).
fn deviation(case: &Case, counts: &Counts) -> f64 {
    let of_first = probabilities(&case.params, &case.target[0]);
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut rest, mut rest_expected) = (0.0, 0.0);
    let mut add = |found: f64, expected: f64| {
        statistic += (found - expected).powi(2) / expected;
        cells += 1.0;
    };
    for (first, p) in of_first.iter().enumerate() {
        let of_second = probabilities(&case.params, &case.target[1 + first]);
        for (second, q) in of_second.iter().enumerate() {
            let found = counts[first][second] as f64;
            let expected = SAMPLES as f64 * f64::from(*p) * f64::from(*q);
            if expected == 0.0 {
                assert_eq!(found, 0.0, "{}: {first} {second} cannot be", case.name);
            } else if expected < 5.0 {
                (rest, rest_expected) = (rest + found, rest_expected + expected);
            } else {
                add(found, expected);
            }
        }
    }
    if rest_expected > 1.0 {
        add(rest, rest_expected);
    }
    let freedom: f64 = cells - 1.0;
    assert!(freedom >= 3.0, "{}: {cells} cells say nothing", case.name);
    let variance = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - variance)) / variance.sqrt()
}

#[test]
fn what_is_emitted_has_the_targets_distribution() {
    for (case, seed) in cases().iter().zip((0..).step_by(100_000)) {
        let deviation = deviation(case, &counts(case, seed));
        println!("{}: {deviation:.2} standard deviations", case.name);
        assert!(deviation < LIMIT, "{}: {deviation}", case.name);
    }
}

#[test]
fn wrong_rules_are_found() {
    for case in planted() {
        let deviation = deviation(&case, &counts(&case, 0));
        println!("planted: {deviation:.2} standard deviations");
        assert!(deviation > 2.0 * LIMIT, "{deviation}");
    }
}
