use super::SamplingParams;
use std::collections::HashMap;

/// How often a token is in the window of the penalties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// In prompt and output: the repetition penalty asks whether this is 0, as Hugging Face and llama.cpp do.
    pub all: u32,
    /// In the output: presence and frequency penalties take this, as OpenAI's do.
    pub output: u32,
}

/// The tokens of a sequence and their counts in the last `penalty_last_n` of them, kept up to date token by
/// token. A node of a tree counts its ancestors: push its path, choose, pop it; or clone.
#[derive(Debug, Clone, Default)]
pub struct TokenCounts {
    tokens: Vec<u32>,
    prompt_length: usize,
    /// None is the whole context.
    window: Option<usize>,
    counts: HashMap<u32, TokenCount>,
}

impl TokenCounts {
    /// Counts a prompt. `penalty_last_n` as in [`SamplingParams`]: -1 is the whole context.
    pub fn new(prompt: &[u32], penalty_last_n: i32) -> Self {
        let mut counts = TokenCounts {
            window: usize::try_from(penalty_last_n).ok(),
            ..Default::default()
        };
        counts.extend_prompt(prompt);
        counts
    }

    /// Counts more prompt: a chat's next turn. Earlier answers become prompt like the rest of the context.
    pub fn extend_prompt(&mut self, prompt: &[u32]) {
        for count in self.counts.values_mut() {
            count.output = 0;
        }
        self.prompt_length = self.tokens.len() + prompt.len();
        for &token in prompt {
            self.push(token);
        }
    }

    /// Counts one token of the output.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.add(self.tokens.len() - 1, 1);
        if let Some(window) = self.window
            && let Some(left) = self.tokens.len().checked_sub(window + 1)
        {
            self.add(left, -1);
        }
    }

    /// Takes back the last token, prompt or output, and returns it.
    pub fn pop(&mut self) -> Option<u32> {
        let last = self.tokens.len().checked_sub(1)?;
        if let Some(window) = self.window
            && let Some(entered) = self.tokens.len().checked_sub(window + 1)
        {
            self.add(entered, 1);
        }
        self.add(last, -1);
        self.prompt_length = self.prompt_length.min(last);
        self.tokens.pop()
    }

    /// Takes back tokens until `length` are left.
    pub fn truncate(&mut self, length: usize) {
        while self.tokens.len() > length {
            self.pop();
        }
    }

    /// All tokens, prompt first.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Count of a token in the window.
    pub fn count(&self, token: u32) -> TokenCount {
        self.counts.get(&token).copied().unwrap_or_default()
    }

    /// Changes the logits of counted tokens: the repetition penalty first, then frequency, then presence.
    /// Tokens past the end of `logits` are passed over.
    pub fn apply(&self, params: &SamplingParams, logits: &mut [f32]) {
        if !params.has_penalties() {
            return;
        }
        // The order of the map does not matter: every token is changed alone.
        for (&token, count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            let repeated = if *logit > 0.0 {
                *logit / params.repetition_penalty
            } else {
                *logit * params.repetition_penalty
            };
            *logit = if count.output > 0 {
                let frequency = count.output as f32;
                frequency.mul_add(-params.frequency_penalty, repeated) - params.presence_penalty
            } else {
                repeated
            };
        }
    }

    /// Adds `change` to the counts of the token at `index`.
    fn add(&mut self, index: usize, change: i32) {
        let token = self.tokens[index];
        let count = self.counts.entry(token).or_default();
        count.all = count.all.saturating_add_signed(change);
        if index >= self.prompt_length {
            count.output = count.output.saturating_add_signed(change);
        }
        if count.all == 0 {
            self.counts.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(tokens: &[u32], prompt_length: usize, window: i32) -> HashMap<u32, TokenCount> {
        let start = usize::try_from(window).map_or(0, |window| tokens.len().saturating_sub(window));
        let mut counts = HashMap::<u32, TokenCount>::new();
        for (index, &token) in tokens.iter().enumerate().skip(start) {
            let count = counts.entry(token).or_default();
            count.all += 1;
            count.output += u32::from(index >= prompt_length);
        }
        counts
    }

    proptest! {
        #[test]
        fn rewinds_leave_no_trace(
            prompt in prop::collection::vec(0u32..6, 0..12),
            steps in prop::collection::vec(prop::option::weighted(0.6, 0u32..6), 0..40),
            window in -1i32..9,
        ) {
            let mut counts = TokenCounts::new(&prompt, window);
            let (mut tokens, mut prompt_length) = (prompt.clone(), prompt.len());
            for step in steps {
                match step {
                    Some(token) => { counts.push(token); tokens.push(token); }
                    None => {
                        prop_assert_eq!(counts.pop(), tokens.pop());
                        prompt_length = prompt_length.min(tokens.len());
                    }
                }
                prop_assert_eq!(&counts.counts, &naive(&tokens, prompt_length, window));
            }
            counts.extend_prompt(&prompt);
            tokens.extend(&prompt);
            prop_assert_eq!(&counts.counts, &naive(&tokens, tokens.len(), window));
            prop_assert_eq!(counts.tokens(), &tokens[..]);
        }
    }

    #[test]
    fn formulas() {
        let mut counts = TokenCounts::new(&[0, 1], -1);
        counts.push(2);
        counts.push(2);
        counts.push(99);
        let params = SamplingParams {
            repetition_penalty: 2.0,
            presence_penalty: 0.25,
            frequency_penalty: 0.5,
            ..Default::default()
        };
        let mut logits = [4.0, -4.0, 3.0, 1.0];
        counts.apply(&params, &mut logits);
        assert_eq!(logits, [2.0, -8.0, 0.25, 1.0]);
    }
}
