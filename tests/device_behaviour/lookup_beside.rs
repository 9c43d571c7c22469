//! Lookup and another draft that take turns inside the loop: tokens and what the session holds are those of plain decoding.

use crate::tree_rounds::shape;
use crate::{FIXTURE, assert_holds_its_tokens, engine_at, fixture, generate, ids, session};
use std::collections::HashSet;
use stheno::engine::{Device, Engine, GenerateOptions, SpeculationStatistics};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Acceptance, Policy, SpeculationOptions};

const COUNT: usize = 24;

fn drafting(target: &str, draft: &str) -> Engine {
    engine_at(&fixture(target), Device::Virtual, |builder| {
        let builder = builder.context_length(300).max_rows(16);
        let draft = format!("ngram+{}", fixture(draft));
        builder.draft(&draft).unwrap()
    })
}

fn options(params: &SamplingParams, policy: Policy, acceptance: Acceptance) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(COUNT, params.clone());
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy,
        acceptance,
        ..SpeculationOptions::default()
    };
    options
}

fn run(
    engine: &Engine,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (Vec<u32>, SpeculationStatistics) {
    let mut session = session(engine);
    let mut stream = session.generate(prompt.to_vec(), options).unwrap();
    let tokens: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
    let statistics = stream.statistics().speculation.clone().unwrap();
    drop(stream);
    assert_holds_its_tokens(&session);
    (tokens, statistics)
}

/// Text without repeats, greedy; and text that repeats itself, sampled.
fn texts() -> [(Vec<u32>, SamplingParams); 2] {
    let sampled = SamplingParams {
        temperature: 0.8,
        seed: 3,
        ..SamplingParams::default()
    };
    let repeats = (0..40).map(|i| (i % 11) * 17 % 260).collect();
    [
        (vec![97, 11, 64, 115, 7], SamplingParams::greedy()),
        (repeats, sampled),
    ]
}

/// Both have rounds, and nothing changes but the time.
fn check(engine: &Engine, policies: &[Policy]) {
    assert!(engine.has_lookup_beside());
    let other = engine.draft_kind().unwrap();
    let mut kinds = HashSet::new();
    for (prompt, params) in texts() {
        let plain = options(&params, Policy::Off, Acceptance::Exact);
        let expected = ids(&generate(&mut session(engine), &prompt, &plain));
        for policy in policies {
            let options = options(&params, *policy, Acceptance::Exact);
            let (found, statistics) = run(engine, &prompt, &options);
            assert_eq!(found, expected, "{other}, {policy:?}");
            let drafters = &statistics.drafters;
            let rounds = drafters.iter().map(|d| d.rounds).sum();
            let emitted = drafters.iter().map(|d| d.emitted).sum();
            assert_eq!((statistics.rounds, statistics.emitted), (rounds, emitted));
            kinds.extend(drafters.iter().map(|d| d.kind));
        }
    }
    assert_eq!(kinds, HashSet::from(["ngram", other]));
}

#[test]
fn a_layer() {
    let engine = drafting("drafts/target-llama", "drafts/eagle3");
    check(
        &engine,
        &[Policy::Fixed(shape(4, 4, 16)), Policy::Automatic],
    );
    // Lookup has no distribution to draw from.
    let [_, (prompt, params)] = texts();
    let drawn = options(
        &params,
        Policy::Fixed(shape(3, 1, 4)),
        Acceptance::Rejection,
    );
    let (tokens, statistics) = run(&engine, &prompt, &drawn);
    assert_eq!(tokens.len(), COUNT);
    assert!(statistics.drafters.iter().all(|d| d.kind == "eagle3"));
    assert!(statistics.accepted > 0);
}

#[test]
fn heads() {
    let engine = drafting("drafts/target-llama", "drafts/medusa-a");
    check(&engine, &[Policy::Fixed(shape(2, 4, 12))]);
}

#[test]
fn a_small_model() {
    let engine = drafting(&format!("models/{FIXTURE}"), "models/qwen3");
    check(&engine, &[Policy::Fixed(shape(3, 2, 8))]);
}
