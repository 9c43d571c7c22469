use crate::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What users said, to be answered turn by turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Line of the file, from 0.
    pub id: usize,
    /// `category` or `source`, if the line says one.
    pub group: Option<String>,
    /// System message, if there is one.
    pub system: Option<String>,
    /// The user's turns, at least one.
    pub users: Vec<Turn>,
}

/// What a user said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Text, which goes through the target's chat template if it has one.
    Text(String),
    /// Token ids, which go to the target as they are.
    Tokens(Vec<u32>),
}

/// Reads conversations, one JSON object per line, in any of the shapes that collections of prompts have: `prompt` (text),
/// `turns` (texts), `messages` (`role`, `content`), `conversations` (`from`, `value`) or, for targets without a tokenizer, `tokens`
/// (ids). Answers in the file are left out: the target gives its own.
///
/// # Errors
/// If the file cannot be read, or a line is none of these, with its number.
pub fn read_conversations(path: &Path) -> Result<Vec<Conversation>> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut all = Vec::new();
    for (id, line) in file.lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let fail = |reason: &str| Error::malformed(path, format!("line {}: {reason}", id + 1));
        let value: Value = serde_json::from_str(&line).map_err(|e| fail(&e.to_string()))?;
        let (system, users) = turns(&value).ok_or_else(|| {
            fail("no `prompt`, `turns`, `messages`, `conversations` or `tokens` of a user")
        })?;
        let group = ["category", "source"]
            .iter()
            .find_map(|key| value.get(key)?.as_str());
        all.push(Conversation {
            id,
            group: group.map(str::to_owned),
            system,
            users,
        });
    }
    Ok(all)
}

fn turns(value: &Value) -> Option<(Option<String>, Vec<Turn>)> {
    if let Some(ids) = value.get("tokens").and_then(Value::as_array) {
        let ids = ids.iter().map(|id| u32::try_from(id.as_u64()?).ok());
        let ids = ids
            .collect::<Option<Vec<u32>>>()
            .filter(|ids| !ids.is_empty());
        return Some((None, vec![Turn::Tokens(ids?)]));
    }
    if let Some(prompt) = value.get("prompt").and_then(Value::as_str) {
        return Some((None, vec![Turn::Text(prompt.to_owned())]));
    }
    if let Some(turns) = value.get("turns").and_then(Value::as_array) {
        let text = |turn: &Value| Some(Turn::Text(turn.as_str()?.to_owned()));
        let turns: Option<Vec<Turn>> = turns.iter().map(text).collect();
        return turns
            .filter(|turns| !turns.is_empty())
            .map(|turns| (None, turns));
    }
    let (messages, role, text) = match (value.get("messages"), value.get("conversations")) {
        (Some(messages), _) => (messages, "role", "content"),
        (None, Some(messages)) => (messages, "from", "value"),
        (None, None) => return None,
    };
    let mut system = None;
    let mut users = Vec::new();
    for message in messages.as_array()? {
        let text = message.get(text)?.as_str()?.to_owned();
        match message.get(role)?.as_str()? {
            "system" if users.is_empty() => system = Some(text),
            "user" | "human" => users.push(Turn::Text(text)),
            _ => {}
        }
    }
    (!users.is_empty()).then_some((system, users))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Conversation>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prompts.jsonl");
        std::fs::write(&path, text).unwrap();
        read_conversations(&path)
    }

    #[test]
    fn every_shape_is_read() {
        let lines = [
            r#"{"source": "x", "prompt": "a"}"#,
            "",
            r#"{"turns": ["b", "c"]}"#,
            r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "d"},
                {"role": "assistant", "content": "e"}, {"role": "user", "content": "f"}]}"#,
            r#"{"tokens": [3, 4]}"#,
            r#"{"conversations": [{"from": "human", "value": "g"}, {"from": "gpt", "value": "h"}]}"#,
        ];
        let text = lines.map(|line| line.replace('\n', "")).join("\n");
        let all = read(&text).unwrap();
        let users: Vec<Vec<Turn>> = all.iter().map(|c| c.users.clone()).collect();
        let text = |text: &str| Turn::Text(text.to_owned());
        let expected = [
            vec![text("a")],
            vec![text("b"), text("c")],
            vec![text("d"), text("f")],
            vec![Turn::Tokens(vec![3, 4])],
            vec![text("g")],
        ];
        assert_eq!(users, expected);
        assert_eq!(all[0].group.as_deref(), Some("x"));
        assert_eq!(all[1].id, 2);
        assert_eq!(all[2].system.as_deref(), Some("s"));
    }

    #[test]
    fn faults_name_the_line() {
        for (text, says) in [
            ("{\"prompt\": \"a\"}\nnot json", "line 2: expected"),
            ("{\"text\": \"a\"}", "line 1: no `prompt`"),
            ("{\"turns\": []}", "line 1: no `prompt`"),
            ("{\"tokens\": [-1]}", "line 1: no `prompt`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
