//! The hidden state and the most probable next token after a text of token ids.
//!
//! cargo run --release --example 01-embed -- MODEL [ID ...]

use stheno::engine::{Engine, SessionOptions};
use stheno::plan::{Row, SequenceIndex};

fn main() -> stheno::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(model) = args.next() else {
        eprintln!("usage: 01-embed MODEL [ID ...]");
        std::process::exit(2);
    };
    let mut tokens: Vec<u32> = args.filter_map(|id| id.parse().ok()).collect();
    if tokens.is_empty() {
        tokens = vec![1, 2, 3];
    }

    let layer = 0;
    let engine = Engine::builder().model(&model)?.taps(&[layer]).build()?;
    let session = engine.session(SessionOptions::default())?;
    // One call computes all rows; the last of a chain has an output.
    let rows = Row::chain(SequenceIndex(0), 0, &tokens);
    let forward = engine.forward(&rows, &[&session])?;

    let hidden = forward.tap(layer).unwrap_or_default();
    let norm = hidden.iter().map(|x| x * x).sum::<f32>().sqrt();
    println!(
        "after layer {layer}: {} numbers of norm {norm:.3}",
        hidden.len()
    );
    let best = forward.logits().iter().enumerate();
    if let Some((token, logit)) = best.max_by(|a, b| a.1.total_cmp(b.1)) {
        println!("next token: {token}, logit {logit:.3}");
    }
    Ok(())
}
