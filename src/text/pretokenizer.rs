use crate::error::{Error, Result};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// How a byte-level vocabulary cuts text into words before anything merges: GGUF gives a name and no more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pretokenizer {
    /// Applied one after the other, each to the pieces that the ones before it left.
    patterns: &'static [&'static str],
    /// A word that is a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether a beginning-of-text token is put before a text if the file does not say.
    pub add_bos: bool,
    /// Text is composed (Unicode NFC) first.
    pub compose: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

impl Pretokenizer {
    /// The one that GGUF's `tokenizer.ggml.pre` names.
    pub fn by_name(name: &str) -> Result<Self> {
        let plain = |patterns| Pretokenizer {
            patterns,
            ignore_merges: false,
            add_bos: false,
            compose: false,
        };
        Ok(match name {
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" => {
                plain(&[GPT2])
            }
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => plain(&[r"\p{N}", GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => {
                Pretokenizer {
                    ignore_merges: true,
                    add_bos: true,
                    ..plain(&[LLAMA3])
                }
            }
            "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => plain(&[LLAMA3]),
            "qwen2" => Pretokenizer {
                compose: true,
                ..plain(&[QWEN2])
            },
            "deepseek-r1-qwen" | "stablelm2" | "megrez" | "hunyuan" | "grok-2" => plain(&[QWEN2]),
            "tekken" => Pretokenizer {
                ignore_merges: true,
                add_bos: true,
                ..plain(&[TEKKEN])
            },
            "gpt-4o" | "llama4" => plain(&[GPT4O]),
            "deepseek-coder" => plain(&[
                r"[\r\n]",
                r"\s?\p{L}+",
                r"\s?\p{P}+",
                r"[一-龥ࠀ-一가-퟿]+",
                r"\p{N}",
            ]),
            "deepseek-v3" | "hunyuan-dense" => {
                plain(&[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3])
            }
            "falcon" => plain(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"]),
            other => {
                return Err(Error::Unsupported(format!(
                    "the pre-tokenizer `{other}` (tokenizer.ggml.pre); use the model's Hugging Face directory, \
                     whose tokenizer.json defines it"
                )));
            }
        })
    }

    /// As the tokenizer library takes it.
    pub fn build(&self) -> Result<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| Error::Unsupported(format!("a pre-tokenizer pattern: {error}")))?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(
            false, false, false,
        )));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        let pretokenizer = Pretokenizer::by_name(name).unwrap().build().unwrap();
        pretokenizer.pre_tokenize(&mut pieces).unwrap();
        pieces
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (from, to), _)| text[from..to].to_owned())
            .collect()
    }

    #[test]
    fn words_of_each_kind() {
        let text = "I'M 1234  x\n\n!";
        assert_eq!(
            words("gpt-2", text),
            ["I", "'", "M", " 1234", " ", " x", "\n\n", "!"]
        );
        assert_eq!(
            words("smollm", text),
            [
                "I", "'", "M", " ", "1", "2", "3", "4", " ", " x", "\n\n", "!"
            ]
        );
        assert_eq!(
            words("llama-bpe", text),
            ["I", "'M", " ", "123", "4", " ", " x", "\n\n", "!"]
        );
        assert_eq!(
            words("qwen2", text),
            ["I", "'M", " ", "1", "2", "3", "4", " ", " x", "\n\n", "!"]
        );
        for name in [
            "default",
            "tekken",
            "gpt-4o",
            "deepseek-coder",
            "deepseek-v3",
            "falcon",
        ] {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = Pretokenizer::by_name("kimi-k2").unwrap_err().to_string();
        assert!(error.contains("kimi-k2"), "{error}");
    }
}
