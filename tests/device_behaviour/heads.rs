//! Heads and layers that draft inside the loop: tokens and what the session holds are those of plain decoding, and every round's
//! tree and path are the host's. They are fed the target's hidden states, which never leave the device.

use crate::tree_rounds::{Compared, compare, shape};
use crate::{assert_holds_its_tokens, engine_at, fixture, generate, ids, session, tokens};
use stheno::engine::{Device, Engine, GenerateOptions};
use stheno::speculation::sampling::SamplingParams;
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
