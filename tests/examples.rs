//! Every example runs, and says what its first lines promise.

use std::path::Path;
use std::process::Command;

fn run(example: &str, model: &Path) -> String {
    // Test binaries lie in target/PROFILE/deps, and cargo builds examples beside before it runs any test.
    let binary = std::env::current_exe().unwrap();
    let profile = binary.parent().and_then(Path::parent).unwrap();
    let output = Command::new(profile.join("examples").join(example))
        .arg(model)
        .output();
    let output =
        output.unwrap_or_else(|e| panic!("{example}: {e}; build it with cargo build --examples"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn real_model() -> std::path::PathBuf {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing; run scripts/fetch-model.sh first",
        path.display()
    );
    path
}

#[test]
fn embed() {
    let text = run("01-embed", &root().join("tests/fixtures/models/llama"));
    assert!(text.starts_with("after layer 0: 64 numbers"), "{text}");
}

#[test]
fn stream() {
    let text = run("02-stream", &real_model());
    assert!(text.split_whitespace().count() > 10, "{text}");
}

#[test]
fn chat() {
    let text = run("03-chat", &real_model());
    assert!(text.contains("Paris"), "{text}");
    let last = text.lines().last().unwrap();
    assert!(!last.contains(" 0 of them"), "{last}");
}

#[test]
fn print_plan() {
    let text = run("04-print-plan", &root().join("tests/fixtures/models/qwen3"));
    assert!(text.starts_with("plan qwen3"), "{text}");
}

#[test]
fn each_is_under_60_lines() {
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 60, "{}: {lines} lines", path.display());
    }
}
