//! The bench over questions: with and without a draft, by turns.

mod common;

use common::program::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Questions whose answers repeat the prompt, so that there is something to guess.
fn questions(dir: &Path) -> String {
    let path = dir.join("questions.jsonl");
    let lines = [
        json!({"question_id": 1, "category": "writing", "turns": ["Say: a b c d a b c d", "Again."]}),
        json!({"question_id": "two", "category": "qa", "turns": ["1, 2, 3, 4, 1, 2, 3, 4, 1, 2,"]}),
        json!({"question_id": 3, "category": "qa", "turns": ["word ".repeat(300)]}),
        json!({"question_id": 4, "category": "math", "turns": ["What is 2 + 2?"]}),
    ];
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn bench(questions: &str, args: &[&str]) -> Output {
    let model = real_model();
    let fixed = [
        "bench",
        "-m",
        model.to_str().unwrap(),
        "--draft",
        "ngram",
        "--questions",
        questions,
        "-n",
        "6",
        "-c",
        "200",
    ];
    run(&[&fixed, args].concat())
}

#[test]
fn a_bench_over_questions_compares_with_plain_decoding() {
    let dir = tempfile::tempdir().unwrap();
    let questions = questions(dir.path());
    let plot = dir.path().join("plot.svg");
    let args = ["--json", "--plot", plot.to_str().unwrap()];
    let output = bench(&questions, &args);
    let object = last_json(&output);
    assert!(stderr(&output).contains("question 3 does not fit the context"));
    assert_eq!(object["skipped"], 1);
    assert_eq!(object["draft"]["kind"], "ngram");
    assert_eq!(object["tree"], "automatic");
    assert_eq!(object["temperature"], 0.0);
    let categories = object["categories"].as_object().unwrap();
    assert_eq!(categories.keys().collect::<Vec<_>>(), ["multi-turn", "qa"]);
    assert_eq!(categories["multi-turn"]["questions"], 2);
    let list = object["questions"].as_array().unwrap();
    let ids: Vec<&Value> = list.iter().map(|q| &q["question_id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("two"), &json!(4)]);
    assert_eq!(list[0]["category"], "writing");
    assert_eq!(list[0]["group"], "multi-turn");
    let overall = &object["overall"];
    assert_eq!(overall["differing_tokens"], 0);
    assert_eq!(overall["questions"], 3);
    let sum: u64 = list
        .iter()
        .map(|q| q["plain"]["tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(overall["plain"]["tokens"], sum);
    assert_eq!(overall["speculative"]["tokens"], sum);
    assert!(sum > 6, "both turns of the first are answered");
    for (side, key) in [
        ("plain", "decode_tokens_per_second"),
        ("plain", "tokens_per_second"),
        ("speculative", "decode_tokens_per_second"),
        ("speculative", "tokens_per_second"),
    ] {
        assert!(overall[side][key].as_f64().unwrap() > 0.0, "{side} {key}");
    }
    let rate = |side: &str| overall[side]["decode_tokens_per_second"].as_f64().unwrap();
    let speed_up = overall["speed_up"].as_f64().unwrap();
    assert!((speed_up - rate("speculative") / rate("plain")).abs() < 1e-9);
    assert!(overall["accept_len"].as_f64().unwrap() >= 1.0);
    let svg = std::fs::read_to_string(&plot).unwrap();
    for words in ["<svg", "multi-turn", "accept_len", "</svg>"] {
        assert!(svg.contains(words), "{words}");
    }
}

#[test]
fn a_bench_of_some_categories_is_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let questions = questions(dir.path());
    let args = [
        "--categories",
        "multi-turn",
        "--num-questions",
        "1",
        "--temp",
        "0.9",
        "--seed",
        "3",
        "--speculative-num-steps",
        "2",
    ];
    let text = stdout(&bench(&questions, &args));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("category"), "{text}");
    assert!(lines[1].starts_with("multi-turn          1"), "{text}");
    assert!(lines[2].starts_with("overall"), "{text}");
    assert!(
        lines.iter().all(|line| line.len() == lines[0].len()),
        "{text}"
    );
}

#[test]
fn ctrl_c_ends_a_bench() {
    let dir = tempfile::tempdir().unwrap();
    let questions = questions(dir.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_generate"))
        .args([
            "bench",
            "--draft",
            "ngram",
            "-n",
            "4000",
            "--questions",
            &questions,
            "-m",
        ])
        .arg(real_model())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("draft: "), "{line}");
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn benches_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = questions(dir.path());
    let bad = dir.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"question_id\": 1}\n").unwrap();
    let bad = bad.to_str().unwrap();
    let tiny = fixture("target-llama");
    for (args, code, words) in [
        (&["--questions", &file][..], 2, "name a draft with --draft"),
        (
            &["--questions", &file, "--draft", "ngram", "--no-speculation"],
            2,
            "leave out --no-speculation",
        ),
        (&["--draft", "ngram"], 2, "name a file with --questions"),
        (&["--acceptance", "exact"], 2, "--acceptance needs a draft"),
        (&["--temp", "1"], 2, "--questions"),
        (&["--plot", "x.svg"], 2, "--questions"),
        (
            &["--questions", &file, "--draft", "ngram", "--rows", "3"],
            2,
            "--rows",
        ),
        (
            &[
                "--questions",
                &file,
                "--draft",
                "ngram",
                "--categories",
                "rag",
            ],
            2,
            "there are multi-turn, qa",
        ),
        (&["--questions", bad, "--draft", "ngram"], 1, "line 1"),
        (
            &["--questions", "/no/file", "--draft", "ngram"],
            1,
            "/no/file",
        ),
        (
            &["--questions", &file, "--draft", "ngram"],
            2,
            "no tokenizer",
        ),
    ] {
        let fixed = ["bench", "-m", tiny.to_str().unwrap()];
        refused(&run(&[&fixed, args].concat()), code, words);
    }
}
