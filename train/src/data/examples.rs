use super::shards::Shards;
use crate::{Example, Result};
use std::path::Path;

/// The examples of a directory of answers, in order of their ids; those longer than `max_len` tokens are cut there, and those
/// with nothing to learn left out.
///
/// # Errors
/// If the directory holds no answers, or a file of it is malformed.
pub fn read_examples(dir: &Path, max_len: usize) -> Result<Vec<Example>> {
    let answered = Shards::read(dir)?;
    let examples = answered.iter().filter_map(|answered| {
        let mut example = answered.example()?;
        example.tokens.truncate(max_len);
        example.answer.truncate(max_len);
        example.answer.contains(&true).then_some(example)
    });
    Ok(examples.collect())
}
