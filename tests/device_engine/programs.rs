//! What the fixtures do not reach, under all checks: chains over a page boundary in both segments, steps of a call, weights in 4
//! and 8 bits, K and V in f16, guesses, penalties, log-probabilities.

use crate::chains::{chain, executor, outputs, rows, sequence};
use crate::{FIXTURE, engine, engine_at, fixture, generate, ids, session, tiny_gguf, tokens};
use stheno::device::DeviceForward;
use stheno::engine::{Device, Engine, GenerateOptions};
use stheno::plan::{Dtype, SegmentKind};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, TreeShape};

/// Chains that cross a page, and the same in launches of one phase.
fn check_chains(engine: &Engine) {
    let executor = executor(engine);
    let prefix = sequence(executor, &tokens(126, 81));
    let tokens = tokens(5, 82);
    let mut kv = prefix.clone();
    let expected: Vec<_> = tokens
        .iter()
        .flat_map(|token| chain(executor, SegmentKind::Target, &mut kv, &[*token]))
        .collect();
    for segment in [SegmentKind::Target, SegmentKind::Prefill] {
        let mut together = prefix.clone();
        assert!(chain(executor, segment, &mut together, &tokens) == expected);
        assert!(together.read().unwrap() == kv.read().unwrap());
        let (mut stepped, mut forward) = (prefix.clone(), DeviceForward::default());
        let starts: Vec<u32> = (1..executor.phases_of(segment)).collect();
        let rows = rows(&stepped, &tokens);
        executor
            .forward_stepped(segment, &rows, &starts, &mut stepped, &mut forward)
            .unwrap();
        assert!(outputs(executor, &forward) == expected);
    }
}

#[test]
fn chains_and_guesses_in_bf16() {
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        builder.taps(&[0]).draft("ngram").unwrap()
    });
    check_chains(&engine);
    let params = SamplingParams {
        top_p: 0.9,
        frequency_penalty: 0.1,
        logit_bias: tokens(2, 83)
            .into_iter()
            .map(|token| (token, 7.0))
            .collect(),
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(14, params);
    (options.ignore_eos, options.logprobs) = (true, Some(3));
    let prompt = tokens(2, 83).repeat(6);
    let mut answer = |policy| {
        options.speculation.policy = policy;
        generate(&mut session(&engine), &prompt, &options)
    };
    let plain = ids(&answer(Policy::Off));
    assert_eq!(ids(&answer(Policy::Automatic)), plain);
    let guessed = answer(Policy::Fixed(TreeShape::chain(4)));
    assert_eq!(ids(&guessed), plain);
    assert!(guessed.iter().any(|token| token.accepted));
}

/// Nine tokens after a prompt of more than a chunk, by trees of one size, by trees whose size is chosen every round, and plainly.
fn check_rounds(engine: &Engine, shape: TreeShape) {
    let mut options = GenerateOptions::greedy(9);
    options.ignore_eos = true;
    let prompt = tokens(70, 84);
    let mut answer = |policy| {
        options.speculation.policy = policy;
        ids(&generate(&mut session(engine), &prompt, &options))
    };
    let plain = answer(Policy::Off);
    assert_eq!(answer(Policy::Fixed(shape)), plain);
    assert_eq!(answer(Policy::Automatic), plain);
}

/// Calls of a draft between those of the target: prefill, extend and steps, weights of each fetched during the one before.
#[test]
fn a_draft_model_in_the_loop() {
    let draft = fixture("models/qwen3");
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        builder.draft(&draft).unwrap()
    });
    let shape = TreeShape {
        num_steps: 3,
        topk: 2,
        num_draft_tokens: 6,
    };
    check_rounds(&engine, shape);
}

/// The same of what is fed hidden states of the target, and of lookup beside it.
#[test]
fn heads_in_the_loop() {
    let target = fixture("drafts/target-llama");
    for (lookup, draft) in [("", "eagle3"), ("", "medusa-d"), ("ngram+", "eagle3")] {
        let draft = format!("{lookup}{}", fixture(&format!("drafts/{draft}")));
        let engine = engine_at(&target, Device::Virtual, |builder| {
            builder.context_length(160).draft(&draft).unwrap()
        });
        let shape = TreeShape {
            num_steps: 2,
            topk: 3,
            num_draft_tokens: 8,
        };
        check_rounds(&engine, shape);
    }
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn chains_of_a_quantized_model_with_kv_in_f16() {
    let file = tiny_gguf::write();
    let path = file.path().to_str().unwrap();
    check_chains(&engine_at(path, Device::Virtual, |builder| {
        let builder = builder.context_length(200).taps(&[0]);
        builder.kv_dtype(Dtype::F16)
    }));
}
