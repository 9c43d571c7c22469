//! Text against the references: Hugging Face's template engine, the reference tokenizer of SmolLM2, SentencePiece.
//!
//! The fixtures are made by `tests/fixtures/make_text_fixtures.py`.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use stheno::checkpoint::{Checkpoint, GgufMetadata, GgufValue, TextSource};
use stheno::text::{ChatInput, ChatTemplate, Text, TextStream, Tokenizer};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> Value {
    let path = root().join("tests/fixtures/text").join(name);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What a stream gives, piece by piece, joined.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = TextStream::new(tokenizer);
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
    text.extend(stream.finish());
    text
}

#[test]
fn chat_templates_render_as_hugging_face_renders_them() {
    let mut failures = Vec::new();
    for case in fixture("chat_templates.json").as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let special_tokens = ["bos_token", "eos_token"].map(|key| (key.to_owned(), text(key)));
        let template = ChatTemplate::new(&text("template"), special_tokens);
        let output = template.render_input(&ChatInput {
            messages: case["messages"].clone(),
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            tools: case["tools"].clone(),
            variables: case["extra"].as_object().unwrap().clone(),
            now: Some(text("now")),
        });
        let good = match (&output, case["error"].as_str()) {
            (Ok(output), None) => *output == text("expected"),
            (Err(error), Some(expected)) => error.to_string().contains(expected),
            _ => false,
        };
        if !good {
            failures.push(format!(
                "{}: {output:?}\n  expected {:?} {:?}",
                text("name"),
                text("expected"),
                case["error"]
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn sentencepiece_agrees_with_the_reference() {
    let fixture = fixture("sentencepiece.json");
    let list = |key: &str| fixture[key].as_array().unwrap().iter();
    let pieces = list("pieces")
        .map(|piece| piece.as_str().unwrap())
        .collect();
    let scores = list("scores")
        .map(|score| score.as_f64().unwrap() as f32)
        .collect();
    let types = list("types").map(|kind| kind.as_i64().unwrap()).collect();
    let id = |key: &str| GgufValue::Unsigned(fixture[key].as_u64().unwrap());
    let metadata = GgufMetadata::from_pairs(
        [
            ("model", GgufValue::String("llama".into())),
            ("tokens", GgufValue::Strings(pieces)),
            ("scores", GgufValue::Floats(scores)),
            ("token_type", GgufValue::Ints(types)),
            ("bos_token_id", id("bos")),
            ("eos_token_id", id("eos")),
            ("unknown_token_id", id("unk")),
            ("add_bos_token", GgufValue::Bool(true)),
            (
                "add_space_prefix",
                GgufValue::Bool(fixture["add_space_prefix"].as_bool().unwrap()),
            ),
        ]
        .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
        .into(),
    );
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap().unwrap();
    for case in list("texts") {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
        assert_eq!(
            tokenizer.decode(&expected),
            case["decoded"].as_str().unwrap(),
            "{text:?}"
        );
        assert_eq!(
            streamed(&tokenizer, &expected),
            case["decoded"].as_str().unwrap(),
            "{text:?}"
        );
        assert_eq!(
            tokenizer.encode(text, true).unwrap()[0],
            tokenizer.bos_id().unwrap()
        );
    }
}

fn smollm2() -> Checkpoint {
    let path: &Path = &root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing; run scripts/fetch-model.sh, which puts it there",
        path.display()
    );
    Checkpoint::open(path).unwrap()
}

#[test]
fn smollm2_ids_are_those_of_the_reference_tokenizer() {
    let checkpoint = smollm2();
    assert!(matches!(checkpoint.text_source(), TextSource::Gguf(_)));
    let text = Text::load(checkpoint.text_source()).unwrap().unwrap();
    let tokenizer = &text.tokenizer;
    for case in fixture("smollm2_tokens.json").as_array().unwrap() {
        let source = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(
            tokenizer.encode(source, true).unwrap(),
            expected,
            "{source:?}"
        );
        assert_eq!(
            streamed(tokenizer, &expected),
            tokenizer.decode(&expected),
            "{source:?}"
        );
    }
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(tokenizer.id("<|im_end|>"), Some(2));
    assert_eq!(text.stop_ids(), [0, 2]);
    let chat = text.chat.as_ref().unwrap();
    let prompt = chat
        .render(&[stheno::text::Message::new("user", "Hi")], true)
        .unwrap();
    assert!(
        prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        "{prompt:?}"
    );
    assert_eq!(tokenizer.encode(&prompt, false).unwrap()[0], 1);
}
