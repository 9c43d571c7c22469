//! Source lines around the errors of a compilation log.

use std::fmt;

/// Lines shown above and below the one that an error names.
const CONTEXT: usize = 2;

/// The file of an excerpt from the input of ptxas.
pub(crate) const PTX: &str = "PTX";

/// The numbered lines around one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The file that the log names, or `PTX` where ptxas speaks of its input.
    pub file: String,
    /// The line of the error, from 1.
    pub line: usize,
    /// Number of the first line in `lines`.
    pub first: usize,
    /// The lines.
    pub lines: Vec<String>,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--> {}:{}", self.file, self.line)?;
        for (number, line) in (self.first..).zip(&self.lines) {
            let mark = if number == self.line { '>' } else { ' ' };
            write!(f, "\n{mark}{number:5} | {line}")?;
        }
        Ok(())
    }
}

/// Where a line of a log sees an error: (file, line from 1).
///
/// The front end writes `name(12): error: ...` (also `catastrophic error`), ptxas writes
/// `ptxas application ptx input, line 28; error   : ...`.
fn place(line: &str) -> Option<(&str, usize)> {
    if let Some(rest) = line.strip_prefix("ptxas application ptx input, line ") {
        let (number, message) = rest.split_once(';')?;
        let is_error =
            message.trim_start().starts_with("error") || message.trim_start().starts_with("fatal");
        return is_error
            .then(|| number.parse().ok())
            .flatten()
            .map(|number| (PTX, number));
    }
    let (place, message) = line.split_once("): ")?;
    let (file, number) = place.rsplit_once('(')?;
    let is_error = message
        .split(':')
        .next()?
        .split_whitespace()
        .any(|word| word == "error");
    is_error
        .then(|| number.parse().ok())
        .flatten()
        .map(|number| (file, number))
}

/// An excerpt for every place with an error in `log`, each place once, out of `texts` as (name, text). Places in files
/// that are not among them have none.
pub(crate) fn excerpts(log: &str, texts: &[(&str, &str)]) -> Vec<Excerpt> {
    let mut found: Vec<Excerpt> = Vec::new();
    for (file, line) in log.lines().filter_map(place) {
        if line == 0
            || found
                .iter()
                .any(|excerpt| excerpt.file == file && excerpt.line == line)
        {
            continue;
        }
        let Some((_, text)) = texts.iter().find(|(name, _)| *name == file) else {
            continue;
        };
        let first = line.saturating_sub(CONTEXT).max(1);
        let lines: Vec<String> = text
            .lines()
            .skip(first - 1)
            .take(line + CONTEXT + 1 - first)
            .map(str::to_owned)
            .collect();
        if !lines.is_empty() {
            found.push(Excerpt {
                file: file.to_owned(),
                line,
                first,
                lines,
            });
        }
    }
    found
}
