//! The program as a user meets it: what it prints, where, and how it exits.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

/// The real model, which is not committed.
fn real_model() -> PathBuf {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing; run scripts/fetch-model.sh first",
        path.display()
    );
    path
}

fn command(model: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    command.arg("-m").arg(model).args(args).stdin(Stdio::null());
    command
}

fn generate(model: &Path, args: &[&str]) -> Output {
    command(model, args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// One sentence with `words` on standard error, nothing on standard output, that exit code.
fn refused(output: &Output, code: i32, words: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "`{words}` is not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn token_ids_need_no_tokenizer() {
    let args = [
        "--tokens",
        "1,2,3",
        "-n",
        "8",
        "--temp",
        "0",
        "--ignore-eos",
        "--json",
    ];
    let object = json(&generate(&fixture("llama"), &args));
    assert_eq!(object["prompt_tokens"], 3);
    assert_eq!(object["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(object["text"], Value::Null);
    assert_eq!(object["finish_reason"], "length");
    for key in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "load_seconds",
    ] {
        assert!(object["stats"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(object.get("logprobs").is_none());
}

#[test]
fn log_probabilities_come_with_the_tokens() {
    let args = [
        "--tokens",
        "1,2",
        "-n",
        "3",
        "--temp",
        "0",
        "--ignore-eos",
        "--json",
        "--logprobs",
        "2",
    ];
    let object = json(&generate(&fixture("qwen2"), &args));
    let list = object["logprobs"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    for (entry, id) in list.iter().zip(object["tokens"].as_array().unwrap()) {
        assert_eq!(&entry["id"], id);
        assert_eq!(&entry["top"][0]["id"], id, "greedy takes the most probable");
        assert_eq!(entry["top"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_seed_gives_one_answer_on_any_number_of_threads() {
    let run = |threads, seed| {
        let args = [
            "--tokens",
            "9,8,7",
            "-n",
            "24",
            "--temp",
            "1",
            "--ignore-eos",
            "--json",
        ];
        let mut command = command(&fixture("llama"), &args);
        json(&command.args(["-t", threads, "-s", seed]).output().unwrap())["tokens"].clone()
    };
    assert_eq!(run("1", "7"), run("2", "7"));
    assert_ne!(run("1", "7"), run("1", "8"));
}

#[test]
fn logits_of_the_prompt_go_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logits.safetensors");
    let args = [
        "--tokens",
        "1,2,3,4,5",
        "-n",
        "1",
        "--json",
        "--dump-logits",
        path.to_str().unwrap(),
    ];
    json(&generate(&fixture("llama"), &args));
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("logits").unwrap().shape(), [5, 260]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_named() {
    if Path::new("/dev/full").exists() {
        let args = ["--tokens", "1,2,3", "--dump-logits", "/dev/full"];
        refused(&generate(&fixture("llama"), &args), 1, "/dev/full: ");
    }
}

#[test]
fn mistakes_on_the_command_line_are_exit_code_2() {
    let model = fixture("llama");
    for (args, words) in [
        (&["--tokens", "1", "--no-such-flag"][..], "--no-such-flag"),
        (&["--tokens", "1,x"], "invalid value"),
        (&["--tokens", "1", "--temp", "-1"], "temperature"),
        (&["--tokens", "1", "--top-p", "2"], "top_p"),
        (&["--tokens", "1", "--min-p", "-0.5"], "min_p"),
        (
            &["--tokens", "1", "--repeat-penalty", "-1"],
            "repetition_penalty",
        ),
        (
            &["--tokens", "1", "--repeat-last-n", "-9999999999"],
            "penalty_last_n",
        ),
        (&["--tokens", "1", "--logit-bias", "-5"], "--logit-bias"),
        (&["--tokens", "1", "--logit-bias", "x"], "--logit-bias"),
        (&["--tokens", "1", "-n", "-7"], "-n -7"),
        (&["--tokens", "1", "-t", "0"], "threads"),
        (
            &["--tokens", "1", "--device", "gpu"],
            "there are auto, host, cuda, cuda:N and virtual",
        ),
        (&["--tokens", "1", "--device", "cuda:x"], "`x` is no number"),
        (&["--tokens", "1", "--activation-dtype", "fp4"], "fp4"),
        (&["--tokens", "999999"], "vocabulary"),
        (&["-p", ""], "empty"),
        (&["-p", "text"], "no tokenizer"),
        (&[], "no prompt"),
    ] {
        refused(&generate(&model, args), 2, words);
    }
    // A machine without a driver, or one that has not so many GPUs.
    let output = generate(&model, &["--tokens", "1", "--device", "cuda:99"]);
    let lacks_driver = stderr(&output).contains("found no NVIDIA driver");
    let words = match lacks_driver {
        true => "install its driver",
        false => "there is no device 99",
    };
    refused(&output, 1, words);
    let output = Command::new(env!("CARGO_BIN_EXE_generate"))
        .args(["-p", "x"])
        .env_remove("STHENO_MODEL")
        .output();
    refused(&output.unwrap(), 2, "-m");
}

#[test]
fn sampling_is_checked_before_a_model_is_looked_for() {
    let args = ["-p", "x", "--temp", "-1"];
    refused(
        &generate(Path::new("/no/such/model"), &args),
        2,
        "temperature is -1",
    );
}

#[test]
fn a_model_that_is_not_there() {
    let output = generate(Path::new("/no/such/model"), &["-p", "x"]);
    let words = "/no/such/model: not there, and no id of a model on the hub (organisation/name)\n";
    refused(&output, 1, words);
    assert_eq!(stderr(&output), format!("generate: {words}"));
}

#[test]
fn faults_of_files_are_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    refused(&generate(&dir.path().join("none"), &["-p", "x"]), 1, "none");
    let source = fixture("llama");
    std::fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    let weights = std::fs::read(source.join("model.safetensors")).unwrap();
    for end in [0, 4, 100, weights.len() / 2, weights.len() - 1] {
        std::fs::write(dir.path().join("model.safetensors"), &weights[..end]).unwrap();
        refused(
            &generate(dir.path(), &["--tokens", "1"]),
            1,
            "model.safetensors",
        );
    }
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    refused(&generate(dir.path(), &["--tokens", "1"]), 1, "config.json");
    let binary = dir.path().join("prompt");
    std::fs::write(&binary, [b'a', 0xff, b'b']).unwrap();
    refused(
        &generate(&source, &["-f", binary.to_str().unwrap()]),
        1,
        "not UTF-8 (byte 1)",
    );
    std::fs::write(&binary, "").unwrap();
    refused(
        &generate(&source, &["-f", binary.to_str().unwrap()]),
        2,
        "empty",
    );
    refused(
        &generate(&source, &["-f", "/no/such/file"]),
        1,
        "/no/such/file",
    );
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let output = generate(&fixture("llama"), &["--tokens", "1,2,3,4,5", "-c", "4"]);
    refused(&output, 1, "5 tokens do not fit the context of 4");
}

#[test]
fn the_tools_beside_run() {
    let bench = [
        "--prompt-len",
        "8",
        "--gen-len",
        "4",
        "--iterations",
        "2",
        "--json",
    ];
    let run = |name: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
        command.arg(name).arg("-m").arg(fixture("llama"));
        command.args(args).output().unwrap()
    };
    let object = json(&run("bench", &bench));
    assert_eq!(
        object["decode_tokens_per_second"].as_array().unwrap().len(),
        2
    );
    for rows in ["1", "8"] {
        assert_eq!(object["step_seconds"][rows].as_array().unwrap().len(), 2);
    }
    let many = ["--prompt-len", "8", "--gen-len", "4", "--rows", "999"];
    refused(&run("bench", &many), 2, "--rows 999");
    refused(&run("bench", &["--rows", "8,8"]), 2, "8 twice");
    let long = ["--prompt-len", "1", "--gen-len", "1", "--iterations", "1"];
    let object = json(&run(
        "bench",
        &[&long[..], &["--rows", "16", "--json"]].concat(),
    ));
    assert!(object["step_seconds"]["16"][0].as_f64().unwrap() > 0.0);
    let plan = run("plan", &[]);
    assert!(String::from_utf8_lossy(&plan.stdout).starts_with("plan llama"));
}

#[test]
fn ctrl_c_prints_what_there_is() {
    let args = [
        "--raw",
        "-p",
        "Once upon a time",
        "-n",
        "-1",
        "--ignore-eos",
        "-s",
        "1",
    ];
    let mut child = command(&real_model(), &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        stderr(&output).contains("| cancelled"),
        "{}",
        stderr(&output)
    );
    assert!(rest.ends_with('\n'));
}

#[test]
fn ctrl_c_while_logits_are_written_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logits.safetensors");
    let text = "word ".repeat(4000);
    let args = [
        "--raw",
        "-p",
        &text,
        "--dump-logits",
        path.to_str().unwrap(),
    ];
    let child = command(&real_model(), &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let start = std::time::Instant::now();
    while files() == 0 && start.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    assert_eq!(files(), 0);
}

#[test]
fn verbose_says_how_long_things_took() {
    let args = ["--tokens", "1,2,3", "-n", "2", "--temp", "0", "-v"];
    let mut command = command(&fixture("llama"), &args);
    let text = stderr(&command.env_remove("RUST_LOG").output().unwrap());
    for span in ["load", "prefill{tokens=3}"] {
        assert!(text.contains(span), "{span} is not in: {text}");
    }
    assert!(!text.contains("step: "), "{text}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let args = [
        "--raw",
        "-p",
        "1, 2, 3,",
        "-n",
        "200",
        "--ignore-eos",
        "--temp",
        "0",
    ];
    let mut child = command(&real_model(), &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let args = [
        "--raw",
        "-p",
        "1, 2, 3, 4,",
        "-n",
        "40",
        "--temp",
        "0",
        "--json",
    ];
    let mut free = command(&real_model(), &args);
    let free = json(&free.output().unwrap());
    let text = free["text"].as_str().unwrap();
    assert!(text.contains("7, 8"), "{text}");
    let mut stopped = command(&real_model(), &args);
    let stopped = json(&stopped.args(["--stop", "7, 8"]).output().unwrap());
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split("7, 8").next());
}

#[test]
fn chat_goes_on_from_turn_to_turn() {
    let turns = "My name is Ada.\nWhat is my name?\n";
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("turns");
    std::fs::write(&input, turns).unwrap();
    let args = [
        "--chat",
        "--sys",
        "You are helpful.",
        "-n",
        "12",
        "--temp",
        "0",
    ];
    let output = command(&real_model(), &args)
        .stdin(std::fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let reports: Vec<String> = output.stderr.lines().map(|l| l.unwrap()).collect();
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(!output.stdout.is_empty());
}

#[test]
fn perplexity_is_that_of_the_log_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    std::fs::write(&file, "The sky is blue, and the grass is green.").unwrap();
    let run = |model: &Path, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
        command.arg("perplexity").arg("-m").arg(model);
        command.arg("-f").arg(&file).args(args).output().unwrap()
    };
    let model = real_model();
    let object = json(&run(&model, &["--json"]));
    let perplexity = object["perplexity"].as_f64().unwrap();
    assert!(perplexity > 1.0 && perplexity < 1000.0, "{perplexity}");
    // The first token of a part counts for nothing, so that parts of two count every other one.
    let tokens = object["tokens"].as_u64().unwrap();
    let parts = json(&run(&model, &["--json", "--window", "2"]));
    assert_eq!(parts["tokens"].as_u64().unwrap(), tokens.div_ceil(2));
    assert!(parts["perplexity"].as_f64().unwrap() > perplexity);
    let words = String::from_utf8(run(&model, &[]).stdout).unwrap();
    let said = format!("perplexity {perplexity:.4} over {tokens} tokens");
    assert!(words.starts_with(&said), "{words}");

    refused(&run(&model, &["--window", "1"]), 2, "--window 1");
    std::fs::write(&file, "The").unwrap();
    refused(&run(&model, &[]), 2, "perplexity needs two");
}

#[test]
fn an_answer_that_is_not_streamed_is_the_same_and_comes_at_once() {
    let ask = |args: &[&str]| {
        let most = ["-p", "Count to three.", "-n", "8", "--temp", "0"];
        let mut child = command(&real_model(), &[&most, args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let (mut reads, mut text, mut part) = (0, Vec::new(), [0; 4096]);
        loop {
            let count = pipe.read(&mut part).unwrap();
            if count == 0 {
                break;
            }
            reads += 1;
            text.extend_from_slice(&part[..count]);
        }
        assert!(child.wait().unwrap().success());
        (String::from_utf8(text).unwrap(), reads)
    };
    let (streamed, _) = ask(&[]);
    let (whole, reads) = ask(&["--no-stream"]);
    assert!(!streamed.trim().is_empty());
    assert_eq!(whole, streamed);
    assert!(reads <= 2, "the text and its newline came in {reads} parts");
}

#[test]
fn the_kv_dtype_is_what_was_asked_for() {
    let ask = |dtype: &str| {
        let args = ["--tokens", "1,2,3", "-n", "1", "-v", "--kv-dtype", dtype];
        let output = generate(&fixture("llama"), &args);
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        text
    };
    for dtype in ["f32", "f16", "bf16"] {
        let text = ask(dtype);
        assert!(text.contains(&format!("kv {dtype},")), "{text}");
    }
    assert!(ask("auto").contains("activations f32, kv f32,"));
    let args = ["--tokens", "1", "--kv-dtype", "q8"];
    refused(&generate(&fixture("llama"), &args), 2, "--kv-dtype");
}
