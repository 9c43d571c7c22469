//! Heads and layers that draft inside the loop: tokens and what the session holds are those of plain decoding, and every round's
//! tree and path are the host's. They are fed the target's hidden states, which never leave the device.

use crate::tree_rounds::{Compared, compare, rounds, shape};
use crate::{assert_holds_its_tokens, engine_at, fixture, generate, ids, session, tokens};
use std::sync::OnceLock;
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, Round, Session};
use stheno::speculation::sampling::{SamplingParams, TokenMask};
use stheno::speculation::{Choices, Policy, SpeculationOptions, TreeShape};

/// Medusa heads of a model that was trained with them.
pub fn medusa(device: Device) -> &'static Engine {
    static ENGINES: [OnceLock<Engine>; 2] = [const { OnceLock::new() }; 2];
    let engine = &ENGINES[usize::from(device == Device::Host)];
    engine.get_or_init(|| drafting("target-llama", "medusa-a", device))
}

pub fn drafting(target: &str, draft: &str, device: Device) -> Engine {
    let [target, draft] = [target, draft].map(|name| fixture(&format!("drafts/{name}")));
    engine_at(&target, device, |builder| {
        let builder = builder.context_length(300).max_rows(16);
        builder.draft(&draft).unwrap()
    })
}

fn options(params: SamplingParams, count: usize, policy: Policy) -> GenerateOptions {
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions {
        policy,
        ..SpeculationOptions::default()
    };
    options
}

/// Short, and longer than a chunk of a prompt.
fn prompts() -> [Vec<u32>; 2] {
    [vec![97, 11, 64, 115, 7], tokens(90, 3)]
}

fn check(target: &str, draft: &str, shapes: &[TreeShape]) {
    let [host, device] = [Device::Host, Device::Virtual].map(|d| drafting(target, draft, d));
    let sampled = SamplingParams {
        temperature: 0.8,
        seed: 3,
        ..SamplingParams::default()
    };
    let mut compared = Compared::default();
    for (prompt, params) in prompts()
        .into_iter()
        .zip([sampled, SamplingParams::greedy()])
    {
        let plain = options(params.clone(), 24, Policy::Off);
        let expected = ids(&generate(&mut session(&device), &prompt, &plain));
        let fixed = shapes.iter().map(|shape| Policy::Fixed(*shape));
        for policy in fixed.chain([Policy::Automatic]) {
            let place = format!("{draft}, {} tokens, {policy:?}", prompt.len());
            let options = options(params.clone(), 24, policy);
            let mut session = session(&device);
            assert_eq!(
                ids(&generate(&mut session, &prompt, &options)),
                expected,
                "{place}"
            );
            assert_holds_its_tokens(&session);
            if policy != Policy::Automatic {
                continue;
            }
            // It goes on from what it has, and from a part of it.
            let more = [&prompt[..], &expected[..20], &[5, 9]].concat();
            let less = [&prompt[..], &expected[..3], &[8]].concat();
            for text in [more, less] {
                let fresh = &mut crate::session(&device);
                let expected = ids(&generate(fresh, &text, &plain));
                assert_eq!(
                    ids(&generate(&mut session, &text, &options)),
                    expected,
                    "{place}"
                );
            }
        }
        for shape in shapes {
            let options = options(SamplingParams::greedy(), 40, Policy::Fixed(*shape));
            compared.add(&compare(&host, &device, &prompt, &options));
        }
    }
    assert!(
        compared.rounds > 20 && compared.accepted > 5,
        "{draft}: {compared:?}"
    );
}

#[test]
fn eagle3_drafts_trees() {
    check("target-llama", "eagle3", &[shape(1, 3, 4), shape(4, 4, 16)]);
}

#[test]
#[ignore = "a minute: run with --include-ignored"]
fn eagle1_drafts_trees() {
    check("target-llama", "eagle1", &[shape(5, 1, 6), shape(3, 3, 12)]);
}

// What heads share with layers is shown by `eagle3_drafts_trees`, their own lists by `medusa_fills_static_trees`.
#[test]
#[ignore = "half a minute: run with --include-ignored"]
fn medusa_drafts_trees() {
    check("target-llama", "medusa-a", &[shape(2, 4, 12)]);
}

/// Counts rounds that the host has too, and guesses accepted in them. Equal trees but for candidates of a head that rounding ranks
/// differently: with others near the same scores.
fn compare_static(
    host: &Engine,
    (our_tokens, ours): (&[u32], &[Round]),
    prompt: &[u32],
    options: &GenerateOptions,
) -> (usize, usize) {
    let (their_tokens, theirs) = rounds(host, prompt, options);
    let same = (their_tokens.iter().zip(our_tokens)).take_while(|(a, b)| a == b);
    let end = prompt.len() + same.count();
    let choices = options.speculation.choices.as_ref().unwrap();
    let (mut count, mut accepted) = (0, 0);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let place = format!(
            "{:?}, after {}",
            options.speculation.policy, ours.prefix_len
        );
        if ours.prefix_len != theirs.prefix_len
            || ours.prefix_len + ours.accepted_nodes.len() + 2 > end
        {
            break;
        }
        let nodes = ours.draft_tokens.len();
        assert_eq!(nodes, theirs.draft_tokens.len(), "{place}");
        if nodes == choices.nodes() {
            assert_eq!(ours.parent, choices.parents(), "{place}");
        }
        let [mut a, mut b] = [ours, theirs].map(|round| round.node_score.clone());
        a.sort_by(f32::total_cmp);
        b.sort_by(f32::total_cmp);
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 0.05 * (1.0 + a.abs()), "{place}: {a} {b}");
        }
        let is_same = |pair: &(&u32, &u32)| pair.0 == pair.1;
        let tokens = ours.draft_tokens.iter().zip(&theirs.draft_tokens);
        assert!(2 * tokens.filter(is_same).count() > nodes, "{place}");
        count += 1;
        accepted += ours.accepted_nodes.len();
    }
    (count, accepted)
}

/// Trees of fixed shape, cut to fewer levels and to fewer nodes, and as far as they pay.
#[test]
fn medusa_fills_static_trees() {
    let (host, device) = (medusa(Device::Host), medusa(Device::Virtual));
    let paths = [
        &[0][..],
        &[2],
        &[1],
        &[0, 0],
        &[2, 1],
        &[0, 3],
        &[0, 3, 1],
        &[0, 0, 0],
    ];
    let small = Choices::from_paths(paths.map(<[u32]>::to_vec).to_vec()).unwrap();
    let large = Choices::named("mc_sim_7b_63").unwrap();
    let sampled = SamplingParams {
        temperature: 0.8,
        seed: 4,
        ..SamplingParams::default()
    };
    let greedy = SamplingParams::greedy();
    let cases = [
        (&small, Policy::Fixed(shape(3, 4, 9)), &greedy),
        (&large, Policy::Fixed(shape(5, 10, 16)), &sampled),
        (&large, Policy::Automatic, &greedy),
    ];
    let (mut count, mut accepted) = (0, 0);
    let [prompt, _] = prompts();
    let expected = [&greedy, &sampled].map(|params| {
        let plain = options(params.clone(), 16, Policy::Off);
        ids(&generate(&mut session(device), &prompt, &plain))
    });
    for (choices, policy, params) in cases {
        let mut options = options(params.clone(), 16, policy);
        options.speculation.choices = Some(choices.clone());
        let (found, seen) = rounds(device, &prompt, &options);
        let expected = &expected[usize::from(!params.is_greedy())];
        assert_eq!(&found, expected, "{policy:?}");
        if policy != Policy::Automatic {
            let seen = compare_static(host, (&found, &seen), &prompt, &options);
            count += seen.0;
            accepted += seen.1;
        }
    }
    assert!(count > 10 && accepted > 4, "{count} {accepted}");
    let far = Choices::from_paths(vec![vec![0], vec![33]]).unwrap();
    let mut options = SpeculationOptions::fixed(shape(1, 40, 3));
    options.choices = Some(far);
    host.check_speculation(&options).unwrap();
    let refused = device.check_speculation(&options).unwrap_err().to_string();
    assert!(
        refused.contains("candidate 33") && refused.contains("--device host"),
        "{refused}"
    );
}

/// The loop that would have computed the prompt does not come, or nothing comes after the prompt.
#[test]
fn a_prompt_is_computed_without_the_loop_too() {
    let device = drafting("target-llama", "medusa-d", Device::Virtual);
    // Heads guess all levels at once: nothing is run for a node.
    let wide = SpeculationOptions::fixed(shape(4, 30, 16));
    device.check_speculation(&wide).unwrap();
    let [prompt, _] = prompts();
    let options = options(SamplingParams::greedy(), 6, Policy::Automatic);
    let masked = |session: &mut Session, options: &GenerateOptions| -> Vec<u32> {
        let stream = session.generate(Prompt::Tokens(prompt.clone()), options);
        // Ids below 64, and no others.
        let stream = stream.unwrap().with_mask(|_, mask| {
            *mask = TokenMask::from_tokens(mask.vocab_size(), 0..64)?;
            Ok(())
        });
        stream.map(|token| token.unwrap().id).collect()
    };
    let mut plain = options.clone();
    plain.speculation.policy = Policy::Off;
    let mut session = session(&device);
    let found = masked(&mut session, &options);
    assert_eq!(found, masked(&mut crate::session(&device), &plain));
    assert!(found.iter().all(|id| *id < 64));
    assert_holds_its_tokens(&session);

    let mut nothing = options.clone();
    nothing.max_tokens = Some(0);
    let mut session = crate::session(&device);
    assert!(generate(&mut session, &prompt, &nothing).is_empty());
    assert_eq!(session.tokens(), prompt);

    let mut stream = session
        .generate(Prompt::Tokens(tokens(70, 9)), &options)
        .unwrap();
    stream.next().unwrap().unwrap();
    let statistics = stream.statistics();
    assert!(statistics.prefill > statistics.decode);
    drop(stream);

    // What heads are fed is no part of a file: it is computed again.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session");
    session.save(&path).unwrap();
    let mut loaded = crate::session(&device);
    loaded.load(&path).unwrap();
    let text = [session.tokens(), &[3, 5]].concat();
    let expected = ids(&generate(&mut crate::session(&device), &text, &plain));
    assert_eq!(ids(&generate(&mut loaded, &text, &options)), expected);
    assert_holds_its_tokens(&loaded);
}
