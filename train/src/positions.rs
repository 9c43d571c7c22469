use crate::Example;
use crate::vocabulary::DraftIds;

/// Which positions of an example are computed, and at which of them there is something to learn.
///
/// Position t holds the target's hidden states at t, and token t + 1 is known. At step i, or by head i, token t + 2 + i is
/// guessed, by the target's distribution at t + 1 + i. Drafts go out from a token of an answer, so t is computed if tokens
/// t + 1 and t + 2 are of one answer, and learns at step i as long as the answer lasts. It counts for the loss if token t + 2 + i is
/// in the draft vocabulary. (The reference implementations ask that the target's best token be in it; where answers are the
/// target's own, that is this token, and no row of the whole vocabulary's logits is needed.)
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Positions {
    /// Positions that are computed at step 0, rising.
    pub rows: Vec<usize>,
    /// Those of them that are computed at the steps after, as indices of `rows`.
    pub later: Vec<usize>,
    /// Positions whose keys and values are seen.
    pub keys: usize,
    /// Positions of the target whose distributions are needed, rising.
    pub targets: Vec<usize>,
    /// One for each step.
    pub steps: Vec<Step>,
}

/// What is learnt at a step.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// Positions of answers at this step.
    pub asked: usize,
    /// Those that count, as indices of the positions that are computed at this step.
    pub rows: Vec<usize>,
    /// For each of them the index of its distribution in [`Positions::targets`].
    pub targets: Vec<usize>,
}

impl Positions {
    /// `goes_on` says of a position whether it is computed past step 0.
    pub fn of(
        example: &Example,
        steps: usize,
        vocabulary: &DraftIds,
        goes_on: &dyn Fn(usize) -> bool,
    ) -> Self {
        let Example { tokens, answer } = example;
        // Length of the answer from each token on.
        let mut left = vec![0usize; tokens.len() + 1];
        for (t, &answer) in answer.iter().enumerate().rev() {
            left[t] = if answer { left[t + 1] + 1 } else { 0 };
        }
        let counts = |t: usize| vocabulary.of(tokens[t]).is_some();
        let mut of = Positions::default();
        of.steps.resize_with(steps, Step::default);
        let mut needed = vec![false; tokens.len()];
        for t in 0..tokens.len().saturating_sub(1) {
            let most = if goes_on(t) { steps } else { steps.min(1) };
            let lasts = left[t + 1].saturating_sub(1).min(most);
            for step in &mut of.steps[..lasts] {
                step.asked += 1;
            }
            if !(0..lasts).any(|i| counts(t + 2 + i)) {
                continue;
            }
            for (i, step) in of.steps[..lasts].iter_mut().enumerate() {
                if counts(t + 2 + i) {
                    let row = if i == 0 {
                        of.rows.len()
                    } else {
                        of.later.len()
                    };
                    step.rows.push(row);
                    step.targets.push(t + 1 + i);
                    needed[t + 1 + i] = true;
                }
            }
            if (1..lasts).any(|i| counts(t + 2 + i)) {
                of.later.push(of.rows.len());
            }
            of.rows.push(t);
        }
        of.keys = of.rows.last().map_or(0, |last| last + 1);
        let mut index = vec![0; needed.len()];
        for (t, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            index[t] = of.targets.len();
            of.targets.push(t);
        }
        for target in of.steps.iter_mut().flat_map(|step| &mut step.targets) {
            *target = index[*target];
        }
        of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_stay_within_an_answer_and_the_vocabulary() {
        let example = Example {
            //           0   1  2  3  4  5   6  7  8
            tokens: vec![9, 1, 2, 3, 4, 5, 9, 1, 2],
            answer: [0, 0, 1, 1, 1, 1, 0, 1, 1].map(|a| a == 1).to_vec(),
        };
        let vocabulary = DraftIds::new(&[2, 3, 5, 7], 10).unwrap();
        let positions = Positions::of(&example, 2, &vocabulary, &|_| true);
        // Token 2 is the first of an answer: 1 guesses at 3 and then 4, 2 at 4 and then 5, 3 at 5 alone; 6 guesses at 8.
        assert_eq!(positions.rows, [1, 2, 3, 6]);
        assert_eq!(positions.keys, 7);
        assert_eq!(positions.targets, [2, 4, 7]);
        let steps = &positions.steps;
        assert_eq!([steps[0].asked, steps[1].asked], [4, 2]);
        // Token 4 is in no vocabulary.
        assert_eq!(steps[0].rows, [0, 2, 3]);
        assert_eq!(steps[0].targets, [0, 1, 2]);
        // Of the two that go on, 1 guesses at the token that does not count.
        assert_eq!(positions.later, [1]);
        assert_eq!(steps[1].rows, [0]);
        assert_eq!(steps[1].targets, [1]);
    }
}
