//! Speculation changes nothing but the time: with every draft, tree, family and precision the tokens are those of plain
//! decoding, and so is what the session holds afterwards.

use proptest::prelude::*;
use std::path::PathBuf;
use stheno::checkpoint::WeightDtype;
use stheno::engine::{Engine, Forward, GenerateOptions, Session, SessionOptions};
use stheno::model::ActivationDtype;
use stheno::plan::{SegmentKind, SequenceIndex};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions, Tree, TreeShape};

const FAMILIES: [&str; 4] = ["llama-biases", "mistral-sliding", "qwen2", "qwen3"];
const ACTIVATIONS: [ActivationDtype; 3] = [
    ActivationDtype::F32,
    ActivationDtype::BF16,
    ActivationDtype::Q8,
];
const VOCAB: u32 = 260;

fn model(name: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    dir.join(name).to_str().unwrap().to_owned()
}

fn engine(name: &str, draft: Option<&str>, activation: ActivationDtype) -> Engine {
    let mut builder = Engine::builder()
        .model(&model(name))
        .unwrap()
        .activation_dtype(activation)
        .threads(1);
    if let Some(draft) = draft {
        builder = builder.draft(draft).unwrap();
    }
    builder.build().unwrap()
}

fn prompt(len: u32) -> Vec<u32> {
    // Repeats itself, so that there is something to look up.
    (0..len).map(|i| (i % 11) * 17 % VOCAB).collect()
}

fn shapes() -> Vec<Policy> {
    let shape = |num_steps, topk, num_draft_tokens| {
        Policy::Fixed(TreeShape {
            num_steps,
            topk,
            num_draft_tokens,
        })
    };
    vec![
        Policy::Automatic,
        Policy::Fixed(TreeShape::chain(1)),
        Policy::Fixed(TreeShape::chain(7)),
        shape(3, 2, 8),
        shape(4, 4, 24),
        shape(6, 8, 64),
    ]
}

fn sampled() -> SamplingParams {
    SamplingParams {
        temperature: 0.8,
        top_p: 0.95,
        repetition_penalty: 1.1,
        frequency_penalty: 0.1,
        penalty_last_n: 20,
        seed: 7,
        ..SamplingParams::default()
    }
}

/// Tokens of a generation, what the session holds after it, and the tokens emitted per round.
fn run(
    engine: &Engine,
    prompt: &[u32],
    sampling: SamplingParams,
    policy: Policy,
    count: usize,
) -> (Vec<u32>, Session, f64) {
    let mut options = GenerateOptions::sampled(count, sampling);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy,
        ..SpeculationOptions::default()
    };
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let mut stream = session.generate(prompt, &options).unwrap();
    let tokens: Vec<u32> = stream.by_ref().map(|t| t.unwrap().id).collect();
    let accept_len = stream.statistics().speculation.as_ref();
    let accept_len = accept_len.map_or(1.0, |s| s.accept_len());
    drop(stream);
    (tokens, session, accept_len)
}

fn assert_same_state(a: &Session, b: &Session, what: &str) {
    assert_eq!(a.tokens(), b.tokens(), "{what}");
    let logits = |session: &Session| {
        let mut fork = session.fork();
        let logits = fork.append(&[3]).unwrap();
        logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(logits(a), logits(b), "{what}");
}

#[test]
fn every_family_precision_and_shape() {
    for name in FAMILIES {
        for activation in ACTIVATIONS {
            let plain = engine(name, None, activation);
            let itself = model(name);
            let other = model("llama");
            // Guesses of another model are wrong more often; that takes no further precisions.
            let drafts = match activation {
                ActivationDtype::F32 => vec!["ngram", &itself, &other],
                _ => vec!["ngram", &itself],
            };
            for draft in drafts {
                let drafting = engine(name, Some(draft), activation);
                for sampling in [SamplingParams::greedy(), sampled()] {
                    let (expected, before, _) =
                        run(&plain, &prompt(40), sampling.clone(), Policy::Off, 32);
                    for policy in shapes() {
                        let what = format!("{name} {activation} {draft} {policy:?}");
                        let (tokens, after, accept_len) =
                            run(&drafting, &prompt(40), sampling.clone(), policy, 32);
                        assert_eq!(tokens, expected, "{what}");
                        assert_same_state(&after, &before, &what);
                        if draft == itself && sampling.is_greedy() && policy == shapes()[2] {
                            // Its own guesses are all right, but for the last round, which is cut.
                            assert!(accept_len > 6.0, "{what}: {accept_len}");
                        }
                    }
                }
            }
        }
    }
}

/// Every trained draft there is, in every checkpoint layout.
#[test]
fn every_draft_and_precision() {
    let drafts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/drafts");
    let mut count = 0;
    for entry in std::fs::read_dir(&drafts).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let target = match name.as_str() {
            "eagle3-qwen3" => "target-qwen3",
            "medusa-c" => "medusa-c",
            name if name.starts_with("medusa") || name.starts_with("eagle") => "target-llama",
            _ => continue,
        };
        count += 1;
        let path = |name: &str| drafts.join(name).to_str().unwrap().to_owned();
        for activation in ACTIVATIONS {
            let builder = || {
                let builder = Engine::builder().model(&path(target)).unwrap();
                builder.activation_dtype(activation).threads(1)
            };
            let plain = builder().build().unwrap();
            let drafting = builder().draft(&path(&name)).unwrap().build().unwrap();
            for sampling in [SamplingParams::greedy(), sampled()] {
                let off = Policy::Off;
                let (expected, before, _) = run(&plain, &prompt(40), sampling.clone(), off, 24);
                for policy in [shapes()[0], shapes()[1], shapes()[4]] {
                    let what = format!("{name} {activation} {policy:?}");
                    let (tokens, after, _) =
                        run(&drafting, &prompt(40), sampling.clone(), policy, 24);
                    assert_eq!(tokens, expected, "{what}");
                    assert_same_state(&after, &before, &what);
                }
            }
        }
    }
    assert!(count >= 15, "{count}");
}

fn trained(target: &str, draft: Option<&str>, dtype: WeightDtype) -> Engine {
    let drafts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/drafts");
    let path = |name: &str| drafts.join(name).to_str().unwrap().to_owned();
    let mut builder = Engine::builder().model(&path(target)).unwrap().threads(1);
    if let Some(draft) = draft {
        let draft = match draft.strip_prefix("ngram+") {
            Some(name) => format!("ngram+{}", path(name)),
            None if draft == "ngram" => draft.to_owned(),
            None => path(draft),
        };
        builder = builder.draft(&draft).unwrap().draft_dtype(dtype);
    }
    builder.build().unwrap()
}

/// Prompts of several chunks, which a draft computes piece by piece: what it guesses does not depend on how the text came.
/// And drafts rounded to fewer bits.
#[test]
fn long_prompts_and_rounded_drafts() {
    let plain = trained("target-llama", None, WeightDtype::AsStored);
    // What the target itself writes, so that there is something to guess; no longer than the drafts were trained on.
    let first = [97, 11, 64, 115, 7];
    let text = run(&plain, &first, SamplingParams::greedy(), Policy::Off, 275).0;
    let prompt = [&first[..], &text].concat();
    let (expected, before, _) = run(&plain, &prompt, SamplingParams::greedy(), Policy::Off, 60);
    let chain = Policy::Fixed(TreeShape::chain(4));
    for draft in ["eagle1", "eagle3", "medusa-d", "target-llama"] {
        for dtype in [WeightDtype::AsStored, WeightDtype::Q8, WeightDtype::Q4] {
            let drafting = trained("target-llama", Some(draft), dtype);
            let greedy = SamplingParams::greedy();
            let (tokens, after, accept_len) = run(&drafting, &prompt, greedy, chain, 60);
            assert_eq!(tokens, expected, "{draft} {dtype:?}");
            assert_same_state(&after, &before, draft);
            assert!(accept_len > 1.25, "{draft} {dtype:?}: {accept_len}");
        }
        let drafting = trained("target-llama", Some(draft), WeightDtype::AsStored);
        let mut options = GenerateOptions::greedy(60);
        options.ignore_eos = true;
        options.speculation.policy = chain;
        let rounds = |session: &mut Session| {
            let mut rounds = Vec::new();
            let stream = session.generate(prompt.clone(), &options).unwrap();
            let stream = stream.with_rounds(|round| rounds.push(round.clone()));
            stream.for_each(|token| assert!(token.is_ok()));
            rounds
        };
        let mut at_once = drafting.session(SessionOptions::default()).unwrap();
        let mut stepwise = drafting.session(SessionOptions::default()).unwrap();
        stepwise.append(&prompt[..5]).unwrap();
        for token in &prompt[5..] {
            stepwise.append(&[*token]).unwrap();
        }
        assert_eq!(rounds(&mut stepwise), rounds(&mut at_once), "{draft}");
    }
}

/// Each round is drafted from the text or by the other draft: nothing changes but the time, and a text that suits one of them gives
/// about as much as that one alone.
#[test]
fn lookup_beside_every_kind() {
    let plain = trained("target-llama", None, WeightDtype::AsStored);
    for name in ["eagle1", "eagle3", "medusa-d", "target-llama"] {
        let both = format!("ngram+{name}");
        let drafting = trained("target-llama", Some(&both), WeightDtype::AsStored);
        assert!(drafting.has_lookup_beside());
        for sampling in [SamplingParams::greedy(), sampled()] {
            let (expected, before, _) = run(&plain, &prompt(40), sampling.clone(), Policy::Off, 48);
            for policy in [shapes()[0], shapes()[1], shapes()[4]] {
                let what = format!("{both} {policy:?}");
                let (tokens, after, _) = run(&drafting, &prompt(40), sampling.clone(), policy, 48);
                assert_eq!(tokens, expected, "{what}");
                assert_same_state(&after, &before, &what);
            }
        }
    }
    let greedy = SamplingParams::greedy;
    let length =
        |engine: &Engine, prompt: &[u32]| run(engine, prompt, greedy(), shapes()[4], 200).2;
    // A text that never repeats itself, to a head that learnt it.
    let length_with = |draft| {
        let engine = trained("target-llama", Some(draft), WeightDtype::AsStored);
        length(&engine, &[97, 11, 64, 115, 7])
    };
    let (looked_up, guessed) = (length_with("ngram"), length_with("eagle3"));
    let both = length_with("ngram+eagle3");
    assert!(guessed > 2.0 * looked_up, "{guessed} {looked_up}");
    assert!(both > 0.95 * guessed, "{both} {guessed}");
    // One that does, to a draft that is never right.
    let other = model("llama");
    let length_with = |draft: &str| {
        let engine = engine("qwen3", Some(draft), ActivationDtype::F32);
        length(&engine, &prompt(40))
    };
    let (looked_up, guessed) = (length_with("ngram"), length_with(&other));
    let both = length_with(&format!("ngram+{other}"));
    assert!(looked_up > 1.9 * guessed, "{looked_up} {guessed}");
    assert!(both > 0.95 * looked_up, "{both} {looked_up}");
    let both = engine(
        "qwen3",
        Some(&format!("ngram+{other}")),
        ActivationDtype::F32,
    );
    let mut options = GenerateOptions::greedy(200);
    options.ignore_eos = true;
    options.speculation.policy = shapes()[4];
    let mut session = both.session(SessionOptions::default()).unwrap();
    let mut stream = session.generate(prompt(40), &options).unwrap();
    stream.by_ref().for_each(|token| assert!(token.is_ok()));
    let speculation = stream.statistics().speculation.clone().unwrap();
    let by = |kind| speculation.drafters.iter().find(|d| d.kind == kind);
    let (lookup, other) = (by("ngram").unwrap(), by("small-model").unwrap());
    assert_eq!(lookup.rounds + other.rounds, speculation.rounds);
    assert_eq!(lookup.emitted + other.emitted, speculation.emitted);
    assert!(lookup.accept_len() > 2.0 && other.accept_len() < 1.2);
}

/// A saved session goes on, though what a head was fed of its tokens is not saved.
#[test]
fn saved_sessions_go_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let plain = trained("target-llama", None, WeightDtype::AsStored);
    let greedy = SamplingParams::greedy;
    let (expected, _, _) = run(&plain, &prompt(60), greedy(), Policy::Off, 120);
    let drafts = ["ngram", "eagle1", "eagle3", "medusa-a", "target-llama"];
    for draft in drafts.into_iter().chain(["ngram+eagle3"]) {
        let drafting = trained("target-llama", Some(draft), WeightDtype::AsStored);
        let chain = Policy::Fixed(TreeShape::chain(4));
        let (tokens, session, _) = run(&drafting, &prompt(60), greedy(), chain, 40);
        assert_eq!(tokens, expected[..40]);
        session.save(file.path()).unwrap();
        let mut restored = drafting.session(SessionOptions::default()).unwrap();
        restored.load(file.path()).unwrap();
        let mut options = GenerateOptions::greedy(80);
        options.ignore_eos = true;
        options.speculation.policy = chain;
        let rest = [prompt(60), tokens].concat();
        let mut stream = restored.generate(rest, &options).unwrap();
        let tokens: Vec<u32> = stream.by_ref().map(|t| t.unwrap().id).collect();
        assert_eq!(tokens, expected[40..], "{draft}");
        let speculation = stream.statistics().speculation.clone().unwrap();
        let accept_len = speculation.accept_len();
        assert!(
            draft == "ngram" || accept_len > 1.5,
            "{draft}: {accept_len}"
        );
    }
}

/// The context ends, or the limit is reached, in the middle of a tree.
#[test]
fn limits_cut_trees() {
    let plain = engine("llama", None, ActivationDtype::F32);
    let drafting = engine("llama", Some(&model("llama")), ActivationDtype::F32);
    let chain = Policy::Fixed(TreeShape::chain(7));
    for count in 1..12 {
        let (expected, before, _) = run(
            &plain,
            &prompt(30),
            SamplingParams::greedy(),
            Policy::Off,
            count,
        );
        let (tokens, after, _) = run(
            &drafting,
            &prompt(30),
            SamplingParams::greedy(),
            chain,
            count,
        );
        assert_eq!(tokens, expected);
        assert_same_state(&after, &before, "");
    }
    for len in 245..=256 {
        let generate = |engine: &Engine, policy| {
            run(engine, &prompt(len), SamplingParams::greedy(), policy, 100).0
        };
        let expected = generate(&plain, Policy::Off);
        assert_eq!(expected.len(), 256 - len as usize + 1);
        assert_eq!(generate(&drafting, chain), expected);
    }
}

/// A stream that is dropped, and turns that follow.
#[test]
fn sessions_go_on_as_after_plain_decoding() {
    let plain = engine("qwen2", None, ActivationDtype::F32);
    let both = format!("ngram+{}", model("llama"));
    for draft in ["ngram".to_owned(), model("qwen2"), model("llama"), both] {
        let drafting = engine("qwen2", Some(&draft), ActivationDtype::F32);
        for taken in 0..10 {
            let turns = |engine: &Engine, policy| {
                let mut options = GenerateOptions::greedy(40);
                options.ignore_eos = true;
                options.speculation.policy = policy;
                let mut session = engine.session(SessionOptions::default()).unwrap();
                let mut stream = session.generate(prompt(20), &options).unwrap();
                let mut all: Vec<u32> =
                    stream.by_ref().take(taken).map(|t| t.unwrap().id).collect();
                assert_eq!(stream.tokens(), all);
                drop(stream);
                let kept = session.tokens().to_vec();
                let second = [prompt(20), all.clone(), vec![9, 8, 7]].concat();
                all.extend(
                    session
                        .generate(second, &options)
                        .unwrap()
                        .map(|t| t.unwrap().id),
                );
                let mut fork = session.fork();
                fork.truncate(25);
                let third = [fork.tokens(), &[5]].concat();
                all.extend(
                    fork.generate(third, &options)
                        .unwrap()
                        .map(|t| t.unwrap().id),
                );
                (kept, all)
            };
            let chain = Policy::Fixed(TreeShape::chain(5));
            assert_eq!(
                turns(&drafting, chain),
                turns(&plain, Policy::Off),
                "{draft} {taken}"
            );
        }
    }
}

#[test]
fn ends_and_errors_come_where_they_come_without() {
    let plain = engine("llama", None, ActivationDtype::F32);
    let drafting = engine("llama", Some(&model("llama")), ActivationDtype::F32);
    let chain = Policy::Fixed(TreeShape::chain(6));
    for fails_at in 0..12 {
        let generate = |engine: &Engine, policy| {
            let mut options = GenerateOptions::greedy(20);
            options.ignore_eos = true;
            options.speculation.policy = policy;
            let mut session = engine.session(SessionOptions::default()).unwrap();
            let stream = session.generate(prompt(20), &options).unwrap();
            let mut stream = stream.with_mask(|so_far, mask| {
                if so_far.len() == fails_at {
                    return Err(stheno::Error::Invalid("no more".into()));
                }
                if so_far.len() % 3 == 1 {
                    mask.set(so_far[so_far.len() - 1], false)?;
                }
                Ok(())
            });
            let items: Vec<Result<u32, String>> = stream
                .by_ref()
                .map(|t| t.map(|t| t.id).map_err(|e| e.to_string()))
                .collect();
            let finish = stream.finish_reason();
            drop(stream);
            (items, finish, session.tokens().to_vec())
        };
        assert_eq!(generate(&drafting, chain), generate(&plain, Policy::Off));
    }
}

#[test]
fn logprobs_are_the_same() {
    let generate = |engine: &Engine, policy| {
        let mut options = GenerateOptions::sampled(30, sampled());
        options.ignore_eos = true;
        options.logprobs = Some(3);
        options.speculation.policy = policy;
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let stream = session.generate(prompt(20), &options).unwrap();
        let tokens = stream.map(|t| t.map(|t| (t.id, t.logprob, t.top_logprobs)));
        tokens.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let plain = engine("qwen3", None, ActivationDtype::Q8);
    let drafting = engine("qwen3", Some(&model("qwen3")), ActivationDtype::Q8);
    let expected = generate(&plain, Policy::Off);
    assert_eq!(generate(&drafting, shapes()[4]), expected);
}

#[test]
fn rounds_are_reported() {
    let drafting = engine("llama", Some(&model("llama")), ActivationDtype::F32);
    let mut options = GenerateOptions::greedy(30);
    options.ignore_eos = true;
    options.speculation.policy = shapes()[3];
    let mut session = drafting.session(SessionOptions::default()).unwrap();
    let mut rounds = Vec::new();
    let stream = session.generate(prompt(20), &options).unwrap();
    let stream = stream.with_rounds(|round| rounds.push(round.clone()));
    let tokens: Vec<u32> = stream.map(|t| t.unwrap().id).collect();
    let mut position = 20;
    for round in &rounds {
        assert_eq!(round.prefix_len, position);
        let emitted: Vec<u32> = round
            .accepted_nodes
            .iter()
            .map(|node| round.draft_tokens[*node as usize])
            .chain(round.bonus)
            .collect();
        assert_eq!(round.draft_tokens[0], tokens[position - 20]);
        assert_eq!(emitted, tokens[position - 19..][..emitted.len()]);
        position += emitted.len();
    }
    assert_eq!(position, 20 + 29);
}

/// A tree over a text: true continuations and wrong ones.
fn trees() -> impl Strategy<Value = (Vec<(prop::sample::Index, bool, u32)>, u32)> {
    let node = (any::<prop::sample::Index>(), any::<bool>(), 0..VOCAB);
    (prop::collection::vec(node, 1..63), 20..60u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Random trees through the engine's lowest layer: every accepted token is the one of plain decoding, and so is what
    /// is committed.
    #[test]
    fn random_trees((nodes, len) in trees()) {
        for name in FAMILIES {
            for activation in ACTIVATIONS {
                random_tree(name, activation, &nodes, len);
            }
        }
    }
}

fn random_tree(
    name: &str,
    activation: ActivationDtype,
    nodes: &[(prop::sample::Index, bool, u32)],
    len: u32,
) {
    let engine = engine(name, None, activation);
    let (expected, _, _) = run(
        &engine,
        &prompt(len),
        SamplingParams::greedy(),
        Policy::Off,
        12,
    );
    let mut tree = Tree::new(expected[0]);
    for (parent, right, token) in nodes {
        let parent = parent.index(tree.len());
        let depth = tree.depth(parent) as usize + 1;
        let path = tree.path(parent);
        let on_text = std::iter::zip(&path, &expected).all(|(n, t)| tree.token(*n as usize) == *t);
        let token = match expected.get(depth) {
            Some(expected) if *right && on_text => *expected,
            _ => *token,
        };
        let _ = tree.push(parent, token, -1.0);
    }
    let mut session = engine.session(SessionOptions::default()).unwrap();
    session.append(&prompt(len)).unwrap();
    let mut forward = Forward::default();
    let rows = tree.rows(SequenceIndex(0), len);
    engine
        .forward_into(SegmentKind::Target, &rows, &[&session], &mut forward)
        .unwrap();
    let (mut node, mut path, mut tokens) = (0, vec![0], vec![expected[0]]);
    loop {
        let logits = &forward.logits()[node * VOCAB as usize..][..VOCAB as usize];
        let best = (0..VOCAB)
            .rev()
            .max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize]));
        tokens.push(best.unwrap());
        match tree.child(node, tokens[tokens.len() - 1]) {
            Some(child) => {
                node = child;
                path.push(child as u32);
            }
            None => break,
        }
    }
    let shared = tokens.len().min(expected.len());
    assert_eq!(tokens[..shared], expected[..shared]);
    session.commit(&forward, &path).unwrap();
    let mut stepwise = engine.session(SessionOptions::default()).unwrap();
    stepwise.append(&prompt(len)).unwrap();
    for token in &tokens[..path.len()] {
        stepwise.append(&[*token]).unwrap();
    }
    assert_same_state(&session, &stepwise, name);
}
