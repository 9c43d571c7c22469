use super::directory::{read_json, read_text, token_text};
use super::jinja::{BoundedText, environment, without_generation_blocks};
use super::python::container;
use crate::checkpoint::GgufMetadata;
use crate::error::{Error, Result};
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longest template that is looked at.
const MAX_TEMPLATE: usize = 1 << 20;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what the template knows beside them.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// Everything that a template may be given.
#[derive(Debug, Clone, Default)]
pub struct ChatInput {
    /// A list of messages, of whatever shape the template wants.
    pub messages: Value,
    /// Whether the prompt ends with the start of an answer.
    pub add_generation_prompt: bool,
    /// JSON schemas of tools, or null.
    pub tools: Value,
    /// Further variables.
    pub variables: Map<String, Value>,
    /// Local time, like `2024-07-06T15:04:05`, instead of the clock's.
    pub now: Option<String>,
}

/// Turns a conversation into a prompt, as Hugging Face's `apply_chat_template` does.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    special_tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// A template and the special tokens it may name (`bos_token`, `eos_token`, ..). Compiles at each rendering.
    pub fn new(source: &str, special_tokens: impl IntoIterator<Item = (String, String)>) -> Self {
        ChatTemplate {
            source: without_generation_blocks(source),
            special_tokens: special_tokens
                .into_iter()
                .map(|(name, text)| (name, Value::String(text)))
                .collect(),
        }
    }

    /// The template of a Hugging Face directory: `chat_template.jinja`, else that of `tokenizer_config.json`.
    ///
    /// # Errors
    /// If one of these files is malformed.
    pub fn from_directory(directory: &Path) -> Result<Option<Self>> {
        let config = read_json(directory, "tokenizer_config.json")?.unwrap_or_default();
        let special_map = read_json(directory, "special_tokens_map.json")?.unwrap_or_default();
        let source = match read_text(directory, "chat_template.jinja")? {
            Some(source) => Some(source),
            None => default_template(config.get("chat_template")),
        };
        let special_tokens = [
            "bos_token",
            "eos_token",
            "unk_token",
            "pad_token",
            "sep_token",
            "cls_token",
        ]
        .into_iter()
        .filter_map(|name| {
            let text = token_text(&config, name).or_else(|| token_text(&special_map, name))?;
            Some((name.to_owned(), text))
        });
        Ok(source.map(|source| ChatTemplate::new(&source, special_tokens)))
    }

    /// The template of a GGUF file.
    pub fn from_gguf(metadata: &GgufMetadata) -> Option<Self> {
        let source = metadata.str("tokenizer.chat_template")?;
        let tokens = metadata.strings("tokenizer.ggml.tokens");
        let special_tokens = [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ]
        .into_iter()
        .filter_map(|(name, key)| {
            let id = metadata.u64(&format!("tokenizer.ggml.{key}_token_id"))?;
            let text = tokens?.get(usize::try_from(id).ok()?)?;
            Some((name.to_owned(), text.to_owned()))
        });
        Some(ChatTemplate::new(source, special_tokens))
    }

    /// Whether the template compiles.
    ///
    /// # Errors
    /// If it does not, with the line.
    pub fn check(&self) -> Result<()> {
        let environment = environment(None);
        self.compile(&environment).map(drop)
    }

    /// The prompt for a conversation; with `add_generation_prompt` it ends where the answer starts.
    ///
    /// # Errors
    /// If the template does not compile, refuses the conversation, or costs more than a template may.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages = messages
            .iter()
            .map(|message| serde_json::json!({"role": message.role, "content": message.content}))
            .collect();
        self.render_input(&ChatInput {
            messages,
            add_generation_prompt,
            ..ChatInput::default()
        })
    }

    /// Like [`ChatTemplate::render`], with tools and whatever else a template takes.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`], and if `now` is no time.
    pub fn render_input(&self, input: &ChatInput) -> Result<String> {
        let now: Option<DateTime> = match &input.now {
            None => None,
            Some(text) => Some(text.parse().map_err(|error| {
                Error::Invalid(format!("`{text}` is no date and time: {error}"))
            })?),
        };
        let mut context = self.special_tokens.clone();
        context.insert("messages".into(), input.messages.clone());
        context.insert("tools".into(), input.tools.clone());
        context.insert("documents".into(), Value::Null);
        context.insert(
            "add_generation_prompt".into(),
            input.add_generation_prompt.into(),
        );
        context.extend(input.variables.clone());

        let environment = environment(now);
        let template = self.compile(&environment)?;
        let context = container(minijinja::Value::from_serialize(&context));
        let mut out = BoundedText::default();
        // The engine counts with plain `+` and `-` in places, where a template picks the numbers.
        let rendered = catch_unwind(AssertUnwindSafe(|| {
            template.render_captured_to(context, &mut out).map(drop)
        }));
        match rendered {
            Ok(rendered) => rendered.map_err(|error| refusal(&error))?,
            Err(_) => {
                return Err(Error::ChatTemplate {
                    line: None,
                    reason: "the template engine failed on it".into(),
                });
            }
        }
        String::from_utf8(out.0).map_err(|_| Error::ChatTemplate {
            line: None,
            reason: "the prompt is not UTF-8".into(),
        })
    }

    fn compile<'a>(
        &'a self,
        environment: &'a minijinja::Environment<'a>,
    ) -> Result<minijinja::Template<'a, 'a>> {
        if self.source.len() > MAX_TEMPLATE {
            return Err(Error::ChatTemplate {
                line: None,
                reason: format!("longer than {MAX_TEMPLATE} bytes"),
            });
        }
        environment
            .template_from_str(&self.source)
            .map_err(|error| refusal(&error))
    }
}

/// A template, or the one called `default` of a list of named ones.
fn default_template(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named
                .iter()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
            Some(default.get("template")?.as_str()?.to_owned())
        }
        _ => None,
    }
}

/// One sentence: the innermost cause says what happened, the outermost where.
fn refusal(error: &minijinja::Error) -> Error {
    let reason = match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => "it takes too long".to_owned(),
        (minijinja::ErrorKind::WriteFailure, _) => "the rendered prompt is too long".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    Error::ChatTemplate {
        line: error.line(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str) -> Result<String> {
        ChatTemplate::new(source, [("bos_token".to_owned(), "<s>".to_owned())])
            .render(&[Message::new("user", "Hi")], true)
    }

    #[test]
    fn errors_name_the_line() {
        let error = render("a\n{% if %}").unwrap_err().to_string();
        assert!(error.starts_with("chat template line 2: "), "{error}");
        let error = render("\n\n{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "chat template line 3: roles must alternate"
        );
    }

    #[test]
    fn hostile_templates_end() {
        let loops =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(render(loops).unwrap_err().to_string().contains("too long"));
        assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
        assert!(render("{{ 'x' * 999999999999 }}").is_err());
        assert!(render(&"{{ (".repeat(10_000)).is_err());
        assert!(render(&"{% if true %}".repeat(10_000)).is_err());
        assert!(render(&" ".repeat(MAX_TEMPLATE + 1)).is_err());
    }

    #[test]
    fn single_numbers_cost_nothing() {
        for source in [
            "{{ 'a\nb' | indent(999999999999) }}",
            "{{ 'a\nb' | indent(width=999999999999) }}",
            "{{ '%999999999d' | format(1) }}",
            "{{ '%.999999999f' | format(1.5) }}",
            "{{ '%*d' | format(999999999, 1) }}",
            "{{ '{:>999999999}'.format(1) }}",
            "{{ ([1] * 999999999999) | list }}",
            "{{ [1] * 999999999999 }}",
            "{{ ([1] * 999999999999) | tojson }}",
            "{{ ([1] * 999999999999) | sort }}",
            "{{ [1] | batch(999999999999, 2) }}",
            "{{ [1] | slice(999999999999) }}",
            "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
            "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
            "{{ ('x' * 1000000).join('y' * 1000000) }}",
            "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}\
             {% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
        assert_eq!(render("{{ 'abc'.count('') }}").unwrap(), "4");
    }

    #[test]
    fn containers_print_as_in_python() {
        for (source, expected) in [
            ("{{ ['a', 1.0, none] }}", "['a', 1.0, None]"),
            ("{{ [\"it's\"] | string }}", "[\"it's\"]"),
            (
                "{{ [['a'], {'b': 1e20}] | join('-') }}",
                "['a']-{'b': 1e+20}",
            ),
            (
                "{{ 'm: ' ~ messages }}",
                "m: [{'role': 'user', 'content': 'Hi'}]",
            ),
            (
                "{{ messages[0] ~ '' }}",
                "{'role': 'user', 'content': 'Hi'}",
            ),
            ("{{ '%s' | format(['a']) }}", "['a']"),
            ("{{ messages == messages[:] | list }}", "True"),
            (
                "{{ messages[0].items() | list }}",
                "[['role', 'user'], ['content', 'Hi']]",
            ),
        ] {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn named_templates() {
        let list = json!([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]);
        assert_eq!(default_template(Some(&list)).as_deref(), Some("d"));
        assert_eq!(default_template(Some(&json!(3))), None);
        assert_eq!(
            render("{{ bos_token }}{{ none }}{{ true }}{{ missing }}").unwrap(),
            "<s>NoneTrue"
        );
    }
}
