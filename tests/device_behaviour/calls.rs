//! The host does nothing for a token: it queues launches of many tokens and looks at memory. With guesses it does no more, nor does
//! it for a draft's calls.

use crate::tree_rounds::shape;
use crate::{FIXTURE, engine, fixture, session, tokens};
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, SpeculationStatistics};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions};

const COUNT: usize = 512;

/// 512 tokens in at most 8 launches, and no other call of the driver from the second token to the last but one.
fn check(
    engine: &Engine,
    prompt: Vec<u32>,
    mut options: GenerateOptions,
) -> Option<SpeculationStatistics> {
    let context = engine.device_executor().unwrap().context();
    let mut session = session(engine);
    options.ignore_eos = true;
    let prompt_len = prompt.len();
    // The first generation with a draft measures what steps cost on a GPU.
    let mut first = options.clone();
    first.max_tokens = Some(2);
    let begun = session.generate(Prompt::Tokens(prompt.clone()), &first);
    assert_eq!(begun.unwrap().filter(|token| token.is_ok()).count(), 2);
    session = self::session(engine);
    let start = context.calls();
    let mut stream = session.generate(Prompt::Tokens(prompt), &options).unwrap();
    // The first token comes of the prompt; with the second one the loop is under way.
    assert!(stream.by_ref().take(2).all(|token| token.is_ok()));
    let running = context.calls();
    assert_eq!(
        stream
            .by_ref()
            .take(COUNT - 3)
            .filter(|token| token.is_ok())
            .count(),
        COUNT - 3
    );
    let late = context.calls() - running;
    assert_eq!(
        (late.synchronous, late.memory, late.async_copies, late.fills),
        (0, 0, 0, 0)
    );
    assert!(stream.next().unwrap().is_ok() && stream.next().is_none());
    let speculation = stream.statistics().speculation.clone();
    drop(stream);
    let all = context.calls() - start;
    assert!(all.launches <= 8, "{all:?}");
    assert_eq!(session.tokens().len(), prompt_len + COUNT - 1);
    println!("512 tokens: {all:?}, of them while the loop ran: {late:?}");
    speculation
}

#[test]
fn tokens_cost_no_calls_of_the_driver() {
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        builder.context_length(600)
    });
    let speculation = check(&engine, tokens(20, 11), GenerateOptions::greedy(COUNT));
    assert!(speculation.is_none());
}

/// Lookup, with sizes that change from round to round. A text of one token, so that there are few rounds.
#[test]
fn rounds_of_lookup_cost_no_calls_of_the_driver() {
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        builder.context_length(600).draft("ngram").unwrap()
    });
    let mut params = SamplingParams::greedy();
    params.logit_bias = vec![(41, 100.0)];
    let options = GenerateOptions::sampled(COUNT, params);
    let speculation = check(&engine, tokens(9, 41).repeat(2), options).unwrap();
    assert!(speculation.accept_len() > 4.0, "{speculation:?}");
}

/// A model that drafts trees for itself: a round is a call of the target and as many of the draft as its trees have levels.
#[test]
fn rounds_of_trees_cost_no_calls_of_the_driver() {
    let itself = fixture(&format!("models/{FIXTURE}"));
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        let builder = builder.context_length(600).max_rows(16);
        builder.draft(&itself).unwrap()
    });
    let mut options = GenerateOptions::greedy(COUNT);
    options.speculation = SpeculationOptions {
        policy: Policy::Fixed(shape(4, 2, 12)),
        ..SpeculationOptions::default()
    };
    let speculation = check(&engine, tokens(20, 11), options).unwrap();
    println!("{speculation:?}");
    assert!(speculation.accept_len() > 2.0, "{speculation:?}");
    assert_eq!(speculation.levels.len(), 4);
    // No chain has as many nodes.
    assert!(
        speculation.drafted > 4 * speculation.rounds,
        "{speculation:?}"
    );
}
