use super::Engine;
use crate::text::Message;
use crate::{Error, Result};

/// What a generation starts from. It is the whole content of the sequence, not an addition to it: the session finds
/// out by itself what it has computed already.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// A message of the user, through the model's chat template; as it is if the model has none.
    Text(String),
    /// Text as it is.
    Raw(String),
    /// Token ids. Needs no tokenizer.
    Tokens(Vec<u32>),
    /// A conversation, through the model's chat template.
    Chat(Vec<Message>),
}

impl Prompt {
    /// Text as it is.
    pub fn raw(text: impl Into<String>) -> Self {
        Prompt::Raw(text.into())
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Prompt::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Prompt::Text(text)
    }
}

impl From<&String> for Prompt {
    fn from(text: &String) -> Self {
        Prompt::Text(text.clone())
    }
}

impl From<&Prompt> for Prompt {
    fn from(prompt: &Prompt) -> Self {
        prompt.clone()
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Prompt::Tokens(tokens)
    }
}

impl From<&[u32]> for Prompt {
    fn from(tokens: &[u32]) -> Self {
        Prompt::Tokens(tokens.to_vec())
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Prompt::Chat(messages)
    }
}

impl From<&[Message]> for Prompt {
    fn from(messages: &[Message]) -> Self {
        Prompt::Chat(messages.to_vec())
    }
}

impl Engine {
    /// The token ids of a prompt.
    ///
    /// # Errors
    /// If it is empty, holds ids that are not in the vocabulary, or is text and the checkpoint has no tokenizer (or,
    /// for a conversation, no chat template).
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Raw(text) => self.encode(text)?,
            Prompt::Chat(messages) => self.encode_chat(messages)?,
            Prompt::Text(text) if self.has_chat_template() => {
                not_empty(text)?;
                self.encode_chat(&[Message::new("user", text)])?
            }
            Prompt::Text(text) => self.encode(text)?,
        };
        if tokens.is_empty() {
            return Err(empty());
        }
        self.check_tokens(&tokens)?;
        Ok(tokens)
    }

    /// Whether prompts may be conversations.
    pub fn has_chat_template(&self) -> bool {
        self.text().is_some_and(|text| text.chat.is_some())
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let loaded = self.text().ok_or_else(no_tokenizer)?;
        not_empty(text)?;
        loaded.tokenizer.encode(text, true)
    }

    fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let text = self.text().ok_or_else(no_tokenizer)?;
        let chat = text.chat.as_ref().ok_or_else(|| {
            let advice = "the model has no chat template; give it raw text instead (--raw)";
            Error::Invalid(advice.into())
        })?;
        if messages.is_empty() {
            return Err(empty());
        }
        // The template writes the beginning-of-text token where the model wants one.
        let prompt = chat.render(messages, true)?;
        text.tokenizer.encode(&prompt, false)
    }
}

fn not_empty(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(empty());
    }
    Ok(())
}

fn empty() -> Error {
    Error::Invalid("the prompt is empty; give it at least one token (-p, -f or --tokens)".into())
}

fn no_tokenizer() -> Error {
    Error::Invalid(
        "the checkpoint has no tokenizer; give token ids instead of text (--tokens 1,2,3)".into(),
    )
}
