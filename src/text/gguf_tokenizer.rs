//! Tokenizers out of GGUF metadata.

use super::byte_level;
use super::decoder::Decoder;
use super::pretokenizer::Pretokenizer;
use super::sentencepiece::SentencePiece;
use super::tokenizer::{Backend, Ends, Tokenizer};
use super::vocabulary::Vocabulary;
use crate::checkpoint::{GgufMetadata, GgufStrings};
use crate::error::{Error, Result};
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, NormalizerWrapper};

/// Tokens that end a turn in the formats people use; llama.cpp takes them for such whatever the file says.
const TURN_ENDS: [&str; 12] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<EOT>",
    "<｜end▁of▁sentence｜>",
];

/// What a token is for, GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn of(number: i64) -> Self {
        match number {
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Normal,
        }
    }
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::malformed("GGUF metadata", reason)
}

/// Everything of the vocabulary that both kinds of tokenizer need.
struct Tokens<'a> {
    metadata: &'a GgufMetadata,
    texts: &'a GgufStrings,
    kinds: Vec<Kind>,
}

impl<'a> Tokens<'a> {
    fn read(metadata: &'a GgufMetadata) -> Result<Self> {
        let texts = metadata
            .strings("tokenizer.ggml.tokens")
            .ok_or_else(|| malformed("`tokenizer.ggml.tokens` is missing"))?;
        let kinds = match metadata.ints("tokenizer.ggml.token_type") {
            None => vec![Kind::Normal; texts.len()],
            Some(kinds) if kinds.len() == texts.len() => {
                kinds.iter().map(|&n| Kind::of(n)).collect()
            }
            Some(kinds) => {
                return Err(malformed(format!(
                    "`tokenizer.ggml.token_type` has {} entries for {} tokens",
                    kinds.len(),
                    texts.len()
                )));
            }
        };
        Ok(Tokens {
            metadata,
            texts,
            kinds,
        })
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        let texts: &'a GgufStrings = self.texts;
        (0u32..)
            .zip(texts.iter())
            .zip(&self.kinds)
            .map(|((id, text), &kind)| (id, text, kind))
    }

    /// The id under a key, checked against the vocabulary.
    fn id(&self, key: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{key}");
        match self.metadata.u64(&key) {
            // Converters write -1 as an unsigned number for "none".
            None | Some(0xFFFF_FFFF) => Ok(None),
            Some(id) if id < self.texts.len() as u64 => Ok(Some(id as u32)),
            Some(id) => Err(malformed(format!(
                "`{key}` is {id}, beyond the {} tokens",
                self.texts.len()
            ))),
        }
    }

    fn ends(&self, add_bos: bool, add_eos: bool) -> Result<Ends> {
        let bos = self.id("bos_token_id")?;
        let eos = self.id("eos_token_id")?;
        let mut stop_ids: Vec<u32> = eos.into_iter().collect();
        for key in ["eot_token_id", "eom_token_id"] {
            stop_ids.extend(self.id(key)?);
        }
        for (id, text, kind) in self.iter() {
            if kind == Kind::Control && TURN_ENDS.contains(&text) {
                stop_ids.push(id);
            }
        }
        let flag = |key: &str, or: bool| self.metadata.bool(key).unwrap_or(or);
        Ok(Ends {
            bos,
            eos,
            stop_ids,
            prefix: bos.filter(|_| flag("tokenizer.ggml.add_bos_token", add_bos)),
            suffix: eos.filter(|_| flag("tokenizer.ggml.add_eos_token", add_eos)),
        })
    }
}

impl Tokenizer {
    /// Builds the tokenizer that GGUF metadata describes; `None` if it describes none.
    ///
    /// # Errors
    /// If the metadata contradicts itself, or the model or pre-tokenizer it names is not supported.
    pub fn from_gguf(metadata: &GgufMetadata) -> Result<Option<Self>> {
        let Some(model) = metadata.str("tokenizer.ggml.model") else {
            return Ok(None);
        };
        match model {
            "gpt2" => byte_pair(metadata).map(Some),
            "llama" => sentencepiece(metadata).map(Some),
            "none" | "no_vocab" => Ok(None),
            other => Err(Error::Unsupported(format!(
                "the tokenizer model `{other}` (tokenizer.ggml.model)"
            ))),
        }
    }
}

fn byte_pair(metadata: &GgufMetadata) -> Result<Tokenizer> {
    let tokens = Tokens::read(metadata)?;
    let pretokenizer =
        Pretokenizer::by_name(metadata.str("tokenizer.ggml.pre").unwrap_or("default"))?;
    // Before the merges, which do not last: what is freed last is given back to the system.
    let vocabulary: Vocab = tokens
        .iter()
        .map(|(id, text, _)| (text.to_owned(), id))
        .collect();
    let merges = metadata
        .strings("tokenizer.ggml.merges")
        .ok_or_else(|| malformed("`tokenizer.ggml.merges` is missing"))?;
    let merges = merges
        .iter()
        .map(|merge| {
            // The left part may not be empty, so a space in first place is not the separator.
            let split = merge.char_indices().skip(1).find(|&(_, c)| c == ' ');
            let (at, _) = split
                .ok_or_else(|| malformed(format!("the merge `{merge}` has no second part")))?;
            Ok((merge[..at].to_owned(), merge[at + 1..].to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(pretokenizer.ignore_merges)
        .build()
        .map_err(|error| {
            malformed(format!(
                "the vocabulary and merges do not fit together: {error}"
            ))
        })?;

    let mut library = tokenizers::Tokenizer::new(model);
    library.with_pre_tokenizer(Some(pretokenizer.build()?));
    if pretokenizer.compose {
        library
            .with_normalizer(Some(NormalizerWrapper::NFC(NFC)))
            .map_err(|error| malformed(error.to_string()))?;
    }
    let added = |kinds: &[Kind], special: bool| -> Vec<AddedToken> {
        tokens
            .iter()
            .filter(|(_, text, kind)| kinds.contains(kind) && !text.is_empty())
            .map(|(_, text, _)| AddedToken::from(text.to_owned(), special).normalized(false))
            .collect()
    };
    library
        .add_special_tokens(added(&[Kind::Control, Kind::Unknown], true))
        .and_then(|_| library.add_tokens(added(&[Kind::UserDefined], false)))
        .map_err(|error| malformed(error.to_string()))?;

    let mut table = Vocabulary::new(0);
    for (id, text, kind) in tokens.iter() {
        let bytes = match kind {
            Kind::Normal | Kind::Byte => byte_level::bytes_of(text),
            _ => text.as_bytes().to_vec(),
        };
        table.set(
            id,
            &bytes,
            matches!(kind, Kind::Control | Kind::Unknown | Kind::Unused),
        )?;
    }
    let ends = tokens.ends(pretokenizer.add_bos, false)?;
    Ok(Tokenizer::new(
        Backend::Library(Box::new(library)),
        table,
        ends,
    ))
}

fn sentencepiece(metadata: &GgufMetadata) -> Result<Tokenizer> {
    let tokens = Tokens::read(metadata)?;
    let scores = metadata
        .floats("tokenizer.ggml.scores")
        .ok_or_else(|| malformed("`tokenizer.ggml.scores` is missing"))?;
    if scores.len() != tokens.texts.len() {
        return Err(malformed(format!(
            "`tokenizer.ggml.scores` has {} entries for {} tokens",
            scores.len(),
            tokens.texts.len()
        )));
    }
    let add_space_prefix = metadata
        .bool("tokenizer.ggml.add_space_prefix")
        .unwrap_or(true);
    let decoder = Decoder::sentencepiece(usize::from(add_space_prefix));
    let mut table = Vocabulary::new(decoder.leading_spaces);
    let (mut pieces, mut symbols, mut bytes) = (HashMap::new(), Vec::new(), Vec::new());
    for ((id, text, kind), &score) in tokens.iter().zip(scores) {
        let is_control = matches!(kind, Kind::Control | Kind::Unknown | Kind::Unused);
        table.set(id, &decoder.bytes_of(text, is_control), is_control)?;
        match kind {
            Kind::Control | Kind::UserDefined | Kind::Unknown => {
                symbols.push((text.to_owned(), id))
            }
            Kind::Byte => bytes.push((text.to_owned(), id)),
            Kind::Unused => {}
            Kind::Normal => {
                pieces.insert(text.to_owned(), (id, score));
            }
        }
    }
    let unknown = tokens.id("unknown_token_id")?;
    let ends = tokens.ends(true, false)?;
    let model = SentencePiece::new(pieces, symbols, &bytes, unknown, add_space_prefix);
    Ok(Tokenizer::new(
        Backend::SentencePiece(Box::new(model)),
        table,
        ends,
    ))
}
