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

/// Whether `line` of a log names an error, with a place or without.
pub(crate) fn is_error(line: &str) -> bool {
    let of_ptxas = line.starts_with("ptxas")
        && matches!(line.split_whitespace().nth(1), Some("error" | "fatal"));
    of_ptxas || line.contains("error:") || place(line).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "one\ntwo\nthree\nfour\nfive\nsix";

    #[test]
    fn errors_of_the_front_end_show_the_lines_around_them() {
        let log = "k (1).cu(4): error: identifier \"y\" is undefined\n   four\n   ^\n\
                   k (1).cu(4): error: a second on this line\n\
                   k (1).cu(5): warning #177-D: error: not an error\n\
                   h.cuh(1): catastrophic error: cannot open source file \"x.h\"\n\
                   other.cuh(1): error: a file that is not here\n\
                   h.cuh(99): error: a line that is not there\n";
        let found = excerpts(log, &[("k (1).cu", SOURCE), ("h.cuh", "#include \"x.h\"")]);
        let places: Vec<(&str, usize)> = found.iter().map(|e| (e.file.as_str(), e.line)).collect();
        assert_eq!(places, [("k (1).cu", 4), ("h.cuh", 1)]);
        assert_eq!(
            found[0].to_string(),
            "--> k (1).cu:4\n     2 | two\n     3 | three\n>    4 | four\n     5 | five\n     6 | six"
        );
        assert_eq!(
            found[1].to_string(),
            "--> h.cuh:1\n>    1 | #include \"x.h\""
        );
    }

    #[test]
    fn errors_of_ptxas_show_ptx() {
        let log = "ptxas application ptx input, line 1; error   : Unknown modifier '.bar'\n\
                   ptxas application ptx input, line 3; warning : careful\n\
                   ptxas fatal   : Ptx assembly aborted due to errors\n";
        let found = excerpts(log, &[("k.cu", "nothing"), (PTX, SOURCE)]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "--> PTX:1\n>    1 | one\n     2 | two\n     3 | three"
        );
    }

    #[test]
    fn errors_are_told_from_reports() {
        for line in [
            "ptxas error   : Entry function 'k' uses too much shared data",
            "ptxas fatal   : Ptx assembly aborted due to errors",
            "nvrtc: error: unrecognized option --foo found",
            "k.cu(3): error: no",
        ] {
            assert!(is_error(line), "{line}");
        }
        for line in [
            "ptxas info    : Function properties for error",
            "ptxas warning : Value of threads per SM for entry error is out of range",
            "k.cu(3): warning #177-D: variable \"error\" was declared but never referenced",
        ] {
            assert!(!is_error(line), "{line}");
        }
    }
}
