//! Every fixture: tokens and logits against the host executor on the same plan.

use crate::engine;
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, SessionOptions};
use stheno::plan::{Row, SequenceIndex};

const FIXTURES: [&str; 13] = [
    "llama",
    "llama-biases",
    "llama-rope-dynamic",
    "llama-rope-linear",
    "llama-rope-llama3",
    "llama-rope-yarn",
    "llama-rope-yarn-options",
    "llama-tied",
    "mistral-sliding",
    "qwen2",
    "qwen2-sliding",
    "qwen3",
    "qwen3-tied",
];

/// Largest difference of logits, over the spread of the logits of a row: activations round to bf16, in another order of
/// norm and product than on the host.
const BOUND: f32 = 0.03;

/// Spread of a row and its largest difference to another.
fn compare(host: &[f32], device: &[f32]) -> (f32, f32) {
    let largest = host.iter().copied().fold(f32::MIN, f32::max);
    let smallest = host.iter().copied().fold(f32::MAX, f32::min);
    let differences = host.iter().zip(device).map(|(a, b)| (a - b).abs());
    (largest - smallest, differences.fold(0.0, f32::max))
}

/// Distance of the two largest.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[0] - sorted[1]
}

/// The first of the largest.
fn best(logits: &[f32]) -> u32 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    logits.iter().position(|x| *x == largest).unwrap() as u32
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn greedy_tokens_are_those_of_the_host_where_margins_allow() {
    let prompt: Vec<u32> = (0..21).map(|i| (i * 7 + 3) % 90).collect();
    for name in FIXTURES {
        let host = engine(name, Device::Host, |builder| builder);
        let device = engine(name, Device::Virtual, |builder| builder);
        let mut options = GenerateOptions::greedy(32);
        options.ignore_eos = true;
        let mut session = device.session(SessionOptions::default()).unwrap();
        let stream = session
            .generate(Prompt::Tokens(prompt.clone()), &options)
            .unwrap();
        let tokens: Vec<u32> = stream.map(|token| token.unwrap().id).collect();
        assert_eq!(tokens.len(), 32, "{name}");
        // Both are fed the device's tokens: what either would choose next is compared at every position.
        let all: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
        let mut rows = Row::chain(SequenceIndex(0), 0, &all[..all.len() - 1]);
        rows.iter_mut().for_each(|row| row.output = true);
        let logits = |engine: &Engine| {
            let session = engine.session(SessionOptions::default()).unwrap();
            engine
                .forward(&rows, &[&session])
                .unwrap()
                .logits()
                .to_vec()
        };
        let (expected, found) = (logits(&host), logits(&device));
        let vocab_size = host.vocab_size();
        let mut decided = 0;
        for (i, &token) in tokens.iter().enumerate() {
            let row = prompt.len() - 1 + i;
            let of = |logits: &[f32]| logits[row * vocab_size..][..vocab_size].to_vec();
            assert_eq!(
                token,
                best(&of(&found)),
                "{name}, token {i}: the loop and a call differ"
            );
            let expected = of(&expected);
            if margin(&expected) > 2.0 * BOUND * compare(&expected, &expected).0 {
                assert_eq!(token, best(&expected), "{name}, token {i}");
                decided += 1;
            }
        }
        assert!(decided >= 3, "{name}: only {decided} margins say anything");
    }
}

#[test]
fn logits_are_close_to_the_hosts() {
    let tokens: Vec<u32> = (0..23).map(|i| (i * 11 + 5) % 90).collect();
    for name in FIXTURES {
        let host = engine(name, Device::Host, |builder| builder);
        let device = engine(name, Device::Virtual, |builder| builder);
        let mut rows = Row::chain(SequenceIndex(0), 0, &tokens);
        rows.iter_mut().for_each(|row| row.output = true);
        let logits = |engine: &Engine| {
            let session = engine.session(SessionOptions::default()).unwrap();
            engine
                .forward(&rows, &[&session])
                .unwrap()
                .logits()
                .to_vec()
        };
        let (expected, found) = (logits(&host), logits(&device));
        let vocab_size = host.vocab_size();
        let rows = expected.chunks(vocab_size).zip(found.chunks(vocab_size));
        for (i, (expected, found)) in rows.enumerate() {
            let (spread, difference) = compare(expected, found);
            assert!(
                difference <= BOUND * spread,
                "{name} row {i}: {difference} of {spread}"
            );
        }
    }
}
