//! `generate` on a device: flags, what it says, and how it refuses. The device is the virtual GPU.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn generate(args: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
    let (command, flags) = match args {
        ["plan", rest @ ..] => (Some("plan"), rest),
        ["bench", rest @ ..] => (Some("bench"), rest),
        ["doctor"] => return run(Command::new(env!("CARGO_BIN_EXE_generate")).arg("doctor")),
        flags => (None, flags),
    };
    let mut process = Command::new(env!("CARGO_BIN_EXE_generate"));
    process
        .args(command)
        .arg("-m")
        .arg(model)
        .args(["-c", "160"]);
    run(process.args(flags))
}

fn run(command: &mut Command) -> Output {
    let command = command.env("VIRTUAL_GPU_SMS", "4").stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output and standard error of a success.
fn success(args: &[&str]) -> (String, String) {
    let output = generate(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
    (text(&output.stdout), text(&output.stderr))
}

/// One sentence with `words` on standard error, nothing on standard output, that exit code.
fn refused(args: &[&str], code: i32, words: &str) {
    let output = generate(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(words), "`{words}` is not in: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty());
}

const PROMPT: [&str; 7] = [
    "--tokens",
    "1,2,3",
    "-n",
    "4",
    "--temp",
    "0",
    "--ignore-eos",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PROMPT[..], more].concat()
}

/// Its clock counts instructions, which are no times.
#[test]
fn rounds_on_a_virtual_device_have_no_times() {
    let device = ["--device", "virtual", "--draft", "ngram"];
    let (json, _) = success(&with(&[&device[..], &["--json"]].concat()));
    let object: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let speculation = &object["stats"]["speculation"];
    assert!(speculation["rounds"].as_u64() > Some(0), "{speculation}");
    for key in ["draft_seconds", "verify_seconds", "accept_seconds"] {
        let value = speculation.get(key);
        assert_eq!(value, Some(&Value::Null), "{key}: {speculation}");
    }
    let (_, said) = success(&with(&[&device[..], &["-v"]].concat()));
    assert!(said.contains("speculation: "), "{said}");
    assert!(!said.contains("a round: "), "{said}");
}

#[test]
fn a_profile_is_a_trace_and_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.json");
    let path = path.to_str().unwrap();
    let device = ["--device", "virtual", "--max-rows", "16"];
    let (plain, said) = success(&with(&device));
    assert!(!said.contains("recorded"), "{said}");
    let (tokens, table) = success(&with(&[&device[..], &["--profile", path]].concat()));
    assert_eq!(tokens, plain);
    for words in [
        "4 calls recorded",
        "target: 3 calls, 3 rows",
        "gate-up",
        "estimate",
        path,
    ] {
        assert!(table.contains(words), "`{words}` is not in: {table}");
    }
    let trace: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 100);
    // Fewer calls, and a line for each layer.
    let more = ["--profile", path, "--profile-calls", "2", "-v"];
    let (_, table) = success(&with(&[&device[..], &more].concat()));
    for words in [
        "2 calls recorded",
        "gate-up 1",
        "16 rows a step",
        "registers",
    ] {
        assert!(table.contains(words), "`{words}` is not in: {table}");
    }
}

#[test]
fn what_cannot_be_profiled_is_said_before_anything_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.json");
    let path = path.to_str().unwrap();
    let host = ["--device", "host", "--profile", path];
    refused(&with(&host), 2, "the host runs none");
    assert!(!Path::new(path).exists());
    let nowhere = ["--device", "virtual", "--profile", "/nowhere/at/all.json"];
    refused(&with(&nowhere), 1, "/nowhere/at/all.json");
    refused(&with(&["--profile-calls", "3"]), 2, "--profile");
    let zero = [
        "--device",
        "virtual",
        "--profile",
        path,
        "--profile-calls",
        "0",
    ];
    refused(&with(&zero), 2, "--profile-calls");
    let questions = ["bench", "--questions", "q.jsonl", "--profile", path];
    refused(&questions, 2, "--questions");
}

#[test]
fn row_layouts_are_those_that_there_are() {
    for rows in ["0", "7", "12", "128", "-8", "many"] {
        let flag = format!("--max-rows={rows}");
        refused(
            &with(&["--device", "virtual", &flag]),
            2,
            "there are 8, 16, 32 and 64",
        );
    }
}

#[test]
fn the_choice_of_a_device_is_told() {
    let (_, said) = success(&with(&["-v"]));
    let line = said.lines().find(|line| line.starts_with("device "));
    let line = line.unwrap_or_else(|| panic!("no device in: {said}"));
    let (device, reason) = line.split_once(": ").unwrap();
    assert!(
        device == "device host" || device.starts_with("device cuda:"),
        "{line}"
    );
    assert!(!reason.is_empty());
    // The doctor says the same of both.
    let output = generate(&["doctor"]);
    let doctor = text(&output.stdout);
    assert!(
        doctor.contains(reason) && doctor.contains("virtual gpu"),
        "{doctor}"
    );
    // Whoever asks for one needs no reason.
    let (_, said) = success(&with(&["--device", "host", "-v"]));
    assert!(!said.contains("device host:"), "{said}");
}

#[test]
fn a_plan_for_a_device_has_its_program() {
    let (plan, _) = success(&["plan", "--device", "host"]);
    assert!(!plan.contains("device program"));
    let (program, _) = success(&["plan", "--device", "virtual", "--max-rows", "32"]);
    let words = [
        "device program: 32 rows a step",
        "tile group:",
        "since:",
        "segment 1",
        "edges,",
    ];
    for words in words {
        assert!(program.contains(words), "`{words}` is not in: {program}");
    }
    let (json, _) = success(&["plan", "--device", "virtual", "--json"]);
    assert!(serde_json::from_str::<Value>(&json).unwrap().is_object());
}

/// Every header that the source includes, directly or not, lies beside it.
#[test]
fn a_plan_writes_the_source_of_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let emitted = directory.path().join("source");
    let flags = ["plan", "--device", "virtual", "--json", "--emit"];
    let (json, said) = success(&[&flags[..], &[emitted.to_str().unwrap()]].concat());
    assert!(serde_json::from_str::<Value>(&json).unwrap().is_object());
    assert!(said.contains("decode.cu, for NVRTC"), "{said}");
    let mut files = vec!["decode.cu".to_owned()];
    let mut next = 0;
    while let Some(name) = files.get(next) {
        let text = std::fs::read_to_string(emitted.join(name)).unwrap();
        let includes = text
            .lines()
            .filter_map(|line| line.strip_prefix("#include \""));
        for name in includes.filter_map(|rest| rest.strip_suffix('"')) {
            if files.iter().all(|file| file != name) {
                files.push(name.to_owned());
            }
        }
        next += 1;
    }
    assert!(
        files.len() > 10 && files.contains(&"sizes.cuh".to_owned()),
        "{files:?}"
    );
    refused(
        &["plan", "--device", "host", "--emit", "/nowhere"],
        1,
        "--device cuda:N or virtual",
    );
}

#[test]
fn the_bench_measures_a_device() {
    let flags = [
        "bench",
        "--device",
        "virtual",
        "--prompt-len",
        "4",
        "--gen-len",
        "4",
    ];
    let short = ["--rows", "1", "--iterations", "1", "--json"];
    let (json, _) = success(&[&flags[..], &short].concat());
    let report: Value = serde_json::from_str(&json).unwrap();
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(report[key][0].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(report["step_seconds"]["1"][0].as_f64().unwrap() > 0.0);
    let wide = [&flags[..], &["--rows", "1,16"]].concat();
    refused(&wide, 2, "at most 8 rows; --max-rows changes that");
}
