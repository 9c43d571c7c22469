//! Every example runs, and says what its first lines promise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where the examples lie, built. Whether cargo has built them before a test runs depends on its flags, so ask for it; for the
/// whole workspace, as test.sh builds it, since the features of other sets of packages differ and all would be compiled anew.
static EXAMPLES: LazyLock<PathBuf> = LazyLock::new(|| {
    // Test binaries lie in TARGET/PROFILE/deps.
    let binary = std::env::current_exe().unwrap();
    let directory = binary.parent().and_then(Path::parent).unwrap();
    let profile = match directory.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        name => name,
    };
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--examples",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(directory.parent().unwrap())
        .current_dir(root())
        .status();
    assert!(status.unwrap().success(), "the examples do not build");
    directory.join("examples")
});

fn run(example: &str, model: &Path) -> String {
    let mut command = Command::new(EXAMPLES.join(example));
    let output = command.arg(model).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn real_model() -> PathBuf {
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
fn speculate() {
    let text = run("05-speculate", &real_model());
    let steps: Vec<usize> = text
        .lines()
        .filter_map(|line| line.split_once(" tokens in ")?.1.split(' ').next())
        .map(|steps| steps.parse().unwrap())
        .collect();
    assert!(steps[1] < steps[0], "{text}");
    assert!(text.contains("the same answer: "), "{text}");
}

#[test]
fn each_is_under_60_lines() {
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        // Beside the files lies a crate, which is tested on its own.
        if path.is_dir() {
            continue;
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 60, "{}: {lines} lines", path.display());
    }
}
