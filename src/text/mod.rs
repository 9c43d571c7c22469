//! Tokenizers, chat templates, streaming text. A stub until the branch `text` is merged.
#![allow(missing_docs)]
use crate::{Result, checkpoint::TextSource};

#[derive(Debug, Clone)]
pub struct Message {
    pub role: String,
    pub content: String,
}
impl Message {
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let role = role.to_owned();
        let content = content.into();
        Message { role, content }
    }
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}
#[derive(Debug)]
pub struct Text;
impl Text {
    pub fn load(_: TextSource<'_>) -> Result<Option<Self>> {
        Ok(None)
    }
    pub fn eos(&self) -> Vec<u32> {
        vec![]
    }
    pub fn encode(&self, _: &str, _special: bool) -> Result<Vec<u32>> {
        Ok(vec![])
    }
    pub fn has_chat_template(&self) -> bool {
        false
    }
    pub fn render(&self, _: &[Message]) -> Result<String> {
        Ok(String::new())
    }
    pub fn stream(&self) -> TextStream {
        TextStream
    }
}
#[derive(Debug)]
pub struct TextStream;
impl TextStream {
    pub fn push(&mut self, _: &Text, _: u32) -> String {
        String::new()
    }
    pub fn finish(&mut self) -> String {
        String::new()
    }
}
#[derive(Debug)]
pub struct StopStrings;
impl StopStrings {
    pub fn new(_: &[String]) -> Self {
        StopStrings
    }
    pub fn push(&mut self, text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }
    pub fn finish(&mut self) -> String {
        String::new()
    }
}
