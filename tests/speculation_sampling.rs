//! Rules of acceptance through the whole engine: rejection sampling keeps the target's distribution, typical acceptance
//! does what its thresholds say.

use std::collections::HashMap;
use std::path::PathBuf;
use stheno::engine::{Engine, GenerateOptions, SessionOptions};
use stheno::model::ActivationDtype;
use stheno::speculation::acceptance::TypicalParams;
use stheno::speculation::sampling::{Sampler, SamplingParams, TokenCounts};
use stheno::speculation::{Acceptance, Policy, SpeculationOptions, TreeShape};

const VOCAB: u32 = 260;

fn fixture(name: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    dir.join(name).to_str().unwrap().to_owned()
}

fn spec(draft: &str) -> String {
    match draft.strip_prefix("ngram+") {
        Some(draft) => format!("ngram+{}", fixture(draft)),
        None => fixture(draft),
    }
}

fn engine(draft: &str) -> Engine {
    Engine::builder()
        .model(&fixture("drafts/target-llama"))
        .unwrap()
        .draft(&spec(draft))
        .unwrap()
        .activation_dtype(ActivationDtype::F32)
        .threads(1)
        .build()
        .unwrap()
}

/// The tokens that the bias leaves.
const ALLOWED: [u32; 4] = [64, 115, 194, 239];

fn params(seed: u64) -> SamplingParams {
    let forbidden = (0..VOCAB).filter(|token| !ALLOWED.contains(token));
    SamplingParams {
        // Hot, so that every outcome is met.
        temperature: 4.0,
        repetition_penalty: 1.3,
        logit_bias: forbidden.map(|token| (token, f32::NEG_INFINITY)).collect(),
        seed,
        ..SamplingParams::default()
    }
}

const PROMPT: [u32; 6] = [97, 11, 64, 115, 7, 200];

/// Probability of every sequence of three tokens, from the target alone.
fn target_distribution(engine: &Engine) -> HashMap<[u32; 3], f64> {
    let mut sampler = Sampler::new(params(0), VOCAB as usize).unwrap();
    let mut after = |tokens: &[u32]| -> Vec<f64> {
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let all = [&PROMPT[..], tokens].concat();
        let logits = session.append(&all).unwrap();
        let mut counts = TokenCounts::new(&PROMPT, -1);
        tokens.iter().for_each(|t| counts.push(*t));
        let mut p = Vec::new();
        sampler
            .probabilities(logits, &counts, None, &mut p)
            .unwrap();
        ALLOWED.iter().map(|t| f64::from(p[*t as usize])).collect()
    };
    let mut all = HashMap::new();
    let first = after(&[]);
    for (a, pa) in ALLOWED.iter().zip(&first) {
        let second = after(&[*a]);
        for (b, pb) in ALLOWED.iter().zip(&second) {
            let third = after(&[*a, *b]);
            for (c, pc) in ALLOWED.iter().zip(&third) {
                all.insert([*a, *b, *c], pa * pb * pc);
            }
        }
    }
    all
}

/// The chi-square statistic of samples, over cells expected at least 5 times, the others pooled; and its degrees of freedom.
fn chi_square(counts: &HashMap<[u32; 3], u32>, p: &HashMap<[u32; 3], f64>, n: f64) -> (f64, f64) {
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut rest, mut rest_expected) = (0.0, 0.0);
    for (tokens, p) in p {
        let found = f64::from(counts.get(tokens).copied().unwrap_or(0));
        if n * p < 5.0 {
            rest += found;
            rest_expected += n * p;
        } else {
            statistic += (found - n * p).powi(2) / (n * p);
            cells += 1.0;
        }
    }
    if rest_expected > 1.0 {
        statistic += (rest - rest_expected).powi(2) / rest_expected;
        cells += 1.0;
    }
    (statistic, cells - 1.0)
}

#[test]
fn rejection_sampling_follows_the_target() {
    const SAMPLES: u64 = 3000;
    for (draft, topk) in [
        ("models/llama", 1),
        ("models/llama", 2),
        ("drafts/eagle3", 2),
        ("drafts/medusa-a", 3),
        // Lookup has no distribution to draw from, and is not asked.
        ("ngram+drafts/eagle3", 1),
    ] {
        let engine = engine(draft);
        let p = target_distribution(&engine);
        let mut counts = HashMap::new();
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let (mut accepted, mut drafted) = (0, 0);
        for seed in 0..SAMPLES {
            let mut options = GenerateOptions::sampled(3, params(seed));
            options.ignore_eos = true;
            options.speculation = SpeculationOptions {
                policy: Policy::Fixed(TreeShape {
                    num_steps: 3,
                    topk,
                    num_draft_tokens: 1 + 3 * topk,
                }),
                acceptance: Acceptance::Rejection,
                ..SpeculationOptions::default()
            };
            let mut stream = session.generate(PROMPT.to_vec(), &options).unwrap();
            let tokens: Vec<u32> = stream.by_ref().map(|t| t.unwrap().id).collect();
            let speculation = stream.statistics().speculation.clone().unwrap();
            accepted += speculation.accepted;
            drafted += speculation.drafted;
            *counts.entry([tokens[0], tokens[1], tokens[2]]).or_insert(0) += 1;
        }
        assert!(
            accepted > 0 && accepted < drafted,
            "{draft}: {accepted} of {drafted}"
        );
        let (statistic, freedom) = chi_square(&counts, &p, SAMPLES as f64);
        // Mean plus four standard deviations: a right sampler fails once in about ten thousand runs, and this one is the
        // same every run.
        let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(
            statistic < limit,
            "{draft} {topk}: {statistic} over {freedom} degrees"
        );
    }
}

fn tokens(engine: &Engine, temperature: f32, acceptance: Option<Acceptance>) -> (Vec<u32>, f64) {
    let sampling = SamplingParams {
        temperature,
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(60, sampling);
    options.ignore_eos = true;
    options.speculation = match acceptance {
        None => SpeculationOptions::off(),
        Some(acceptance) => SpeculationOptions {
            policy: Policy::Fixed(TreeShape::chain(4)),
            acceptance,
            ..SpeculationOptions::default()
        },
    };
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let mut stream = session.generate(PROMPT.to_vec(), &options).unwrap();
    let tokens = stream.by_ref().map(|t| t.unwrap().id).collect();
    let speculation = stream.statistics().speculation.clone();
    (tokens, speculation.map_or(1.0, |s| s.accept_len()))
}

#[test]
fn typical_acceptance_does_what_its_thresholds_say() {
    let engine = engine("drafts/eagle3");
    let typical = |posterior_threshold, posterior_alpha| {
        Some(Acceptance::Typical(TypicalParams {
            posterior_threshold,
            posterior_alpha,
        }))
    };
    let (greedy, _) = tokens(&engine, 0.0, None);
    // Nothing is likelier than certain: every token is the target's best.
    let (strict, accept_len) = tokens(&engine, 1.0, typical(1.0, 1e30));
    assert_eq!(strict[1..], { greedy_after(&engine, strict[0]) }[..]);
    assert_eq!(accept_len, 1.0);
    // Everything possible is accepted.
    let (_, accept_len) = tokens(&engine, 1.0, typical(0.0, 0.0));
    assert!(accept_len > 4.5, "{accept_len}");
    // Without temperature only the best token has a probability.
    let (cold, accept_len) = tokens(&engine, 0.0, typical(0.09, 0.3));
    assert_eq!(cold, greedy);
    assert!(accept_len > 2.0, "{accept_len}");
}

/// The greedy continuation of the prompt and a first token.
fn greedy_after(engine: &Engine, first: u32) -> Vec<u32> {
    let mut options = GenerateOptions::greedy(59);
    options.ignore_eos = true;
    options.speculation = SpeculationOptions::off();
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let prompt = [&PROMPT[..], &[first]].concat();
    let stream = session.generate(prompt, &options).unwrap();
    stream.map(|t| t.unwrap().id).collect()
}
