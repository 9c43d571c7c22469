use super::tokenizer::Tokenizer;
use std::str;

/// Token ids in, text out as soon as it is certain.
///
/// A character whose bytes come in several tokens waits for the last of them; bytes that can become no character
/// are U+FFFD. What has been given is never taken back, and all of it together is [`Tokenizer::decode`] of all ids.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    /// Bytes of an unfinished character: three at most between calls.
    pending: Vec<u8>,
    /// Leading spaces that may still be removed.
    leading_spaces: usize,
}

impl TextStream {
    /// A stream that starts a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        TextStream {
            tokenizer: tokenizer.clone(),
            pending: Vec::new(),
            leading_spaces: tokenizer.vocabulary.leading_spaces,
        }
    }

    /// A stream that goes on after other text: the space that starts its first word is kept.
    pub fn continuing(tokenizer: &Tokenizer) -> Self {
        TextStream {
            leading_spaces: 0,
            ..TextStream::new(tokenizer)
        }
    }

    /// Takes a token; gives the text that is now certain, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let mut bytes = self.tokenizer.vocabulary.text_bytes(id);
        while self.leading_spaces > 0 && !bytes.is_empty() {
            match bytes.strip_prefix(b" ") {
                Some(rest) => {
                    bytes = rest;
                    self.leading_spaces -= 1;
                }
                None => self.leading_spaces = 0,
            }
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut certain = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            certain += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty()
                || is_unfinished(invalid) && certain + invalid.len() == self.pending.len()
            {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            certain += invalid.len();
        }
        self.pending.drain(..certain);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the text: an unfinished character becomes U+FFFD. The stream then goes on after it.
    pub fn finish(&mut self) -> Option<String> {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        (!rest.is_empty()).then_some(rest)
    }
}

/// Whether more bytes could make a character of these.
fn is_unfinished(bytes: &[u8]) -> bool {
    matches!(str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::sentencepiece::SentencePiece;
    use crate::text::tokenizer::{Backend, Ends};
    use crate::text::vocabulary::Vocabulary;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Ids 0..256 are single bytes; then words, a control token, and pieces of characters.
    fn tokenizer(leading_spaces: usize) -> Tokenizer {
        let mut vocabulary = Vocabulary::new(leading_spaces);
        for byte in 0..=u8::MAX {
            vocabulary.set(u32::from(byte), &[byte], false).unwrap();
        }
        let others: [&[u8]; 6] = [
            b" the",
            "é".as_bytes(),
            &[0xF0, 0x9F],
            &[0x98, 0x80, b'!'],
            b"  ",
            b"",
        ];
        for (id, bytes) in (256..).zip(others) {
            vocabulary.set(id, bytes, false).unwrap();
        }
        vocabulary.set(262, b"<|end|>", true).unwrap();
        let none = SentencePiece::new(HashMap::new(), Vec::new(), &[], None, false);
        Tokenizer::new(
            Backend::SentencePiece(Box::new(none)),
            vocabulary,
            Ends::default(),
        )
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut stream = TextStream::new(&tokenizer(1));
        assert_eq!(stream.push(256).as_deref(), Some("the"));
        assert_eq!(stream.push(256).as_deref(), Some(" the"));
        assert_eq!(stream.push(258), None);
        assert_eq!(stream.push(262), None);
        assert_eq!(stream.push(259).as_deref(), Some("😀!"));
        assert_eq!(stream.push(0xC3), None);
        assert_eq!(stream.push(u32::from(b'x')).as_deref(), Some("\u{FFFD}x"));
        assert_eq!(stream.push(0xC3), None);
        assert_eq!(stream.finish().as_deref(), Some("\u{FFFD}"));
        assert_eq!(stream.finish(), None);
        assert_eq!(
            TextStream::continuing(&tokenizer(1)).push(256).as_deref(),
            Some(" the")
        );
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(
            ids in prop::collection::vec(prop_oneof![0u32..266, 0x80u32..0x100, 256u32..262], 0..40),
            leading_spaces in 0usize..3,
        ) {
            let tokenizer = tokenizer(leading_spaces);
            let mut stream = TextStream::new(&tokenizer);
            let mut text = String::new();
            for &id in &ids {
                text.extend(stream.push(id));
            }
            text.extend(stream.finish());
            prop_assert_eq!(text, tokenizer.decode(&ids));
        }
    }
}
