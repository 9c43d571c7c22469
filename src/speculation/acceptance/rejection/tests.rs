use super::*;
use proptest::prelude::*;

const TRIALS: u32 = 400_000;

fn normalised(weights: &[f32]) -> Vec<f32> {
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// Mean of chi-square is the degrees of freedom f, its deviation sqrt(2 f); five of them is p < 1e-5.
fn assert_fits(seen: &[u32], expected: &[f64], trials: u32) {
    let (mut chi_square, mut freedom) = (0.0, -1.0);
    for (&seen, &expected) in seen.iter().zip(expected) {
        let expected = expected * f64::from(trials);
        if expected == 0.0 {
            assert_eq!(seen, 0, "an impossible outcome was drawn");
            continue;
        }
        chi_square += (f64::from(seen) - expected).powi(2) / expected;
        freedom += 1.0;
    }
    let limit = freedom + 5.0 * f64::sqrt(2.0 * freedom);
    assert!(chi_square <= limit, "{chi_square} of {freedom}");
}

/// (p, q) with zeros where the other has none.
fn cases() -> Vec<(Vec<f32>, Vec<f32>)> {
    [
        (vec![4.0, 3.0, 2.0, 1.0], vec![1.0, 2.0, 3.0, 4.0]),
        (vec![0.0, 5.0, 1.0, 0.0, 3.0], vec![4.0, 0.0, 2.0, 1.0, 1.0]),
        (vec![1.0, 1.0, 1.0, 1.0, 1.0], vec![1.0, 1.0, 1.0, 1.0, 1.0]),
        (vec![1.0, 0.0, 0.0, 0.0], vec![1.0, 8.0, 1.0, 2.0]),
        (vec![1.0, 1.0, 2.0, 4.0], vec![0.0, 0.0, 0.0, 1.0]),
        (vec![1.0, 1.0, 0.0, 0.0], vec![0.0, 0.0, 3.0, 2.0]),
    ]
    .into_iter()
    .map(|(p, q)| (normalised(&p), normalised(&q)))
    .collect()
}

/// Adds to `out` the distribution of the emitted token: over every ordered draw of up to `count` children, by the
/// probability of the draw, and over every decision, by the probability of acceptance.
fn enumerate(p: &[f32], q: &[f32], children: &[u32], count: usize, weight: f64, out: &mut [f64]) {
    let taken: f64 = children
        .iter()
        .map(|&child| f64::from(q[child as usize]))
        .sum();
    let left = sum(q) - taken;
    let open: Vec<u32> = (0..q.len() as u32)
        .filter(|token| q[*token as usize] > 0.0 && !children.contains(token))
        .collect();
    if children.len() < count && !open.is_empty() {
        for token in open {
            let mut more = children.to_vec();
            more.push(token);
            let drawn = f64::from(q[token as usize]) / left;
            enumerate(p, q, &more, count, weight * drawn, out);
        }
        return;
    }
    let (mut p, mut left, mut weight) = (p.to_vec(), sum(q), weight);
    for &child in children {
        let probability = f64::from(q[child as usize]);
        let accepted = (f64::from(p[child as usize]) / (probability / left)).min(1.0);
        out[child as usize] += weight * accepted;
        weight *= 1.0 - accepted;
        if accepted < 1.0 {
            assert!(reject(&mut p, q, child, left));
        }
        left -= probability;
    }
    for (out, &p) in out.iter_mut().zip(&p) {
        *out += weight * f64::from(p);
    }
}

#[test]
fn exact_by_enumeration() {
    for (p, q) in cases() {
        for count in 0..=3 {
            let mut out = vec![0.0; p.len()];
            enumerate(&p, &q, &[], count, 1.0, &mut out);
            for (&got, &expected) in out.iter().zip(&p) {
                assert!(
                    (got - f64::from(expected)).abs() < 1e-6,
                    "{p:?} {q:?} {count}: {out:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn exact_for_any_distributions(
        weights in prop::collection::vec((0u32..6, 0u32..6), 2..5),
        count in 1usize..4,
    ) {
        let p: Vec<f32> = weights.iter().map(|&(p, _)| p as f32).collect();
        let q: Vec<f32> = weights.iter().map(|&(_, q)| q as f32).collect();
        prop_assume!(p.iter().sum::<f32>() > 0.0 && q.iter().sum::<f32>() > 0.0);
        let p = normalised(&p);
        let mut out = vec![0.0; p.len()];
        // q up to a factor.
        enumerate(&p, &q, &[], count, 1.0, &mut out);
        for (&got, &expected) in out.iter().zip(&p) {
            prop_assert!((got - f64::from(expected)).abs() < 1e-6, "{out:?} for {p:?}");
        }
    }

    /// Whatever the inputs, the token that is emitted is one that the target can emit.
    #[test]
    fn emits_what_the_target_can(
        weights in prop::collection::vec((0u32..4, 0u32..4), 2..9),
        count in 0usize..9,
        seed in any::<u64>(),
        position in any::<u32>(),
    ) {
        let p: Vec<f32> = weights.iter().map(|&(p, _)| p as f32).collect();
        let q: Vec<f32> = weights.iter().map(|&(_, q)| q as f32 * 1e-20).collect();
        prop_assume!(p.iter().sum::<f32>() > 0.0);
        let p = normalised(&p);
        let children: Vec<u32> = draw_children(&q, count, seed, position, 0).into_iter().map(|c| c.0).collect();
        prop_assert_eq!(children.len(), count.min(q.iter().filter(|&&q| q > 0.0).count()));
        let mut left = p.clone();
        let token = match verify(&mut left, &q, &children, seed, position).unwrap() {
            Verdict::Child(index) => children[index],
            Verdict::Residual(token) => token,
        };
        prop_assert!(p[token as usize] > 0.0);
        prop_assert!((left.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn exact_by_trials() {
    for (case, (p, q)) in cases().into_iter().enumerate() {
        for count in 1..=3 {
            let mut seen = vec![0u32; p.len()];
            for position in 0..TRIALS / 8 {
                let seed = (case * 10 + count) as u64;
                let drawn = draw_children(&q, count, seed, position, 0);
                let children: Vec<u32> = drawn.iter().map(|&(token, _)| token).collect();
                let token = match verify(&mut p.clone(), &q, &children, seed, position).unwrap() {
                    Verdict::Child(index) => children[index],
                    Verdict::Residual(token) => token,
                };
                seen[token as usize] += 1;
            }
            let expected: Vec<f64> = p.iter().map(|&p| f64::from(p)).collect();
            assert_fits(&seen, &expected, TRIALS / 8);
        }
    }
}

/// Two tokens of a chain, where the second distribution depends on the first token: they come as from the target
/// alone, though the second is drafted before the first is decided.
#[test]
fn chains_are_exact() {
    let p = [
        normalised(&[3.0, 2.0, 1.0]),
        normalised(&[1.0, 1.0, 4.0]),
        normalised(&[0.0, 1.0, 2.0]),
        normalised(&[5.0, 1.0, 1.0]),
    ];
    let q = [
        normalised(&[1.0, 2.0, 3.0]),
        normalised(&[2.0, 1.0, 1.0]),
        normalised(&[1.0, 0.0, 1.0]),
        normalised(&[1.0, 1.0, 1.0]),
    ];
    let draw =
        |context: usize, position, node| draw_children(&q[context], 1, 5, position, node)[0].0;
    let decide = |context: usize, child: u32, position| {
        let mut p = p[context].clone();
        match verify(&mut p, &q[context], &[child], 5, position).unwrap() {
            Verdict::Child(_) => (child, true),
            Verdict::Residual(token) => (token, false),
        }
    };
    let mut seen = [0u32; 9];
    for trial in 0..TRIALS {
        let position = trial * 2;
        let first = draw(0, position, 0);
        let second = draw(1 + first as usize, position + 1, 1);
        let (a, accepted) = decide(0, first, position);
        let context = 1 + a as usize;
        // A rejection starts a new round, whose root is `a`.
        let child = if accepted {
            second
        } else {
            draw(context, position + 1, 0)
        };
        let (b, _) = decide(context, child, position + 1);
        seen[(a * 3 + b) as usize] += 1;
    }
    let joint = |cell: usize| f64::from(p[0][cell / 3]) * f64::from(p[1 + cell / 3][cell % 3]);
    assert_fits(&seen, &(0..9).map(joint).collect::<Vec<f64>>(), TRIALS);
}

#[test]
fn draws_without_replacement() {
    let q = normalised(&[4.0, 0.0, 3.0, 2.0, 1.0]);
    let mut seen = [0u32; 25];
    for position in 0..TRIALS {
        let drawn = draw_children(&q, 2, 9, position, 3);
        let [(a, first), (b, second)] = drawn[..] else {
            panic!("two children")
        };
        assert_eq!(first, q[a as usize]);
        assert!((second - q[b as usize] / (1.0 - q[a as usize])).abs() < 1e-6);
        seen[(a * 5 + b) as usize] += 1;
    }
    let q = |token: usize| f64::from(q[token]);
    let pair = |cell: usize| {
        let (a, b) = (cell / 5, cell % 5);
        if a == b {
            0.0
        } else {
            q(a) * q(b) / (1.0 - q(a))
        }
    };
    assert_fits(&seen, &(0..25).map(pair).collect::<Vec<f64>>(), TRIALS);
}

#[test]
fn without_children_the_choice_is_plain() {
    let p = normalised(&[1.0, 2.0, 3.0, 4.0]);
    let logits: Vec<f32> = p.iter().map(|p| p.ln()).collect();
    let params = crate::speculation::sampling::SamplingParams {
        seed: 3,
        ..Default::default()
    };
    let mut sampler = crate::speculation::sampling::Sampler::new(params, 4).unwrap();
    for position in 0..1000 {
        let choice = sampler
            .choose(&logits, position, &Default::default(), None)
            .unwrap();
        let verdict = verify(&mut p.clone(), &[], &[], 3, position).unwrap();
        assert_eq!(verdict, Verdict::Residual(choice.token));
    }
}

#[test]
fn a_draft_like_the_target_is_always_accepted() {
    let p = normalised(&[0.3, 1.7, 2.9, 0.001, 7.7]);
    for position in 0..20_000 {
        let child = draw_children(&p, 1, 1, position, 0)[0].0;
        let verdict = verify(&mut p.clone(), &p, &[child], 1, position).unwrap();
        assert_eq!(verdict, Verdict::Child(0));
    }
}

#[test]
fn refusals() {
    let error = |p: &[f32], q: &[f32], children: &[u32]| {
        verify(&mut p.to_vec(), q, children, 0, 0)
            .unwrap_err()
            .to_string()
    };
    assert!(error(&[1.0, 0.0], &[1.0], &[0]).contains("2 probabilities of a target met 1"));
    assert!(error(&[0.0, 0.0], &[1.0, 0.0], &[0]).contains("positive probability"));
    assert!(error(&[1.0, 0.0], &[1.0, 0.0], &[1]).contains("token 1, is none"));
    assert!(error(&[1.0, 0.0], &[1.0, 0.0], &[2]).contains("token 2, is none"));
    assert!(error(&[1.0, 0.0], &[0.5, 0.5], &[1, 1]).contains("child 1 repeats token 1"));
    assert!(error(&[1.0, f32::NAN], &[1.0, 0.0], &[0]).contains("no numbers"));
    assert!(error(&[1.0, 0.0], &[1.0, -0.5], &[0]).contains("negative"));
}
