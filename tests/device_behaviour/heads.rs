//! Heads and layers that draft inside the loop: tokens and what the session holds are those of plain decoding, and every round's
//! tree and path are the host's. They are fed the target's hidden states, which never leave the device.

use crate::tree_rounds::{Compared, compare, shape};
use crate::{assert_holds_its_tokens, engine_at, fixture, generate, ids, session, tokens};
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, Session};
use stheno::speculation::sampling::{SamplingParams, TokenMask};
use stheno::speculation::{Policy, SpeculationOptions, TreeShape};

fn drafting(target: &str, draft: &str, device: Device) -> Engine {
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
fn eagle1_drafts_trees() {
    check("target-llama", "eagle1", &[shape(5, 1, 6), shape(3, 3, 12)]);
}

#[test]
fn medusa_drafts_trees() {
    check("target-llama", "medusa-a", &[shape(2, 4, 12)]);
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
}
