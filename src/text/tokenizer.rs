use super::sentencepiece::SentencePiece;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// Text to token ids and back.
///
/// Cheap to clone: clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    backend: Arc<Backend>,
    pub(super) vocabulary: Arc<Vocabulary>,
    ends: Ends,
}

/// What encodes.
pub(super) enum Backend {
    Library(Box<tokenizers::Tokenizer>),
    SentencePiece(Box<SentencePiece>),
}

/// The tokens around a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub stop_ids: Vec<u32>,
    /// Put before and after an encoded text by us; a `tokenizer.json` does so itself.
    pub prefix: Option<u32>,
    pub suffix: Option<u32>,
}

impl Tokenizer {
    pub(super) fn new(backend: Backend, vocabulary: Vocabulary, mut ends: Ends) -> Self {
        ends.stop_ids.sort_unstable();
        ends.stop_ids.dedup();
        Tokenizer {
            backend: Arc::new(backend),
            vocabulary: Arc::new(vocabulary),
            ends,
        }
    }

    /// Token ids of a text. Special tokens spelled out in it become themselves, as a chat template needs;
    /// `add_special` puts the model's beginning-of-text token (or whatever it wants) around them, which text out of
    /// a chat template has already.
    ///
    /// # Errors
    /// If the tokenizer has no way to express the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if add_special {
            ids.extend(self.ends.prefix);
        }
        match &*self.backend {
            Backend::Library(library) => {
                let encoding = library.encode_fast(text, add_special).map_err(|error| {
                    Error::Invalid(format!("the text cannot be tokenized: {error}"))
                })?;
                ids.extend_from_slice(encoding.get_ids());
            }
            Backend::SentencePiece(model) => ids.extend(model.encode(text)),
        }
        if add_special {
            ids.extend(self.ends.suffix);
        }
        Ok(ids)
    }

    /// The text of token ids, without control tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.vocabulary.text_bytes(id))
            .copied()
            .collect();
        let spaces = bytes
            .iter()
            .take(self.vocabulary.leading_spaces)
            .take_while(|&&byte| byte == b' ')
            .count();
        String::from_utf8_lossy(&bytes[spaces..]).into_owned()
    }

    /// The bytes of one token, the spelling of a control token included; none for an id that is not there.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// Whether a token is a control token, which is no part of the text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.is_control(id)
    }

    /// One more than the largest id. A model may have more rows in its head than that.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &*self.backend {
            Backend::Library(library) => library.token_to_id(token),
            Backend::SentencePiece(model) => model.id(token),
        }
    }

    /// The token before a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.ends.bos
    }

    /// The token after a text.
    pub fn eos_id(&self) -> Option<u32> {
        self.ends.eos
    }

    /// Ids that end an answer, sorted: end of text, end of turn, and what the generation configuration lists.
    pub fn stop_ids(&self) -> &[u32] {
        &self.ends.stop_ids
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
