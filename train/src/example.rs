use crate::{Error, Result};

/// A conversation as a target reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// Token ids `[T]`.
    pub tokens: Vec<u32>,
    /// `[T]`: whether the token is the assistant's; only these are learnt.
    pub answer: Vec<bool>,
}

/// Hidden states of the target at the positions of an [`Example`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// The residual stream after three layers side by side, low to high: `[T, 3 * hidden_size]`.
    pub aux: Vec<f32>,
    /// After the final norm: `[T, hidden_size]`.
    pub last: Vec<f32>,
}

impl Features {
    /// Refuses features that are not of the example and a target of these sizes.
    pub(crate) fn check(
        &self,
        example: &Example,
        hidden_size: usize,
        vocab_size: u32,
    ) -> Result<()> {
        let t = example.tokens.len();
        let expected = [t, t * 3 * hidden_size, t * hidden_size];
        let found = [example.answer.len(), self.aux.len(), self.last.len()];
        let names = ["answer", "aux", "last"];
        for ((name, expected), found) in names.into_iter().zip(expected).zip(found) {
            if expected != found {
                return Err(Error::Invalid(format!(
                    "an example of {t} tokens has `{name}` of {found} elements, expected {expected}"
                )));
            }
        }
        match example.tokens.iter().find(|&&token| token >= vocab_size) {
            Some(token) => Err(Error::Invalid(format!(
                "an example has token {token}, the target's vocabulary has {vocab_size}"
            ))),
            None => Ok(()),
        }
    }
}

/// Examples with their features, from a file or from the target as they are asked for.
pub trait Source {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Example `index`, the same at each call.
    ///
    /// # Errors
    /// If it cannot be read or computed.
    fn get(&mut self, index: usize) -> Result<(Example, Features)>;
}
