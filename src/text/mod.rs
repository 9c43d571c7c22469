//! Text: tokenizer, chat template, streaming detokenizer, stop strings.

mod byte_level;
mod chat;
mod decoder;
mod directory;
mod filters;
mod gguf_tokenizer;
mod jinja;
mod pretokenizer;
mod python;
mod sentencepiece;
mod stop;
mod stream;
mod tojson;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatInput, ChatTemplate, Message};
pub use stop::{StopOutput, StopStrings};
pub use stream::TextStream;
pub use tokenizer::Tokenizer;

use crate::checkpoint::TextSource;
use crate::error::Result;

/// What a checkpoint says about text: its tokenizer, and its chat template if it has one.
#[derive(Debug, Clone)]
pub struct Text {
    /// Text to token ids and back; knows the ids that end an answer.
    pub tokenizer: Tokenizer,
    /// Turns a conversation into a prompt.
    pub chat: Option<ChatTemplate>,
}

impl Text {
    /// Reads tokenizer and chat template; `None` if the checkpoint has no tokenizer at all.
    ///
    /// # Errors
    /// If a file is malformed, or its tokenizer is of a kind that is not supported. A chat template is not
    /// compiled here: a checkpoint with a broken one still serves raw text, see [`ChatTemplate::check`].
    pub fn load(source: TextSource<'_>) -> Result<Option<Self>> {
        match source {
            TextSource::Directory(path) => {
                let Some(tokenizer) = Tokenizer::from_directory(path)? else {
                    return Ok(None);
                };
                let chat = ChatTemplate::from_directory(path)?;
                Ok(Some(Text { tokenizer, chat }))
            }
            TextSource::Gguf(metadata) => {
                let Some(tokenizer) = Tokenizer::from_gguf(metadata)? else {
                    return Ok(None);
                };
                let chat = ChatTemplate::from_gguf(metadata);
                Ok(Some(Text { tokenizer, chat }))
            }
        }
    }

    /// Ids that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        self.tokenizer.stop_ids()
    }
}
