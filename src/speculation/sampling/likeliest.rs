use super::logprobs::{TokenLogprob, best, finite};
use super::math;
use stheno_codegen::layout::TILE_ROWS;

/// Logits beyond are taken for this: it is what can be split into n and rest.
const LARGEST_WEIGHED: f32 = 1e6;
/// Weights are whole in steps of 2^-26 of a power of two, below 2^27.
const STEPS: f32 = 67_108_864.0;
/// Sums of tiles are moved up by so many bits before they are added up.
const ROOM: u32 = 16;

/// The `n` most likely tokens after a row of a draft's logits, at most, with the logarithms of their probabilities, most likely
/// first, equal ones by id. NaN logits count as -inf, and tokens of such are left out.
///
/// Within rounding these are the probabilities of [`super::Logprobs`]; the sum of exponentials is another one, which can be made
/// of parts before it is known which logit is the largest of all. A weight e^logit is a whole number of steps of 2^(n - 26). The
/// sum of a tile of 16 is in steps of its largest weight's, and what is below is cut; so is that of the row, out of its tiles.
pub fn likeliest(logits: &[f32], n: usize) -> Vec<TokenLogprob> {
    let tokens = best(logits, n);
    let Some(&first) = tokens.first() else {
        return Vec::new();
    };
    let (largest, _) = math::reduced(weighed(finite(logits[first as usize])));
    let mut total = 0u64;
    math::wide(
        #[inline(always)]
        || {
            for tile in logits.chunks(TILE_ROWS) {
                let (exponent, sum) = sum_of_tile(tile);
                let shift = largest.wrapping_sub(exponent).clamp(0, 63);
                total += (u64::from(sum) << ROOM) >> shift;
            }
        },
    );
    let log_sum = math::log(total as f32 * (1.0 / STEPS / (1u32 << ROOM) as f32));
    let of = |token: u32| {
        let logit = finite(logits[token as usize]);
        let above = math::without(weighed(logit), largest as f32);
        (logit > f32::NEG_INFINITY).then_some(TokenLogprob {
            token,
            logprob: above - log_sum,
        })
    };
    tokens.into_iter().filter_map(of).collect()
}

/// Of a finite logit, or of -inf. Both zeros are the same.
#[inline(always)]
fn weighed(logit: f32) -> f32 {
    (logit + 0.0).clamp(-LARGEST_WEIGHED, LARGEST_WEIGHED)
}

/// The exponent of the largest weight of a tile, and the sum of all in its steps.
#[inline(always)]
fn sum_of_tile(tile: &[f32]) -> (i32, u32) {
    const NOTHING: i32 = -(1 << 24);
    let mut exponents = [NOTHING; TILE_ROWS];
    let mut weights = [0u32; TILE_ROWS];
    for ((exponent, weight), &logit) in exponents.iter_mut().zip(&mut weights).zip(tile) {
        let logit = finite(logit);
        let (n, rest) = math::reduced(weighed(logit));
        let is_some = logit > f32::NEG_INFINITY;
        // Below 2^27: of signed numbers every vector unit has the conversion.
        let steps = (math::exp_of_rest(rest) * STEPS) as i32 as u32;
        (*exponent, *weight) = (
            if is_some { n } else { NOTHING },
            if is_some { steps } else { 0 },
        );
    }
    let largest = exponents.into_iter().fold(NOTHING, i32::max);
    let below = exponents.iter().zip(&weights);
    let below = below.map(|(exponent, weight)| weight >> (largest - exponent).min(31));
    (largest, below.sum())
}

#[cfg(test)]
mod tests {
    use super::super::Logprobs;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn are_those_of_the_exact_sum(
            logits in prop::collection::vec(-60.0f32..60.0, 1..300),
            n in 0usize..40,
        ) {
            let exact = Logprobs::new(&logits, 0, n).top;
            let found = likeliest(&logits, n);
            prop_assert_eq!(found.len(), exact.len());
            for (found, exact) in found.iter().zip(&exact) {
                prop_assert_eq!(found.token, exact.token);
                let scale = logits.iter().fold(1.0f32, |most, l| most.max(l.abs()));
                prop_assert!((found.logprob - exact.logprob).abs() <= 1e-6 * scale);
            }
        }

        /// Whichever tiles there are, and in whichever order.
        #[test]
        fn tiles_in_any_order_give_the_same_sum(
            logits in prop::collection::vec(-30.0f32..30.0, 16 * 8),
        ) {
            let reversed: Vec<f32> = logits.chunks(TILE_ROWS).rev().flatten().copied().collect();
            let of = |logits: &[f32]| likeliest(logits, 1)[0].logprob.to_bits();
            prop_assert_eq!(of(&logits), of(&reversed));
        }
    }

    #[test]
    fn strange_logits() {
        let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, 1.0];
        let tokens = |logits: &[f32]| -> Vec<u32> {
            let found = likeliest(logits, 4);
            found.into_iter().map(|found| found.token).collect()
        };
        assert_eq!(tokens(&logits), [1, 3]);
        assert!((likeliest(&logits, 1)[0].logprob + 2f32.ln()).abs() < 1e-6);
        assert!(likeliest(&[], 5).is_empty());
        assert!(likeliest(&[f32::NEG_INFINITY; 40], 5).is_empty());
        // Beyond what is weighed apart all weigh the same.
        let most = likeliest(&[f32::INFINITY, f32::MAX, 0.0], 3);
        assert_eq!(most[0].logprob, most[1].logprob);
        assert!((most[0].logprob + 2f32.ln()).abs() < 0.1);
        // Where others are too small to add anything.
        for certain in [-1e5f32, -700.0, 0.0, 700.0, 1e5] {
            let alone = likeliest(&[certain - 100.0, certain], 1);
            assert_eq!(alone[0].token, 1);
            assert!(alone[0].logprob.abs() < 1e-6, "{certain}: {alone:?}");
        }
        assert_eq!(
            likeliest(&[-0.0; 3], 1)[0].logprob.to_bits(),
            likeliest(&[0.0; 3], 1)[0].logprob.to_bits()
        );
    }
}
