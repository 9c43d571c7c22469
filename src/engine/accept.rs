use super::stream::MaskHook;
use crate::speculation::acceptance::{TypicalParams, Verdict, verify};
use crate::speculation::sampling::{Logprobs, Sampler, TokenCounts, TokenMask};
use crate::speculation::{Acceptance, Tree};
use crate::{Error, Result};

/// A token chosen, not yet streamed.
#[derive(Debug)]
pub(super) struct Picked {
    pub id: u32,
    pub logprobs: Option<Logprobs>,
    /// Whether a draft had guessed it.
    pub accepted: bool,
}

/// The way through a tree.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Tokens after the root: those of accepted nodes, then one of the target's own, unless the walk ended early.
    pub tokens: Vec<Picked>,
    /// Nodes whose token is part of the text, the root first.
    pub path: Vec<u32>,
    /// What went wrong after the last of `tokens`.
    pub error: Option<Error>,
}

/// Chooses tokens and keeps the books that choices depend on.
pub(super) struct Chooser<'a> {
    pub sampler: Sampler,
    /// What the penalties see: prompt and all tokens chosen.
    pub counts: TokenCounts,
    pub mask_hook: Option<MaskHook<'a>>,
    /// Whether, and with how many others, tokens carry their log-probability.
    pub logprobs: Option<usize>,
    pub prompt_tokens: usize,
    pub vocab_size: usize,
}

impl Chooser<'_> {
    /// Chooses the token after `logits` as plain decoding does, and counts it.
    pub fn choose(&mut self, logits: &[f32]) -> Result<Picked> {
        let mask = self.mask()?;
        let position = self.counts.tokens().len() as u32;
        let choice = self
            .sampler
            .choose(logits, position, &self.counts, mask.as_ref())?;
        Ok(self.pick(logits, choice.token))
    }

    /// Walks a tree by a rule of acceptance. `logits` gives those of a node, [vocab_size]; `ends` says of a token that
    /// nothing comes after it, and `most` is the number of tokens wanted.
    pub fn walk<'l>(
        &mut self,
        acceptance: Acceptance,
        tree: &Tree,
        q: &[Option<Vec<f32>>],
        logits: impl Fn(usize) -> &'l [f32],
        ends: impl Fn(u32) -> bool,
        most: usize,
    ) -> Walk {
        let mut walk = Walk {
            path: vec![0],
            ..Walk::default()
        };
        let goal = match acceptance {
            Acceptance::Typical(params) => match self.typical(params, tree, &logits) {
                Ok(goal) => Some(goal),
                Err(error) => {
                    walk.error = Some(error);
                    return walk;
                }
            },
            Acceptance::Exact | Acceptance::Rejection => None,
        };
        let mut node = 0;
        loop {
            let picked = match (&goal, acceptance) {
                (Some(goal), _) => Ok(goal.next(tree, node)).map(|t| self.pick(logits(node), t)),
                (None, Acceptance::Rejection) => self.reject(
                    tree,
                    node,
                    q.get(node).and_then(Option::as_deref),
                    logits(node),
                ),
                (None, _) => self.choose(logits(node)),
            };
            let mut picked = match picked {
                Ok(picked) => picked,
                Err(error) => {
                    walk.error = Some(error);
                    return walk;
                }
            };
            let token = picked.id;
            let child = match &goal {
                Some(goal) if node == goal.last => None,
                _ => tree.child(node, token),
            };
            picked.accepted = child.is_some();
            walk.tokens.push(picked);
            let Some(child) = child else {
                return walk;
            };
            walk.path.push(child as u32);
            if ends(token) || walk.tokens.len() >= most {
                return walk;
            }
            node = child;
        }
    }

    /// Rejection sampling at a node.
    fn reject(
        &mut self,
        tree: &Tree,
        node: usize,
        q: Option<&[f32]>,
        logits: &[f32],
    ) -> Result<Picked> {
        let Some(q) = q else {
            return self.choose(logits);
        };
        let mask = self.mask()?;
        let mut p = Vec::new();
        self.sampler
            .probabilities(logits, &self.counts, mask.as_ref(), &mut p)?;
        let children: Vec<u32> = tree.children(node).map(|child| tree.token(child)).collect();
        let position = self.counts.tokens().len() as u32;
        let seed = self.sampler.params().seed;
        let token = match verify(&mut p, q, &children, seed, position)? {
            Verdict::Child(child) => children[child],
            Verdict::Residual(token) => token,
        };
        Ok(self.pick(logits, token))
    }

    fn typical<'l>(
        &self,
        params: TypicalParams,
        tree: &Tree,
        logits: &impl Fn(usize) -> &'l [f32],
    ) -> Result<Goal> {
        let temperature = self.sampler.params().temperature;
        let accepted = params.accept(tree, temperature, logits)?;
        Ok(Goal {
            path: tree.path(accepted.node),
            last: accepted.node,
            bonus: accepted.bonus,
        })
    }

    fn mask(&mut self) -> Result<Option<TokenMask>> {
        let Some(hook) = &mut self.mask_hook else {
            return Ok(None);
        };
        let mut mask = TokenMask::all(self.vocab_size);
        hook(&self.counts.tokens()[self.prompt_tokens..], &mut mask)?;
        Ok(Some(mask))
    }

    fn pick(&mut self, logits: &[f32], id: u32) -> Picked {
        self.counts.push(id);
        let logprobs = self.logprobs;
        Picked {
            id,
            logprobs: logprobs.map(|n| Logprobs::new(logits, id, n)),
            accepted: false,
        }
    }
}

/// Where typical acceptance goes, decided before the walk.
struct Goal {
    path: Vec<u32>,
    last: usize,
    bonus: u32,
}

impl Goal {
    /// The token after a node of the path.
    fn next(&self, tree: &Tree, node: usize) -> u32 {
        let at = self.path.iter().position(|n| *n as usize == node);
        let next = at.and_then(|at| self.path.get(at + 1));
        next.map_or(self.bonus, |next| tree.token(*next as usize))
    }
}
