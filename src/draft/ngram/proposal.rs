use super::ProposeOptions;
use super::automaton::{Automaton, Context, Continuation};
use crate::Result;
use crate::speculation::{Tree, sampling::math};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Weight of what a context has not seen, for a context of one token.
const ESCAPE: f32 = 2.0;

/// Something to go on with, ordered by score, then by when it was found.
#[derive(Debug)]
struct Entry {
    /// Natural logarithm of the probability of what it leads to, or a bound of it.
    score: f32,
    found: Reverse<u32>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A node: a token below a parent, and the context that ends with the token.
    Node {
        parent: usize,
        token: u32,
        context: Context,
    },
    /// The children of a node of the tree that only a shorter context knows.
    Shorter {
        parent: usize,
        context: Context,
        /// What followed this one is known already.
        known: Context,
        /// How many more children the node may have.
        room: usize,
    },
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = self.score.total_cmp(&other.score);
        scores.then(self.found.cmp(&other.found))
    }
}

/// The most probable paths below `root`: a best-first search, which looks at shorter contexts only once their whole
/// share is the best that is left.
pub(super) fn propose(automaton: &Automaton, root: u32, options: &ProposeOptions) -> Result<Tree> {
    let mut search = Search {
        automaton,
        min_match: u32::try_from(options.min_match.max(1)).unwrap_or(u32::MAX),
        queue: BinaryHeap::new(),
        found: 0,
        followed: Vec::new(),
    };
    let mut tree = Tree::new(root);
    let max_nodes = options.max_nodes.min(Tree::MAX_NODES);
    if options.max_depth > 0
        && let Some(context) = automaton.matched(root, automaton.max_match())
    {
        search.expand(0, 0.0, context, None, options.topk);
    }
    while tree.len() < max_nodes
        && let Some(entry) = search.queue.pop()
    {
        match entry.what {
            What::Shorter {
                parent,
                context,
                known,
                room,
            } => search.expand(parent, entry.score, context, Some(known), room),
            What::Node {
                parent,
                token,
                context,
            } => {
                let node = tree.push(parent, token, entry.score)?;
                if tree.depth(node) < options.max_depth {
                    search.expand(node, entry.score, context, None, options.topk);
                }
            }
        }
    }
    Ok(tree)
}

struct Search<'a> {
    automaton: &'a Automaton,
    min_match: u32,
    queue: BinaryHeap<Entry>,
    found: u32,
    followed: Vec<Continuation>,
}

impl Search<'_> {
    /// Queues up to `room` children of a node: what followed `context` and did not follow `known`. All of them together
    /// have the probability of `score`.
    fn expand(
        &mut self,
        parent: usize,
        score: f32,
        context: Context,
        mut known: Option<Context>,
        room: usize,
    ) {
        let automaton = self.automaton;
        // With the token after it a context still is one whose occurrences are counted.
        let mut context = automaton.shorten(context, automaton.max_match() as u32 - 1);
        while context.length >= self.min_match && room > 0 {
            self.followed.clear();
            let followed = automaton.continuations(context).filter(|followed| {
                known.is_none_or(|known| !automaton.continues(known, followed.token))
            });
            self.followed.extend(followed);
            let shorter = automaton.shorter(context);
            if self.followed.is_empty() {
                // The end of the text, or nothing new.
                known = Some(context);
                let Some(shorter) = shorter else { return };
                context = shorter;
                continue;
            }
            let total: u32 = self.followed.iter().map(|followed| followed.count).sum();
            let escape = ESCAPE / context.length as f32;
            let whole = total as f32 + escape;
            // No two tokens were the latest at one place.
            let order = |followed: &Continuation| Reverse((followed.count, followed.latest));
            if room < self.followed.len() {
                self.followed.select_nth_unstable_by_key(room, order);
                self.followed.truncate(room);
            }
            self.followed.sort_unstable_by_key(order);
            let followed = std::mem::take(&mut self.followed);
            for &Continuation {
                token,
                count,
                target,
                ..
            } in &followed
            {
                let context = Context {
                    state: target,
                    length: context.length + 1,
                };
                let what = What::Node {
                    parent,
                    token,
                    context,
                };
                self.queue(score + math::log(count as f32 / whole), what);
            }
            let room = room - followed.len();
            self.followed = followed;
            if let Some(shorter) = shorter
                && room > 0
                && shorter.length >= self.min_match
            {
                let what = What::Shorter {
                    parent,
                    context: shorter,
                    known: context,
                    room,
                };
                self.queue(score + math::log(escape / whole), what);
            }
            return;
        }
    }

    fn queue(&mut self, score: f32, what: What) {
        self.found += 1;
        let found = Reverse(self.found);
        self.queue.push(Entry { score, found, what });
    }
}
