//! Rejection sampling inside the loop: the tokens of the host's rounds for the same seeds, as long as rounding lets both decide the
//! same. That draws and decisions are the host's, bit for bit where they take the same logits, is shown by `device_growth`.

use crate::heads::{drafting, medusa};
use crate::tree_rounds::{rounds, shape};
use crate::{assert_holds_its_tokens, generate, session};
use stheno::engine::{Device, Engine, GenerateOptions};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Acceptance, Policy, SpeculationOptions};

const COUNT: usize = 14;

fn options(params: SamplingParams, policy: Policy) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(COUNT, params);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy,
        acceptance: Acceptance::Rejection,
        ..SpeculationOptions::default()
    };
    options
}

fn warm(seed: u64) -> SamplingParams {
    SamplingParams {
        temperature: 1.2,
        seed,
        ..SamplingParams::default()
    }
}

const PROMPT: [u32; 5] = [97, 11, 64, 115, 7];

/// Tokens and guesses accepted that both have, and guesses accepted of later siblings.
fn compare(host: &Engine, device: &Engine, seed: u64, policy: Policy) -> [usize; 3] {
    let options = options(warm(seed), policy);
    let (their_tokens, theirs) = rounds(host, &PROMPT, &options);
    let (our_tokens, ours) = rounds(device, &PROMPT, &options);
    let same = (their_tokens.iter().zip(&our_tokens)).take_while(|(a, b)| a == b);
    let same = same.count();
    let end = PROMPT.len() + same;
    let (mut accepted, mut later) = (0, 0);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours.prefix_len + ours.accepted_nodes.len() + 2 > end {
            break;
        }
        let place = format!("seed {seed}, {policy:?}, after {}", ours.prefix_len);
        // A draw may be another one by rounding; then so may be what follows.
        if ours.draft_tokens != theirs.draft_tokens {
            break;
        }
        assert_eq!(ours.parent, theirs.parent, "{place}");
        assert_eq!(ours.accepted_nodes, theirs.accepted_nodes, "{place}");
        assert_eq!(ours.bonus, theirs.bonus, "{place}");
        for (a, b) in ours.node_score.iter().zip(&theirs.node_score) {
            assert!((a - b).abs() < 0.1 * (1.0 + a.abs()), "{place}: {a} {b}");
        }
        accepted += ours.accepted_nodes.len();
        later += usize::from(ours.accepted_nodes.first().is_some_and(|node| *node > 1));
    }
    [same, accepted, later]
}

fn check(host: &Engine, device: &Engine, seeds: u64) {
    let mut sum = [0; 3];
    for seed in 0..seeds {
        let found = compare(host, device, seed, Policy::Fixed(shape(3, 3, 10)));
        sum = std::array::from_fn(|i| sum[i] + found[i]);
    }
    let [same, accepted, later] = sum;
    println!("{same} tokens, {accepted} accepted, {later} of later siblings");
    assert!(
        same > 6 * seeds as usize && accepted > seeds as usize && (later > 0 || seeds < 10),
        "{sum:?}"
    );
}

#[test]
fn heads_draw_as_the_hosts() {
    let device = medusa(Device::Virtual);
    check(medusa(Device::Host), device, 2);
    // Depths that are chosen every round; filters and penalties are the target's alone.
    let filtered = SamplingParams {
        top_p: 0.9,
        min_p: 0.02,
        repetition_penalty: 1.2,
        ..warm(9)
    };
    for params in [filtered, SamplingParams::greedy()] {
        let is_greedy = params.is_greedy();
        let mut options = options(params, Policy::Automatic);
        let mut session = session(device);
        let found = generate(&mut session, &PROMPT, &options);
        assert_eq!(found.len(), COUNT);
        assert!(found.iter().any(|token| token.accepted));
        assert_holds_its_tokens(&session);
        // Without chance nothing else can be kept than what plain decoding chooses.
        if is_greedy {
            options.speculation = SpeculationOptions::off();
            let plain = generate(&mut crate::session(device), &PROMPT, &options);
            assert_eq!(crate::ids(&found), crate::ids(&plain));
        }
    }
}

#[test]
fn a_layer_draws_as_the_hosts() {
    let [host, device] =
        [Device::Host, Device::Virtual].map(|d| drafting("target-llama", "eagle3", d));
    check(&host, &device, 2);
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn every_draft_draws_as_the_hosts() {
    for draft in ["medusa-a", "medusa-d", "eagle1", "eagle3", "target-qwen3"] {
        let [host, device] =
            [Device::Host, Device::Virtual].map(|d| drafting("target-llama", draft, d));
        check(&host, &device, 12);
    }
}
