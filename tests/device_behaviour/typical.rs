//! Typical acceptance inside the loop: every round takes the path, and the token after it, that the host's rule takes by the same
//! logits, which a call of the tree gives to the bit.

use crate::heads::{drafting, medusa};
use crate::tree_rounds::{rounds, shape};
use crate::{assert_holds_its_tokens, session};
use stheno::engine::{Device, Engine, GenerateOptions, Prompt};
use stheno::plan::SequenceIndex;
use stheno::speculation::acceptance::TypicalParams;
use stheno::speculation::sampling::{Logprobs, SamplingParams};
use stheno::speculation::{Acceptance, Policy, SpeculationOptions, Tree};

fn options(params: TypicalParams, temperature: f32, policy: Policy) -> GenerateOptions {
    let sampling = SamplingParams {
        temperature,
        seed: 5,
        // Typical acceptance does not know of it.
        repetition_penalty: 1.3,
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(16, sampling);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy,
        acceptance: Acceptance::Typical(params),
        ..SpeculationOptions::default()
    };
    options
}

/// Replays rounds on calls of their trees. Returns how many guesses were accepted that plain greedy decoding would not have chosen.
fn check(engine: &Engine, prompt: &[u32], options: &GenerateOptions, place: &str) -> usize {
    let Acceptance::Typical(params) = options.speculation.acceptance else {
        panic!("not typical");
    };
    let (found, seen) = rounds(engine, prompt, options);
    let text = [prompt, &found].concat();
    let (mut replay, mut unlikely) = (session(engine), 0);
    let vocab_size = engine.vocab_size();
    for (i, round) in seen.iter().enumerate() {
        let place = format!("{place}, round {i}");
        replay
            .append(&text[replay.tokens().len()..round.prefix_len])
            .unwrap();
        let tree = Tree::from_parts(&round.draft_tokens, &round.parent, &round.node_score).unwrap();
        let rows = tree.rows(SequenceIndex(0), round.prefix_len as u32);
        let forward = engine.forward(&rows, &[&replay]).unwrap();
        let logits = |node: usize| &forward.logits()[node * vocab_size..][..vocab_size];
        let expected = params
            .accept(&tree, options.sampling.temperature, logits)
            .unwrap();
        let path = &tree.path(expected.node)[1..];
        let is_last = i + 1 == seen.len();
        if is_last {
            // It may have been cut.
            assert!(path.starts_with(&round.accepted_nodes), "{place}");
        } else {
            assert_eq!(round.accepted_nodes, path, "{place}");
            assert_eq!(round.bonus, Some(expected.bonus), "{place}");
        }
        for &node in &round.accepted_nodes {
            let above = logits(tree.parent(node as usize).unwrap());
            let best = Logprobs::new(above, 0, 1).top[0].token;
            unlikely += usize::from(best != tree.token(node as usize));
        }
    }
    assert!(seen.len() > 3, "{place}");
    unlikely
}

const LOOSE: TypicalParams = TypicalParams {
    posterior_threshold: 0.004,
    posterior_alpha: 0.05,
};

/// The best token itself need not be typical.
const STRICT: TypicalParams = TypicalParams {
    posterior_threshold: 1.0,
    posterior_alpha: 2.0,
};

const FIXED: Policy = Policy::Fixed(shape(3, 8, 16));

fn check_all(engine: &Engine, cases: &[(TypicalParams, f32, Policy)], count: usize) -> usize {
    let mut unlikely = 0;
    for &(params, temperature, policy) in cases {
        let mut options = options(params, temperature, policy);
        options.max_tokens = Some(count);
        let place = format!("{params:?}, temperature {temperature}, {policy:?}");
        unlikely += check(engine, &[97, 11, 64, 115, 7], &options, &place);
    }
    unlikely
}

#[test]
fn rounds_are_the_rules() {
    let cases = [(LOOSE, 2.0, FIXED), (STRICT, 1.0, Policy::Automatic)];
    let unlikely = check_all(medusa(Device::Virtual), &cases, 16);
    assert!(unlikely > 2, "{unlikely}");
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn rounds_of_every_draft_are_the_rules() {
    for draft in ["medusa-d", "eagle1", "eagle3", "target-qwen3"] {
        let default = TypicalParams::default();
        let cases = [
            (LOOSE, 2.0, FIXED),
            (LOOSE, 2.0, Policy::Automatic),
            (STRICT, 1.0, FIXED),
            (default, 0.8, FIXED),
            (default, 0.0, Policy::Automatic),
        ];
        // A small model that learnt the same text may be right nine times in a round.
        let engine = drafting("target-llama", draft, Device::Virtual);
        let unlikely = check_all(&engine, &cases, 48);
        assert!(unlikely > 0, "{draft}");
    }
}

/// The tokens of the host, as long as rounding lets both judge the same; and log-probabilities of what was accepted.
#[test]
fn tokens_and_log_probabilities_are_the_hosts() {
    let policy = Policy::Fixed(shape(3, 4, 12));
    let mut options = options(TypicalParams::default(), 0.8, policy);
    options.logprobs = Some(3);
    let prompt = [97, 11, 64, 115, 7];
    let run = |engine: &Engine| {
        let mut session = session(engine);
        let stream = session.generate(Prompt::Tokens(prompt.to_vec()), &options);
        let tokens: Vec<_> = stream.unwrap().map(|token| token.unwrap()).collect();
        assert_holds_its_tokens(&session);
        tokens
    };
    let (theirs, ours) = (run(medusa(Device::Host)), run(medusa(Device::Virtual)));
    let same = theirs.iter().zip(&ours).take_while(|(a, b)| a.id == b.id);
    let mut accepted = 0;
    let mut count = 0;
    for (theirs, ours) in same {
        let near = |a: f32, b: f32| (a - b).abs() < 0.1 * (1.0 + a.abs());
        assert!(near(theirs.logprob.unwrap(), ours.logprob.unwrap()));
        let lists = theirs.top_logprobs.iter().zip(&ours.top_logprobs);
        assert!(lists.len() == 3 && { lists }.all(|(a, b)| near(a.logprob, b.logprob)));
        accepted += usize::from(ours.accepted);
        count += 1;
    }
    assert!(count > 10 && accepted > 5, "{count} {accepted}");
}
