//! SmolLM2 from its GGUF file: greedy tokens against the host on the same plan, and with guesses against those without. In
//! processes of their own, with 8 multiprocessors and bounds checks.

use crate::{engine_at, root, session};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use stheno::engine::{Device, Engine, GenerateOptions, Prompt};
use stheno::plan::{Row, SequenceIndex};
use stheno::speculation::{Policy, SpeculationOptions, TreeShape};

const MODEL: &str = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";
const PROMPTS: usize = 3;
const COUNT: usize = 24;

/// Tokens with guesses, and guesses of a round.
const GUESSED_COUNT: usize = 48;
const GUESSES: u32 = 5;

/// Trees of a trained layer.
const TREE: TreeShape = TreeShape {
    num_steps: 3,
    topk: 3,
    num_draft_tokens: 8,
};

/// Tells a process its draft. Without it nobody has started one, and there is nothing to do.
const DRAFT: &str = "STHENO_TEST_DRAFT";

/// Largest difference of logits to the host's, over the spread of a row: activations round to bf16 in another order.
const BOUND: f32 = 0.03;

fn logits(engine: &Engine, tokens: &[u32], from: usize) -> Vec<Vec<f32>> {
    let mut session = session(engine);
    session.append(&tokens[..from]).unwrap();
    let mut found = Vec::new();
    // As wide as a step on the device.
    for chunk in tokens[from..].chunks(8) {
        let mut rows = Row::chain(SequenceIndex(0), session.tokens().len() as u32, chunk);
        rows.iter_mut().for_each(|row| row.output = true);
        let forward = engine.forward(&rows, &[&session]).unwrap();
        let each = forward.logits().chunks(engine.vocab_size());
        found.extend(each.map(<[f32]>::to_vec));
        let path: Vec<u32> = (0..chunk.len() as u32).collect();
        session.commit(&forward, &path).unwrap();
    }
    found
}

/// The two largest and the smallest, and the place of the largest.
fn extremes(logits: &[f32]) -> (f32, f32, f32, u32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let last = order[order.len() - 1];
    (
        logits[order[0]],
        logits[order[1]],
        logits[last],
        order[0] as u32,
    )
}

fn model() -> String {
    let model = root().join(MODEL);
    assert!(
        model.exists(),
        "{MODEL} is missing: run scripts/fetch-model.sh"
    );
    model.to_str().unwrap().to_owned()
}

fn prompts() -> Vec<Vec<u32>> {
    let reference = root().join("tests/fixtures/real/smollm2_greedy.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let prompts = &reference["prompts"].as_array().unwrap()[..PROMPTS];
    let ids = prompts.iter().map(|prompt| prompt["prompt_ids"].clone());
    ids.map(|ids| serde_json::from_value(ids).unwrap())
        .collect()
}

#[test]
#[ignore = "started by `smollm2_decodes_as_on_the_host`"]
fn smollm2_in_a_process() {
    if std::env::var_os(DRAFT).is_none() {
        return;
    }
    let path = &model();
    let change = |builder: crate::Builder| builder.context_length(256);
    let device = engine_at(path, Device::Virtual, change);
    let host = engine_at(path, Device::Host, change);
    println!("{:?}", device.device_executor().unwrap().report());
    let (mut steps, mut time, mut decided) = (0, Duration::ZERO, 0);
    for prompt in prompts() {
        let mut options = GenerateOptions::greedy(COUNT);
        options.ignore_eos = true;
        let mut session = session(&device);
        let mut stream = session
            .generate(Prompt::Tokens(prompt.clone()), &options)
            .unwrap();
        let tokens: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
        let statistics = stream.statistics();
        steps += statistics.decode_steps;
        time += statistics.decode;
        drop(stream);
        assert_eq!(tokens.len(), COUNT);
        let all = [&prompt[..], &tokens[..COUNT - 1]].concat();
        let from = prompt.len() - 1;
        let expected = logits(&host, &all, from);
        let found = logits(&device, &all, from);
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let (best, second, least, token) = extremes(expected);
            let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
            let difference = differences.fold(0.0, f32::max);
            let bound = BOUND * (best - least);
            assert!(
                difference <= bound,
                "token {i}: {difference}, {bound} allowed"
            );
            assert_eq!(
                tokens[i],
                extremes(found).3,
                "token {i}: the loop and a call differ"
            );
            if best - second > 2.0 * bound {
                assert_eq!(tokens[i], token, "token {i}");
                decided += 1;
            }
        }
    }
    assert!(
        decided >= PROMPTS * COUNT / 4,
        "only {decided} margins say anything"
    );
    let each = time.as_secs_f64() / steps as f64;
    println!(
        "{steps} steps of {each:.2} s; {decided} of {} tokens decided",
        PROMPTS * COUNT
    );
}

#[test]
#[ignore = "started by `smollm2_guesses_change_no_token` and `smollm2_trees_change_no_token`"]
fn smollm2_guesses_in_a_process() {
    let Ok(draft) = std::env::var(DRAFT) else {
        return;
    };
    let engine = engine_at(&model(), Device::Virtual, |builder| {
        builder.context_length(256).draft(&draft).unwrap()
    });
    let shape = match draft == "ngram" {
        true => TreeShape::chain(GUESSES),
        false => TREE,
    };
    let (mut rounds, mut accepted) = (0, 0);
    for prompt in prompts() {
        let [expected, found] = [Policy::Off, Policy::Fixed(shape)].map(|policy| {
            let mut options = GenerateOptions::greedy(GUESSED_COUNT);
            options.ignore_eos = true;
            options.speculation = SpeculationOptions {
                policy,
                ..SpeculationOptions::default()
            };
            let mut session = session(&engine);
            let prompt = Prompt::Tokens(prompt.clone());
            let mut stream = session.generate(prompt, &options).unwrap();
            let tokens: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
            let statistics = stream.statistics();
            println!(
                "{} steps in {:.1} s",
                statistics.decode_steps,
                statistics.decode.as_secs_f64()
            );
            if let Some(speculation) = &statistics.speculation {
                rounds += speculation.rounds;
                accepted += speculation.accepted;
            }
            tokens
        });
        assert_eq!(found.len(), GUESSED_COUNT);
        assert_eq!(found, expected);
    }
    assert!(rounds > 0 && accepted > 0, "{accepted} in {rounds} rounds");
    println!("{accepted} guesses accepted in {rounds} rounds");
}

fn run_in_a_process(test: &str, draft: &str) {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", test])
        .env("VIRTUAL_GPU_SMS", "8")
        .env("VIRTUAL_GPU_CHECKS", "bounds")
        .env(DRAFT, draft)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    println!("{said}");
    assert!(run.status.success() && said.contains("1 passed"));
}

#[test]
#[ignore = "minutes: run in release with --include-ignored"]
fn smollm2_decodes_as_on_the_host() {
    run_in_a_process("real::smollm2_in_a_process", "");
}

#[test]
#[ignore = "minutes: run in release with --include-ignored"]
fn smollm2_guesses_change_no_token() {
    run_in_a_process("real::smollm2_guesses_in_a_process", "ngram");
}

#[test]
#[ignore = "minutes: run in release with --include-ignored"]
fn smollm2_trees_change_no_token() {
    let head = root().join("heads/SmolLM2-135M-Instruct-EAGLE3");
    run_in_a_process("real::smollm2_guesses_in_a_process", head.to_str().unwrap());
}
