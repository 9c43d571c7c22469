use super::drafter::{Ask, Proposal};
use crate::speculation::acceptance::draw_children;
use crate::speculation::sampling::likeliest;
use crate::speculation::{DynamicTree, Tree};
use crate::{Error, Result};

/// A draft that guesses one level at a time.
pub(super) trait Stepper {
    /// Brings the draft up to the root.
    fn root(&mut self, ask: &Ask<'_>) -> Result<()>;

    /// Runs the nodes of a level.
    fn step(&mut self, ask: &Ask<'_>, level: &[LevelNode]) -> Result<()>;

    /// Logits after the root or after each node of the level that ran last, [nodes, draft vocabulary].
    fn logits(&self) -> &[f32];

    /// Levels that it can guess, if they are bounded.
    fn deepest(&self) -> Option<u32> {
        None
    }

    /// The target's id of a token of the draft's vocabulary, if the target has it.
    fn target_id(&self, draft_id: u32) -> Option<u32>;
}

/// A node to draft from.
#[derive(Debug, Clone, Copy)]
pub(super) struct LevelNode {
    /// Id in the target's vocabulary.
    pub token: u32,
    /// Index of the parent in the level before; `None` for children of the root.
    pub parent: Option<u32>,
    /// Levels below the root, from 1.
    pub depth: u32,
}

/// Grows the tree of a round, as far as the planner says.
pub(super) fn grow(ask: &mut Ask<'_>, stepper: &mut impl Stepper) -> Result<Proposal> {
    stepper.root(ask)?;
    if ask.draw.is_some() {
        return draw(ask, stepper);
    }
    let topk = ask.planner.topk();
    let mut tree = DynamicTree::new(ask.root, topk);
    tree.seed(&best(stepper.logits(), topk, stepper))?;
    let deepest = stepper.deepest().unwrap_or(u32::MAX);
    while tree.levels() < deepest && !tree.frontier().is_empty() && ask.planner.another_level(&tree)
    {
        let level: Vec<LevelNode> = tree
            .frontier()
            .iter()
            .map(|node| LevelNode {
                token: node.token,
                parent: node.parent,
                depth: node.depth,
            })
            .collect();
        stepper.step(ask, &level)?;
        let logits = by_node(stepper.logits(), level.len())?;
        let children: Vec<_> = logits.map(|l| best(l, topk, stepper)).collect();
        tree.expand(&children)?;
    }
    let levels = tree.levels();
    let whole = tree.finish(ask.planner.nodes())?;
    Ok(Proposal::of(ask.planner.prune(&whole, levels), levels))
}

/// The logits of each node of a level.
fn by_node(logits: &[f32], nodes: usize) -> Result<std::slice::Chunks<'_, f32>> {
    let vocab_size = logits.len() / nodes.max(1);
    if vocab_size == 0 {
        return Err(Error::Invalid("a step of the draft gave no logits".into()));
    }
    Ok(logits.chunks(vocab_size))
}

/// The best `count` candidates that the target knows, with their log-probabilities, best first.
fn best(logits: &[f32], count: usize, stepper: &impl Stepper) -> Vec<(u32, f32)> {
    likeliest(logits, count)
        .into_iter()
        .filter_map(|candidate| {
            let id = stepper.target_id(candidate.token)?;
            Some((id, candidate.logprob))
        })
        .collect()
}

/// Draws children of the root without replacement, and a chain below each. What is drawn is verified whole: to leave a
/// draw out because of what it is would bias the output.
fn draw(ask: &mut Ask<'_>, stepper: &mut impl Stepper) -> Result<Proposal> {
    let deepest = stepper.deepest().unwrap_or(u32::MAX);
    let room = ask.planner.nodes();
    let width = ask.planner.drawn_width().min(room.saturating_sub(1));
    let mut drawing = Drawing {
        tree: Tree::new(ask.root),
        q: vec![None],
        level: Vec::new(),
    };
    drawing.add_children(ask, stepper, 0, (0, None), stepper.logits(), width)?;
    let mut levels = 1;
    while levels < deepest.min(ask.planner.levels())
        && !drawing.level.is_empty()
        && drawing.tree.len() + drawing.level.len() <= room
        && (ask.planner).another_drawn_level(&drawing.tree, levels)
    {
        let parents = std::mem::take(&mut drawing.level);
        let nodes: Vec<LevelNode> = parents.iter().map(|(_, node)| *node).collect();
        stepper.step(ask, &nodes)?;
        let logits = by_node(stepper.logits(), nodes.len())?;
        for (i, ((parent, node), logits)) in (0u32..).zip(parents.iter().zip(logits)) {
            drawing.add_children(ask, stepper, *parent, (node.depth, Some(i)), logits, 1)?;
        }
        levels += 1;
    }
    Ok(Proposal {
        tree: drawing.tree,
        levels,
        q: drawing.q,
    })
}

/// A tree of draws under construction.
struct Drawing {
    tree: Tree,
    /// What the children of each node were drawn from.
    q: Vec<Option<Vec<f32>>>,
    /// The last level: indices in the tree, and what a step of the draft needs to know.
    level: Vec<(usize, LevelNode)>,
}

impl Drawing {
    /// Draws `count` children of a node, which is `depth` deep and stands at `index` in its level, from the logits after it.
    fn add_children(
        &mut self,
        ask: &mut Ask<'_>,
        stepper: &impl Stepper,
        node: usize,
        (depth, index): (u32, Option<u32>),
        logits: &[f32],
        count: usize,
    ) -> Result<()> {
        let vocab_size = ask.engine.vocab_size();
        let Some(draw) = &mut ask.draw else {
            return Ok(());
        };
        // The target's filters, over the target's vocabulary: what the draft does not know has no probability.
        let mut mapped = vec![f32::NEG_INFINITY; vocab_size];
        for (id, &logit) in (0u32..).zip(logits) {
            let id = stepper.target_id(id).map(|id| id as usize);
            if let Some(to) = id.and_then(|id| mapped.get_mut(id)) {
                *to = logit;
            }
        }
        let before = draw.counts.tokens().len();
        for &ancestor in &self.tree.path(node)[1..] {
            draw.counts.push(self.tree.token(ancestor as usize));
        }
        let mut q = Vec::new();
        let known = draw
            .sampler
            .probabilities(&mapped, draw.counts, None, &mut q);
        draw.counts.truncate(before);
        if known.is_err() {
            // The draft knows none of the tokens that are allowed: it has nothing to say here.
            return Ok(());
        }
        let seed = draw.sampler.params().seed;
        let position = draw.position + depth + 1;
        for (token, probability) in draw_children(&q, count, seed, position, node as u32) {
            let score = self.tree.score(node) + probability.max(f32::MIN_POSITIVE).ln();
            let child = self.tree.push(node, token, score)?;
            self.q.push(None);
            let node = LevelNode {
                token,
                parent: index,
                depth: depth + 1,
            };
            self.level.push((child, node));
        }
        self.q[node] = Some(q);
        Ok(())
    }
}
