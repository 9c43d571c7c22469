/// An array of text of GGUF metadata, in two allocations: a vocabulary has hundreds of thousands of short ones, and
/// memory that they leave in pieces is not given back to the system.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufStrings {
    text: String,
    /// Where each one ends in `text`.
    ends: Vec<usize>,
}

impl GgufStrings {
    /// Appends one.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one at an index.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        // Of known length, so that tables made of it are not made twice.
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl<S: AsRef<str>> FromIterator<S> for GgufStrings {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut strings = GgufStrings::default();
        texts
            .into_iter()
            .for_each(|text| strings.push(text.as_ref()));
        strings
    }
}

#[cfg(test)]
mod tests {
    use super::GgufStrings;

    #[test]
    fn gives_back_what_it_was_given() {
        let texts = ["", "a", "", "bcd", "é", ""];
        let strings = GgufStrings::from_iter(texts);
        assert_eq!(strings.iter().collect::<Vec<_>>(), texts);
        assert_eq!((strings.get(3), strings.get(6)), (Some("bcd"), None));
        assert!(GgufStrings::default().is_empty() && strings.len() == 6);
    }
}
