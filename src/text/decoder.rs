use super::byte_level;
use crate::error::{Error, Result};
use serde_json::Value;

/// How a `tokenizer.json` turns tokens back into bytes.
///
/// Streaming needs the bytes of one token apart from its neighbours, so the decoders that language models use are
/// understood here and any other is refused by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decoder {
    byte_level: bool,
    byte_fallback: bool,
    replace: Vec<(String, String)>,
    pub leading_spaces: usize,
}

impl Decoder {
    /// Reads the value of the key `decoder`.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut decoder = Decoder::default();
        decoder.add(value)?;
        Ok(decoder)
    }

    /// What SentencePiece vocabularies need.
    pub fn sentencepiece(leading_spaces: usize) -> Self {
        Decoder {
            byte_fallback: true,
            replace: vec![("\u{2581}".to_owned(), " ".to_owned())],
            leading_spaces,
            ..Decoder::default()
        }
    }

    fn add(&mut self, value: &Value) -> Result<()> {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("null");
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        match kind {
            "ByteLevel" => self.byte_level = true,
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => {}
            "Sequence" => {
                let parts = value.get("decoders").and_then(Value::as_array);
                // One level only: a sequence in a sequence is nothing anyone writes, and could nest without end.
                for part in parts.into_iter().flatten() {
                    if part.get("type").and_then(Value::as_str) == Some("Sequence") {
                        return Err(Error::Unsupported(
                            "a tokenizer decoder of nested sequences".into(),
                        ));
                    }
                    self.add(part)?;
                }
            }
            "Replace" => {
                let pattern = value
                    .get("pattern")
                    .and_then(|pattern| pattern.get("String"))
                    .and_then(Value::as_str);
                match (pattern, text("content")) {
                    (Some(from), Some(to)) if !from.is_empty() => {
                        self.replace.push((from.to_owned(), to.to_owned()));
                    }
                    _ => {
                        return Err(Error::Unsupported(
                            "a tokenizer decoder `Replace` by regular expression".into(),
                        ));
                    }
                }
            }
            "Strip" => {
                let count = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
                if text("content") != Some(" ") || count("stop") != 0 {
                    return Err(Error::Unsupported(
                        "a tokenizer decoder `Strip` of other than leading spaces".into(),
                    ));
                }
                self.leading_spaces = usize::try_from(count("start")).unwrap_or(usize::MAX);
            }
            "Metaspace" => {
                let space = text("replacement").unwrap_or("\u{2581}").to_owned();
                self.replace.push((space, " ".to_owned()));
                self.leading_spaces = usize::from(text("prepend_scheme") != Some("never"));
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "a tokenizer decoder of type `{other}`"
                )));
            }
        }
        Ok(())
    }

    /// The bytes of a token of the model (added tokens of a byte-level vocabulary are their own text).
    pub fn bytes_of(&self, token: &str, is_added: bool) -> Vec<u8> {
        if self.byte_fallback
            && let Some(byte) = fallback_byte(token)
        {
            return vec![byte];
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replace {
            text = text.replace(from.as_str(), to);
        }
        if self.byte_level && !is_added {
            byte_level::bytes_of(&text)
        } else {
            text.into_bytes()
        }
    }
}

/// The byte of a token spelled `<0xE4>`.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn llama_decoder() {
        let decoder = Decoder::parse(&json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]}))
        .unwrap();
        assert_eq!(decoder, Decoder::sentencepiece(1));
        assert_eq!(decoder.bytes_of("▁a▁", false), b" a ");
        assert_eq!(decoder.bytes_of("<0xE4>", false), [0xE4]);
        assert_eq!(decoder.bytes_of("<0x+4>", false), b"<0x+4>");
    }

    #[test]
    fn others_are_refused_by_name() {
        let error = Decoder::parse(&json!({"type": "WordPiece"})).unwrap_err();
        assert!(error.to_string().contains("WordPiece"), "{error}");
        assert!(Decoder::parse(&Value::Null).is_err());
    }
}
