//! Rejection sampling by the kernel against [`draw_children`] and [`verify`]: what is drawn, and what is decided on it.

use crate::inputs::{Kind, Random};
use crate::support::{Gpu, SHARED_WITHOUT_PRODUCTS, Shape, Source, WITHOUT_PRODUCTS};
use bytemuck::{Pod, Zeroable};
use stheno::speculation::acceptance::{Verdict, draw_children, verify};
use stheno::speculation::sampling::{Sampler, SamplingParams, TokenCounts};
use stheno_codegen::program::abi::{
    ChoosePhase, Control, DRAFTER_HEADS, DRAFTER_MODEL, NONE, TOP_LIMIT,
};
use virtual_gpu::{DevicePointer, LaunchOptions};

/// Of the target: rows start anywhere.
const VOCAB_SIZE: usize = 101;

const SEGMENT_EXTEND: u32 = 3;

fn source() -> Source {
    Source {
        name: "rejection.cu",
        variant: String::new(),
        text: include_str!("../../kernels/tests/rejection/rejection.cu").into(),
        sizes: [
            &WITHOUT_PRODUCTS[..],
            &[
                ("SEGMENT_PREFILL", 0),
                ("SEGMENT_TARGET", 1),
                ("SEGMENT_EXTEND", SEGMENT_EXTEND),
                ("SEGMENT_DRAFT", 4),
                ("VOCAB_SIZE", VOCAB_SIZE as u32),
            ],
        ]
        .concat(),
    }
}

/// `struct Case` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Case {
    control: u64,
    workspace: u64,
    target_ids: u64,
    logit_scale: f32,
    unused: u32,
    phase: ChoosePhase,
}

/// Room for one row of `vocab_size` logits, of which each block has said its largest, which is the first one's.
fn place(gpu: &mut Gpu, logits: &[f32], blocks: usize) -> (DevicePointer, ChoosePhase) {
    let vocab_size = logits.len();
    let mut size = 0u32;
    let mut reserve = |bytes: usize| {
        let at = size;
        size += bytes.next_multiple_of(16) as u32;
        at
    };
    let phase = ChoosePhase {
        logits: reserve(4 * vocab_size),
        vocab_size: vocab_size as u32,
        best: reserve(8 * blocks),
        choices: reserve(16),
        top: reserve(8 * TOP_LIMIT),
        candidates: reserve(8 * vocab_size * blocks),
        adjusted: reserve(4 * vocab_size.next_multiple_of(4)),
        head: 0,
        listed: NONE,
        unused: 0,
    };
    let workspace = gpu.alloc(size as usize);
    gpu.write(workspace, bytemuck::cast_slice(logits));
    let mut best = vec![0u64; blocks];
    for (token, &logit) in logits.iter().enumerate() {
        let bits = (logit + 0.0).to_bits();
        let order = if bits >> 31 == 1 {
            !bits
        } else {
            bits | 1 << 31
        };
        best[0] = best[0].max(u64::from(order) << 32 | u64::from(!(token as u32)));
    }
    let at = DevicePointer(workspace.0 + u64::from(phase.best));
    gpu.write(at, bytemuck::cast_slice(&best));
    (workspace, phase)
}

/// The words of a piece of memory, wherever it lies.
fn values<T: Pod>(bytes: &[u8]) -> Vec<T> {
    let pieces = bytes.chunks_exact(size_of::<T>());
    pieces.map(bytemuck::pod_read_unaligned).collect()
}

fn launch(gpu: &mut Gpu, kernel: &str, cases: &[Case]) {
    let parameter = gpu.upload(bytemuck::cast_slice(cases)).0.to_le_bytes();
    let shape = Shape {
        blocks: cases.len() as u32,
        threads: 256,
        shared: SHARED_WITHOUT_PRODUCTS,
    };
    let module = source().module(80);
    gpu.launch(
        &module,
        kernel,
        shape,
        &parameter,
        &LaunchOptions::default(),
    );
}

fn probabilities(params: &SamplingParams, logits: &[f32]) -> Vec<f32> {
    let mut sampler = Sampler::new(params.clone(), logits.len()).unwrap();
    let mut out = Vec::new();
    let counts = TokenCounts::new(&[], 0);
    sampler
        .probabilities(logits, &counts, None, &mut out)
        .unwrap();
    out
}

fn warm(random: &mut Random) -> SamplingParams {
    SamplingParams {
        temperature: random.pick(&[0.7, 1.0, 2.5]),
        seed: random.next(),
        ..SamplingParams::default()
    }
}

fn logits(random: &mut Random, count: usize) -> Vec<f32> {
    let kind = random.pick(&[Kind::Model, Kind::Model, Kind::Ties, Kind::Close]);
    let mut logits = kind.logits(random, count);
    if random.one_in(3) {
        // Most of it is a few tokens'.
        logits.iter_mut().skip(4).for_each(|logit| *logit -= 30.0);
    }
    logits
}

/// As the control block says it: a row at position 7, the children below it.
fn control(params: &SamplingParams, children: &[u32]) -> Control {
    let mut control = Control::zeroed();
    control.sampling.temperature = params.temperature;
    control.sampling.seed = params.seed;
    control.sampling.top_p = params.top_p;
    control.sampling.top_k = params.top_k as u32;
    control.sampling.min_p = params.min_p;
    control.sampling.greedy = u32::from(params.is_greedy());
    control.sampling.top_logprobs = NONE;
    control.generation.known = 8;
    control.generation.levels = 4;
    control.call.length = 7;
    (control.call.rows, control.call.output_rows) = (1 + children.len() as u32, 1);
    control.call.parents[0] = NONE;
    control.call.positions[0] = 7;
    for (row, &child) in (1..).zip(children) {
        control.call.tokens[row] = child;
        control.call.positions[row] = 8;
    }
    control
}

#[test]
fn draws_are_those_of_the_host() {
    const DRAFT_VOCAB: usize = 64;
    let mut random = Random::new(31);
    let mut gpu = Gpu::new(60);
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let mut params = warm(&mut random);
        // Of equal ones the first is best, by ids of the draft here, of the target there.
        if number % 10 == 1 {
            params.temperature = 0.0;
        }
        let scale = random.pick(&[1.0, 1.25]);
        // Every other draft has fewer tokens, and ids of its own.
        let is_mapped = number % 2 == 0;
        let count = if is_mapped { DRAFT_VOCAB } else { VOCAB_SIZE };
        let own = logits(&mut random, count);
        let ids: Vec<u32> = (0..count as u32)
            .map(|id| (id * 7 + 3) % VOCAB_SIZE as u32)
            .collect();
        let mut mapped = vec![f32::NEG_INFINITY; VOCAB_SIZE];
        for (id, &logit) in own.iter().enumerate() {
            mapped[if is_mapped { ids[id] as usize } else { id }] = logit * scale;
        }
        let topk = random.pick(&[1, 3, 8]);
        let q = probabilities(&params, &mapped);
        let drawn = draw_children(&q, topk, params.seed, 8, 0);
        let (workspace, phase) = place(&mut gpu, &own, 60);
        let mut control = control(&params, &[]);
        control.generation.topk = topk as u32;
        control.generation.drafter = match number % 3 {
            0 => DRAFTER_HEADS,
            _ => DRAFTER_MODEL,
        };
        control.call.segment = SEGMENT_EXTEND;
        let draws = gpu.alloc(4 * VOCAB_SIZE);
        control.draws = draws.0;
        cases.push(Case {
            control: gpu.upload(bytemuck::bytes_of(&control)).0,
            workspace: workspace.0,
            target_ids: match is_mapped {
                true => gpu.upload(bytemuck::cast_slice(&ids)).0,
                false => 0,
            },
            logit_scale: scale,
            unused: 0,
            phase,
        });
        expected.push((q, drawn, draws, topk));
    }
    launch(&mut gpu, "draw_cases", &cases);
    for (number, (case, (q, drawn, draws, topk))) in cases.iter().zip(&expected).enumerate() {
        let found = gpu.download(*draws, 4 * VOCAB_SIZE);
        let found: Vec<f32> = values(&found);
        assert_eq!(&found, q, "case {number}");
        let top = DevicePointer(case.workspace + u64::from(case.phase.top));
        let top: Vec<[u32; 2]> = values(&gpu.download(top, 8 * topk));
        for (i, [token, logprob]) in top.into_iter().enumerate() {
            let logprob = f32::from_bits(logprob);
            let Some(&(expected, probability)) = drawn.get(i) else {
                assert_eq!(logprob, f32::NEG_INFINITY, "case {number}, draw {i}");
                continue;
            };
            assert_eq!(token, expected, "case {number}, draw {i}");
            // Of what is left below that, rounding decides.
            let is_known = q[token as usize] / probability > 1e-9;
            let near = (logprob - probability.ln()).abs() < 1e-3 || !is_known;
            assert!(near, "case {number}, draw {i}: {logprob}, {probability}");
        }
    }
}

#[test]
fn decisions_are_those_of_the_host() {
    let mut random = Random::new(32);
    let mut gpu = Gpu::new(150);
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for number in 0..150 {
        let mut params = warm(&mut random);
        params.top_k = random.pick(&[0, 0, 5, 40]);
        params.top_p = random.pick(&[1.0, 1.0, 0.9]);
        params.min_p = random.pick(&[0.0, 0.0, 0.05]);
        if number % 25 == 0 {
            params.temperature = 0.0;
        }
        let own = logits(&mut random, VOCAB_SIZE);
        // Drafts that are right, nearly right, and of their own mind.
        let theirs: Vec<f32> = match number % 3 {
            0 => own.clone(),
            1 => own.iter().map(|logit| logit + random.bell()).collect(),
            _ => logits(&mut random, VOCAB_SIZE),
        };
        let draft = SamplingParams {
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            ..params.clone()
        };
        let q = probabilities(&draft, &theirs);
        let count = random.pick(&[1, 2, 4, 8]);
        let drawn = draw_children(&q, count, params.seed, 8, 0);
        let children: Vec<u32> = drawn.iter().map(|(token, _)| *token).collect();
        let mut p = probabilities(&params, &own);
        let verdict = verify(&mut p, &q, &children, params.seed, 8).unwrap();
        let (workspace, phase) = place(&mut gpu, &own, 150);
        let mut control = control(&params, &children);
        control.generation.drafter = DRAFTER_MODEL;
        control.draws = gpu.upload(bytemuck::cast_slice(&q)).0;
        cases.push(Case {
            control: gpu.upload(bytemuck::bytes_of(&control)).0,
            workspace: workspace.0,
            target_ids: 0,
            logit_scale: 1.0,
            unused: 0,
            phase,
        });
        expected.push((children, verdict));
    }
    launch(&mut gpu, "verify_cases", &cases);
    let (mut later, mut residual) = (0, 0);
    for (number, (case, (children, verdict))) in cases.iter().zip(&expected).enumerate() {
        let choice = DevicePointer(case.workspace + u64::from(case.phase.choices));
        let choice: Vec<u32> = values(&gpu.download(choice, 16));
        let token = match *verdict {
            Verdict::Child(child) => children[child],
            Verdict::Residual(token) => token,
        };
        assert_eq!(choice[0], token, "case {number}: {children:?}, {verdict:?}");
        assert_eq!(choice[3], 0, "case {number}");
        later += usize::from(matches!(verdict, Verdict::Child(1..)));
        residual += usize::from(matches!(verdict, Verdict::Residual(_)));
    }
    assert!(later > 5 && residual > 20, "{later} {residual}");
}
