use super::python::{self, MAX_DEPTH, check_length, items, refusal};
use minijinja::Error;
use minijinja::value::{Kwargs, Value, ValueKind};
use std::fmt::Write;

/// The filter `tojson` as Hugging Face defines it: Python's `json.dumps(.., ensure_ascii=False)`, no HTML escapes.
pub(super) fn tojson(
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    // In Python the first positional argument is ensure_ascii; people only write `tojson(indent=4)`.
    let indent = kwargs.get::<Option<Value>>("indent")?.or(indent);
    let ensure_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    kwargs.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(value) if value.is_none() || value.is_undefined() => None,
        Some(value) => match (value.as_str(), value.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(spaces)) if spaces <= 64 => Some(" ".repeat(spaces)),
            _ => return Err(refusal("the indent of `tojson` is no text or small number")),
        },
    };
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refusal("the separators of `tojson` are not two")),
    };
    let mut writer = Writer {
        out: String::new(),
        indent,
        item,
        key,
        ensure_ascii,
        sort_keys,
    };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refusal("a value nests too deep for `tojson`"));
        }
        check_length(self.out.len())?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = items(value)?;
                self.list("[", "]", items.len(), depth, |writer, at| {
                    writer.value(&items[at], depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys = items(value)?;
                if self.sort_keys {
                    keys.sort();
                }
                self.list("{", "}", keys.len(), depth, |writer, at| {
                    writer.map_key(&keys[at]);
                    let separator = writer.key.clone();
                    writer.out.push_str(&separator);
                    writer.value(&value.get_item(&keys[at])?, depth + 1)
                })?;
            }
            _ => return Err(refusal("an undefined or plain object has no JSON")),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: &str,
        close: &str,
        count: usize,
        depth: usize,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push_str(open);
        for at in 0..count {
            if at > 0 {
                let separator = self.item.clone();
                self.out.push_str(&separator);
            }
            self.new_line(depth + 1);
            each(self, at)?;
        }
        if count > 0 {
            self.new_line(depth);
        }
        self.out.push_str(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn number(&mut self, value: &Value) {
        let text = python::number(value);
        // Python's JSON spells these as JavaScript does.
        self.out.push_str(match text.as_str() {
            "inf" => "Infinity",
            "-inf" => "-Infinity",
            "nan" => "NaN",
            number => number,
        });
    }

    fn map_key(&mut self, key: &Value) {
        match key.as_str() {
            Some(text) => self.string(text),
            None => {
                let text = match key.kind() {
                    ValueKind::None => "null".to_owned(),
                    ValueKind::Bool => key.to_string().to_lowercase(),
                    _ => python::number(key),
                };
                self.string(&text);
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if u32::from(c) < 0x20 || self.ensure_ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        // Writing to a string cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
