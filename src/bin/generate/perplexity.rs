use crate::args::PerplexityArgs;
use crate::failure::Usage;
use crate::output::{print, print_json};
use crate::{input, load};
use anyhow::Result;
use serde_json::json;
use stheno::engine::{Prompt, SessionOptions};

/// Tokens of a part unless told: what small models are commonly measured with.
const WINDOW: usize = 1024;

/// `generate perplexity`: exp of the mean negative log-probability of each token given those before it. The text is read
/// in parts of `--window` tokens, each from an empty context, and the first token of a part counts for nothing.
pub fn run(args: &PerplexityArgs) -> Result<u8> {
    let text = input::read_text(&args.file)?;
    let engine = load::engine(&args.model, None)?;
    let tokens = engine.tokenize(&Prompt::Raw(text))?;
    let window = args.window.unwrap_or(WINDOW.min(engine.context_length()));
    if window < 2 || window > engine.context_length() {
        let most = engine.context_length();
        return Err(Usage(format!("--window {window}: give 2 to {most} tokens")).into());
    }
    let (mut sum, mut count) = (0.0, 0usize);
    for part in tokens.chunks(window).filter(|part| part.len() > 1) {
        let mut session = engine.session(SessionOptions::default())?;
        let (fed, wanted) = (&part[..part.len() - 1], &part[1..]);
        session.score(fed, |position, logits| {
            sum -= log_probability(logits, wanted[position]);
            count += 1;
            Ok(())
        })?;
    }
    if count == 0 {
        return Err(Usage("the text is a single token; perplexity needs two".into()).into());
    }
    let perplexity = (sum / count as f64).exp();
    if args.json {
        print_json(&json!({ "perplexity": perplexity, "tokens": count, "window": window }))?;
    } else {
        print(&format!(
            "perplexity {perplexity:.4} over {count} tokens in parts of {window}\n"
        ))?;
    }
    Ok(0)
}

/// In f64, so that thousands of small terms lose nothing.
fn log_probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NAN);
    f64::from(logit - most) - sum.ln()
}
