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

const fn shape(num_steps: u32, topk: u32, num_draft_tokens: u32) -> TreeShape {
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

#[test]
fn trees_change_no_token() {
    // Greedy, and two with chance: how a token is chosen does not know who guessed.
    for (name, params) in ways().into_iter().step_by(4) {
        let expected = {
            let options = options(params.clone(), 30, None);
            ids(&generate(&mut session(on_device()), &PROMPTS[0], &options))
        };
        for shape in SHAPES {
            let options = options(params.clone(), 30, Some(shape));
            let mut session = session(on_device());
            let found = ids(&generate(&mut session, &PROMPTS[0], &options));
            assert_eq!(found, expected, "{name}, {shape:?}");
            assert_holds_its_tokens(&session);
        }
    }
}

fn rounds(engine: &Engine, prompt: &[u32], options: &GenerateOptions) -> (Vec<u32>, Vec<Round>) {
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

/// As long as rounding lets both choose the same tokens.
#[test]
fn trees_and_paths_are_the_hosts() {
    let host = drafting(Device::Host);
    let (mut compared, mut branches, mut accepted) = (0, 0, 0);
    for shape in SHAPES {
        for prompt in PROMPTS {
            let options = options(SamplingParams::greedy(), 40, Some(shape));
            let (their_tokens, theirs) = rounds(&host, &prompt, &options);
            let (our_tokens, ours) = rounds(on_device(), &prompt, &options);
            let same = (their_tokens.iter().zip(&our_tokens)).take_while(|(a, b)| a == b);
            let end = prompt.len() + same.count();
            for (ours, theirs) in ours.iter().zip(&theirs) {
                if ours.prefix_len + ours.accepted_nodes.len() + 2 > end {
                    break;
                }
                let place = format!("{shape:?}, {prompt:?}, after {}", ours.prefix_len);
                assert_eq!(ours.prefix_len, theirs.prefix_len, "{place}");
                assert_eq!(ours.bonus, theirs.bonus, "{place}");
                let tokens = |round: &Round| -> Vec<u32> {
                    let nodes = round.accepted_nodes.iter();
                    nodes.map(|n| round.draft_tokens[*n as usize]).collect()
                };
                assert_eq!(tokens(ours), tokens(theirs), "{place}");
                assert_same_tree(ours, theirs, &place);
                compared += 1;
                branches += usize::from(
                    ours.parent
                        .iter()
                        .skip(1)
                        .zip(0u32..)
                        .any(|(p, i)| *p != Some(i)),
                );
                accepted += ours.accepted_nodes.len();
            }
        }
    }
    assert!(
        compared > 60 && branches > 40 && accepted > 40,
        "{compared} {branches} {accepted}"
    );
}
