//! Tokens that the kernel chooses, on the virtual GPU with all checks, against the sampler: the same token, the same number of
//! tokens kept, the same bits of log-probabilities.

#[path = "device_choice/case.rs"]
mod case;
#[path = "device_choice/inputs.rs"]
mod inputs;
#[path = "../kernels/tests/support/mod.rs"]
mod support;

use case::{Case, run};
use inputs::{Kind, Random};
use stheno::speculation::sampling::{SamplingParams, TokenMask, math};
use support::{Gpu, Shape, Source, WITHOUT_PRODUCTS};
use virtual_gpu::LaunchOptions;

/// The kernels' test source.
pub fn source() -> Source {
    Source {
        name: "choose.cu",
        variant: String::new(),
        text: include_str!("../kernels/tests/choose/choose.cu").into(),
        sizes: WITHOUT_PRODUCTS.to_vec(),
    }
}

/// Some hundreds of cases of everything at once, of small vocabularies.
#[test]
fn random_cases() {
    for (batch, vocab_size) in [1, 63, 64, 100, 1000, 101].into_iter().enumerate() {
        let mut random = Random::new(batch as u64);
        let cases: Vec<Case> = (0..48)
            .map(|_| Case::random(&mut random, vocab_size))
            .collect();
        for seed in 0..3 {
            run(&cases, seed);
        }
    }
}

/// Each filter alone and with each other on each kind of logits.
#[test]
fn every_filter_on_every_kind_of_logits() {
    let mut random = Random::new(7);
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        for filters in 1..8 {
            let mut case = Case::plain(&mut random, 200, kind);
            case.params.temperature = 0.8;
            case.params.top_k = if filters & 1 == 1 { 9 } else { 0 };
            case.params.top_p = if filters & 2 == 2 { 0.9 } else { 1.0 };
            case.params.min_p = if filters & 4 == 4 { 0.02 } else { 0.0 };
            case.logprobs = Some(5);
            cases.push(case);
        }
    }
    for (cases, seed) in cases.chunks(64).zip(0..) {
        run(cases, seed);
    }
}

/// Noise alone decides: most tokens are passed over without drawing theirs, and none of those would have won.
#[test]
fn noise() {
    let mut random = Random::new(11);
    let kinds = [Kind::Model, Kind::Close, Kind::Ties, Kind::Tiny];
    for seed in 0..3 {
        let mut cases = Vec::new();
        for i in 0..64 {
            let mut case = Case::plain(&mut random, 1500, kinds[i % 4]);
            case.params.temperature = random.pick(&[0.3, 1.0, 1.0, 3.0, 1e-45]);
            case.params.min_p = random.pick(&[0.0, 0.0, 0.1]);
            case.has_best = random.one_in(2);
            cases.push(case);
        }
        run(&cases, seed);
    }
}

/// A real vocabulary.
#[test]
fn large_vocabulary() {
    let mut random = Random::new(8);
    let with = |change: fn(&mut SamplingParams)| {
        let mut params = SamplingParams::default();
        change(&mut params);
        params
    };
    let variants = [
        with(|p| p.top_k = 40),
        with(|p| p.top_p = 0.95),
        with(|p| (p.top_p, p.temperature) = (0.9999, 1.5)),
        with(|p| p.min_p = 0.05),
        with(|p| (p.top_k, p.top_p, p.min_p) = (40, 0.95, 0.05)),
        with(|p| p.seed = 5),
        with(|p| (p.temperature, p.repetition_penalty, p.penalty_last_n) = (0.0, 1.3, 64)),
    ];
    let kinds = [Kind::Model, Kind::Model, Kind::Ties, Kind::Wild];
    let mut cases = Vec::new();
    for (params, kind) in variants.iter().zip(kinds.into_iter().cycle()) {
        let mut case = Case::plain(&mut random, 49_152, kind);
        case.params = params.clone();
        case.logprobs = Some(20);
        cases.push(case);
    }
    let mut case = Case::plain(&mut random, 49_152, Kind::Equal);
    case.params.top_p = 0.5;
    cases.push(case);
    run(&cases, 1);
}

/// Tokens that share a mark with those of the bias, in a vocabulary larger than the marks.
#[test]
fn bias_in_a_vocabulary_larger_than_the_marks() {
    let mut random = Random::new(9);
    let vocab_size = 131_072 + 1001;
    let mut case = Case::plain(&mut random, vocab_size, Kind::Equal);
    let last = vocab_size as u32 - 1;
    case.params.temperature = 0.0;
    case.params.logit_bias = vec![(5, 1.0), (last, 2.0), (7, f32::NEG_INFINITY), (last, 0.25)];
    let mut raised = case.clone();
    // Alone above the others, and marked only because its residue is.
    raised.logits[131_072 + 7] = 9.0;
    let mut mask = TokenMask::all(vocab_size);
    mask.set(131_072 + 7, false).unwrap();
    let masked = Case {
        mask: Some(mask),
        ..raised.clone()
    };
    let tokens = run(&[case, raised, masked], 2);
    assert_eq!(tokens, [last, 131_072 + 7, last]);
}

/// More entries of a bias than are held at a time, several for a token, in an order that matters.
#[test]
fn long_bias() {
    let mut random = Random::new(10);
    let mut case = Case::plain(&mut random, 3000, Kind::Model);
    case.params.logit_bias = (0..2500u32)
        .map(|i| (i * 7 % 1200, [0.1, 1e8, -1e8][i as usize % 3]))
        .collect();
    let greedy = Case {
        params: SamplingParams {
            temperature: 0.0,
            ..case.params.clone()
        },
        ..case.clone()
    };
    run(&[case, greedy], 0);
}

/// exp, log and noise of a sample of all floats are those of the sampler.
#[test]
fn functions_are_the_samplers() {
    let words: Vec<u32> = (0..=u32::MAX)
        .step_by(17_389)
        .chain([1, u32::MAX])
        .collect();
    let mut gpu = Gpu::new(2);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let input = gpu.upload(&bytes);
    let output = gpu.upload(&vec![0; 32 * words.len()]);
    let mut parameter = [input.0.to_le_bytes(), output.0.to_le_bytes()].concat();
    parameter.extend((words.len() as u64).to_le_bytes());
    let shape = Shape {
        blocks: 2,
        threads: 256,
        shared: 0,
    };
    let options = LaunchOptions::default();
    gpu.launch(
        &source().module(80),
        "functions",
        shape,
        &parameter,
        &options,
    );
    let results = gpu.download(output, 32 * words.len());
    let mut noisy = Vec::new();
    for (&word, result) in words.iter().zip(results.chunks_exact(32)) {
        let got = |i: usize| f32::from_le_bytes(result[4 * i..4 * i + 4].try_into().unwrap());
        let x = f32::from_bits(word);
        assert_same(got(0), math::exp(x), x);
        assert_same(got(1), math::log(x), x);
        let unit = got(5);
        assert_same(got(2), math::neg_log_one_minus(unit), unit);
        assert_same(got(6), -math::log(math::neg_log_one_minus(unit)), unit);
        noisy.push(got(6));
    }
    assert!(noisy.iter().any(|&noise| noise > 10.0));
}

/// The same bits; any NaN is as good as another.
fn assert_same(got: f32, expected: f32, of: f32) {
    let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
    assert!(same, "{got} instead of {expected} for {of}");
}
