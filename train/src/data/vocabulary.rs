use crate::{Error, Example, Result};

/// How much of what a target writes a draft's vocabulary can guess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Ids that appear in the answers.
    pub distinct: usize,
    /// Fraction of the answers' tokens that are in the vocabulary.
    pub tokens: f64,
}

/// The `size` most frequent ids of the answers, sorted; ties, and what is missing, by the smaller id.
///
/// # Errors
/// If `size` is 0 or larger than the target's vocabulary, or an example holds an id outside of it.
pub fn draft_vocabulary(
    examples: &[Example],
    vocab_size: usize,
    size: usize,
) -> Result<(Vec<u32>, Coverage)> {
    if !(1..=vocab_size).contains(&size) {
        return Err(Error::Invalid(format!(
            "a draft vocabulary of {size} tokens; the target has {vocab_size}"
        )));
    }
    let mut counts = vec![0u64; vocab_size];
    for example in examples {
        for (token, _) in std::iter::zip(&example.tokens, &example.answer).filter(|(_, a)| **a) {
            let count = counts.get_mut(*token as usize).ok_or_else(|| {
                Error::Invalid(format!(
                    "an answer holds token {token}, of a vocabulary of {vocab_size}"
                ))
            })?;
            *count += 1;
        }
    }
    let mut ids: Vec<u32> = (0..vocab_size as u32).collect();
    ids.sort_by_key(|id| (std::cmp::Reverse(counts[*id as usize]), *id));
    ids.truncate(size);
    ids.sort_unstable();
    let all: u64 = counts.iter().sum();
    let covered: u64 = ids.iter().map(|id| counts[*id as usize]).sum();
    let coverage = Coverage {
        distinct: counts.iter().filter(|count| **count > 0).count(),
        tokens: covered as f64 / all.max(1) as f64,
    };
    Ok((ids, coverage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_are_taken_and_only_answers_count() {
        let example = Example {
            tokens: vec![9, 9, 9, 5, 5, 3, 3, 1],
            answer: [false, false, false, true, true, true, true, true].to_vec(),
        };
        let examples = [example];
        let (ids, coverage) = draft_vocabulary(&examples, 10, 2).unwrap();
        assert_eq!(ids, [3, 5]);
        assert_eq!(
            coverage,
            Coverage {
                distinct: 3,
                tokens: 0.8
            }
        );
        // Padded by the smallest ids.
        assert_eq!(
            draft_vocabulary(&examples, 10, 5).unwrap().0,
            [0, 1, 2, 3, 5]
        );
        assert!(draft_vocabulary(&examples, 10, 11).is_err());
        assert!(draft_vocabulary(&examples, 4, 2).is_err());
    }
}
