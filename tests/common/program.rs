//! Runs the program as a user does.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/drafts").join(name)
}

/// A draft by its name, as an argument.
pub fn draft(name: &str) -> String {
    match name {
        "ngram" => name.to_owned(),
        _ => fixture(name).to_str().unwrap().to_owned(),
    }
}

/// The real model, which is not committed.
pub fn real_model() -> PathBuf {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing; run scripts/fetch-model.sh first",
        path.display()
    );
    path
}

pub fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    let command = command.args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "STHENO_MODEL"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

/// A tiny model that goes on from a text which repeats itself.
pub fn generate(args: &[&str]) -> Output {
    let model = fixture("target-llama");
    let fixed = [
        "-m",
        model.to_str().unwrap(),
        "--tokens",
        "1,2,3,4,1,2,3,4,1,2",
        "-n",
        "40",
        "--temp",
        "0",
        "--ignore-eos",
    ];
    run(&[&fixed, args].concat())
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn last_json(output: &Output) -> Value {
    serde_json::from_str(stdout(output).lines().last().unwrap()).unwrap()
}

/// `words` in a sentence on standard error that says nothing twice, nothing on standard output, that exit code.
pub fn refused(output: &Output, code: i32, words: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "`{words}` is not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
    let parts: Vec<&str> = text.trim().split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{text}");
    assert!(output.stdout.is_empty());
}
