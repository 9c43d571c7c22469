//! A language that a tiny model learns within a minute: every word has a likely successor, which depends on the class of
//! the word before it, and two rare ones.

use stheno_train::{Random, order};

pub const VOCAB: usize = 128;
/// Ends an answer; never follows a word.
pub const EOS: u32 = 0;
const WORDS: usize = VOCAB - 1;

/// A source of sentences without end.
pub struct Language {
    /// Successors by class of the word before, word and rank.
    table: Vec<[u32; 3]>,
    seed: u64,
}

impl Language {
    pub fn new(seed: u64) -> Self {
        let words = |stream: u64| {
            let order = order(seed.wrapping_add(stream), WORDS);
            order.into_iter().map(|word| 1 + word as u32)
        };
        // Permutations: greedy text then does not fall into a short circle.
        let table = (0..2).flat_map(|class| {
            let ranks = [0, 1, 2].map(|rank| words(3 * class + rank).collect::<Vec<u32>>());
            (0..WORDS).map(move |word| [ranks[0][word], ranks[1][word], ranks[2][word]])
        });
        Language {
            table: table.collect(),
            seed,
        }
    }

    /// Sentence `index`.
    pub fn sentence(&self, index: u64, len: usize) -> Vec<u32> {
        let mut random = Random::new(self.seed, index);
        let mut words: Vec<u32> = (0..2)
            .map(|_| 1 + (random.unit() * WORDS as f64) as u32)
            .collect();
        while words.len() < len {
            let (before, last) = (words[words.len() - 2], words[words.len() - 1]);
            let ranks = self.table[(before as usize % 2) * WORDS + last as usize - 1];
            let draw = random.unit();
            words.push(ranks[usize::from(draw >= 0.92) + usize::from(draw >= 0.97)]);
        }
        words.truncate(len);
        words
    }
}
