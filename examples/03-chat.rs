//! Two turns of a conversation: the second one costs only what it adds.
//!
//! cargo run --release --example 03-chat -- MODEL

use stheno::engine::{Engine, GenerateOptions, SessionOptions};
use stheno::text::Message;

fn main() -> stheno::Result<()> {
    let Some(model) = std::env::args().nth(1) else {
        eprintln!("usage: 03-chat MODEL");
        std::process::exit(2);
    };
    let engine = Engine::builder().model(&model)?.build()?;
    let mut session = engine.session(SessionOptions::default())?;
    let mut messages = vec![Message::new("system", "You answer in one sentence.")];

    for question in ["What is the capital of France?", "And of Italy?"] {
        messages.push(Message::new("user", question));
        println!("> {question}");
        let mut stream = session.generate(&messages[..], &GenerateOptions::greedy(32))?;
        let mut answer = String::new();
        for token in stream.by_ref() {
            answer += &token?.text;
        }
        println!("{answer}");
        let (all, reused) = (
            stream.prompt_tokens().len(),
            stream.statistics().reused_tokens,
        );
        println!("({all} tokens of prompt, {reused} of them from the turn before)");
        messages.push(Message::new("assistant", answer));
    }
    Ok(())
}
