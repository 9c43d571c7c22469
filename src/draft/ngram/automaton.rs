use super::SuffixIndex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// No state, no edge.
const NONE: u32 = u32::MAX;
/// The state of the empty string.
const START: u32 = 0;

/// A class of substrings that end at the same places: the ends of its longest one that are longer than what the link's
/// state holds.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Length of the longest substring.
    length: u32,
    /// The state of the longest end that also ends elsewhere.
    link: u32,
    /// The edge added last.
    edges: u32,
    /// How often these substrings occurred. Kept for states that hold one of at most max_match tokens.
    count: u32,
    /// Where the latest ends.
    latest: u32,
}

/// A transition; the edges of a state are a list.
#[derive(Debug, Clone, Copy)]
struct Edge {
    token: u32,
    target: u32,
    next: u32,
}

/// What a push did, to take it back.
#[derive(Debug, Clone, Copy)]
enum Change {
    State,
    Edge { state: u32 },
    Target { edge: u32, old: u32 },
    Link { state: u32, old: u32 },
    Counted { state: u32, latest: u32 },
}

/// The state of the text before a push.
#[derive(Debug, Clone, Copy)]
struct Step {
    last: u32,
    window: Context,
    /// Number of changes that the push made.
    changes: u32,
}

/// A substring of the text: `length` tokens of those that a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    pub state: u32,
    pub length: u32,
}

/// What followed a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuation {
    pub token: u32,
    /// How often it did.
    pub count: u32,
    /// Where the token was the latest time, plus one.
    pub latest: u32,
    /// State of the context with the token.
    pub target: u32,
}

/// The suffix automaton of a text, with the number and the latest place of occurrences for substrings of up to
/// `max_match` tokens.
///
/// Counting on every push all ends of the text would take as many steps as the text repeats itself. Only the states on
/// the way from the end of `max_match` tokens to the start are counted; that end moves along like a sliding window.
/// A state's shortest substring never becomes shorter, so a state that is counted has been from its first day.
#[derive(Debug, Clone)]
pub(super) struct Automaton {
    states: Vec<State>,
    edges: Vec<Edge>,
    /// (state, token) to edge, for lookup only.
    index: HashMap<u64, u32, BuildHasherDefault<Mixer>>,
    /// The state of the whole text.
    last: u32,
    /// The last max_match tokens, or all.
    window: Context,
    max_match: u32,
    changes: VecDeque<Change>,
    steps: VecDeque<Step>,
}

impl Automaton {
    pub fn new(max_match: usize) -> Self {
        let start = State {
            length: 0,
            link: NONE,
            edges: NONE,
            count: 0,
            latest: 0,
        };
        Automaton {
            states: vec![start],
            edges: Vec::new(),
            index: HashMap::default(),
            last: START,
            window: Context {
                state: START,
                length: 0,
            },
            max_match: u32::try_from(max_match).unwrap_or(u32::MAX),
            changes: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    pub fn max_match(&self) -> usize {
        self.max_match as usize
    }

    /// Adds a token at the end.
    pub fn push(&mut self, token: u32) {
        let step = Step {
            last: self.last,
            window: self.window,
            changes: self.changes.len() as u32,
        };
        let length = self.states[self.last as usize].length + 1;
        let new = self.add_state(State {
            length,
            link: START,
            edges: NONE,
            count: 0,
            latest: 0,
        });
        let mut from = self.last;
        let mut found = NONE;
        while from != NONE {
            found = self.find(from, token);
            if found != NONE {
                break;
            }
            self.add_edge(from, token, new);
            from = self.states[from as usize].link;
        }
        if found != NONE {
            let target = self.edges[found as usize].target;
            let length = self.states[from as usize].length + 1;
            let link = if self.states[target as usize].length == length {
                target
            } else {
                self.split(from, token, target, length)
            };
            self.set_link(new, link);
        }
        self.last = new;
        // The split may have moved the window's string to the copy; `shorten` looks.
        let before = self.shorten(self.window, self.max_match - 1);
        // The end of the old text always has an edge of the new token by now.
        self.window = self.follow(before, token).unwrap_or(Context {
            state: new,
            length: before.length + 1,
        });
        let mut state = self.window.state;
        while state != START {
            let counted = &mut self.states[state as usize];
            let latest = std::mem::replace(&mut counted.latest, length);
            counted.count += 1;
            let link = counted.link;
            self.changes.push_back(Change::Counted { state, latest });
            state = link;
        }
        let changes = self.changes.len() as u32 - step.changes;
        self.steps.push_back(Step { changes, ..step });
        if self.steps.len() > SuffixIndex::UNDO
            && let Some(oldest) = self.steps.pop_front()
        {
            self.changes.drain(..oldest.changes as usize);
        }
    }

    /// Gives the substrings of `target` that have up to `length` tokens a state of their own, to which `token` leads
    /// from `from` and its links.
    fn split(&mut self, mut from: u32, token: u32, target: u32, length: u32) -> u32 {
        let whole = self.states[target as usize];
        let copy = self.add_state(State {
            length,
            edges: NONE,
            ..whole
        });
        let mut edge = whole.edges;
        while edge != NONE {
            let Edge {
                token,
                target,
                next,
            } = self.edges[edge as usize];
            self.add_edge(copy, token, target);
            edge = next;
        }
        while from != NONE {
            let edge = self.find(from, token);
            if edge == NONE || self.edges[edge as usize].target != target {
                break;
            }
            self.edges[edge as usize].target = copy;
            self.changes.push_back(Change::Target { edge, old: target });
            from = self.states[from as usize].link;
        }
        self.set_link(target, copy);
        copy
    }

    /// Number of pushes that can be taken back.
    pub fn logged(&self) -> usize {
        self.steps.len()
    }

    /// Takes back the last push, if it is logged.
    pub fn pop(&mut self) {
        let Some(step) = self.steps.pop_back() else {
            return;
        };
        for _ in 0..step.changes {
            match self.changes.pop_back() {
                Some(Change::State) => {
                    self.states.pop();
                }
                Some(Change::Edge { state }) => {
                    if let Some(edge) = self.edges.pop() {
                        self.states[state as usize].edges = edge.next;
                        self.index.remove(&key(state, edge.token));
                    }
                }
                Some(Change::Target { edge, old }) => self.edges[edge as usize].target = old,
                Some(Change::Link { state, old }) => self.states[state as usize].link = old,
                Some(Change::Counted { state, latest }) => {
                    let state = &mut self.states[state as usize];
                    state.count -= 1;
                    state.latest = latest;
                }
                None => {}
            }
        }
        self.last = step.last;
        self.window = step.window;
    }

    fn add_state(&mut self, state: State) -> u32 {
        self.changes.push_back(Change::State);
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    fn add_edge(&mut self, state: u32, token: u32, target: u32) {
        let edge = self.edges.len() as u32;
        let next = std::mem::replace(&mut self.states[state as usize].edges, edge);
        self.edges.push(Edge {
            token,
            target,
            next,
        });
        self.index.insert(key(state, token), edge);
        self.changes.push_back(Change::Edge { state });
    }

    fn set_link(&mut self, state: u32, link: u32) {
        let old = std::mem::replace(&mut self.states[state as usize].link, link);
        self.changes.push_back(Change::Link { state, old });
    }

    /// The edge of a token, or NONE.
    fn find(&self, state: u32, token: u32) -> u32 {
        let first = self.states[state as usize].edges;
        if first == NONE {
            return NONE;
        }
        // Most states have one edge.
        let edge = self.edges[first as usize];
        if edge.token == token {
            return first;
        }
        if edge.next == NONE {
            return NONE;
        }
        self.index.get(&key(state, token)).copied().unwrap_or(NONE)
    }

    /// The context's last tokens, at most `length` of them.
    pub fn shorten(&self, context: Context, length: u32) -> Context {
        let mut state = context.state;
        let length = context.length.min(length);
        while state != START {
            let link = self.states[state as usize].link;
            if self.states[link as usize].length < length {
                break;
            }
            state = link;
        }
        Context { state, length }
    }

    /// The longest end of a context that also ends elsewhere.
    pub fn shorter(&self, context: Context) -> Option<Context> {
        let state = self.states[context.state as usize].link;
        let length = self.states.get(state as usize)?.length;
        Some(Context { state, length })
    }

    /// The context with a token after it, if it occurred.
    fn follow(&self, context: Context, token: u32) -> Option<Context> {
        let edge = self.edges.get(self.find(context.state, token) as usize)?;
        Some(Context {
            state: edge.target,
            length: context.length + 1,
        })
    }

    /// The longest end of the text with `token` after it that occurred, of at most `max_len` tokens.
    pub fn matched(&self, token: u32, max_len: usize) -> Option<Context> {
        let max_len = self
            .max_match
            .min(u32::try_from(max_len).unwrap_or(u32::MAX));
        let mut context = self.shorten(self.window, max_len.checked_sub(1)?);
        loop {
            match self.follow(context, token) {
                Some(found) => return Some(found),
                None => context = self.shorter(context)?,
            }
        }
    }

    /// How often a context of at most max_match tokens occurred, and where the latest ends.
    pub fn occurrences(&self, context: Context) -> (u32, u32) {
        let state = self.states[context.state as usize];
        (state.count, state.latest)
    }

    /// Whether `token` ever followed the context.
    pub fn continues(&self, context: Context, token: u32) -> bool {
        self.find(context.state, token) != NONE
    }

    /// All tokens that followed a context of less than max_match tokens.
    pub fn continuations(&self, context: Context) -> impl Iterator<Item = Continuation> + '_ {
        let mut next = self.states[context.state as usize].edges;
        std::iter::from_fn(move || {
            let edge = self.edges.get(next as usize)?;
            next = edge.next;
            let target = self.states[edge.target as usize];
            Some(Continuation {
                token: edge.token,
                count: target.count,
                latest: target.latest,
                target: edge.target,
            })
        })
    }

    /// (states, edges): at most 2 n and 3 n for n tokens.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        (self.states.len(), self.edges.len())
    }
}

fn key(state: u32, token: u32) -> u64 {
    u64::from(state) << 32 | u64::from(token)
}

/// Mixes a key's bits (the finaliser of SplitMix64). Keys come from the text alone, and a text that makes them collide
/// slows down only itself.
#[derive(Debug, Clone, Copy, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        let key = (key ^ key >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let key = (key ^ key >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = key ^ key >> 31;
    }
}
