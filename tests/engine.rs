//! Sessions and token streams, on a tiny seeded checkpoint.

use std::path::PathBuf;
use stheno::Error;
use stheno::engine::{
    CancellationToken, Engine, FinishReason, GenerateOptions, Prompt, Session, SessionOptions,
};
use stheno::plan::{Row, SequenceIndex};

fn fixture(name: &str) -> PathBuf {
    let models = "tests/fixtures/models";
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(models)
        .join(name)
}

fn engine(name: &str) -> Engine {
    let model = fixture(name);
    let builder = Engine::builder().model(model.to_str().unwrap()).unwrap();
    builder.threads(1).build().unwrap()
}

fn session(engine: &Engine) -> Session {
    engine.session(SessionOptions::default()).unwrap()
}

fn greedy(session: &mut Session, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut options = GenerateOptions::greedy(count);
    options.ignore_eos = true;
    let stream = session.generate(prompt, &options).unwrap();
    stream.map(|token| token.unwrap().id).collect()
}

#[test]
fn a_prompt_that_shares_a_prefix_costs_the_rest_and_changes_nothing() {
    let engine = engine("llama");
    let mut one = session(&engine);
    let mut prompt = vec![5, 6, 7, 8];
    let answer = greedy(&mut one, &prompt, 6);
    assert_eq!(one.tokens().len(), 4 + 5, "the last token is not computed");

    prompt.extend(&answer);
    prompt.push(9);
    let options = GenerateOptions::greedy(4);
    let stream = one.generate(&prompt[..], &options).unwrap();
    assert_eq!(stream.statistics().reused_tokens, 9);
    let warm: Vec<u32> = stream.map(|t| t.unwrap().id).collect();
    let cold = greedy(&mut session(&engine), &prompt, 4);
    assert_eq!(warm, cold[..warm.len()]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let engine = engine("qwen3");
    let mut trunk = session(&engine);
    trunk.append(&[1, 2, 3, 4, 5]).unwrap();
    let mut branch = trunk.fork();
    branch.append(&[6, 7]).unwrap();
    trunk.append(&[8]).unwrap();
    assert_eq!(trunk.tokens(), [1, 2, 3, 4, 5, 8]);
    assert_eq!(branch.tokens(), [1, 2, 3, 4, 5, 6, 7]);
    let expected = greedy(&mut session(&engine), &[1, 2, 3, 4, 5, 6, 7, 9], 8);
    assert_eq!(greedy(&mut branch, &[1, 2, 3, 4, 5, 6, 7, 9], 8), expected);
}

#[test]
fn a_rewound_session_is_as_if_it_never_went_on() {
    let engine = engine("mistral-sliding");
    let mut one = session(&engine);
    one.append(&[1, 2, 3, 4, 5, 6]).unwrap();
    one.truncate(3);
    let logits = one.append(&[7]).unwrap().to_vec();
    let mut other = session(&engine);
    assert_eq!(logits, other.append(&[1, 2, 3, 7]).unwrap());
}

#[test]
fn a_tree_is_computed_at_once_and_one_path_of_it_committed() {
    let engine = engine("llama");
    let mut one = session(&engine);
    one.append(&[1, 2, 3]).unwrap();
    let row = |token, position, parent| Row {
        token,
        sequence: SequenceIndex(0),
        position,
        parent,
        delta: None,
        output: true,
    };
    let rows = [
        row(4, 3, None),
        row(5, 3, None),
        row(6, 4, Some(1)),
        row(7, 4, Some(0)),
    ];
    let forward = engine.forward(&rows, &[&one]).unwrap();
    let vocab_size = engine.vocab_size();
    assert_eq!(forward.logits().len(), 4 * vocab_size);
    // What is printed of it says how many there are, and none of them.
    let printed = format!("{forward:?}");
    assert!(printed.contains(&format!("logits: {} values", 4 * vocab_size)));
    assert!(printed.len() < 1000, "{printed}");
    let mut fork = one.fork();
    one.commit(&forward, &[1, 2]).unwrap();
    assert_eq!(one.tokens(), [1, 2, 3, 5, 6]);
    fork.commit(&forward, &[0, 3]).unwrap();
    assert_eq!(fork.tokens(), [1, 2, 3, 4, 7]);
    let mut other = session(&engine);
    let logits = other.append(&[1, 2, 3, 5, 6]).unwrap();
    assert_eq!(logits, &forward.logits()[2 * vocab_size..3 * vocab_size]);
}

#[test]
fn what_was_computed_for_other_content_is_not_committed() {
    let engine = engine("llama");
    let (mut one, mut other) = (session(&engine), session(&engine));
    one.append(&[1, 2]).unwrap();
    other.append(&[3, 4]).unwrap();
    let rows = Row::chain(SequenceIndex(0), 2, &[5, 6]);
    let forward = engine.forward(&rows, &[&one]).unwrap();
    assert!(matches!(
        other.commit(&forward, &[0]),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(one.commit(&forward, &[7]), Err(Error::Invalid(_))));
    assert!(
        one.commit(&forward, &[1]).is_err(),
        "a path starts at its root"
    );
    one.commit(&forward, &[0]).unwrap();
    assert!(matches!(one.commit(&forward, &[0]), Err(Error::Invalid(_))));
    let strange = self::engine("llama");
    assert!(strange.forward(&rows, &[&one]).is_err());
}

#[test]
fn a_saved_session_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session");
    let engine = engine("llama");
    let mut one = session(&engine);
    one.append(&(1..=150).map(|i| i % 250).collect::<Vec<_>>())
        .unwrap();
    one.save(&path).unwrap();
    let mut other = session(&engine);
    other.load(&path).unwrap();
    assert_eq!(other.tokens(), one.tokens());
    assert_eq!(one.append(&[9]).unwrap(), other.append(&[9]).unwrap());

    let refuse = |engine: &Engine| session(engine).load(&path).unwrap_err().to_string();
    assert!(refuse(&self::engine("llama-tied")).contains("another model"));
    let bytes = std::fs::read(&path).unwrap();
    for end in [0, 7, 15, 40, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(!refuse(&engine).is_empty(), "cut at {end}");
    }
    let mut lying = bytes.clone();
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &lying).unwrap();
    assert!(refuse(&engine).contains("no saved session"));
}

#[test]
fn generation_is_cancelled_between_tokens_and_in_the_prompt() {
    let engine = engine("llama");
    let mut one = session(&engine);
    let mut options = GenerateOptions::greedy(50);
    options.ignore_eos = true;
    let token = options.cancellation.clone();
    let mut stream = one.generate(&[1u32, 2, 3][..], &options).unwrap();
    assert!(stream.next().is_some());
    token.cancel();
    assert!(stream.next().is_none());
    assert_eq!(stream.finish_reason(), Some(FinishReason::Cancelled));
    assert_eq!(stream.tokens().len(), 1);
    drop(stream);
    let mut stream = one.generate(&[4u32, 5][..], &options).unwrap();
    assert!(stream.next().is_none());
    drop(stream);
    options.cancellation = CancellationToken::new();
    assert_eq!(one.generate(&[4u32, 5][..], &options).unwrap().count(), 50);
}

#[test]
fn the_answer_ends_where_the_context_does() {
    let engine = engine("llama");
    let options = SessionOptions {
        context_length: Some(10),
    };
    let Ok(mut small) = engine.session(options) else {
        panic!("a session may be smaller than its engine")
    };
    let mut options = GenerateOptions::greedy(0);
    options.max_tokens = None;
    options.ignore_eos = true;
    let mut stream = small.generate(&[1u32, 2, 3, 4][..], &options).unwrap();
    assert_eq!(
        stream.by_ref().count(),
        7,
        "the last token takes no position"
    );
    assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
    drop(stream);
    let error = small.generate(&[1u32; 11][..], &options).unwrap_err();
    assert!(matches!(
        error,
        Error::ContextOverflow {
            needed: 11,
            context_length: 10
        }
    ));
    options.max_tokens = Some(0);
    assert_eq!(
        small.generate(&[1u32; 10][..], &options).unwrap().count(),
        0
    );
}

#[test]
fn prompts_that_cannot_be_are_refused() {
    let engine = engine("llama");
    let mut one = session(&engine);
    let options = GenerateOptions::greedy(1);
    for prompt in [
        Prompt::Tokens(vec![]),
        Prompt::Tokens(vec![1, 1_000_000]),
        Prompt::from("there is no tokenizer"),
    ] {
        let error = one.generate(prompt, &options).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    let too_long = SessionOptions {
        context_length: Some(1 << 30),
    };
    assert!(engine.session(too_long).is_err());
}

#[test]
fn a_mask_has_the_last_word() {
    let engine = engine("llama");
    let mut one = session(&engine);
    let mut options = GenerateOptions::greedy(5);
    options.ignore_eos = true;
    let mut seen = Vec::new();
    let stream = one.generate(&[1u32, 2][..], &options).unwrap();
    let stream = stream.with_mask(|generated, mask| {
        seen.push(generated.len());
        for token in 0..mask.vocab_size() as u32 {
            mask.set(token, token == 7 || token == 9)?;
        }
        Ok(())
    });
    let tokens: Vec<u32> = stream.map(|t| t.unwrap().id).collect();
    assert!(tokens.iter().all(|t| [7, 9].contains(t)), "{tokens:?}");
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn a_failed_step_ends_the_answer_as_an_error() {
    let engine = engine("llama");
    let mut one = session(&engine);
    let options = GenerateOptions::greedy(5);
    let stream = one.generate(&[1u32, 2][..], &options).unwrap();
    let mut stream = stream.with_mask(|_, _| Err(Error::Invalid("no grammar".into())));
    assert!(matches!(stream.next(), Some(Err(Error::Invalid(_)))));
    assert!(stream.next().is_none());
    assert_eq!(stream.finish_reason(), Some(FinishReason::Error));
}

#[test]
fn a_seed_gives_one_text_on_any_number_of_threads() {
    let model = fixture("qwen2");
    let mut texts = Vec::new();
    for threads in [1, 2] {
        let builder = Engine::builder().model(model.to_str().unwrap()).unwrap();
        let engine = builder.threads(threads).build().unwrap();
        let mut options = GenerateOptions::greedy(40);
        options.ignore_eos = true;
        options.sampling.temperature = 1.0;
        options.sampling.seed = 42;
        options.logprobs = Some(3);
        let mut one = session(&engine);
        let stream = one.generate(&[3u32, 1, 4][..], &options).unwrap();
        texts.push(stream.map(|t| t.unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(texts[0], texts[1]);
    for token in &texts[0] {
        assert!(token.logprob.unwrap() <= 0.0);
        assert_eq!(token.top_logprobs.len(), 3);
        assert!(
            token
                .top_logprobs
                .is_sorted_by(|a, b| a.logprob >= b.logprob)
        );
    }
}
