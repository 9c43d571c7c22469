//! Filters and methods that print as Python does, and the ones whose cost a template could drive up with one number.

use super::python::{MAX_ITEMS, check_length, container, items, refusal, str};
use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueKind, from_args};
use minijinja::{Environment, Error, FormatStyle, State, filters, format_filter};
use minijinja_contrib::pycompat;

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("string", |value: Value| -> Result<Value, Error> {
        if value.kind() == ValueKind::String {
            return Ok(value);
        }
        str(&value).map(Value::from)
    });
    environment.add_filter("pprint", |value: &Value| str(value));
    environment.add_filter("join", |value: &Value, joiner: Option<Value>| {
        join(
            value,
            &joiner.map_or(Ok(String::new()), |joiner| str(&joiner))?,
        )
    });
    environment.add_filter("list", list);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format);
    environment.add_filter(
        "batch",
        |state: &State, value: &Value, rest: Rest<Value>| {
            pieces(state, &Value::from_function(filters::batch), value, &rest)
        },
    );
    environment.add_filter(
        "slice",
        |state: &State, value: &Value, rest: Rest<Value>| {
            pieces(state, &Value::from_function(filters::slice), value, &rest)
        },
    );
    for (name, filter) in [
        ("groupby", Value::from_function(filters::groupby)),
        ("last", Value::from_function(filters::last)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("sort", Value::from_function(filters::sort)),
        ("sum", Value::from_function(filters::sum)),
        ("unique", Value::from_function(filters::unique)),
    ] {
        environment.add_filter(
            name,
            move |state: &State, value: Value, rest: Rest<Value>| -> Result<Value, Error> {
                let bounded = match value.kind() {
                    ValueKind::Seq | ValueKind::Iterable => Value::from(items(&value)?),
                    _ => value,
                };
                let mut arguments = vec![bounded];
                arguments.extend(rest.0);
                filter.call(state, &arguments)
            },
        );
    }
    environment.set_unknown_method_callback(method);
}

/// Methods of Python's texts, lists and maps.
fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "count" => {
                let (what,): (&str,) = from_args(arguments)?;
                return Ok(Value::from(text.matches(what).count()));
            }
            "replace" => {
                if let [from, to, ..] = arguments {
                    check_replace(
                        text,
                        from.as_str().unwrap_or_default(),
                        to.as_str().unwrap_or_default(),
                    )?;
                }
            }
            "join" => {
                let (values,): (&Value,) = from_args(arguments)?;
                return join(values, text).map(Value::from);
            }
            "format" => check_format(text, FormatStyle::StrFormat, arguments)?,
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

fn list(value: &Value) -> Result<Value, Error> {
    Ok(container(Value::from(items(value)?)))
}

fn join(value: &Value, joiner: &str) -> Result<String, Error> {
    let mut out = String::new();
    for (at, item) in items(value)?.iter().enumerate() {
        if at > 0 {
            out.push_str(joiner);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&str(item)?),
        }
        check_length(out.len())?;
    }
    Ok(out)
}

fn replace(
    state: &State,
    value: StringInput<'_>,
    from: StringInput<'_>,
    to: StringInput<'_>,
) -> Result<Value, Error> {
    check_replace(value.as_str(), from.as_str(), to.as_str())?;
    filters::replace(state, value, from, to)
}

fn check_replace(text: &str, from: &str, to: &str) -> Result<(), Error> {
    let growth = to.len().saturating_sub(from.len());
    if growth == 0 {
        return Ok(());
    }
    let count = text.matches(from).count();
    check_length(text.len().saturating_add(count.saturating_mul(growth)))
}

fn indent(
    value: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let width = match width {
        Some(width) => width,
        None => kwargs.get::<Option<usize>>("width")?.unwrap_or(4),
    };
    let lines = value.as_str().matches('\n').count() + 1;
    check_length(
        lines
            .saturating_mul(width)
            .saturating_add(value.as_str().len()),
    )?;
    filters::indent(value, Some(width), first, blank, kwargs)
}

fn format(format: &str, mut arguments: Rest<Value>) -> Result<String, Error> {
    for argument in arguments.iter_mut() {
        if matches!(argument.kind(), ValueKind::Seq | ValueKind::Map) && !argument.is_kwargs() {
            *argument = Value::from(str(argument)?);
        }
    }
    check_format(format, FormatStyle::Printf, &arguments)?;
    format_filter(FormatStyle::Printf, format, &arguments)
}

/// Whether a format gives a text of a reasonable length: no field is longer than its width and its argument.
fn check_format(format: &str, style: FormatStyle, arguments: &[Value]) -> Result<(), Error> {
    let mut longest = 64_usize;
    for argument in arguments {
        longest = longest.max(match argument.as_str() {
            Some(text) => text.len(),
            None => str(argument)?.len(),
        });
    }
    let open = match style {
        FormatStyle::Printf => '%',
        FormatStyle::StrFormat => '{',
    };
    let mut length = format.len();
    for field in format.split(open).skip(1) {
        let spec = match style {
            FormatStyle::Printf => {
                let spec = field
                    .strip_prefix('(')
                    .and_then(|keyed| keyed.split_once(')'))
                    .map_or(field, |(_, spec)| spec);
                let end = spec
                    .find(|c: char| !matches!(c, '0'..='9' | '#' | ' ' | '+' | '-' | '.' | '*'));
                &spec[..end.unwrap_or(spec.len())]
            }
            FormatStyle::StrFormat => field.split_once('}').map_or(field, |(spec, _)| spec),
        };
        if spec.contains('*') && matches!(style, FormatStyle::Printf) {
            return Err(refusal("a format with a width of `*`"));
        }
        length = length.saturating_add(longest);
        for digits in spec.split(|c: char| !c.is_ascii_digit()) {
            if !digits.is_empty() {
                // A width may be filled with characters of four bytes.
                let width = digits.parse::<usize>().unwrap_or(usize::MAX);
                length = length.saturating_add(width.saturating_mul(4));
            }
        }
    }
    check_length(length)
}

/// `batch` and `slice`, which make room for as many as they are told.
fn pieces(state: &State, filter: &Value, value: &Value, rest: &[Value]) -> Result<Value, Error> {
    let count = rest.first().and_then(Value::as_usize);
    if count.is_some_and(|count| count > MAX_ITEMS / 16) {
        return Err(refusal(format!(
            "pieces of more than {} items",
            MAX_ITEMS / 16
        )));
    }
    let mut arguments = vec![Value::from(items(value)?)];
    arguments.extend_from_slice(rest);
    filter.call(state, &arguments)
}
