//! The small real model with n-gram lookup: its text repeats itself, so that whole branches are accepted, and the answers
//! end and stop exactly where they do without.

use std::path::Path;
use stheno::engine::{Engine, FinishReason, GenerateOptions, Prompt, Session, SessionOptions};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{SpeculationOptions, TreeShape};

const MODEL: &str = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";

fn engine() -> Engine {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL);
    assert!(
        model.exists(),
        "{MODEL} is missing: run scripts/fetch-model.sh"
    );
    let builder = Engine::builder().model(model.to_str().unwrap()).unwrap();
    let builder = builder.draft("ngram").unwrap().context_length(1024);
    builder.build().unwrap()
}

/// What a user sees, and what the session holds.
#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    finish: Option<FinishReason>,
    session: Vec<u32>,
}

fn answer(session: &mut Session, prompt: &str, options: &GenerateOptions) -> (Answer, f64) {
    let mut stream = session.generate(Prompt::from(prompt), options).unwrap();
    let (mut tokens, mut text) = (Vec::new(), String::new());
    for token in stream.by_ref() {
        let token = token.unwrap();
        tokens.push(token.id);
        text += &token.text;
    }
    let finish = stream.finish_reason();
    let speculation = stream.statistics().speculation.as_ref();
    let accept_len = speculation.map_or(1.0, |s| s.accept_len());
    drop(stream);
    let session = session.tokens().to_vec();
    let answer = Answer {
        tokens,
        text,
        finish,
        session,
    };
    (answer, accept_len)
}

const PROMPTS: [&str; 2] = [
    "Repeat this sentence three times: The quick brown fox jumps over the lazy dog near the old stone bridge.",
    "Copy this list word for word: apples, oranges, pears, plums, cherries, lemons, limes, grapes, melons, figs.",
];

#[test]
fn answers_end_where_they_end_without() {
    let engine = engine();
    let shape = |num_steps, topk, num_draft_tokens| {
        SpeculationOptions::fixed(TreeShape {
            num_steps,
            topk,
            num_draft_tokens,
        })
    };
    let mut plain = engine.session(SessionOptions::default()).unwrap();
    let mut drafting = engine.session(SessionOptions::default()).unwrap();
    let mut longest: f64 = 0.0;
    for prompt in PROMPTS {
        for temperature in [0.0, 0.8] {
            let sampling = SamplingParams {
                temperature,
                repetition_penalty: 1.02,
                seed: 11,
                ..SamplingParams::default()
            };
            let mut options = GenerateOptions::sampled(48, sampling);
            options.speculation = SpeculationOptions::off();
            let (whole, _) = answer(&mut plain, prompt, &options);
            // Texts that the answer has in the middle: the first ends inside a token as often as not.
            let middle: String = whole.text.chars().skip(30).take(7).collect();
            let late: String = whole.text.chars().skip(60).take(3).collect();
            for stop in [None, Some(middle), Some(late)] {
                options.stop = stop.into_iter().filter(|s| !s.is_empty()).collect();
                options.speculation = SpeculationOptions::off();
                let (expected, _) = answer(&mut plain, prompt, &options);
                for speculation in [
                    SpeculationOptions::default(),
                    shape(8, 1, 9),
                    shape(6, 3, 24),
                ] {
                    options.speculation = speculation;
                    let (found, accept_len) = answer(&mut drafting, prompt, &options);
                    assert_eq!(found, expected, "{:?}", options.speculation);
                    longest = longest.max(accept_len);
                }
            }
        }
    }
    assert!(longest > 1.5, "{longest}");
}
