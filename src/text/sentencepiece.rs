use super::decoder::fallback_byte;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// SentencePiece's byte-pair encoding: the neighbours whose union scores highest merge first.
///
/// A merge list cannot express it exactly (there, two ways to form one piece have different ranks; here, equal
/// scores merge from the left), so the algorithm itself is here.
#[derive(Debug, Clone)]
pub(super) struct SentencePiece {
    pieces: HashMap<String, (u32, f32)>,
    /// Tokens that are found in a text before anything merges, longest first under each first byte.
    symbols: HashMap<u8, Vec<(String, u32)>>,
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    pub add_space_prefix: bool,
}

/// A neighbouring pair that may merge.
#[derive(Debug, PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both when found: if it differs later, one of them has grown and the pair is stale.
    length: usize,
    id: u32,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A piece of the text, in a doubly linked list over a vector; an empty one has been merged away.
struct Node {
    start: usize,
    length: usize,
    previous: usize,
    next: usize,
    id: Option<u32>,
}

const NONE: usize = usize::MAX;

impl SentencePiece {
    /// `pieces` are those that merging may form; `symbols` are control and user-defined tokens.
    pub fn new(
        pieces: HashMap<String, (u32, f32)>,
        symbols: Vec<(String, u32)>,
        byte_tokens: &[(String, u32)],
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Self {
        let mut bytes = vec![None; 256];
        for (token, id) in byte_tokens {
            if let Some(byte) = fallback_byte(token) {
                bytes[usize::from(byte)] = Some(*id);
            }
        }
        let mut by_first: HashMap<u8, Vec<(String, u32)>> = HashMap::new();
        for (token, id) in symbols {
            if let Some(&first) = token.as_bytes().first() {
                by_first.entry(first).or_default().push((token, id));
            }
        }
        for tokens in by_first.values_mut() {
            tokens.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        }
        SentencePiece {
            pieces,
            symbols: by_first,
            bytes,
            unknown,
            add_space_prefix,
        }
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        if let Some(&(id, _)) = self.pieces.get(token) {
            return Some(id);
        }
        let first = token.as_bytes().first()?;
        let tokens = self.symbols.get(first)?;
        tokens
            .iter()
            .find(|(text, _)| text == token)
            .map(|&(_, id)| id)
    }

    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut plain_from = 0;
        let mut at = 0;
        while at < text.len() {
            match self.symbol_at(&text[at..]) {
                Some((length, id)) => {
                    self.encode_plain(&text[plain_from..at], &mut ids);
                    ids.push(id);
                    at += length;
                    plain_from = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_plain(&text[plain_from..], &mut ids);
        ids
    }

    fn symbol_at(&self, text: &str) -> Option<(usize, u32)> {
        let tokens = self.symbols.get(text.as_bytes().first()?)?;
        tokens
            .iter()
            .find(|(token, _)| text.starts_with(token.as_str()))
            .map(|(token, id)| (token.len(), *id))
    }

    /// Encodes text between symbols: every such stretch starts a sentence of its own.
    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.add_space_prefix {
            escaped.push('\u{2581}');
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { '\u{2581}' } else { c }));
        self.merge(&escaped, ids);
    }

    fn merge(&self, text: &str, ids: &mut Vec<u32>) {
        let mut nodes: Vec<Node> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| {
                let length = character.len_utf8();
                Node {
                    start,
                    length,
                    previous: index.checked_sub(1).unwrap_or(NONE),
                    next: index + 1,
                    id: self
                        .pieces
                        .get(&text[start..start + length])
                        .map(|&(id, _)| id),
                }
            })
            .collect();
        if let Some(last) = nodes.last_mut() {
            last.next = NONE;
        }
        let mut heap = BinaryHeap::new();
        for left in 0..nodes.len().saturating_sub(1) {
            self.consider(text, &nodes, left, left + 1, &mut heap);
        }
        while let Some(pair) = heap.pop() {
            let (left, right) = (pair.left, pair.right);
            let stale = nodes[left].length == 0
                || nodes[right].length == 0
                || nodes[left].length + nodes[right].length != pair.length;
            if stale {
                continue;
            }
            nodes[left].length = pair.length;
            nodes[left].id = Some(pair.id);
            nodes[right].length = 0;
            let (previous, next) = (nodes[left].previous, nodes[right].next);
            nodes[left].next = next;
            if next != NONE {
                nodes[next].previous = left;
                self.consider(text, &nodes, left, next, &mut heap);
            }
            if previous != NONE {
                self.consider(text, &nodes, previous, left, &mut heap);
            }
        }
        for node in nodes.iter().filter(|node| node.length > 0) {
            match node.id {
                Some(id) => ids.push(id),
                None => self.fall_back(&text[node.start..node.start + node.length], ids),
            }
        }
    }

    fn consider(
        &self,
        text: &str,
        nodes: &[Node],
        left: usize,
        right: usize,
        heap: &mut BinaryHeap<Pair>,
    ) {
        let start = nodes[left].start;
        let length = nodes[left].length + nodes[right].length;
        if let Some(&(id, score)) = self.pieces.get(&text[start..start + length]) {
            heap.push(Pair {
                score,
                left,
                right,
                length,
                id,
            });
        }
    }

    /// Spells a character that is no piece in bytes; without tokens for bytes it is unknown.
    fn fall_back(&self, character: &str, ids: &mut Vec<u32>) {
        let bytes: Option<Vec<u32>> = character
            .bytes()
            .map(|byte| self.bytes[usize::from(byte)])
            .collect();
        match bytes {
            Some(bytes) => ids.extend(bytes),
            None => ids.extend(self.unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(add_space_prefix: bool) -> SentencePiece {
        let pieces = ["▁", "a", "b", "ab", "▁ab", "ba", "aba"];
        let pieces = pieces
            .iter()
            .enumerate()
            .map(|(i, piece)| ((*piece).to_owned(), (i as u32 + 10, -(i as f32))))
            .collect();
        let bytes: Vec<_> = (0..=255u32)
            .map(|b| (format!("<0x{b:02X}>"), 100 + b))
            .collect();
        let symbols = vec![("<s>".to_owned(), 1), ("<s>>".to_owned(), 2)];
        SentencePiece::new(pieces, symbols, &bytes, Some(0), add_space_prefix)
    }

    #[test]
    fn highest_score_merges_first() {
        assert_eq!(model(true).encode("ab"), [14]);
        assert_eq!(model(false).encode("ab ab"), [13, 14]);
        // Equal scores merge from the left; "aba" then wins over nothing.
        assert_eq!(model(false).encode("abab"), [13, 13]);
        assert_eq!(model(false).encode("aba"), [16]);
    }

    #[test]
    fn bytes_and_symbols() {
        assert_eq!(model(false).encode("é"), [100 + 0xC3, 100 + 0xA9]);
        assert_eq!(model(true).encode("<s>ab<s>>"), [1, 14, 2]);
        assert_eq!(model(true).encode(""), [0u32; 0]);
    }
}
