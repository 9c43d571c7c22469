use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::ColorChoice;

/// A token that the draft had guessed.
const ACCEPTED: Style = AnsiColor::Green.on_default();

/// A token that it had not: the model's correction, or what follows the last guess.
const OWN: Style = AnsiColor::Yellow.on_default();

/// Colours text by where its tokens came from, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub struct Colors {
    enabled: bool,
}

impl Colors {
    /// For standard output.
    pub fn new(wanted: bool, choice: ColorChoice) -> Self {
        let stdout = || AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let enabled = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stdout(),
        };
        Colors {
            enabled: wanted && enabled,
        }
    }

    /// Says on standard error what the colours mean.
    pub fn explain(self) {
        if self.enabled {
            let guessed = self.paint("guessed by the draft", true);
            let own = self.paint("chosen by the model", false);
            eprintln!("colours: {guessed}, {own}");
        }
    }

    pub fn paint(self, text: &str, accepted: bool) -> String {
        if !self.enabled || text.is_empty() {
            return text.to_owned();
        }
        let style = if accepted { ACCEPTED } else { OWN };
        format!("{style}{text}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fragment_is_coloured_by_itself() {
        let colors = Colors::new(true, ColorChoice::Always);
        assert_eq!(colors.paint("a", true), "\u{1b}[32ma\u{1b}[0m");
        assert_eq!(colors.paint("b", false), "\u{1b}[33mb\u{1b}[0m");
        assert_eq!(colors.paint("", true), "");
        assert_eq!(Colors::new(true, ColorChoice::Never).paint("a", true), "a");
        assert_eq!(
            Colors::new(false, ColorChoice::Always).paint("a", true),
            "a"
        );
    }
}
