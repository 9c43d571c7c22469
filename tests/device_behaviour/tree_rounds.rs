//! Rounds of trees inside the loop: tokens and what the session holds are those of plain decoding, and every round's tree and path
//! are the host's.

use crate::sampling::ways;
use crate::{assert_holds_its_tokens, engine_at, fixture, generate, ids, session};
use std::collections::HashMap;
use std::sync::OnceLock;
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, Round};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Policy, SpeculationOptions, TreeShape};

/// Two models that learnt the same text: one drafts for the other.
fn drafting(device: Device) -> Engine {
    engine_at(&fixture("drafts/target-llama"), device, |builder| {
        let builder = builder.context_length(300).max_rows(64);
        builder.draft(&fixture("drafts/target-qwen3")).unwrap()
    })
}

fn on_device() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| drafting(Device::Virtual))
}

pub const fn shape(num_steps: u32, topk: u32, num_draft_tokens: u32) -> TreeShape {
    TreeShape {
        num_steps,
        topk,
        num_draft_tokens,
    }
}

/// Wide and deep ones, some cut to few nodes, one that fills all rows.
const SHAPES: [TreeShape; 5] = [
    shape(1, 4, 5),
    shape(3, 2, 6),
    shape(4, 4, 16),
    shape(9, 1, 10),
    shape(5, 8, 64),
];

fn options(params: SamplingParams, count: usize, shape: Option<TreeShape>) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy: shape.map_or(Policy::Off, Policy::Fixed),
        ..SpeculationOptions::default()
    };
    options
}

const PROMPTS: [[u32; 5]; 2] = [[97, 11, 64, 115, 7], [12, 90, 33, 4, 61]];

/// Greedy, and two ways with chance: how a token is chosen does not know who guessed. Those of ways and shapes that `wanted` says; the
/// greedy way of every shape is a part of [`trees_and_paths`] too.
fn change_no_token(wanted: impl Fn(usize, usize) -> bool) {
    for (way, (name, params)) in ways().into_iter().step_by(4).enumerate() {
        let expected = {
            let options = options(params.clone(), 30, None);
            ids(&generate(&mut session(on_device()), &PROMPTS[0], &options))
        };
        let shapes = SHAPES.into_iter().enumerate();
        for (_, shape) in shapes.filter(|(index, _)| wanted(way, *index)) {
            let options = options(params.clone(), 30, Some(shape));
            let mut session = session(on_device());
            let found = ids(&generate(&mut session, &PROMPTS[0], &options));
            assert_eq!(found, expected, "{name}, {shape:?}");
            assert_holds_its_tokens(&session);
        }
    }
}

#[test]
fn trees_change_no_token() {
    change_no_token(|way, shape| way > 0 && shape % 3 == way);
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn trees_change_no_token_in_any_way() {
    change_no_token(|_, _| true);
}

/// Tokens of a generation, and its rounds.
pub fn rounds(
    engine: &Engine,
    prompt: &[u32],
    options: &GenerateOptions,
) -> (Vec<u32>, Vec<Round>) {
    let mut seen = Vec::new();
    let mut session = session(engine);
    let stream = session.generate(Prompt::Tokens(prompt.to_vec()), options);
    let stream = stream
        .unwrap()
        .with_rounds(|round| seen.push(round.clone()));
    let tokens = stream.map(|token| token.unwrap().id).collect();
    (tokens, seen)
}

/// The same paths with the same scores, but for a few whose ancestors, or they themselves, scored so close to others that rounding
/// chose between them. That a tree is exactly what comes of the lists is shown by `device_growth`.
fn assert_same_tree(ours: &Round, theirs: &Round, place: &str) {
    assert_eq!(
        ours.draft_tokens.len(),
        theirs.draft_tokens.len(),
        "{place}"
    );
    let paths = |round: &Round| -> HashMap<Vec<u32>, f32> {
        let path = |mut node: usize| {
            let mut path = vec![round.draft_tokens[node]];
            while let Some(parent) = round.parent[node] {
                node = parent as usize;
                path.push(round.draft_tokens[node]);
            }
            path
        };
        let nodes = round.node_score.iter().enumerate();
        nodes.map(|(node, score)| (path(node), *score)).collect()
    };
    // Of a chain all that follows such a node is another's.
    let nodes = ours.draft_tokens.iter().zip(&theirs.draft_tokens);
    if let Some(node) = nodes.clone().position(|(a, b)| a != b) {
        let is_chain = |round: &Round| {
            round
                .parent
                .iter()
                .skip(1)
                .zip(0u32..)
                .all(|(p, i)| *p == Some(i))
        };
        let (a, b) = (ours.node_score[node], theirs.node_score[node]);
        if is_chain(ours) && is_chain(theirs) && (a - b).abs() < 0.05 * (1.0 + a.abs()) {
            return;
        }
    }
    let (ours, theirs) = (paths(ours), paths(theirs));
    let mut shared = 0;
    for (path, score) in &ours {
        if let Some(other) = theirs.get(path) {
            let near = (score - other).abs() < 0.05 * (1.0 + score.abs());
            assert!(near, "{place}: {path:?} {score} {other}");
            shared += 1;
        }
    }
    assert!(
        8 * shared >= 7 * ours.len(),
        "{place}: {shared} of {}",
        ours.len()
    );
}

/// Whoever stops reading, while the device is rounds ahead, finds the session with what was read.
#[test]
fn a_stream_that_is_dropped_leaves_its_tokens() {
    let options = options(SamplingParams::greedy(), 60, Some(SHAPES[2]));
    for count in [1, 12] {
        let mut session = session(on_device());
        let prompt = Prompt::Tokens(PROMPTS[1].to_vec());
        let stream = session.generate(prompt, &options).unwrap();
        let read: Vec<u32> = stream.take(count).map(|token| token.unwrap().id).collect();
        assert_eq!(
            session.tokens(),
            [&PROMPTS[1][..], &read[..count - 1]].concat()
        );
        assert_holds_its_tokens(&session);
    }
}

/// What was seen of rounds that are the host's.
#[derive(Debug, Default)]
pub struct Compared {
    pub rounds: usize,
    /// Rounds whose tree is no chain.
    pub branches: usize,
    pub accepted: usize,
}

impl Compared {
    pub fn add(&mut self, other: &Compared) {
        self.rounds += other.rounds;
        self.branches += other.branches;
        self.accepted += other.accepted;
    }
}

/// The same rounds on host and device, as long as rounding lets both choose the same tokens.
pub fn compare(
    host: &Engine,
    device: &Engine,
    prompt: &[u32],
    options: &GenerateOptions,
) -> Compared {
    let (their_tokens, theirs) = rounds(host, prompt, options);
    let (our_tokens, ours) = rounds(device, prompt, options);
    compare_rounds(
        prompt,
        options,
        (&their_tokens, &theirs),
        (&our_tokens, &ours),
    )
}

fn compare_rounds(
    prompt: &[u32],
    options: &GenerateOptions,
    (their_tokens, theirs): (&[u32], &[Round]),
    (our_tokens, ours): (&[u32], &[Round]),
) -> Compared {
    let same = (their_tokens.iter().zip(our_tokens)).take_while(|(a, b)| a == b);
    let end = prompt.len() + same.count();
    let mut compared = Compared::default();
    for (ours, theirs) in ours.iter().zip(theirs) {
        if ours.prefix_len + ours.accepted_nodes.len() + 2 > end {
            break;
        }
        let place = format!(
            "{:?}, after {}",
            options.speculation.policy, ours.prefix_len
        );
        assert_eq!(ours.prefix_len, theirs.prefix_len, "{place}");
        assert_same_tree(ours, theirs, &place);
        if ours.draft_tokens == theirs.draft_tokens {
            assert_eq!(ours.parent, theirs.parent, "{place}");
            assert_eq!(ours.accepted_nodes, theirs.accepted_nodes, "{place}");
            assert_eq!(ours.bonus, theirs.bonus, "{place}");
        } else if ours.accepted_nodes.len() != theirs.accepted_nodes.len() {
            // One has guessed what the other has not.
            break;
        }
        compared.rounds += 1;
        let mut parents = ours.parent.iter().skip(1).zip(0u32..);
        compared.branches += usize::from(parents.any(|(p, i)| *p != Some(i)));
        compared.accepted += ours.accepted_nodes.len();
    }
    compared
}

/// Shapes by turns with both prompts, or each with both: the tokens of plain decoding, and the host's rounds.
fn trees_and_paths(every: bool) -> Compared {
    let host = drafting(Device::Host);
    let mut compared = Compared::default();
    let plain = options(SamplingParams::greedy(), 36, None);
    let expected = PROMPTS.map(|prompt| ids(&generate(&mut session(on_device()), &prompt, &plain)));
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for (j, prompt) in PROMPTS.into_iter().enumerate() {
            if every || i % 2 == j {
                let options = options(SamplingParams::greedy(), 36, Some(shape));
                let theirs = rounds(&host, &prompt, &options);
                let ours = rounds(on_device(), &prompt, &options);
                assert_eq!(ours.0, expected[j], "{shape:?}");
                let [theirs, ours] = [&theirs, &ours].map(|(t, r)| (&t[..], &r[..]));
                compared.add(&compare_rounds(&prompt, &options, theirs, ours));
            }
        }
    }
    compared
}

#[test]
fn trees_and_paths_are_the_hosts() {
    let compared = trees_and_paths(false);
    let (rounds, branches, accepted) = (compared.rounds, compared.branches, compared.accepted);
    assert!(
        rounds > 30 && branches > 20 && accepted > 20,
        "{compared:?}"
    );
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn trees_and_paths_are_the_hosts_of_every_shape() {
    let compared = trees_and_paths(true);
    let (rounds, branches, accepted) = (compared.rounds, compared.branches, compared.accepted);
    assert!(
        rounds > 60 && branches > 40 && accepted > 40,
        "{compared:?}"
    );
}

/// Depth and width are chosen every round. What is learnt stays with the session.
#[test]
fn sizes_change_from_round_to_round() {
    for prompt in PROMPTS {
        let mut options = options(SamplingParams::greedy(), 60, None);
        let expected = ids(&generate(&mut session(on_device()), &prompt, &options));
        options.speculation.policy = Policy::Automatic;
        let (found, rounds) = rounds(on_device(), &prompt, &options);
        assert_eq!(found, expected);
        let distinct = |of: fn(&Round) -> usize| {
            let all: std::collections::BTreeSet<usize> = rounds.iter().map(of).collect();
            all.len()
        };
        let nodes = distinct(|round| round.draft_tokens.len());
        let levels = distinct(|round| round.depth.iter().copied().max().unwrap_or(0) as usize);
        assert!(nodes > 2 && levels > 1, "{prompt:?}: {nodes} {levels}");
        let accepted: usize = rounds.iter().map(|r| r.accepted_nodes.len()).sum();
        assert!(
            accepted > 10,
            "{prompt:?}: {accepted} of {} rounds",
            rounds.len()
        );
    }
}

/// A draft that is always wrong is asked less and less.
#[test]
#[ignore = "half a minute: run with --include-ignored"]
fn what_does_not_pay_pauses() {
    let engine = engine_at(
        &fixture("drafts/target-llama"),
        Device::Virtual,
        |builder| {
            let builder = builder.context_length(300).max_rows(16);
            builder.draft(&fixture("models/llama-tied")).unwrap()
        },
    );
    // Its steps have 16 rows, so have those of the draft.
    let wide = SpeculationOptions::fixed(shape(2, 17, 20));
    let refused = engine.check_speculation(&wide).unwrap_err().to_string();
    assert!(
        refused.contains("top-k of 17") && refused.contains("--max-rows"),
        "{refused}"
    );
    let mut options = options(SamplingParams::greedy(), 80, None);
    let expected = ids(&generate(&mut session(&engine), &PROMPTS[0], &options));
    options.speculation.policy = Policy::Automatic;
    let (found, rounds) = rounds(&engine, &PROMPTS[0], &options);
    assert_eq!(found, expected);
    let plain = rounds.iter().filter(|round| round.draft_tokens.len() == 1);
    assert!(plain.count() > 20, "{} rounds", rounds.len());
}

#[test]
fn what_the_loop_cannot_draft_is_refused_by_name() {
    let refused = |speculation: SpeculationOptions| {
        let error = on_device().check_speculation(&speculation).unwrap_err();
        error.to_string()
    };
    let fixed = SpeculationOptions::fixed;
    let wide = refused(fixed(shape(2, 33, 34)));
    assert!(
        wide.contains("top-k of 33") && wide.contains("--device host"),
        "{wide}"
    );
    let large = refused(fixed(shape(12, 8, 64)));
    assert!(
        large.contains("88 nodes") && large.contains("room for 64"),
        "{large}"
    );
}
