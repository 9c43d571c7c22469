//! Guesses by lookup inside the loop: tokens, log-probabilities and what the session holds are those of plain decoding.

use crate::sampling::ways;
use crate::{FIXTURE, assert_holds_its_tokens, engine, generate, ids, session, shared, tokens};
use std::sync::OnceLock;
use stheno::draft::ngram::{ProposeOptions, SuffixIndex};
use stheno::engine::{
    Device, Engine, FinishReason, GenerateOptions, LevelStatistics, Prompt, Token,
};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions, TreeShape};

fn guessing() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        engine(FIXTURE, Device::Virtual, |builder| {
            builder.context_length(200).draft("ngram").unwrap()
        })
    })
}

/// A text that repeats itself.
fn prompt() -> Vec<u32> {
    tokens(9, 41).repeat(4)
}

fn options(params: SamplingParams, count: usize) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options.logprobs = Some(2);
    options
}

/// Any token, as long as it is this one.
fn constant(count: usize) -> GenerateOptions {
    let mut params = SamplingParams::greedy();
    params.logit_bias = vec![(prompt()[4], 100.0)];
    options(params, count)
}

/// Tokens that the text has had: repetition is what lookup lives on, but it is often wrong here.
fn repetitive(count: usize) -> GenerateOptions {
    let mut params = SamplingParams::greedy();
    params.logit_bias = prompt()[..9].iter().map(|token| (*token, 6.0)).collect();
    options(params, count)
}

fn values(tokens: &[Token]) -> Vec<(u32, Option<u32>)> {
    let of = |token: &Token| (token.id, token.logprob.map(f32::to_bits));
    tokens.iter().map(of).collect()
}

#[test]
fn guesses_change_no_token() {
    for (name, params) in ways() {
        let options = options(params, 20);
        let expected = generate(&mut session(shared()), &prompt(), &options);
        let mut session = session(guessing());
        let found = generate(&mut session, &prompt(), &options);
        assert_eq!(values(&found), values(&expected), "{name}");
        assert_eq!(session.tokens().len(), prompt().len() + 19, "{name}");
        assert_holds_its_tokens(&session);
    }
}

/// Guesses of a round, at most: levels of a tree whose size is chosen every round.
const MOST: usize = 24;

#[test]
fn guesses_are_counted() {
    for (options, least) in [(constant(60), 6.0), (repetitive(40), 1.1)] {
        let mut session = session(guessing());
        let mut stream = session
            .generate(Prompt::Tokens(prompt()), &options)
            .unwrap();
        let tokens: Vec<Token> = stream.by_ref().map(|token| token.unwrap()).collect();
        let statistics = stream.statistics().clone();
        drop(stream);
        let expected = generate(&mut crate::session(shared()), &prompt(), &options);
        assert_eq!(values(&tokens), values(&expected));
        let speculation = statistics.speculation.unwrap();
        // The first token comes of the prompt, before any round.
        assert_eq!(speculation.emitted, tokens.len() - 1);
        let accepted = tokens.iter().filter(|token| token.accepted).count();
        assert_eq!(speculation.accepted, accepted);
        assert_eq!(speculation.rounds, statistics.decode_steps);
        assert!(speculation.accept_len() > least, "{speculation:?}");
        assert!(accepted <= speculation.drafted);
        assert!(speculation.drafted <= MOST * speculation.rounds);
        // Every round gives one token of its own, but the last one may end with a guess.
        assert!(speculation.emitted - accepted + 1 >= speculation.rounds);
        let levels = &speculation.levels;
        let sum = |of: fn(&LevelStatistics) -> usize| levels.iter().map(of).sum::<usize>();
        assert!(levels.len() <= MOST);
        assert_eq!(sum(|level| level.offered), speculation.drafted);
        assert_eq!(sum(|level| level.accepted), accepted);
        assert!(levels.windows(2).all(|pair| {
            pair[0].offered >= pair[1].offered && pair[0].accepted >= pair[1].accepted
        }));
        println!(
            "accept_len {:.2}, {speculation:?}",
            speculation.accept_len()
        );
    }
}

#[test]
fn limits_and_ends_fall_between_guesses() {
    let all = ids(&generate(&mut session(shared()), &prompt(), &constant(30)));
    for count in [2, 3, 9, 10, 25] {
        let mut session = session(guessing());
        let mut stream = session
            .generate(Prompt::Tokens(prompt()), &constant(count))
            .unwrap();
        let found: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
        assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
        drop(stream);
        assert_eq!(found, all[..count]);
        assert_holds_its_tokens(&session);
    }
    // Up to the last position of the context.
    let mut long = constant(1);
    long.max_tokens = None;
    let mut session = session(guessing());
    let found = generate(&mut session, &prompt(), &long);
    assert_eq!(found.len(), 200 - prompt().len() + 1);
    let expected = generate(&mut crate::session(shared()), &prompt(), &long);
    assert_eq!(ids(&found), ids(&expected));
}

#[test]
fn a_stream_without_speculation_guesses_nothing() {
    let mut options = constant(20);
    options.speculation = SpeculationOptions {
        policy: Policy::Off,
        ..SpeculationOptions::default()
    };
    let mut session = session(guessing());
    let mut stream = session
        .generate(Prompt::Tokens(prompt()), &options)
        .unwrap();
    assert!(stream.by_ref().all(|token| !token.unwrap().accepted));
    assert_eq!(stream.statistics().decode_steps, 19);
    assert!(stream.statistics().speculation.is_none());
}

/// Every round's chain is the host's for the same text, after the first: that is the host's call, of the root alone.
#[test]
fn chains_are_those_of_the_host() {
    let mut options = repetitive(40);
    options.speculation.policy = Policy::Fixed(TreeShape::chain(7));
    let (found, rounds) = crate::tree_rounds::rounds(guessing(), &prompt(), &options);
    let text = [prompt(), found].concat();
    let mut guesses = 0;
    for round in &rounds[1..] {
        let (known, root) = (&text[..round.prefix_len], round.draft_tokens[0]);
        let mut index = SuffixIndex::default();
        index.extend(known);
        let limits = ProposeOptions {
            // No guess is of use after the last token.
            max_depth: 7.min(text.len() - round.prefix_len - 2) as u32,
            topk: 1,
            max_nodes: 8,
            min_match: 1,
        };
        let expected = index.propose(root, &limits).unwrap();
        assert_eq!(round.draft_tokens, expected.tokens());
        assert_eq!(round.parent, expected.parents());
        for (node, score) in round.node_score.iter().enumerate() {
            assert_eq!(score.to_bits(), expected.score(node).to_bits());
        }
        guesses += expected.len() - 1;
    }
    assert!(guesses > 3 * rounds.len(), "{guesses}");
}
