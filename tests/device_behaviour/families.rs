//! Trees in the loop for every family of models: the tokens of plain decoding, greedy and with chance, and what the session holds.

use crate::tree_rounds::shape;
use crate::{assert_holds_its_tokens, engine, fixture, generate, ids, session, tokens};
use stheno::engine::{Device, GenerateOptions};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions};

/// A model drafts for itself, so that paths come true, with siblings that do not; prompts reach beyond sliding windows.
fn check(name: &str, policies: &[Policy]) {
    let path = fixture(&format!("models/{name}"));
    let device = engine(name, Device::Virtual, |builder| {
        builder.max_rows(16).draft(&path).unwrap()
    });
    let sampled = SamplingParams {
        temperature: 0.9,
        top_p: 0.95,
        repetition_penalty: 1.1,
        seed: 7,
        ..SamplingParams::default()
    };
    let prompt = tokens(30, 8);
    for params in [SamplingParams::greedy(), sampled] {
        let mut options = GenerateOptions::sampled(16, params);
        options.ignore_eos = true;
        options.speculation = SpeculationOptions::off();
        let expected = ids(&generate(&mut session(&device), &prompt, &options));
        for &policy in policies {
            let place = format!("{name}, {policy:?}, {:?}", options.sampling);
            options.speculation.policy = policy;
            let mut session = session(&device);
            let found = generate(&mut session, &prompt, &options);
            assert_eq!(ids(&found), expected, "{place}");
            let accepted = found.iter().filter(|token| token.accepted).count();
            // With chance it seldom draws what is best.
            let least = if options.sampling.is_greedy() { 5 } else { 0 };
            assert!(accepted >= least, "{place}: {accepted}");
            assert_holds_its_tokens(&session);
        }
    }
}

const WIDE: Policy = Policy::Fixed(shape(4, 3, 14));

#[test]
fn mistral() {
    check("mistral-sliding", &[WIDE]);
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn every_family_and_policy() {
    let deep = Policy::Fixed(shape(7, 1, 8));
    let flat = Policy::Fixed(shape(2, 8, 16));
    for name in [
        "llama",
        "llama-biases",
        "llama-rope-yarn",
        "mistral-sliding",
        "qwen2",
        "qwen2-sliding",
        "qwen3",
        "qwen3-tied",
    ] {
        check(name, &[WIDE, deep, flat, Policy::Automatic]);
    }
}
