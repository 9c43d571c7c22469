/// Finds stop strings in text that comes in pieces.
///
/// Text that may be the start of a stop string is held back until it is certain. The stop string that is complete
/// first counts (of those that end together, the longest), so the outcome does not depend on how the text is cut.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOutput {
    /// Text that is now certain to come before any stop string.
    pub text: String,
    /// Whether a stop string is complete: nothing comes after `text`.
    pub stopped: bool,
}

impl StopStrings {
    /// Looks for any of `stops`; empty ones are left out.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let mut stops: Vec<String> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        stops.sort_by_key(|stop| std::cmp::Reverse(stop.len()));
        StopStrings {
            stops,
            ..StopStrings::default()
        }
    }

    /// Takes text; after a stop nothing more is given.
    pub fn push(&mut self, text: &str) -> StopOutput {
        if self.stopped {
            return self.output(String::new());
        }
        let old = self.held.len();
        self.held.push_str(text);
        for (offset, character) in text.char_indices() {
            let end = old + offset + character.len_utf8();
            let seen = &self.held[..end];
            // The longest first: they are sorted so.
            if let Some(before) = self
                .stops
                .iter()
                .find_map(|stop| seen.strip_suffix(stop.as_str()))
            {
                let before = before.to_owned();
                self.held.clear();
                self.stopped = true;
                return self.output(before);
            }
        }
        let may_start = |rest: &str| self.stops.iter().any(|stop| stop.starts_with(rest));
        let keep_from = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| may_start(&self.held[at..]))
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(keep_from);
        let certain = std::mem::replace(&mut self.held, kept);
        self.output(certain)
    }

    /// Ends the text: gives what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was complete.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    fn output(&self, text: String) -> StopOutput {
        StopOutput {
            text,
            stopped: self.stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole text at hand: the first end of any stop string.
    fn naive(stops: &[String], text: &str) -> (String, bool) {
        let first = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)))
            .min();
        match first {
            Some((_, at)) => (text[..at].to_owned(), true),
            None => (text.to_owned(), false),
        }
    }

    #[test]
    fn text_is_held_no_longer_than_needed() {
        let mut stops = StopStrings::new(["</s>".to_owned(), "<end>".to_owned()]);
        assert_eq!(stops.push("a<").text, "a");
        assert_eq!(stops.push("b</").text, "<b");
        assert_eq!(stops.push("<e").text, "</");
        let output = stops.push("nd> more");
        assert_eq!((output.text.as_str(), output.stopped), ("", true));
        assert_eq!(stops.push("x").text, "");
        assert_eq!(stops.finish(), "");
    }

    proptest! {
        #[test]
        fn same_as_searching_the_whole(
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
            pieces in prop::collection::vec("[abcé]{0,4}", 0..12),
        ) {
            let mut matcher = StopStrings::new(stops.clone());
            let mut text = String::new();
            for piece in &pieces {
                let output = matcher.push(piece);
                text.push_str(&output.text);
                if output.stopped {
                    break;
                }
            }
            text.push_str(&matcher.finish());
            prop_assert_eq!((text, matcher.stopped()), naive(&stops, &pieces.concat()));
        }
    }
}
