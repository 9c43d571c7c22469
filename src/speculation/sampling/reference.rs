//! The sampler, written as its definition says: sorts, f64 nowhere, one token after another.

use super::{Choice, Sampler, SamplingParams, TokenCounts, TokenMask, math, philox};
use proptest::prelude::*;

/// Filters by sorting; returns the tokens kept, best first, with their scores.
fn kept(logits: &[f32], params: &SamplingParams, mask: Option<&TokenMask>) -> Vec<(u32, f32)> {
    let mut logits = logits.to_vec();
    for &(token, bias) in &params.logit_bias {
        logits[token as usize] += bias;
    }
    let mut order: Vec<(u32, f32)> = (0u32..)
        .zip(logits)
        .filter(|&(token, l)| l > f32::NEG_INFINITY && mask.is_none_or(|mask| mask.allows(token)))
        .map(|(token, l)| (token, l.min(f32::MAX)))
        .collect();
    order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    let Some(&(_, largest)) = order.first() else {
        return order;
    };
    for entry in &mut order {
        entry.1 = ((entry.1 - largest) / params.temperature).max(f32::MIN);
    }
    if params.top_k > 0 {
        order.truncate(params.top_k);
    }
    if params.top_p < 1.0 {
        let weight = |score: f32| (math::exp(score) * 2f32.powi(40)) as u128;
        let total: u128 = order.iter().map(|&(_, score)| weight(score)).sum();
        let p = (f64::from(params.top_p) * 2f64.powi(32)).ceil() as u128;
        let mut sum = 0;
        let end = order.iter().position(|&(_, score)| {
            sum += weight(score);
            sum << 32 >= p * total
        });
        order.truncate(end.unwrap() + 1);
    }
    order.retain(|&(_, score)| math::exp(score) >= params.min_p);
    order
}

fn choose(
    logits: &[f32],
    params: &SamplingParams,
    position: u32,
    mask: Option<&TokenMask>,
) -> Option<Choice> {
    let mut kept = kept(logits, params, mask);
    let count = kept.len();
    for entry in &mut kept {
        entry.1 += philox::gumbel(params.seed, position, entry.0);
    }
    kept.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    kept.first()
        .map(|&(token, _)| Choice { token, kept: count })
}

fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -20.0f32..20.0,
        4 => (-8i32..8).prop_map(|l| l as f32 / 2.0),
        1 => prop::num::f32::ANY,
        1 => prop::sample::select(vec![0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
    ]
}

prop_compose! {
    fn params()(
        temperature in prop_oneof![4 => 0.1f32..3.0, 1 => Just(1.0), 1 => Just(1e-30), 1 => Just(1e30)],
        top_k in prop_oneof![Just(0), Just(1), 1usize..300],
        top_p in prop_oneof![Just(1.0), 0.01f32..1.0, Just(f32::MIN_POSITIVE)],
        min_p in prop_oneof![Just(0.0), 0.0f32..0.3, Just(1.0)],
        logit_bias in prop::collection::vec((0u32..20, prop_oneof![-5.0f32..5.0, Just(f32::NEG_INFINITY)]), 0..4),
        seed in any::<u64>(),
    ) -> SamplingParams {
        SamplingParams { temperature, top_k, top_p, min_p, logit_bias, seed, ..Default::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn sampler_is_its_definition(
        logits in prop::collection::vec(logit(), 20..260),
        params in params(),
        position in any::<u32>(),
        allowed in prop::option::of(prop::collection::vec(any::<bool>(), 260)),
    ) {
        let mask = allowed.map(|allowed| {
            let tokens = (0..logits.len() as u32).filter(|&i| allowed[i as usize]);
            TokenMask::from_tokens(logits.len(), tokens).unwrap()
        });
        let mut sampler = Sampler::new(params.clone(), logits.len()).unwrap();
        let got = sampler.choose(&logits, position, &TokenCounts::default(), mask.as_ref());
        match choose(&logits, &params, position, mask.as_ref()) {
            None => prop_assert!(got.is_err()),
            Some(expected) => {
                let again = sampler.choose(&logits, position, &TokenCounts::default(), mask.as_ref()).unwrap();
                let got = got.unwrap();
                prop_assert_eq!(got, expected);
                prop_assert_eq!(got, again);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Of what the definition keeps, softmax in f64; exactly 0 elsewhere.
    #[test]
    fn probabilities_are_their_definition(
        logits in prop::collection::vec(prop_oneof![-20.0f32..20.0, (-8i32..8).prop_map(|l| l as f32 / 2.0)], 20..260),
        params in params(),
        allowed in prop::option::of(prop::collection::vec(any::<bool>(), 260)),
    ) {
        let mask = allowed.map(|allowed| {
            let tokens = (0..logits.len() as u32).filter(|&i| allowed[i as usize]);
            TokenMask::from_tokens(logits.len(), tokens).unwrap()
        });
        let mut sampler = Sampler::new(params.clone(), logits.len()).unwrap();
        let (counts, mut out) = (TokenCounts::default(), vec![7.0; 3]);
        let got = sampler.probabilities(&logits, &counts, mask.as_ref(), &mut out);
        let kept = kept(&logits, &params, mask.as_ref());
        prop_assert_eq!(got.is_err(), kept.is_empty());
        if !kept.is_empty() {
            let total: f64 = kept.iter().map(|&(_, score)| f64::from(score).exp()).sum();
            let mut expected = vec![0.0; logits.len()];
            for &(token, score) in &kept {
                expected[token as usize] = f64::from(score).exp() / total;
            }
            prop_assert_eq!(out.len(), logits.len());
            for (&got, &expected) in out.iter().zip(&expected) {
                prop_assert!((f64::from(got) - expected).abs() < 1e-6, "{got} for {expected}");
                prop_assert!(expected > 0.0 || got == 0.0);
            }
            // Scores below -80 may round to a probability of 0.
            if kept.iter().all(|&(_, score)| score > -80.0) {
                let choice = sampler.choose(&logits, 0, &counts, mask.as_ref()).unwrap();
                prop_assert_eq!(out.iter().filter(|&&p| p > 0.0).count(), choice.kept);
            }
        }
    }
}

#[test]
fn probabilities_of_penalties_and_greedy() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        logit_bias: vec![(3, f32::NEG_INFINITY)],
        ..Default::default()
    };
    let mut counts = TokenCounts::new(&[0], -1);
    counts.push(1);
    let logits = [2.0, 2.0, 1.0, 9.0];
    let mut out = Vec::new();
    let mut sampler = Sampler::new(params, 4).unwrap();
    sampler
        .probabilities(&logits, &counts, None, &mut out)
        .unwrap();
    let weights = [1.0f64, 0.5, 1.0].map(f64::exp);
    for (&got, weight) in out.iter().zip(weights) {
        assert!((f64::from(got) - weight / weights.iter().sum::<f64>()).abs() < 1e-6);
    }
    assert_eq!(out[3], 0.0);
    let mut greedy = Sampler::new(SamplingParams::greedy(), 4).unwrap();
    greedy
        .probabilities(&[1.0, 5.0, 5.0, f32::NAN], &counts, None, &mut out)
        .unwrap();
    assert_eq!(out, [0.0, 1.0, 0.0, 0.0]);
    assert!(
        greedy
            .probabilities(&logits[..3], &counts, None, &mut out)
            .is_err()
    );
}

fn sample(logits: &[f32], params: SamplingParams, positions: u32) -> Vec<u32> {
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    let counts = TokenCounts::default();
    (0..positions)
        .map(|p| sampler.choose(logits, p, &counts, None).unwrap().token)
        .collect()
}

#[test]
fn samples_fit_the_distribution() {
    const DRAWS: u32 = 200_000;
    let logits: Vec<f32> = (0..40)
        .map(|i| ((i * 37 % 40) as f32) * -0.15 + 3.0)
        .collect();
    let variants = [
        SamplingParams {
            seed: 1,
            ..Default::default()
        },
        SamplingParams {
            seed: 2,
            temperature: 0.7,
            top_k: 20,
            ..Default::default()
        },
        SamplingParams {
            seed: 3,
            top_p: 0.8,
            ..Default::default()
        },
        SamplingParams {
            seed: 4,
            temperature: 1.5,
            min_p: 0.1,
            ..Default::default()
        },
        SamplingParams {
            seed: u64::MAX,
            top_k: 30,
            top_p: 0.9,
            min_p: 0.05,
            ..Default::default()
        },
    ];
    for params in variants {
        let kept = kept(&logits, &params, None);
        let total: f64 = kept.iter().map(|&(_, score)| f64::from(score).exp()).sum();
        let mut seen = vec![0u32; logits.len()];
        for token in sample(&logits, params.clone(), DRAWS) {
            seen[token as usize] += 1;
        }
        let mut probabilities = Vec::new();
        Sampler::new(params.clone(), logits.len())
            .unwrap()
            .probabilities(&logits, &TokenCounts::default(), None, &mut probabilities)
            .unwrap();
        let mut chi_square = 0.0;
        for &(token, score) in &kept {
            let probability = f64::from(score).exp() / total;
            assert!((f64::from(probabilities[token as usize]) - probability).abs() < 1e-6);
            let expected = f64::from(DRAWS) * probability;
            chi_square += (f64::from(seen[token as usize]) - expected).powi(2) / expected;
            seen[token as usize] = 0;
        }
        assert!(
            seen.iter().all(|&count| count == 0),
            "a filtered token was drawn"
        );
        // Mean of chi-square is the degrees of freedom f, its deviation sqrt(2 f); five of them is p < 1e-5.
        let freedom = kept.len() as f64 - 1.0;
        assert!(
            chi_square < freedom + 5.0 * (2.0 * freedom).sqrt(),
            "{params:?}: {chi_square} of {freedom}"
        );
    }
}

#[test]
fn greedy_and_its_limits() {
    let logits = [1.0, f32::NAN, 3.0, 3.0, 2.999_999_8, f32::NEG_INFINITY];
    let cold = SamplingParams {
        temperature: f32::MIN_POSITIVE,
        ..Default::default()
    };
    let one = SamplingParams {
        top_k: 1,
        ..Default::default()
    };
    let best_only = SamplingParams {
        min_p: 1.0,
        top_k: 1,
        ..Default::default()
    };
    for params in [SamplingParams::greedy(), one, best_only] {
        assert_eq!(sample(&logits, params, 10), [2; 10]);
    }
    // A temperature near 0 never leaves the maximum, but chance still decides between its ties.
    let drawn = sample(&logits, cold, 100);
    assert!(drawn.contains(&2) && drawn.contains(&3) && drawn.iter().all(|t| [2, 3].contains(t)));
}

#[test]
fn seeds() {
    let logits: Vec<f32> = (0..1000).map(|i| (i % 17) as f32 * 0.1).collect();
    let with = |seed| {
        sample(
            &logits,
            SamplingParams {
                seed,
                ..Default::default()
            },
            50,
        )
    };
    assert_eq!(with(5), with(5));
    assert_ne!(with(5), with(6));
    assert_ne!(with(5), with(5 + (1 << 32)));
}

#[test]
fn nothing_left_is_an_error() {
    let mut sampler = Sampler::new(SamplingParams::default(), 3).unwrap();
    let counts = TokenCounts::default();
    assert!(sampler.choose(&[f32::NAN; 3], 0, &counts, None).is_err());
    assert!(
        sampler
            .choose(&[0.0; 3], 0, &counts, Some(&TokenMask::none(3)))
            .is_err()
    );
    assert!(
        sampler
            .choose(&[0.0; 3], 0, &counts, Some(&TokenMask::none(4)))
            .is_err()
    );
    assert!(sampler.choose(&[0.0; 2], 0, &counts, None).is_err());
}

/// Times, of a release build: `cargo test --release -p stheno --lib sampling_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn sampling_speed() {
    for vocab_size in [49_152usize, 151_936] {
        let mut logits = vec![0.0f32; vocab_size];
        philox::add_gumbel(1, 2, &mut logits);
        logits
            .iter_mut()
            .for_each(|logit| *logit = *logit * 2.0 - 3.0);
        let variants = [
            ("greedy", SamplingParams::greedy()),
            ("temperature", SamplingParams::default()),
            (
                "top-k 40",
                SamplingParams {
                    top_k: 40,
                    ..Default::default()
                },
            ),
            (
                "top-p 0.95",
                SamplingParams {
                    top_p: 0.95,
                    ..Default::default()
                },
            ),
            (
                "min-p 0.05",
                SamplingParams {
                    min_p: 0.05,
                    ..Default::default()
                },
            ),
            (
                "40, 0.95, 0.05",
                SamplingParams {
                    top_k: 40,
                    top_p: 0.95,
                    min_p: 0.05,
                    ..Default::default()
                },
            ),
        ];
        for (name, params) in variants {
            let mut sampler = Sampler::new(params, vocab_size).unwrap();
            let counts = TokenCounts::default();
            let mut times = Vec::new();
            let mut kept = 0;
            for position in 0..50 {
                let start = std::time::Instant::now();
                kept = sampler
                    .choose(&logits, position, &counts, None)
                    .unwrap()
                    .kept;
                times.push(start.elapsed());
            }
            times.sort();
            println!(
                "{vocab_size} {name}: {:?} (best {:?}), {kept} kept",
                times[25], times[0]
            );
        }
        let start = std::time::Instant::now();
        std::hint::black_box(super::Logprobs::new(&logits, 1, 5));
        println!("{vocab_size} logprobs 5: {:?}", start.elapsed());
    }
}
