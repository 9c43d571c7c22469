//! An answer, as it comes.
//!
//! cargo run --release --example 02-stream -- MODEL "Why is the sky blue?"

use std::io::Write;
use stheno::engine::{Device, Engine, GenerateOptions, SessionOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let Some(model) = args.next() else {
        eprintln!("usage: 02-stream MODEL [PROMPT]");
        std::process::exit(2);
    };
    let prompt = args.next().unwrap_or("Why is the sky blue?".to_owned());

    let engine = Engine::builder()
        .model(&model)?
        .device(Device::auto()?)
        .build()?;
    let mut session = engine.session(SessionOptions::default())?;
    let mut stream = session.generate(&prompt, &GenerateOptions::greedy(48))?;
    for token in stream.by_ref() {
        print!("{}", token?.text);
        std::io::stdout().flush()?;
    }
    println!();
    let statistics = stream.statistics();
    eprintln!("{:.1} tokens/s", statistics.decode_tokens_per_second());
    Ok(())
}
