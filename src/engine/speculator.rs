use super::session::Session;
use super::{Engine, Forward};
use crate::draft::{Ask, Drafter, Draw, Proposal};
use crate::speculation::sampling::{Sampler, TokenCounts};
use crate::speculation::{
    Acceptance, CostTable, Limits, Planner, Policy, SpeculationOptions, StepCost, Tree,
};
use crate::{Error, Result};
use std::time::{Duration, Instant};
use stheno_codegen::plan::{Row, SegmentKind, SequenceIndex};

/// The draft's state of a session, and what the session has learned about drafting.
#[derive(Debug)]
pub(super) struct Speculator {
    pub drafter: Box<dyn Drafter>,
    pub planner: Option<Planner>,
}

impl Speculator {
    pub fn fork(&self) -> Self {
        Speculator {
            drafter: self.drafter.fork(),
            planner: self.planner.clone(),
        }
    }
}

/// A tree that the target has computed.
#[derive(Debug)]
pub(super) struct Verified {
    pub proposal: Proposal,
    pub forward: Forward,
    /// Whether a draft was asked.
    pub drafted: bool,
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
            match &mut speculator.planner {
                Some(planner) => planner.set_policy(options.policy, costs),
                planner => *planner = Some(Planner::new(options.policy, costs)),
            }
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
        let mut proposal = Proposal::of(Tree::new(input.root), 0);
        let mut drafted = false;
        if let Some(Speculator {
            drafter,
            planner: Some(planner),
        }) = &mut self.speculator
            && planner.begin(limits)
        {
            drafted = true;
            let draw = (input.options.acceptance == Acceptance::Rejection).then_some(Draw {
                sampler: input.sampler,
                counts: input.counts,
                position: positions as u32,
            });
            proposal = drafter.propose(&mut Ask {
                engine: &self.engine,
                root: input.root,
                planner,
                choices: input.options.choices.as_ref(),
                draw,
            })?;
        }
        let draft = start.elapsed();
        let rows = proposal.tree.rows(SequenceIndex(0), positions as u32);
        let verify = Instant::now();
        self.engine
            .forward_into(SegmentKind::Target, &rows, &[&*self], &mut forward)?;
        Ok(Verified {
            proposal,
            forward,
            drafted,
            draft,
            verify: verify.elapsed(),
        })
    }

    /// Tells the planner what came of a tree.
    pub(super) fn learn(&mut self, verified: &Verified, path: &[u32]) {
        let Some(planner) = self.speculator.as_mut().and_then(|s| s.planner.as_mut()) else {
            return;
        };
        let tree = &verified.proposal.tree;
        if verified.drafted {
            planner.observe(&crate::speculation::Observation {
                tree,
                path,
                draft: verified.draft,
                levels: verified.proposal.levels,
                verify: verified.verify,
            });
        } else {
            planner.observe_plain(verified.verify);
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
