//! The sums that kernels must come to.

use crate::arguments::RingArguments;

/// Threads that cross an edge, `EDGE_THREADS` of `edge.cuh`.
pub const EDGE_THREADS: u32 = 256;
/// `FLAGGED_WORDS` of `edge.cuh`.
pub const FLAGGED_WORDS: u32 = 16;

/// Sum of words `first .. first + count` of a tape, which the kernel `fill` wrote.
pub fn word_sum(first: u64, count: u64) -> u32 {
    let (first, count) = (u128::from(first), u128::from(count));
    let indices = count * first + count * count.saturating_sub(1) / 2;
    (indices as u32)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add((count as u32).wrapping_mul(0x7f4a_7c15))
}

/// What block `block` sums when it streams `count` stages. The tape's first word has index 0.
pub fn ring_sum(ring: &RingArguments, block: u32, count: u64) -> u32 {
    let stage = |position: u64| {
        let bytes = u64::from(block) * ring.block_stride + position * ring.stage_stride;
        word_sum(bytes / 4, u64::from(ring.stage_bytes) / 4)
    };
    let wrap = u64::from(ring.wrap);
    let sum = |stages: u64| (0..stages).map(stage).fold(0u32, u32::wrapping_add);
    let rounds = count / wrap;
    let whole = if rounds > 0 { sum(wrap) } else { 0 };
    whole
        .wrapping_mul(rounds as u32)
        .wrapping_add(sum(count % wrap))
}

/// `edge_word` of `edge.cuh`.
fn edge_word(epoch: u32, block: u32, word: u32) -> u32 {
    epoch
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(block.wrapping_mul(0x85eb_ca77))
        .wrapping_add(word.wrapping_mul(0xc2b2_ae3d))
}

/// What each block sums over `edges` edges of counters with payload.
pub fn counter_sum(blocks: u32, edges: u32) -> u32 {
    (1..=edges)
        .flat_map(|epoch| {
            (0..EDGE_THREADS).map(move |thread| edge_word(epoch, thread % blocks, thread))
        })
        .fold(0, u32::wrapping_add)
}

/// What each block sums over `edges` edges of flagged words.
pub fn flagged_sum(blocks: u32, edges: u32) -> u32 {
    (1..=edges)
        .flat_map(|epoch| (0..blocks).map(move |block| (epoch, block)))
        .flat_map(|(epoch, block)| {
            (0..FLAGGED_WORDS).map(move |word| edge_word(epoch, block, word))
        })
        .fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_words_is_the_sum_of_its_words() {
        let word = |i: u32| i.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        for (first, count) in [(0, 0), (0, 1), (5, 1000), (u64::from(u32::MAX) - 10, 30)] {
            let expected = (0..count)
                .map(|i| word((first + i) as u32))
                .fold(0, u32::wrapping_add);
            assert_eq!(word_sum(first, count), expected);
        }
    }

    #[test]
    fn a_wrapped_ring_sums_its_stages_again() {
        let ring = RingArguments {
            block_stride: 4 * 4096,
            stage_stride: 4096,
            stage_bytes: 4096,
            wrap: 4,
            ..RingArguments::default()
        };
        let once = word_sum(2 * 4096, 4096);
        assert_eq!(ring_sum(&ring, 2, 4), once);
        let rest = word_sum(2 * 4096, 1024);
        assert_eq!(
            ring_sum(&ring, 2, 9),
            once.wrapping_mul(2).wrapping_add(rest)
        );
    }
}
