//! Tokens and log-probabilities that the loop chooses are those of the host's sampler on the same logits.

use crate::{generate, ids, session, shared, tokens};
use stheno::engine::{GenerateOptions, Prompt, Token};
use stheno::speculation::sampling::SamplingParams;

/// Ways to choose, from none of the filters to all of them.
pub fn ways() -> Vec<(&'static str, SamplingParams)> {
    let base = SamplingParams {
        temperature: 0.9,
        seed: 17,
        ..SamplingParams::default()
    };
    let with = |change: &dyn Fn(&mut SamplingParams)| {
        let mut params = base.clone();
        change(&mut params);
        params
    };
    vec![
        ("greedy", SamplingParams::greedy()),
        ("temperature", base.clone()),
        ("another seed", with(&|p| p.seed = u64::MAX - 3)),
        ("top-k", with(&|p| p.top_k = 5)),
        ("top-p", with(&|p| p.top_p = 0.7)),
        ("min-p", with(&|p| p.min_p = 0.2)),
        (
            "all filters",
            with(&|p| (p.top_k, p.top_p, p.min_p, p.temperature) = (40, 0.9, 0.05, 1.4)),
        ),
        ("repetition", with(&|p| p.repetition_penalty = 1.3)),
        (
            "penalties of a window",
            with(&|p| {
                p.repetition_penalty = 1.1;
                p.presence_penalty = 0.6;
                p.frequency_penalty = 0.3;
                p.penalty_last_n = 9;
            }),
        ),
        (
            "greedy with penalties",
            SamplingParams {
                frequency_penalty: 0.7,
                presence_penalty: 0.2,
                ..SamplingParams::greedy()
            },
        ),
        (
            "bias",
            with(&|p| {
                p.logit_bias = vec![(3, 2.5), (200, f32::NEG_INFINITY), (3, -0.5), (77, 4.0)];
            }),
        ),
    ]
}

/// Tokens chosen on the host, from logits of single calls of the device: a mask makes the stream do that.
fn on_the_host(prompt: &[u32], options: &GenerateOptions) -> Vec<Token> {
    let mut session = session(shared());
    let prompt = Prompt::Tokens(prompt.to_vec());
    let stream = session.generate(prompt, options).unwrap();
    let stream = stream.with_mask(|_, _| Ok(()));
    stream.map(|token| token.unwrap()).collect()
}

/// Bits of a token's log-probability, and the others with theirs.
type LogprobBits = (Option<u32>, Vec<(u32, u32)>);

fn log_probabilities(tokens: &[Token]) -> Vec<LogprobBits> {
    let of = |token: &Token| {
        let top = token.top_logprobs.iter();
        let top = top.map(|t| (t.token, t.logprob.to_bits())).collect();
        (token.logprob.map(f32::to_bits), top)
    };
    tokens.iter().map(of).collect()
}

#[test]
fn the_loop_chooses_as_the_host_does() {
    let prompt = tokens(30, 21);
    for (i, (name, params)) in ways().into_iter().enumerate() {
        let mut options = GenerateOptions::sampled(16, params);
        options.ignore_eos = true;
        options.logprobs = [None, Some(0), Some(5)][i % 3];
        let expected = on_the_host(&prompt, &options);
        let mut session = session(shared());
        let found = generate(&mut session, &prompt, &options);
        assert_eq!(ids(&found), ids(&expected), "{name}");
        assert_eq!(
            log_probabilities(&found),
            log_probabilities(&expected),
            "{name}"
        );
        assert!(
            found
                .iter()
                .all(|token| token.logprob.is_some() == options.logprobs.is_some())
        );
    }
}

#[test]
fn a_bias_that_forbids_everything_is_an_error() {
    let mut params = SamplingParams::greedy();
    params.logit_bias = (0..260).map(|token| (token, f32::NEG_INFINITY)).collect();
    let mut session = session(shared());
    let options = GenerateOptions::sampled(4, params);
    let stream = session.generate(Prompt::Tokens(tokens(3, 1)), &options);
    let tokens: Vec<_> = stream.unwrap().collect();
    assert!(tokens.len() == 1 && tokens[0].is_err());
}
