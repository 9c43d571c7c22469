//! An answer with a draft that looks in the text for what followed before, and what that was worth.
//!
//! cargo run --release --example 05-speculate -- MODEL

use stheno::engine::{Engine, GenerateOptions, SessionOptions};
use stheno::speculation::{SpeculationOptions, TreeShape};

fn main() -> stheno::Result<()> {
    let Some(model) = std::env::args().nth(1) else {
        eprintln!("usage: 05-speculate MODEL");
        std::process::exit(2);
    };
    let engine = Engine::builder().model(&model)?.draft("ngram")?.build()?;
    let list = "apples, pears, plums, cherries, figs, dates, grapes, lemons, limes, melons";
    let prompt = format!("Repeat this list twice, word for word: {list}");

    let mut answers = Vec::new();
    // Guesses change how fast tokens come, never which.
    for speculation in [
        SpeculationOptions::off(),
        SpeculationOptions::fixed(TreeShape::chain(6)),
    ] {
        let mut options = GenerateOptions::greedy(64);
        options.speculation = speculation;
        let mut session = engine.session(SessionOptions::default())?;
        let mut stream = session.generate(&prompt, &options)?;
        let mut answer = String::new();
        let mut guessed = 0;
        for token in stream.by_ref() {
            let token = token?;
            guessed += usize::from(token.accepted);
            answer += &token.text;
        }
        let statistics = stream.statistics();
        let (tokens, steps) = (statistics.generated_tokens, statistics.decode_steps);
        println!("{tokens} tokens in {steps} steps, {guessed} of them guessed");
        if let Some(speculation) = &statistics.speculation {
            println!("{:.2} tokens a round", speculation.accept_len());
        }
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
    println!("the same answer: {}", answers[0]);
    Ok(())
}
