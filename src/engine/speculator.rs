use super::core::LoadedDraft;
use super::session::Session;
use super::{Engine, Forward};
use crate::draft::{Ask, Drafter, Draw, Proposal};
use crate::speculation::sampling::{Sampler, TokenCounts};
use crate::speculation::{
    Acceptance, CostTable, Limits, Observation, Planner, Policy, SpeculationOptions, StepCost, Tree,
};
use crate::{Error, Result};
use std::time::{Duration, Instant};
use stheno_codegen::plan::{Row, SegmentKind, SequenceIndex};

/// The draft's state of a session.
#[derive(Debug)]
pub(super) struct Speculator {
    /// The faster ones first.
    sources: Vec<Source>,
}

/// Who drafts, and what the session has learned about it.
#[derive(Debug)]
struct Source {
    kind: &'static str,
    drafter: Box<dyn Drafter>,
    planner: Option<Planner>,
}

impl Speculator {
    pub fn new(draft: &LoadedDraft) -> Self {
        let source = |(kind, drafter)| Source {
            kind,
            drafter,
            planner: None,
        };
        Speculator {
            sources: draft.start().into_iter().map(source).collect(),
        }
    }

    pub fn fork(&self) -> Self {
        let fork = |source: &Source| Source {
            kind: source.kind,
            drafter: source.drafter.fork(),
            planner: source.planner.clone(),
        };
        Speculator {
            sources: self.sources.iter().map(fork).collect(),
        }
    }

    /// Follows a commit, as [`Drafter::advance`].
    pub fn advance(&mut self, engine: &Engine, tokens: &[u32], features: &[f32]) -> Result<()> {
        let mut sources = self.sources.iter_mut();
        sources.try_for_each(|source| source.drafter.advance(engine, tokens, features))
    }

    /// Follows a truncation, as [`Drafter::truncate`].
    pub fn truncate(&mut self, len: usize) {
        let sources = self.sources.iter_mut();
        sources.for_each(|source| source.drafter.truncate(len));
    }

    fn set_policy(&mut self, policy: Policy, costs: &CostTable) {
        for Source { planner, .. } in &mut self.sources {
            match planner {
                Some(planner) => planner.set_policy(policy, costs.clone()),
                planner => *planner = Some(Planner::new(policy, costs.clone())),
            }
        }
    }

    /// Asks the sources in turn, until one proposes what promises as much as those after it have come to. Its index comes with
    /// it; `None` if none of them is to be asked.
    fn propose(
        &mut self,
        engine: &Engine,
        input: RoundInput<'_>,
        limits: Limits,
    ) -> Result<Option<(usize, Proposal)>> {
        let is_drawn = input.options.acceptance == Acceptance::Rejection;
        let mut promises = Vec::with_capacity(self.sources.len());
        for Source {
            drafter, planner, ..
        } in &mut self.sources
        {
            let begins = planner.as_mut().is_some_and(|p| p.begin(limits));
            let asked = begins && (drafter.draws() || !is_drawn);
            promises.push(planner.as_ref().filter(|_| asked).map(Planner::promise));
        }
        let mut chosen = None;
        for (index, source) in self.sources.iter_mut().enumerate() {
            let Source {
                drafter, planner, ..
            } = source;
            let Some(planner) = planner.as_ref().filter(|_| promises[index].is_some()) else {
                continue;
            };
            let draw = is_drawn.then_some(Draw {
                sampler: &mut *input.sampler,
                counts: &mut *input.counts,
                position: limits.positions as u32,
            });
            let proposal = drafter.propose(&mut Ask {
                engine,
                root: input.root,
                planner,
                choices: input.options.choices.as_ref(),
                draw,
            })?;
            let rest = promises[index + 1..].iter().flatten().copied();
            let rest = rest.reduce(f64::max);
            let is_enough =
                rest.is_none_or(|rest| planner.worth(&proposal.tree, proposal.levels) >= rest);
            chosen = Some((index, proposal));
            if is_enough {
                break;
            }
        }
        Ok(chosen)
    }

    /// Tells the planners what came of a tree.
    fn learn(&mut self, verified: &Verified, path: &[u32]) {
        for (index, source) in self.sources.iter_mut().enumerate() {
            let Some(planner) = &mut source.planner else {
                continue;
            };
            match verified.source {
                Some(source) if source == index => planner.observe(&Observation {
                    tree: &verified.proposal.tree,
                    path,
                    draft: verified.draft,
                    levels: verified.proposal.levels,
                    verify: verified.verify,
                }),
                Some(_) => planner.pass(path.len()),
                None => planner.observe_plain(verified.verify),
            }
        }
    }
}

/// A tree that the target has computed.
#[derive(Debug)]
pub(super) struct Verified {
    pub proposal: Proposal,
    pub forward: Forward,
    /// Which source drafted it; `None` if none was asked.
    source: Option<usize>,
    /// Its kind, where there are several.
    pub drafter: Option<&'static str>,
    pub draft: Duration,
    pub verify: Duration,
}

/// What the sampling of a round needs.
pub(super) struct RoundInput<'a> {
    pub root: u32,
    /// Levels below the root that are of use.
    pub levels: u32,
    pub options: &'a SpeculationOptions,
    pub sampler: &'a mut Sampler,
    /// Counts of the text, the root among them.
    pub counts: &'a mut TokenCounts,
}

impl Session {
    /// Prepares for rounds of a generation; whether there will be any.
    pub(super) fn start_speculation(&mut self, options: &SpeculationOptions) -> Result<bool> {
        self.engine.check_speculation(options)?;
        if options.policy == Policy::Off || self.speculator.is_none() {
            return Ok(false);
        }
        let costs = match options.policy {
            Policy::Automatic => self.engine.costs()?,
            Policy::Fixed(_) | Policy::Off => CostTable::new(Vec::new()),
        };
        if let Some(speculator) = &mut self.speculator {
            speculator.set_policy(options.policy, &costs);
        }
        Ok(true)
    }

    /// Drafts a tree below `root`, which follows the committed tokens, and computes all of it. Nothing is committed.
    pub(super) fn draft_and_verify(
        &mut self,
        input: RoundInput<'_>,
        mut forward: Forward,
    ) -> Result<Verified> {
        let start = Instant::now();
        let positions = self.tokens.len();
        let target = self.engine.plan().segment(SegmentKind::Target);
        let max_rows = target.map_or(1, |segment| segment.max_rows as usize);
        let room = self.context_length().saturating_sub(positions + 1);
        let limits = Limits {
            levels: input.levels.min(u32::try_from(room).unwrap_or(u32::MAX)),
            nodes: max_rows.min(Tree::MAX_NODES),
            positions,
        };
        let root = input.root;
        let drafted = match &mut self.speculator {
            Some(speculator) => speculator.propose(&self.engine, input, limits)?,
            None => None,
        };
        let (source, proposal) = match drafted {
            Some((source, proposal)) => (Some(source), proposal),
            None => (None, Proposal::of(Tree::new(root), 0)),
        };
        let draft = start.elapsed();
        let drafter = match (&self.speculator, source) {
            (Some(Speculator { sources }), Some(source)) if sources.len() > 1 => {
                Some(sources[source].kind)
            }
            _ => None,
        };
        let rows = proposal.tree.rows(SequenceIndex(0), positions as u32);
        let verify = Instant::now();
        self.engine
            .forward_into(SegmentKind::Target, &rows, &[&*self], &mut forward)?;
        Ok(Verified {
            proposal,
            forward,
            source,
            drafter,
            draft,
            verify: verify.elapsed(),
        })
    }

    /// Takes note of what came of a tree.
    pub(super) fn learn(&mut self, verified: &Verified, path: &[u32]) {
        if let Some(speculator) = &mut self.speculator {
            speculator.learn(verified, path);
        }
    }
}

impl Engine {
    /// Checks what a generation would ask of the engine's draft, as [`Session::generate`] does.
    ///
    /// # Errors
    /// If options are out of range or contradict each other, the draft cannot draft such trees, or there is none and
    /// anything but the default is asked for.
    pub fn check_speculation(&self, options: &SpeculationOptions) -> Result<()> {
        match options.policy {
            Policy::Off => return Ok(()),
            Policy::Fixed(shape) => shape.validate()?,
            Policy::Automatic => {}
        }
        if let Acceptance::Typical(params) = options.acceptance {
            params.validate()?;
        }
        let draft = match self.draft() {
            Some(draft) => draft,
            None if *options == SpeculationOptions::default() => return Ok(()),
            None => {
                return Err(Error::Invalid(
                    "speculation needs a draft; name one with --draft".into(),
                ));
            }
        };
        draft.check(options)?;
        let Some(executor) = self.device_executor() else {
            return Ok(());
        };
        let choices = options.choices.as_ref();
        match (
            choices.filter(|_| options.acceptance != Acceptance::Rejection),
            options.policy,
        ) {
            (Some(choices), _) => executor.check_choices(choices),
            (None, Policy::Fixed(shape)) => executor.check_growth(draft.on_device(), shape),
            (None, Policy::Automatic | Policy::Off) => Ok(()),
        }
    }
}

/// Numbers of rows whose steps are measured.
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Each is measured until it took this long, at least twice and at most so often; the shortest counts.
const LONG: Duration = Duration::from_millis(60);
const MOST_REPEATS: usize = 6;

/// Measures what steps of the target cost.
pub(super) fn measure_costs(engine: &Engine) -> Result<CostTable> {
    let _span = tracing::info_span!("measure steps").entered();
    let target = engine.plan().segment(SegmentKind::Target);
    let max_rows = target.map_or(1, |segment| segment.max_rows as usize);
    let most = max_rows.min(engine.context_length());
    let session = engine.session(super::SessionOptions::default())?;
    let mut forward = Forward::default();
    let mut steps = Vec::new();
    for rows in ROWS.into_iter().filter(|rows| *rows <= most) {
        // Which tokens makes no difference to the time.
        let vocab_size = engine.vocab_size() as u32;
        let tokens: Vec<u32> = (1..=rows as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) % vocab_size)
            .collect();
        let mut chain = Row::chain(SequenceIndex(0), 0, &tokens);
        chain.iter_mut().for_each(|row| row.output = true);
        let (mut shortest, mut spent) = (Duration::MAX, Duration::ZERO);
        for repeat in 0..MOST_REPEATS {
            let start = Instant::now();
            engine.forward_into(SegmentKind::Target, &chain, &[&session], &mut forward)?;
            let time = start.elapsed();
            shortest = shortest.min(time);
            spent += time;
            if spent > LONG && repeat > 0 {
                break;
            }
        }
        steps.push(StepCost {
            rows,
            seconds: shortest.as_secs_f64(),
        });
    }
    Ok(CostTable::new(steps))
}
