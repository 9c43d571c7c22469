//! What a user of the program sees of speculation: the same answers, what is said about them, and what is refused.

mod common;

use common::program::*;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn every_draft_gives_the_plain_answer_and_says_what_it_is() {
    let plain = last_json(&generate(&["--json"]));
    assert!(plain.get("accepted").is_none());
    assert!(plain["stats"].get("speculation").is_none());
    let small = root().join("tests/fixtures/models/llama");
    let small = small.to_str().unwrap().to_owned();
    for (name, kind) in [
        ("ngram".to_owned(), "ngram"),
        (draft("medusa-a"), "medusa"),
        (draft("eagle1"), "eagle"),
        (draft("eagle3"), "eagle3"),
        (format!("ngram+{}", draft("eagle3")), "eagle3"),
        (small, "small-model"),
    ] {
        for shape in [&[][..], &["--speculative-num-steps", "3"]] {
            let args = [&["--json", "--draft", &name], shape].concat();
            let output = generate(&args);
            let object = last_json(&output);
            assert_eq!(object["tokens"], plain["tokens"], "{name} {shape:?}");
            let lookup = name.starts_with("ngram+");
            assert_eq!(object["stats"]["draft"]["kind"], kind);
            assert_eq!(object["stats"]["draft"]["lookup"], lookup);
            let speculation = &object["stats"]["speculation"];
            let drafters = speculation["drafters"].as_array();
            assert_eq!(drafters.is_some(), lookup, "{name}");
            for drafter in drafters.into_iter().flatten() {
                assert!(drafter["kind"] == kind || drafter["kind"] == "ngram");
                assert!(drafter["emitted"].as_u64() >= drafter["rounds"].as_u64());
            }
            let described = object["stats"]["draft"]["description"].as_str().unwrap();
            assert!(stderr(&output).contains(&format!("draft: {described}")));
        }
    }
}

#[test]
fn statistics_add_up() {
    let medusa = draft("medusa-a");
    let args = [
        "--json",
        "--draft",
        &medusa,
        "--speculative-eagle-topk",
        "3",
    ];
    let object = last_json(&generate(&args));
    let speculation = &object["stats"]["speculation"];
    let number = |key: &str| speculation[key].as_f64().unwrap();
    let (rounds, accepted) = (number("rounds"), number("accepted"));
    assert!(accepted > 0.0 && accepted <= number("drafted"));
    // The first token comes of the prompt.
    assert!((number("accept_len") - 39.0 / rounds).abs() < 1e-9);
    let flags = object["accepted"].as_array().unwrap();
    let flagged = flags.iter().filter(|flag| **flag == json!(true)).count();
    assert_eq!(flagged as f64, accepted);
    assert_eq!(flags.len(), 40);
    let levels = speculation["levels"].as_array().unwrap();
    assert!(!levels.is_empty());
    let sum: f64 = levels.iter().map(|l| l["accepted"].as_f64().unwrap()).sum();
    assert_eq!(sum, accepted);
    for level in levels {
        assert!(level["accepted"].as_f64() <= level["offered"].as_f64());
    }
    for key in ["draft_seconds", "verify_seconds", "accept_seconds"] {
        assert!(number(key) > 0.0, "{key}");
    }
}

#[test]
fn no_speculation_asks_no_draft() {
    let object = last_json(&generate(&[
        "--json",
        "--draft",
        "ngram",
        "--no-speculation",
    ]));
    assert_eq!(object["stats"]["speculation"], Value::Null);
    assert_eq!(object["stats"]["draft"]["kind"], "ngram");
}

#[test]
fn rounds_tell_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rounds.jsonl");
    let file = path.to_str().unwrap();
    for name in ["ngram", "medusa-a", "eagle3"] {
        let draft = draft(name);
        let args = [
            "--json",
            "--draft",
            &draft,
            "--speculative-num-steps",
            "4",
            "--trace-rounds",
            file,
        ];
        let object = last_json(&generate(&args));
        let answer: Vec<u64> = serde_json::from_value(object["tokens"].clone()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let rounds = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap());
        let rounds: Vec<Value> = rounds.collect();
        assert_eq!(object["stats"]["speculation"]["rounds"], rounds.len());
        let mut told = vec![rounds[0]["draft_tokens"][0].as_u64().unwrap()];
        for round in &rounds {
            let keys: Vec<&str> = round.as_object().unwrap().keys().map(|k| &**k).collect();
            let expected = [
                "prefix_len",
                "draft_tokens",
                "parent",
                "depth",
                "node_score",
                "accepted_nodes",
                "bonus",
            ];
            assert_eq!(keys, expected);
            let list = |key: &str| round[key].as_array().unwrap().clone();
            let tokens = list("draft_tokens");
            assert_eq!(round["prefix_len"], 10 + told.len() - 1);
            assert_eq!(tokens[0], *told.last().unwrap());
            assert_eq!(list("parent")[0], Value::Null);
            for (node, parent) in list("parent").iter().enumerate().skip(1) {
                let parent = parent.as_u64().unwrap() as usize;
                assert!(parent < node);
                let depth = |node: usize| list("depth")[node].as_u64().unwrap();
                assert_eq!(depth(node), depth(parent) + 1);
            }
            assert_eq!(list("node_score").len(), tokens.len());
            let mut at = 0;
            for node in list("accepted_nodes") {
                let node = node.as_u64().unwrap() as usize;
                assert_eq!(list("parent")[node], at);
                told.push(tokens[node].as_u64().unwrap());
                at = node;
            }
            told.extend(round["bonus"].as_u64());
        }
        assert_eq!(told, answer, "{name}");
    }
}

#[test]
fn a_trace_that_cannot_be_written_costs_no_answer() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let plain = stdout(&generate(&[]));
    let output = generate(&["--draft", "ngram", "--trace-rounds", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain);
    assert_eq!(stderr(&output).matches("/dev/full").count(), 1);
    let output = generate(&["--draft", "ngram", "--trace-rounds", "/no/such/dir/x"]);
    refused(&output, 1, "/no/such/dir/x");
}

#[test]
fn colours_tell_guesses_from_the_models_own() {
    let plain = stdout(&generate(&[]));
    let medusa = draft("medusa-a");
    let show = |color: &[&str]| {
        let fixed = ["--draft", &medusa, "--speculative-num-steps", "4"];
        let args = [&fixed[..], &["--show-speculation"], color].concat();
        generate(&args)
    };
    for choice in [&[][..], &["--color", "auto"], &["--color", "never"]] {
        let output = show(choice);
        assert_eq!(stdout(&output), plain, "{choice:?}");
        let text = stderr(&output);
        assert!(!text.contains("colours:"), "{text}");
        for words in ["accept_len", "drafted", "level 1: ", "verify "] {
            assert!(text.contains(words), "{words} is not in: {text}");
        }
    }
    let output = show(&["--color", "always"]);
    let coloured = stdout(&output);
    assert!(coloured.contains("\u{1b}[32m") && coloured.contains("\u{1b}[33m"));
    let bare = ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"]
        .iter()
        .fold(coloured.clone(), |text, code| text.replace(code, ""));
    assert_eq!(bare, plain);
    assert!(stderr(&output).contains("guessed by the draft"));
    let json = last_json(&show(&["--json"]));
    let accepted = json["stats"]["speculation"]["accepted"].as_u64().unwrap();
    assert_eq!(coloured.matches("\u{1b}[32m").count() as u64, accepted);
}

#[test]
fn what_does_not_combine_is_said_before_a_model_is_looked_for() {
    let choices = ["--medusa-choices", "mc_sim_7b_63"];
    let medusa = draft("medusa-a");
    for (args, words) in [
        (
            &["--speculative-num-steps", "3"][..],
            "--speculative-num-steps needs a draft",
        ),
        (&["--acceptance", "exact"], "--acceptance needs a draft"),
        (&["--show-speculation"], "--show-speculation needs a draft"),
        (&["--trace-rounds", "x"], "--trace-rounds needs a draft"),
        (&["--draft-dtype", "q8"], "--draft-dtype needs a draft"),
        (&["--draft", ""], "--draft is empty"),
        (
            &["--draft", "x", "--draft-dtype", "q5"],
            "possible values: auto, stored, q8, q4",
        ),
        (
            &["--draft", "ngram", "--draft-dtype", "q8"],
            "ngram has none",
        ),
        (
            &["--draft", "x", "--draft-rope-theta", "0"],
            "a base is a number above 0",
        ),
        (
            &[
                "--draft",
                "ngram",
                "--no-speculation",
                "--speculative-eagle-topk",
                "2",
            ],
            "contradict each other",
        ),
        (
            &["--draft", "x", "--no-speculation", "--show-speculation"],
            "contradict each other",
        ),
        (
            &["--draft", "ngram", "--speculative-num-draft-tokens", "32"],
            "32 draft tokens do not fit a tree of 5 levels",
        ),
        (
            &["--draft", "x", "--speculative-num-draft-tokens", "65"],
            "at most 64 nodes",
        ),
        (
            &["--draft", "x", "--speculative-num-steps", "0"],
            "guesses nothing",
        ),
        (
            &["--draft", "ngram", choices[0], choices[1]],
            "the draft is ngram",
        ),
        (
            &["--draft", "x", "--medusa-choices", "nope"],
            "no tree of that name; there are mc_sim_7b_63",
        ),
        (
            &[
                "--draft",
                &medusa,
                choices[0],
                choices[1],
                "--acceptance",
                "rejection",
            ],
            "do not combine",
        ),
        (
            &["--draft", "x", "--posterior-alpha", "0.2"],
            "--posterior-alpha is for --acceptance typical only",
        ),
        (
            &[
                "--draft",
                "x",
                "--acceptance",
                "typical",
                "--posterior-threshold",
                "-1",
            ],
            "threshold",
        ),
        (&["--draft", "x", "--acceptance", "lenient"], "lenient"),
    ] {
        let fixed = ["-m", "/no/such/model", "--tokens", "1"];
        refused(&run(&[&fixed, args].concat()), 2, words);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree.json");
    std::fs::write(&path, "[[0], [1, 0]]").unwrap();
    let args = ["--draft", "x", "--medusa-choices", path.to_str().unwrap()];
    refused(&generate(&args), 1, "its parent [1] is not there");
}

#[test]
fn what_a_draft_cannot_do_is_said_when_it_is_known() {
    let (medusa, eagle) = (draft("medusa-a"), draft("eagle3"));
    for (args, words) in [
        (
            &["--draft", "ngram+"][..],
            "names no other beside lookup; name one after the plus, or ngram alone",
        ),
        (&["--draft", "ngram+ngram"], "names no other beside lookup"),
        (
            &["--draft", &medusa, "--draft-rope-theta", "5"][..],
            "--draft-rope-theta is for EAGLE heads; the draft is of kind medusa",
        ),
        (
            &["--draft", &eagle, "--medusa-choices", "mc_sim_7b_63"],
            "--medusa-choices is for Medusa heads; the draft is of kind eagle3",
        ),
        (
            &["--draft", &medusa, "--speculative-num-steps", "9"],
            "a tree of 9 levels; the draft",
        ),
        (
            &["--draft", &eagle, "--draft-aux-layers", "1,2"],
            "is fed 3 layers",
        ),
    ] {
        refused(&generate(args), 2, words);
    }
    refused(
        &generate(&["--draft", "/no/such/draft"]),
        1,
        "/no/such/draft",
    );
}

#[test]
fn static_trees_and_typical_acceptance_run() {
    let medusa = draft("medusa-a");
    let plain = stdout(&generate(&[]));
    let args = [
        "--draft",
        &medusa,
        "--medusa-choices",
        "mc_sim_7b_63",
        "--speculative-num-draft-tokens",
        "20",
    ];
    assert_eq!(stdout(&generate(&args)), plain);
    let args = [
        "--draft",
        &medusa,
        "--acceptance",
        "typical",
        "--posterior-alpha",
        "0.2",
    ];
    let output = generate(&args);
    assert_eq!(stdout(&output).matches(',').count(), 39);
    assert!(stderr(&output).contains("typical acceptance is not lossless"));
}

/// Asks the real model for something that repeats itself.
fn repeat(args: &[&str]) -> Output {
    let model = real_model();
    let fixed = [
        "-m",
        model.to_str().unwrap(),
        "--raw",
        "-p",
        "one two three four one two three four one two three",
        "-n",
        "20",
        "--temp",
        "0",
    ];
    run(&[&fixed[..], args].concat())
}

#[test]
fn text_is_coloured_as_it_is_otherwise_printed() {
    let plain = stdout(&repeat(&[]));
    let draft = ["--draft", "ngram", "--speculative-num-steps", "4"];
    let colours = ["--show-speculation", "--color", "always"];
    let streamed = stdout(&repeat(&[&draft[..], &colours].concat()));
    assert!(streamed.contains("\u{1b}[32m") && streamed.contains("\u{1b}[33m"));
    let bare = ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"]
        .iter()
        .fold(streamed.clone(), |text, code| text.replace(code, ""));
    assert_eq!(bare, plain);
    let whole = [&draft[..], &colours, &["--no-stream"]].concat();
    assert_eq!(stdout(&repeat(&whole)), streamed);
}

#[test]
fn a_chat_traces_all_of_its_turns() {
    let dir = tempfile::tempdir().unwrap();
    let (input, trace) = (dir.path().join("turns"), dir.path().join("rounds.jsonl"));
    std::fs::write(&input, "Say: a b c d.\nAgain.\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_generate"));
    command
        .arg("-m")
        .arg(real_model())
        .args(["--chat", "-n", "8", "--temp", "0"]);
    command.args(["--draft", "ngram", "--speculative-num-steps", "3"]);
    command.arg("--trace-rounds").arg(&trace).arg("-v");
    let output = command
        .stdin(std::fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert_eq!(stderr(&output).matches("accept_len").count(), 2);
    let text = std::fs::read_to_string(&trace).unwrap();
    let rounds = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let prefixes: Vec<u64> = rounds.map(|r| r["prefix_len"].as_u64().unwrap()).collect();
    assert!(prefixes.is_sorted(), "{prefixes:?}");
    let jump = prefixes.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        jump > Some(5),
        "the second turn adds its own prompt: {prefixes:?}"
    );
}

#[test]
fn a_plan_shows_the_draft() {
    let model = fixture("target-llama");
    let medusa = draft("medusa-a");
    let fixed = ["plan", "-m", model.to_str().unwrap()];
    let plain = stdout(&run(&fixed));
    let both = stdout(&run(&[&fixed[..], &["--draft", &medusa]].concat()));
    assert!(both.contains("draft.logits.0") && !plain.contains("draft.logits.0"));
    let args = [&fixed[..], &["--draft-dtype", "q8"]].concat();
    refused(&run(&args), 2, "--draft-dtype needs a draft");
}
