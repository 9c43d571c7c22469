//! The template language as Hugging Face sets it up, with limits on what a hostile template can cost.
//!
//! Bounded are the instructions, what is printed (also into a variable), and what each filter and method makes. Not
//! bounded are the language's operators: a loop over `s = s ~ s` doubles a text until memory ends, and a namespace
//! that holds itself, or lists wrapped a hundred thousand deep, can end the stack, and such a namespace is never freed
//! (the engine counts references). The engine gives no hook there.
//! So a template is trusted not to want the process dead, as the rest of a checkpoint is; to render one that is not
//! trusted even so far, give the process a memory limit.
//!
//! Lists and maps print as in Python wherever they are printed, filtered, or joined. One gap: `~` prints those that
//! were built inside the template with double quotes; those of the conversation it prints as Python does.

use super::filters;
use super::python;
use super::tojson::tojson;
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Instructions a rendering may take: a conversation of a thousand turns takes some hundred thousand.
const FUEL: u64 = 20_000_000;

/// Longest text that a rendering may give.
const MAX_OUTPUT: usize = 64 << 20;

/// Depth of macros and includes.
const MAX_RECURSION: usize = 100;

/// An environment like transformers' `ImmutableSandboxedEnvironment`. `now` stands in for the clock.
pub(super) fn environment<'source>(now: Option<DateTime>) -> Environment<'source> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    filters::add_to(&mut environment);
    let printed = AtomicUsize::new(0);
    environment.set_formatter(move |out, _: &State, value| print(out, value, &printed));
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.add_filter("tojson", tojson);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function("strftime_now", move |format: &str| strftime(format, now));
    environment
}

/// Prints a value, and counts: a template may print into a variable, and that again and again.
fn print(out: &mut Output, value: &Value, printed: &AtomicUsize) -> Result<(), Error> {
    let text;
    let text = match (value.as_str(), value.kind()) {
        (Some(text), _) => text,
        (None, ValueKind::Invalid) => return Err(python::refusal(value.to_string())),
        (None, _) => {
            text = python::str(value)?;
            text.as_str()
        }
    };
    if printed.fetch_add(text.len(), Ordering::Relaxed) > MAX_OUTPUT {
        return Err(python::refusal("the rendered prompt is too long"));
    }
    Ok(out.write_str(text)?)
}

fn strftime(format: &str, now: Option<DateTime>) -> Result<String, Error> {
    let time = match now {
        Some(now) => BrokenDownTime::from(now),
        None => BrokenDownTime::from(&Zoned::now()),
    };
    let text = time.to_string(format);
    text.map_err(|error| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: {error}"),
        )
    })
}

/// Makes the blocks `{% generation %}`, which mark text to train on, mean nothing; lines stay where they are.
pub(super) fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let body = &tag[2..];
        let marked = body.strip_prefix(['-', '+']).unwrap_or(body);
        let word = marked.trim_start();
        let replacement = [("generation", "if true"), ("endgeneration", "endif")]
            .into_iter()
            .find_map(|(name, replacement)| {
                let after = word.strip_prefix(name)?;
                let close = after.trim_start();
                let ends = ["%}", "-%}", "+%}"]
                    .iter()
                    .any(|end| close.starts_with(end));
                ends.then_some((replacement, after))
            });
        match replacement {
            Some((replacement, after)) => {
                out.push_str(&tag[..tag.len() - word.len()]);
                out.push_str(replacement);
                rest = after;
            }
            None => {
                out.push_str("{%");
                rest = body;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A text that refuses to grow without end.
#[derive(Default)]
pub(super) struct BoundedText(pub Vec<u8>);

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("the rendered prompt is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_blocks_mean_nothing() {
        let source =
            "a{%- generation -%}\nb{% endgeneration %}{% generational %}{% if generation %}";
        assert_eq!(
            without_generation_blocks(source),
            "a{%- if true -%}\nb{% endif %}{% generational %}{% if generation %}"
        );
    }
}
