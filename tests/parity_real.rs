//! SmolLM2 against what transformers computes in float32 on its dequantized weights
//! (`benches/parity/real_model.py`, which compares all 20 prompts): the first prompts, 64 greedy tokens each.

use serde_json::Value;
use std::path::Path;
use stheno::engine::{Engine, GenerateOptions, Prompt, SessionOptions};
use stheno::model::ActivationDtype;

const MODEL: &str = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";
/// A difference of the two best logits below which the order of sums may decide.
const TIE: f64 = 0.05;

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

#[test]
fn greedy_tokens_of_smollm2_match_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = root.join(MODEL);
    assert!(
        model.exists(),
        "{MODEL} is missing: run scripts/fetch-model.sh"
    );
    let reference = root.join("tests/fixtures/real/smollm2_greedy.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let engine = Engine::builder()
        .model(model.to_str().unwrap())
        .unwrap()
        .context_length(1024)
        .activation_dtype(ActivationDtype::F32)
        .build()
        .unwrap();
    for prompt in &reference["prompts"].as_array().unwrap()[..3] {
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let mut options = GenerateOptions::greedy(64);
        options.ignore_eos = true;
        let tokens = Prompt::Tokens(ids(&prompt["prompt_ids"]));
        let stream = session.generate(tokens, &options).unwrap();
        let found: Vec<u32> = stream.map(|token| token.unwrap().id).collect();
        let expected = ids(&prompt["greedy_ids"]);
        assert_eq!(found.len(), expected.len());
        if let Some(i) = (0..expected.len()).find(|&i| found[i] != expected[i]) {
            let margin = prompt["margins"][i].as_f64().unwrap();
            assert!(
                margin <= TIE,
                "question {}: token {i}, margin {margin}",
                prompt["question_id"]
            );
        }
    }
}
