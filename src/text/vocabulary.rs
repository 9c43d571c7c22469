use crate::error::{Error, Result};

/// More ids than any vocabulary has; ids above it would size a table by an unchecked number.
const MAX_TOKENS: usize = 1 << 22;

/// The bytes of every token, by id.
#[derive(Debug)]
pub(super) struct Vocabulary {
    tokens: Vec<Token>,
    /// Bytes of all tokens: one allocation, where one a token would take several times the memory.
    bytes: Vec<u8>,
    /// Spaces that decoding removes from the start of a text, since encoding put them there.
    pub leading_spaces: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Token {
    /// Where its bytes begin, and how many they are.
    start: u32,
    len: u32,
    /// Control tokens are no part of the text.
    is_control: bool,
}

impl Vocabulary {
    /// An empty vocabulary whose decoding removes that many leading spaces.
    pub fn new(leading_spaces: usize) -> Self {
        Vocabulary {
            tokens: Vec::new(),
            bytes: Vec::new(),
            leading_spaces,
        }
    }

    /// Sets a token; ids may come in any order and leave gaps.
    pub fn set(&mut self, id: u32, bytes: &[u8], is_control: bool) -> Result<()> {
        let index = id as usize;
        if index >= MAX_TOKENS {
            return Err(Error::Invalid(format!(
                "token id {id} is beyond {MAX_TOKENS}"
            )));
        }
        if index >= self.tokens.len() {
            self.tokens.resize(index + 1, Token::default());
        }
        let (Ok(start), Ok(len)) = (self.bytes.len().try_into(), bytes.len().try_into()) else {
            return Err(Error::Invalid(format!(
                "token {id} has {} bytes; the vocabulary is too large",
                bytes.len()
            )));
        };
        self.bytes.extend_from_slice(bytes);
        self.tokens[index] = Token {
            start,
            len,
            is_control,
        };
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The bytes of a token, control tokens included; none for an id that is not there.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize).map_or(&[], |token| {
            &self.bytes[token.start as usize..][..token.len as usize]
        })
    }

    pub fn is_control(&self, id: u32) -> bool {
        self.tokens
            .get(id as usize)
            .is_some_and(|token| token.is_control)
    }

    /// The bytes that a token adds to a text.
    pub fn text_bytes(&self, id: u32) -> &[u8] {
        if self.is_control(id) {
            &[]
        } else {
            self.bytes(id)
        }
    }
}
