//! Philox4x32-10 (Salmon et al., 2011): randomness as a pure function of a counter and a key.
//!
//! The key is the seed (low word first), the counter is [position, token / 4, stream, node], and word token % 4
//! of the result belongs to the token; the node is that of a tree for drafts, and 0 otherwise. So a draw depends on
//! (seed, position, token, stream, node) alone: not on who draws, in which order, or how often.

use super::math;

/// Stream of the draws that choose tokens. Other uses of a seed take other streams.
pub const CHOICE: u32 = 0;
/// Stream of the draws that choose the tokens of a sampled draft.
pub const DRAFT: u32 = 1;
/// Stream of the draws that accept or reject the tokens of a sampled draft.
pub const ACCEPTANCE: u32 = 2;

/// Ten rounds of Philox4x32.
#[inline(always)]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [
                key[0].wrapping_add(0x9e37_79b9),
                key[1].wrapping_add(0xbb67_ae85),
            ];
        }
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// The four words of tokens `4 * group ..  4 * group + 4`.
#[inline(always)]
fn words(seed: u64, position: u32, group: u32, stream: u32, node: u32) -> [u32; 4] {
    philox4x32_10(
        [position, group, stream, node],
        [seed as u32, (seed >> 32) as u32],
    )
}

/// A word as a number in (0, 1): of the upper 31 bits k, fma(float(k), 2^-31, 2^-32), each step rounded to
/// nearest, and at most 1 - 2^-24. Near 0, where Gumbel noise has its long tail, steps are 2^-31.
#[inline(always)]
fn unit(word: u32) -> f32 {
    const STEP: f32 = 1.0 / 2_147_483_648.0;
    let k = (word >> 1) as i32 as f32;
    let v = k.mul_add(STEP, 0.5 * STEP);
    if v < 1.0 { v } else { 1.0 - f32::EPSILON / 2.0 }
}

/// Uniform in (0, 1).
pub fn uniform(seed: u64, position: u32, token: u32) -> f32 {
    unit(words(seed, position, token / 4, CHOICE, 0)[token as usize % 4])
}

/// Uniform in (0, 1), of stream [`ACCEPTANCE`]: decides on draft token number `index` at `position`.
pub fn acceptance_uniform(seed: u64, position: u32, index: u32) -> f32 {
    unit(words(seed, position, index / 4, ACCEPTANCE, 0)[index as usize % 4])
}

/// Standard Gumbel noise, -log(-log(u)), of u = 1 - [`uniform`]: large noise comes from small numbers, of
/// which f32 has many. Between -2.8 and 22.2.
pub fn gumbel(seed: u64, position: u32, token: u32) -> f32 {
    noise(words(seed, position, token / 4, CHOICE, 0)[token as usize % 4])
}

#[inline(always)]
fn noise(word: u32) -> f32 {
    -math::log(math::neg_log_one_minus(unit(word)))
}

/// Adds [`gumbel`] of (seed, position, i) to `scores[i]`, for tokens 0, 1, 2...
pub fn add_gumbel(seed: u64, position: u32, scores: &mut [f32]) {
    add_noise(scores, |group| words(seed, position, group, CHOICE, 0));
}

/// Adds Gumbel noise of stream [`DRAFT`] for children of `node` that stand at `position` to the scores of tokens
/// 0, 1, 2...
pub fn add_draft_gumbel(seed: u64, position: u32, node: u32, scores: &mut [f32]) {
    add_noise(scores, |group| words(seed, position, group, DRAFT, node));
}

/// Adds noise of the words of group i to scores 4 i to 4 i + 3.
#[inline(always)]
fn add_noise(scores: &mut [f32], words: impl Fn(u32) -> [u32; 4]) {
    math::wide(
        #[inline(always)]
        || {
            // A block at a time, so that drawing and taking logarithms are two loops of vectors.
            let mut draws = [0u32; 64];
            for (block, scores) in scores.chunks_mut(64).enumerate() {
                for (i, four) in draws.chunks_exact_mut(4).enumerate() {
                    four.copy_from_slice(&words((block * 16 + i) as u32));
                }
                for (score, &word) in scores.iter_mut().zip(&draws) {
                    *score += noise(word);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with Random123 (`kat_vectors`).
    #[test]
    fn known_answers() {
        let zero = philox4x32_10([0; 4], [0; 2]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox4x32_10([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox4x32_10(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn open_interval() {
        assert_eq!(unit(0), 2.0f32.powi(-32));
        assert!(unit(u32::MAX) < 1.0);
        assert!(noise(0).is_finite() && noise(0) < 22.2);
        assert!(noise(u32::MAX).is_finite() && noise(u32::MAX) > -2.9);
    }

    #[test]
    fn a_row_equals_its_tokens() {
        let mut row = vec![0.0; 1001];
        add_gumbel(7, 11, &mut row);
        for (token, &noise) in row.iter().enumerate() {
            assert_eq!(
                noise.to_bits(),
                (0.0 + gumbel(7, 11, token as u32)).to_bits()
            );
        }
    }

    #[test]
    fn streams_differ() {
        let drawn = |node: u32| {
            let mut row = vec![0.0f32; 100];
            add_draft_gumbel(7, 11, node, &mut row);
            row.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let mut choice = vec![0.0f32; 100];
        add_gumbel(7, 11, &mut choice);
        let choice: Vec<u32> = choice.into_iter().map(f32::to_bits).collect();
        assert_eq!(drawn(1), drawn(1));
        let differing = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert!(differing(&drawn(0), &choice) > 90);
        assert!(differing(&drawn(0), &drawn(1)) > 90);
        assert_ne!(acceptance_uniform(7, 11, 0), uniform(7, 11, 0));
        assert_ne!(acceptance_uniform(7, 11, 0), acceptance_uniform(7, 11, 1));
    }

    #[test]
    fn moments_of_gumbel() {
        let mut row = vec![0.0; 200_000];
        add_gumbel(3, 0, &mut row);
        let count = row.len() as f64;
        let mean = row.iter().map(|&g| f64::from(g)).sum::<f64>() / count;
        let variance = row
            .iter()
            .map(|&g| (f64::from(g) - mean).powi(2))
            .sum::<f64>()
            / count;
        assert!((mean - 0.577_216).abs() < 0.01, "{mean}");
        assert!((variance - 1.644_934).abs() < 0.03, "{variance}");
    }
}
