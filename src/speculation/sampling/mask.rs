use crate::{Error, Result};

/// A set of allowed tokens, one bit each: what a grammar leaves, or what a user forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    /// Bit token % 64 of word token / 64; bits past the vocabulary are 0.
    words: Vec<u64>,
    vocab_size: usize,
}

impl TokenMask {
    /// Allows nothing.
    pub fn none(vocab_size: usize) -> Self {
        let words = vec![0; vocab_size.div_ceil(64)];
        TokenMask { words, vocab_size }
    }

    /// Allows every token.
    pub fn all(vocab_size: usize) -> Self {
        let mut mask = TokenMask {
            words: vec![u64::MAX; vocab_size.div_ceil(64)],
            vocab_size,
        };
        if let Some(last) = mask.words.last_mut() {
            *last >>= (64 - vocab_size % 64) % 64;
        }
        mask
    }

    /// Allows the tokens of a list.
    ///
    /// # Errors
    /// If a token is not in the vocabulary.
    pub fn from_tokens(vocab_size: usize, tokens: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut mask = TokenMask::none(vocab_size);
        for token in tokens {
            mask.set(token, true)?;
        }
        Ok(mask)
    }

    /// Number of tokens that there are.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Allows or forbids a token.
    ///
    /// # Errors
    /// If the token is not in the vocabulary.
    pub fn set(&mut self, token: u32, allowed: bool) -> Result<()> {
        let index = token as usize;
        if index >= self.vocab_size {
            return Err(Error::Invalid(format!(
                "token {token} is not in the vocabulary of {} tokens",
                self.vocab_size
            )));
        }
        let bit = 1 << (index % 64);
        if allowed {
            self.words[index / 64] |= bit;
        } else {
            self.words[index / 64] &= !bit;
        }
        Ok(())
    }

    /// Whether a token is allowed; no token past the vocabulary is.
    pub fn allows(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 64).copied().unwrap_or(0);
        word >> (token % 64) & 1 == 1
    }

    /// Number of allowed tokens.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Allows only what `other` allows too.
    ///
    /// # Errors
    /// If the vocabularies differ in size.
    pub fn intersect(&mut self, other: &TokenMask) -> Result<()> {
        self.check(other.vocab_size)?;
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        Ok(())
    }

    /// The bits, token % 64 of word token / 64: what a device takes.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Makes forbidden tokens -inf.
    ///
    /// # Errors
    /// If there is not one logit for each token.
    pub fn apply(&self, logits: &mut [f32]) -> Result<()> {
        self.check(logits.len())?;
        for (logits, &word) in logits.chunks_mut(64).zip(&self.words) {
            if word == u64::MAX {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                *logit = if word >> bit & 1 == 1 {
                    *logit
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
        Ok(())
    }

    fn check(&self, vocab_size: usize) -> Result<()> {
        if self.vocab_size == vocab_size {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "a token mask for {} tokens met a vocabulary of {vocab_size}",
            self.vocab_size
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_words() {
        for vocab_size in [0, 1, 63, 64, 65, 128, 130] {
            let mask = TokenMask::all(vocab_size);
            assert_eq!(mask.count(), vocab_size);
            assert!(!mask.allows(vocab_size as u32));
            assert!(!mask.allows(u32::MAX));
        }
    }

    #[test]
    fn applies_and_intersects() {
        let mut mask = TokenMask::from_tokens(70, [0, 63, 64, 69]).unwrap();
        mask.intersect(&TokenMask::from_tokens(70, [63, 69, 5]).unwrap())
            .unwrap();
        let mut logits = vec![1.0; 70];
        mask.apply(&mut logits).unwrap();
        let left: Vec<usize> = (0..70).filter(|&i| logits[i] == 1.0).collect();
        assert_eq!(left, [63, 69]);
        mask.set(63, false).unwrap();
        assert_eq!(mask.count(), 1);
        assert!(mask.set(70, true).is_err());
        assert!(mask.apply(&mut [0.0; 3]).is_err());
    }
}
