//! A small model that drafts inside the loop: tokens and what the session holds are those of plain decoding, and what is accepted
//! is what the host's rounds accept.

use crate::sampling::ways;
use crate::{
    FIXTURE, assert_holds_its_tokens, engine, engine_at, fixture, generate, ids, next_logits,
    session, shared, tokens,
};
use std::sync::OnceLock;
use stheno::engine::{
    Device, Engine, GenerateOptions, Prompt, Session, SessionOptions, SpeculationStatistics,
};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions, TreeShape};

/// A model of other sizes, whose guesses are mostly wrong here.
const OTHER: &str = "qwen3";

fn drafting(draft: &str, device: Device) -> Engine {
    let draft = fixture(&format!("models/{draft}"));
    engine(FIXTURE, device, |builder| {
        builder.context_length(200).draft(&draft).unwrap()
    })
}

fn itself() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| drafting(FIXTURE, Device::Virtual))
}

fn other() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| drafting(OTHER, Device::Virtual))
}

fn options(params: SamplingParams, count: usize, guesses: u32) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy: Policy::Fixed(TreeShape::chain(guesses)),
        ..SpeculationOptions::default()
    };
    options
}

fn plain(params: SamplingParams, count: usize) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options
}

fn run(
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (Vec<u32>, SpeculationStatistics) {
    let prompt = Prompt::Tokens(prompt.to_vec());
    let mut stream = session.generate(prompt, options).unwrap();
    let tokens: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
    let statistics = stream.statistics().speculation.clone().unwrap();
    (tokens, statistics)
}

#[test]
#[ignore = "half a minute, and trees are tested: run with --include-ignored"]
fn guesses_change_no_token() {
    let prompt = tokens(37, 5);
    // Greedy, and two with chance: how a token is chosen does not know who guessed.
    for (name, params) in ways().into_iter().step_by(4) {
        let expected = generate(&mut session(shared()), &prompt, &plain(params.clone(), 14));
        for engine in [itself(), other()] {
            let mut session = session(engine);
            let (found, _) = run(&mut session, &prompt, &options(params.clone(), 14, 3));
            assert_eq!(found, ids(&expected), "{name}");
            assert_holds_its_tokens(&session);
        }
    }
}

/// What the model guesses of itself comes true, but for a round that a limit cuts; prompts are longer than a chunk.
#[test]
fn its_own_guesses_are_accepted() {
    for (length, guesses) in [(3, 1), (90, 4), (150, 7)] {
        let mut session = session(itself());
        let prompt = tokens(length, 11);
        let (found, statistics) = run(
            &mut session,
            &prompt,
            &options(SamplingParams::greedy(), 41, guesses),
        );
        // The first token comes of the prompt.
        let rounds = 40usize.div_ceil(guesses as usize + 1);
        assert_eq!(found.len(), 41);
        assert_eq!(statistics.rounds, rounds, "{length} {guesses}");
        assert_eq!(statistics.accepted + rounds, 40);
        assert_holds_its_tokens(&session);
    }
}

/// The host accepts the same guesses, as long as rounding lets both choose the same tokens. Two models that learnt the same text.
#[test]
fn what_is_accepted_is_what_the_host_accepts() {
    let [host, device] = [Device::Host, Device::Virtual].map(|device| {
        engine_at(&fixture("drafts/target-llama"), device, |builder| {
            let builder = builder.context_length(160);
            builder.draft(&fixture("drafts/target-qwen3")).unwrap()
        })
    });
    let options = options(SamplingParams::greedy(), 40, 3);
    let (mut compared, mut accepted) = (0, 0);
    for prompt in [[97, 11, 64, 115, 7], [12, 90, 33, 4, 61]] {
        let marks = |engine: &Engine| -> Vec<(u32, bool)> {
            let tokens = generate(&mut session(engine), &prompt, &options);
            tokens.iter().map(|t| (t.id, t.accepted)).collect()
        };
        let (on_host, on_device) = (marks(&host), marks(&device));
        for (ours, theirs) in on_device.iter().zip(&on_host) {
            if ours.0 != theirs.0 {
                break;
            }
            assert_eq!(ours.1, theirs.1, "{prompt:?}, token {compared}");
            compared += 1;
            accepted += usize::from(ours.1);
        }
    }
    assert!(
        compared > 40 && accepted > 10 && accepted < compared - 10,
        "{compared}, {accepted}"
    );
}

/// A second answer goes on from what the draft has, a fork and a rewind too.
#[test]
fn sessions_go_on() {
    let options = options(SamplingParams::greedy(), 12, 3);
    let mut first = session(itself());
    let answer = run(&mut first, &tokens(30, 8), &options).0;
    let mut fork = first.fork();
    let longer = [&tokens(30, 8)[..], &answer, &tokens(9, 2)].concat();
    let shorter = [&tokens(30, 8)[..], &tokens(5, 6)].concat();
    for (session, prompt) in [(&mut first, &longer), (&mut fork, &shorter)] {
        let (found, statistics) = run(session, prompt, &options);
        let fresh = itself().session(SessionOptions::default());
        let expected = run(&mut fresh.unwrap(), prompt, &options);
        assert_eq!(found, expected.0);
        assert_eq!(statistics.accepted, expected.1.accepted);
        assert_holds_its_tokens(session);
    }
    assert_eq!(next_logits(&first, 3), next_logits(&first.fork(), 3));
}
