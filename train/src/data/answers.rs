use crate::Example;
use serde::{Deserialize, Serialize};
use stheno::text::Message;

/// A conversation with the target's answers, a line of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// [`super::Conversation::id`].
    pub id: usize,
    /// What its answers were drawn with; 0 is greedy.
    pub temperature: f32,
    /// All turns, as text.
    pub messages: Vec<Message>,
    /// Token ids of the whole conversation as the target saw and wrote them.
    pub tokens: Vec<u32>,
    /// Ranges `[start, end)` of `tokens` that the target wrote, the id that ended an answer among them.
    pub answers: Vec<[usize; 2]>,
}

impl Answered {
    /// The tokens, and which of them are to be learnt; `None` if a range is not within the tokens.
    pub fn example(&self) -> Option<Example> {
        let mut answer = vec![false; self.tokens.len()];
        for &[start, end] in &self.answers {
            answer.get_mut(start..end)?.fill(true);
        }
        Some(Example {
            tokens: self.tokens.clone(),
            answer,
        })
    }

    /// Tokens that the target wrote.
    pub fn answer_tokens(&self) -> usize {
        self.answers
            .iter()
            .map(|[start, end]| end.saturating_sub(*start))
            .sum()
    }
}
