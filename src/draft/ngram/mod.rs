//! N-gram lookup: what followed the last tokens when they stood in prompt or output before.
//!
//! [`SuffixIndex`] is a suffix automaton (Blumer et al., 1985) over the tokens of a sequence: it knows every substring,
//! how often it occurred and where it ended last. It needs no weights and no training, and it wins where the output
//! repeats the prompt: summaries, code edits, retrieval.

mod automaton;
mod drafter;
mod proposal;

pub(crate) use drafter::Ngram;

use crate::Result;
use crate::speculation::Tree;
use automaton::Automaton;

/// An index of a sequence of tokens that grows, is cut back, and is asked for what comes next.
///
/// - A push costs amortised constant time to extend the automaton and at most `max_match` steps to count the contexts
///   that it ends.
/// - The last [`SuffixIndex::UNDO`] pushes are logged: a rewind within them takes back push by push; a longer one
///   builds the index again from the tokens that stay, about as slow as pushing them.
/// - A text of n tokens takes at most 2 n states of 20 bytes and 3 n transitions of 12 bytes, each with an entry of 16
///   bytes in a hash table: about 120 bytes a token of prose, below 400 in the worst case with the slack of tables
///   that double. The log adds a few hundred kilobytes.
/// - A clone is a fork: both go on independently.
#[derive(Debug, Clone)]
pub struct SuffixIndex {
    tokens: Vec<u32>,
    automaton: Automaton,
}

/// Where the last tokens stood before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// How many of the last tokens, the given one among them, stood there; at least 1.
    pub length: usize,
    /// How often they stood in the text.
    pub count: usize,
    /// Where the latest of these ends: `tokens()[end - length..end]` is the match, and `tokens()[end]`, if there is
    /// one, is what followed.
    pub end: usize,
}

/// Limits of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposeOptions {
    /// Most nodes between the root and a leaf, the leaf among them.
    pub max_depth: u32,
    /// Most children of a node.
    pub topk: usize,
    /// Most nodes, the root among them; more than [`Tree::MAX_NODES`] are as many.
    pub max_nodes: usize,
    /// Contexts shorter than this propose nothing; 0 is 1.
    pub min_match: usize,
}

impl Default for ProposeOptions {
    /// Trees of up to 32 nodes, 16 deep, with 2 children a node, out of contexts of 2 tokens or more.
    fn default() -> Self {
        ProposeOptions {
            max_depth: 16,
            topk: 2,
            max_nodes: 32,
            min_match: 2,
        }
    }
}

impl Default for SuffixIndex {
    fn default() -> Self {
        Self::new(Self::MAX_MATCH)
    }
}

impl SuffixIndex {
    /// Longest context that an index looks at unless it is told another.
    pub const MAX_MATCH: usize = 32;
    /// How many pushes can be taken back one by one.
    pub const UNDO: usize = 512;

    /// An empty index that counts substrings of up to `max_match` tokens, 0 is 1: the longest match, and one more than
    /// the longest context of a proposal.
    pub fn new(max_match: usize) -> Self {
        SuffixIndex {
            tokens: Vec::new(),
            automaton: Automaton::new(max_match.max(1)),
        }
    }

    /// Adds one token.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.automaton.push(token);
    }

    /// Adds tokens.
    pub fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(token);
        }
    }

    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        let surplus = self.tokens.len().saturating_sub(len);
        self.tokens.truncate(len);
        if surplus <= self.automaton.logged() {
            (0..surplus).for_each(|_| self.automaton.pop());
            return;
        }
        self.automaton = Automaton::new(self.automaton.max_match());
        for &token in &self.tokens {
            self.automaton.push(token);
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The longest end of the text with `last` after it that stands in the text, up to `max_len` tokens (and the
    /// index's own bound). `last` itself is not pushed: it is the root of the next tree.
    pub fn longest_match(&self, last: u32, max_len: usize) -> Option<Match> {
        let context = self.automaton.matched(last, max_len)?;
        let (count, end) = self.automaton.occurrences(context);
        Some(Match {
            length: context.length as usize,
            count: count as usize,
            end: end as usize,
        })
    }

    /// What may follow `root`, as a tree, the most probable paths first.
    ///
    /// The context of a node is the longest end of text, root and path that occurred before, of at least `min_match`
    /// tokens. Its children are the tokens that followed there, by frequency, then recency; those that only followed
    /// shorter ends of it come after them. A token that followed c of n times after a context of m tokens has the
    /// probability c / (n + b), with b = 2 / m; the rest, b / (n + b), is left to shorter contexts, in which what
    /// followed the longer one no longer counts (prediction by partial matching; Cleary and Witten, 1984). So a token
    /// seen once after 1, 2, 4, 8 tokens has 0.33, 0.5, 0.67, 0.8. These are guesses of the right order; whoever
    /// knows what was accepted may correct them.
    ///
    /// The score of a node is the sum of the logarithms along its path. Nodes are those with the best scores, in
    /// that order; a root that never occurred stays alone.
    ///
    /// # Errors
    /// None of these inputs causes one; it would be a fault of the index.
    pub fn propose(&self, root: u32, options: &ProposeOptions) -> Result<Tree> {
        proposal::propose(&self.automaton, root, options)
    }
}

#[cfg(test)]
mod tests;
