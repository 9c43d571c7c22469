//! Values as Python spells them, with limits on how many and how long.

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt;
use std::sync::Arc;

/// Nesting beyond it is refused, before the stack is at stake.
pub(super) const MAX_DEPTH: usize = 100;

/// Longest text that a filter or method makes.
pub(super) const MAX_LENGTH: usize = 16 << 20;

/// Longest list that a filter walks.
pub(super) const MAX_ITEMS: usize = 1 << 20;

pub(super) fn refusal(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Whether a text of that length may be made.
pub(super) fn check_length(length: usize) -> Result<(), Error> {
    if length > MAX_LENGTH {
        return Err(refusal(format!("a text longer than {MAX_LENGTH} bytes")));
    }
    Ok(())
}

/// What a value iterates over.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if value.len().is_some_and(|length| length > MAX_ITEMS) {
        return Err(too_many());
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        if items.len() == MAX_ITEMS {
            return Err(too_many());
        }
        items.push(item);
    }
    Ok(items)
}

fn too_many() -> Error {
    refusal(format!("a list of more than {MAX_ITEMS} items"))
}

/// Python's `str(value)`.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refusal("a value nests too deep to be printed"));
    }
    check_length(out.len())?;
    match value.kind() {
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (at, item) in items(value)?.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_repr(out, item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in items(value)?.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_repr(out, key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Number => out.push_str(&number(value)),
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Python's spelling of a number.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => spell_float(float),
        _ => value.to_string(),
    }
}

/// The shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
fn spell_float(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific; // inf
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = float.to_string();
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    ..0x100 => format!("\\x{code:02x}"),
                    0x100..0x1_0000 => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
}

fn printable(character: char) -> bool {
    // Behind another character the standard library escapes what is not printable, and quotes.
    matches!(character, ' '..='~')
        || format!("a{character}").escape_debug().nth(1) == Some(character)
}

/// A list or map that prints itself as Python does, also where the template language does the printing.
#[derive(Debug)]
struct Container(DynObject);

impl Object for Container {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.0.repr()
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get_value(key).map(container)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.enumerate()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        // An error here would be a panic there.
        if write_repr(&mut out, &Value::from_dyn_object(self.0.clone()), 0).is_err() {
            out.push_str("...");
        }
        f.write_str(&out)
    }
}

/// The value; if it is a list or map, one that prints itself as Python does.
pub(super) fn container(value: Value) -> Value {
    match (value.kind(), value.as_object()) {
        (ValueKind::Seq | ValueKind::Map, Some(object)) => {
            Value::from_object(Container(object.clone()))
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_in_python() {
        for (float, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.0, "2.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e20, "1.25e+20"),
            (1e300, "1e+300"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(spell_float(float), text);
        }
    }

    #[test]
    fn texts_are_quoted_as_in_python() {
        for (text, quoted) in [
            ("é😀", "'é😀'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("a\\b\n\t\r", "'a\\\\b\\n\\t\\r'"),
            (
                "\0\u{7f}\u{a0}\u{2028}\u{e0001}",
                "'\\x00\\x7f\\xa0\\u2028\\U000e0001'",
            ),
            ("e\u{301}", "'e\u{301}'"),
        ] {
            let mut out = String::new();
            write_quoted(&mut out, text);
            assert_eq!(out, quoted);
        }
    }
}
