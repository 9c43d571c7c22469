//! The host does nothing for a token: it queues launches of many tokens and looks at memory.

use crate::{FIXTURE, engine, session, tokens};
use stheno::engine::{Device, GenerateOptions, Prompt};

#[test]
fn tokens_cost_no_calls_of_the_driver() {
    let engine = engine(FIXTURE, Device::Virtual, |builder| {
        builder.context_length(600)
    });
    let context = engine.device_executor().unwrap().context();
    let mut session = session(&engine);
    let mut options = GenerateOptions::greedy(512);
    options.ignore_eos = true;
    let start = context.calls();
    let prompt = Prompt::Tokens(tokens(20, 11));
    let mut stream = session.generate(prompt, &options).unwrap();
    // The first token comes of the prompt; with the second one the loop is under way.
    assert!(stream.by_ref().take(2).all(|token| token.is_ok()));
    let running = context.calls();
    assert_eq!(
        stream
            .by_ref()
            .take(509)
            .filter(|token| token.is_ok())
            .count(),
        509
    );
    let late = context.calls() - running;
    assert_eq!(
        (late.synchronous, late.memory, late.async_copies, late.fills),
        (0, 0, 0, 0)
    );
    assert!(stream.next().unwrap().is_ok() && stream.next().is_none());
    drop(stream);
    let all = context.calls() - start;
    assert!(all.launches <= 8, "{all:?}");
    assert_eq!(session.tokens().len(), 20 + 511);
    println!("512 tokens: {all:?}, of them while the loop ran: {late:?}");
}
