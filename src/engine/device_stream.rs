use super::accept::{Chooser, Picked};
use super::executor::{SessionKv, lock};
use super::{Engine, GenerateOptions, Round, Session, Statistics};
use crate::device::{DeviceDrafter, Generated, Generation, GenerationInput, Learnt, VerifiedNode};
use crate::draft::{DraftModel, Ngram};
use crate::plan::SegmentKind;
use crate::speculation::{Acceptance, DEEPEST, Policy, SpeculationOptions, Tree, TreeShape};
use crate::{Error, Result};

/// A generation whose loop runs on the device: the host only reads tokens as they come.
#[derive(Debug)]
pub(super) struct DeviceStream {
    running: Option<Generation>,
    stop_ids: Vec<u32>,
    /// With [`Policy::Off`] if there is no draft.
    speculation: SpeculationOptions,
    drafter: DeviceDrafter,
    /// Of lookup and of the drafter beside it.
    kinds: Option<(&'static str, &'static str)>,
    round: Current,
}

/// The call that the last token came from.
#[derive(Debug, Default)]
struct Current {
    number: u32,
    /// Tokens that came from it.
    tokens: usize,
    /// Calls before it that verified a tree.
    verified: usize,
}

/// Who drafted the round that a token came of, where drafters take turns.
fn kind_of(
    kinds: Option<(&'static str, &'static str)>,
    generated: &Generated,
) -> Option<&'static str> {
    kinds.map(|(lookup, other)| match generated.looked_up {
        true => lookup,
        false => other,
    })
}

/// Takes a round that the device has verified.
pub(super) type RoundHook<'h> = &'h mut dyn FnMut(&Round);

impl DeviceStream {
    /// `None` if the engine is on the host, or the options need the host between tokens.
    pub fn new(engine: &Engine, options: &GenerateOptions) -> Option<Self> {
        engine.device_executor()?;
        let stop_ids = match options.ignore_eos {
            true => Vec::new(),
            false => engine.eos().to_vec(),
        };
        if !Generation::can(&stop_ids, options.logprobs) {
            return None;
        }
        let (speculation, drafter) = match engine.draft() {
            Some(draft) if options.speculation.policy != Policy::Off => {
                (options.speculation.clone(), draft.on_device())
            }
            _ => (SpeculationOptions::off(), DeviceDrafter::Lookup),
        };
        Some(DeviceStream {
            running: None,
            stop_ids,
            speculation,
            drafter,
            kinds: (engine.draft_kind().filter(|_| engine.has_lookup_beside()))
                .map(|other| (Ngram.kind(), other)),
            round: Current::default(),
        })
    }

    /// Whether the loop computes the prompt too: its draft is fed hidden states, which stay on the device.
    pub fn takes_prompt(&self) -> bool {
        matches!(self.drafter, DeviceDrafter::Layer | DeviceDrafter::Heads)
    }

    /// Whether it guesses ahead.
    pub fn drafts(&self) -> bool {
        self.speculation.policy != Policy::Off
    }

    /// The next token, counted. Starts the loop when it is first asked.
    pub fn next(
        &mut self,
        session: &mut Session,
        chooser: &mut Chooser<'_>,
        max_tokens: usize,
        statistics: &mut Statistics,
        hook: Option<RoundHook<'_>>,
    ) -> Result<Picked> {
        if self.running.is_none() {
            let traces = self.drafts() && hook.is_some();
            self.running = Some(self.start(session, chooser, max_tokens, traces)?);
        }
        let Some(running) = &mut self.running else {
            return Err(Error::Cancelled);
        };
        let Some(generated) = running.next()? else {
            return Err(Error::Invalid(match running.found_nothing() {
                true => {
                    "no token can be chosen: the bias forbids all, or the logits are not numbers"
                }
                false => "the device ended the generation early",
            }
            .into()));
        };
        if self.round.number != generated.round {
            let verified = self.round.verified;
            self.round = Current {
                number: generated.round,
                tokens: 0,
                verified: verified + usize::from(generated.is_verified),
            };
            statistics.decode_steps = self.round.verified;
            if let (Some(speculation), true) = (&mut statistics.speculation, generated.is_verified)
            {
                speculation.count_round(generated.guesses as usize, generated.levels as usize);
                speculation.count_drafter(kind_of(self.kinds, &generated), 1, 0);
            }
            let nodes = match generated.is_verified {
                true => running.tree(verified),
                false => None,
            };
            if let (Some(hook), Some(nodes)) = (hook, nodes) {
                let mut tokens = vec![(generated.token, generated.accepted)];
                tokens.extend(running.rest_of(generated.round));
                let prefix_len = chooser.counts.tokens().len() - 1;
                let (tree, path) = verified_tree(&nodes, &tokens)?;
                let bonus = tokens.get(path.len() - 1).map(|(token, _)| *token);
                hook(&Round::new(prefix_len, &tree, &path, bonus));
            }
        }
        if let (Some(speculation), true) = (&mut statistics.speculation, generated.is_verified) {
            speculation.count_token(self.round.tokens, generated.accepted);
            speculation.count_drafter(kind_of(self.kinds, &generated), 0, 1);
        }
        self.round.tokens += 1;
        chooser.counts.push(generated.token);
        Ok(Picked {
            id: generated.token,
            logprobs: generated.logprobs,
            accepted: generated.accepted,
        })
    }

    fn start(
        &self,
        session: &mut Session,
        chooser: &Chooser<'_>,
        max_tokens: usize,
        traces: bool,
    ) -> Result<Generation> {
        if let (DeviceDrafter::Layer, SessionKv::Device(kv)) = (self.drafter, &session.kv) {
            let fed = lock(kv).fed_len();
            session.truncate(fed);
        }
        let engine = session.engine.clone();
        let (Some(executor), SessionKv::Device(kv)) = (engine.device_executor(), &session.kv)
        else {
            return Err(Error::Invalid("the session is on the host".to_owned()));
        };
        let rows = executor.rows_of(SegmentKind::Target) as u32;
        // A tree that is drawn has no other shape.
        let draws = self.speculation.acceptance == Acceptance::Rejection;
        let (tree, learnt) = match self.speculation.policy {
            Policy::Off => (None, None),
            Policy::Fixed(shape) => (Some(shape), None),
            Policy::Automatic => {
                let costs = engine.costs()?;
                let deepest = engine.draft().and_then(|draft| draft.deepest());
                let shape = TreeShape {
                    num_steps: deepest.unwrap_or(DEEPEST),
                    topk: match draws {
                        true => 1,
                        false => costs.topk(session.tokens.len()) as u32,
                    },
                    num_draft_tokens: rows,
                };
                let learnt = session
                    .learnt
                    .unwrap_or_else(|| Learnt::new(&costs, self.drafter));
                (Some(shape), Some(learnt))
            }
        };
        let input = GenerationInput {
            tokens: chooser.counts.tokens(),
            prompt: chooser.prompt_tokens,
            limit: chooser.prompt_tokens + max_tokens,
            sampling: chooser.sampler.params(),
            counts: &chooser.counts,
            stop_ids: &self.stop_ids,
            logprobs: chooser.logprobs,
            tree,
            drafter: self.drafter,
            looks_up: engine.has_lookup_beside(),
            choices: self.speculation.choices.as_ref().filter(|_| !draws),
            acceptance: self.speculation.acceptance,
            traces,
            learnt,
        };
        Generation::start(executor, &mut lock(kv), &input)
    }

    /// Stops the device. `tokens` are those known; the session holds the K and V of as many of them as were computed. What rounds took
    /// is added to `statistics`.
    pub fn end(
        &mut self,
        session: &mut Session,
        tokens: &[u32],
        statistics: &mut Statistics,
    ) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let SessionKv::Device(kv) = &session.kv else {
            return Ok(());
        };
        let ended = running.end(&mut lock(kv));
        if ended.is_ok() && self.speculation.policy == Policy::Automatic {
            // What cannot be read is learnt again.
            session.learnt = running.learnt().ok();
        }
        if let (Some(speculation), true) = (&mut statistics.speculation, ended.is_ok())
            && let Ok(Some(times)) = running.times()
        {
            speculation.count_times(&times);
        }
        let length = {
            let mut kv = lock(kv);
            let length = kv.len().min(tokens.len());
            kv.truncate(length);
            length
        };
        session.adopt(&tokens[..length]);
        ended
    }
}

/// A tree that the device has verified, and the path of it that became `tokens`, each with whether it had been guessed.
fn verified_tree(nodes: &[VerifiedNode], tokens: &[(u32, bool)]) -> Result<(Tree, Vec<u32>)> {
    let mut tree = Tree::new(nodes.first().map_or(0, |root| root.token));
    for node in nodes.iter().skip(1) {
        tree.push(node.parent.unwrap_or(0) as usize, node.token, node.score)?;
    }
    let mut path = vec![0];
    for &(token, accepted) in tokens {
        let last = path.last().map_or(0, |node| *node as usize);
        match tree.child(last, token).filter(|_| accepted) {
            Some(child) => path.push(child as u32),
            None => break,
        }
    }
    Ok((tree, path))
}
