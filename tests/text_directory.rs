//! Text out of a Hugging Face directory, made up here.

use std::fs;
use std::path::Path;
use stheno::text::{ChatTemplate, Message, TextStream, Tokenizer};

/// A byte-level tokenizer of a few words, as `save_pretrained` writes it.
const TOKENIZER: &str = r#"{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
    {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
    "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
    "vocab": {"<s>": 0, "</s>": 1, "H": 2, "i": 3, "Ġ": 4, "Ã": 5, "©": 6, "Hi": 7},
    "merges": ["H i"]
  }
}"#;

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

#[test]
fn tokenizer_and_its_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(Tokenizer::from_directory(path).unwrap().is_none());

    write(path, "tokenizer.model", "");
    let error = Tokenizer::from_directory(path).unwrap_err().to_string();
    assert!(error.contains("tokenizer.model"), "{error}");

    write(path, "tokenizer.json", TOKENIZER);
    write(
        path,
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#,
    );
    write(
        path,
        "generation_config.json",
        r#"{"eos_token_id": [4, 1]}"#,
    );
    let tokenizer = Tokenizer::from_directory(path).unwrap().unwrap();
    assert_eq!(tokenizer.bos_id(), Some(0));
    assert_eq!(tokenizer.stop_ids(), [1, 4]);
    let ids = tokenizer.encode("<s>Hi é", false).unwrap();
    assert_eq!(ids, [0, 7, 4, 5, 6]);
    assert_eq!(tokenizer.decode(&ids[1..]), "Hi é");
    let mut stream = TextStream::new(&tokenizer);
    assert_eq!(stream.push(5), None);
    assert_eq!(stream.push(6).as_deref(), Some("é"));

    for broken in ["{", "{}", "[]", "\"x\""] {
        write(path, "tokenizer.json", broken);
        let error = Tokenizer::from_directory(path).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn chat_template_of_its_own_file_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let render = || {
        let template = ChatTemplate::from_directory(path).unwrap().unwrap();
        template
            .render(&[Message::new("user", "Hi")], true)
            .unwrap()
    };
    assert!(ChatTemplate::from_directory(path).unwrap().is_none());

    write(
        path,
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}"#,
    );
    write(path, "special_tokens_map.json", r#"{"eos_token": "</s>"}"#);
    assert_eq!(render(), "<s>Hi</s>");

    write(path, "chat_template.jinja", "{{ messages[0].role }}\n");
    assert_eq!(render(), "user");

    fs::write(path.join("chat_template.jinja"), [0xff]).unwrap();
    let error = ChatTemplate::from_directory(path).unwrap_err().to_string();
    assert!(error.contains("not UTF-8"), "{error}");
    fs::remove_file(path.join("chat_template.jinja")).unwrap();

    write(path, "tokenizer_config.json", "{");
    let error = ChatTemplate::from_directory(path).unwrap_err().to_string();
    assert!(error.contains("not JSON"), "{error}");
}
