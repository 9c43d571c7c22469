//! The decode loop on the device: started by the host, watched through a ring of tokens, ended by a word.

use super::control::{control, draft_len};
use super::state::{State, host_words, stops};
use super::{DeviceBuffer, DeviceError, DeviceExecutor, DeviceKv, Event};
use crate::plan::{Plan, SegmentKind};
use crate::speculation::sampling::{Logprobs, SamplingParams, TokenCounts, TokenLogprob};
use crate::speculation::{Acceptance, Choices, CostTable, TreeShape};
use crate::{Error, Result};
use bytemuck::Zeroable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stheno_codegen::program::DeviceProgram;
use stheno_codegen::program::abi::{self, Control, Count, NONE, ROW_LIMIT, TOP_LIMIT};

/// Calls of one launch. A launch is the least that another session waits for, and the most that goes on after a cancel that
/// the kernel does not see.
const ROUNDS: u32 = 128;

/// Launches queued: one runs, one waits, so that the device never does.
const QUEUED: usize = 2;

/// How long the host looks at the ring without rest.
const SPIN: Duration = Duration::from_micros(200);

/// How long it then rests between looks.
const REST: Duration = Duration::from_micros(50);

/// Time between questions to the driver whether a launch is over. What is queued lasts for much longer.
const ASK: Duration = Duration::from_millis(1);

/// What is generated.
#[derive(Debug, Clone)]
pub(crate) struct GenerationInput<'a> {
    /// All tokens known: those whose K and V are committed, and one more at least.
    pub tokens: &'a [u32],
    /// How many of them are prompt.
    pub prompt: usize,
    /// Tokens known at which it ends.
    pub limit: usize,
    pub sampling: &'a SamplingParams,
    pub counts: &'a TokenCounts,
    pub stop_ids: &'a [u32],
    /// Log-probabilities: of the chosen token and of that many others.
    pub logprobs: Option<usize>,
    /// What is guessed ahead in a round, if anything is.
    pub tree: Option<TreeShape>,
    pub drafter: DeviceDrafter,
    /// Whether lookup takes turns with another drafter.
    pub looks_up: bool,
    /// The ranks of a static tree; of heads only.
    pub choices: Option<&'a Choices>,
    /// Which guesses count as right.
    pub acceptance: Acceptance,
    /// Whether the trees of rounds are wanted.
    pub traces: bool,
    /// Where depth and width are chosen every round: by what steps cost here and what earlier generations have taught.
    pub learnt: Option<Learnt>,
}

/// What the loop's planners know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learnt {
    /// Of the drafter.
    pub(super) drafter: abi::Planner,
    /// Of lookup beside it.
    pub(super) lookup: abi::Planner,
}

impl Learnt {
    /// Nothing yet but costs, of the target and about those of the draft.
    pub fn new(costs: &CostTable, drafter: DeviceDrafter) -> Self {
        let plain = costs.seconds(1, 0) as f32;
        let lookup = abi::Planner {
            automatic: 1,
            steps: std::array::from_fn(|i| costs.seconds(1 << i, 0) as f32),
            stretch: 1.0,
            child_rate: 0.6,
            gain: 1.0,
            length: 16,
            ..abi::Planner::zeroed()
        };
        let drafter = abi::Planner {
            // Heads guess all levels at once.
            level: match drafter {
                DeviceDrafter::Model | DeviceDrafter::Layer => 0.05 * plain,
                DeviceDrafter::Lookup | DeviceDrafter::Heads => 0.0,
            },
            ..lookup
        };
        Learnt { drafter, lookup }
    }
}

/// What the rounds of a generation took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTimes {
    pub draft: Duration,
    pub verify: Duration,
    pub accept: Duration,
}

/// Who guesses in the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceDrafter {
    /// The sequence itself: what followed the same tokens before.
    Lookup,
    /// A small model, level after level of a tree.
    Model,
    /// A layer that is fed hidden states of the target as well.
    Layer,
    /// Heads that each guess a level.
    Heads,
}

/// A token out of the ring.
#[derive(Debug)]
pub(crate) struct Generated {
    pub token: u32,
    pub logprobs: Option<Logprobs>,
    /// Whether a draft had guessed it.
    pub accepted: bool,
    /// Tokens that were guessed ahead in the call that gave it, and the levels of their tree.
    pub guesses: u32,
    pub levels: u32,
    /// Calls so far.
    pub round: u32,
    /// Whether the call verified a tree, if only a root; the others end a prompt.
    pub is_verified: bool,
    /// Whether lookup beside another drafter guessed.
    pub looked_up: bool,
}

/// A node of a tree that was verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerifiedNode {
    pub token: u32,
    pub parent: Option<u32>,
    pub score: f32,
}

impl DeviceExecutor {
    /// Whether heads list all candidates that a static tree takes.
    ///
    /// # Errors
    /// It takes others.
    pub(crate) fn check_choices(&self, choices: &Choices) -> Result<()> {
        match choices.max_rank().filter(|rank| *rank >= TOP_LIMIT as u32) {
            None => Ok(()),
            Some(rank) => Err(Error::Unsupported(format!(
                "a static tree that takes candidate {rank} (from 0) of a head, of which a device lists {TOP_LIMIT}; leave out what \
                 is not below {TOP_LIMIT}, or use --device host"
            ))),
        }
    }

    /// Whether the plan's draft can grow trees of that size inside the loop.
    ///
    /// # Errors
    /// They are too wide, or have too many nodes to draft from.
    pub(crate) fn check_growth(&self, drafter: DeviceDrafter, shape: TreeShape) -> Result<()> {
        let is_run = match drafter {
            DeviceDrafter::Lookup => return Ok(()),
            // Heads have guessed all levels at once, whatever nodes come of that.
            DeviceDrafter::Heads => false,
            DeviceDrafter::Model | DeviceDrafter::Layer => true,
        };
        let (topk, levels) = (u64::from(shape.topk), u64::from(shape.num_steps));
        // Of a node of the draft's call that many candidates are listed, and a call has that many nodes.
        let width = match is_run {
            true => TOP_LIMIT.min(self.rows_of(SegmentKind::Draft)) as u64,
            false => TOP_LIMIT as u64,
        };
        if topk > width {
            return Err(Error::Unsupported(format!(
                "a top-k of {topk} on this device, whose program takes {width} at most (the rows of its steps, and no more than \
                 {TOP_LIMIT}); make it smaller, choose more --max-rows, or use --device host"
            )));
        }
        let (nodes, room) = (
            levels.saturating_sub(1) * topk,
            self.program().sizes.row_capacity(),
        );
        if is_run && nodes > u64::from(room) {
            return Err(Error::Unsupported(format!(
                "a tree of {levels} levels with a top-k of {topk}: the draft would have to run {nodes} nodes, and has room for \
                 {room} on this device; make one of them smaller, or use --device host"
            )));
        }
        Ok(())
    }
}

/// A generation under way. Ends it when dropped.
#[derive(Debug)]
pub(crate) struct Generation {
    executor: Arc<DeviceExecutor>,
    state: State,
    /// What guesses of a round were drawn from; the control block knows where.
    _draws: DeviceBuffer,
    launches: VecDeque<Event>,
    read: usize,
    logprobs: Option<usize>,
    capacity: usize,
    traces: bool,
    ended: bool,
    asked: Instant,
}

impl Generation {
    /// Whether the device can choose tokens that way.
    pub fn can(stop_ids: &[u32], logprobs: Option<usize>) -> bool {
        stops(stop_ids).is_some() && logprobs.is_none_or(|n| n <= TOP_LIMIT)
    }

    /// Queues the first launches. `kv` gets the pages that the whole generation may need.
    pub fn start(
        executor: &Arc<DeviceExecutor>,
        kv: &mut DeviceKv,
        input: &GenerationInput<'_>,
    ) -> Result<Generation> {
        let capacity = input.limit.saturating_sub(input.tokens.len()).max(1);
        let (plan, program) = (executor.plan(), executor.program());
        let context = executor.context();
        let end = input.limit.min(plan.context_length as usize);
        // Rows of a tree lie behind each other until it is known which stay.
        let rows = input.tree.map_or(0, |_| ROW_LIMIT);
        kv.reserve(context, end + rows)?;
        let drafts = matches!(input.drafter, DeviceDrafter::Model | DeviceDrafter::Layer);
        if let (true, Some(draft)) = (drafts, kv.draft_mut()) {
            draft.reserve(context, end + rows)?;
        }
        // Of each token four words; lists of log-probabilities follow them all, and trees these.
        let list = input.logprobs.map_or(0, |_| 2 * TOP_LIMIT);
        let round = if input.traces { host_words::ROUND } else { 0 };
        let entry = host_words::ENTRY + list + round;
        let mut state = State::new(
            context,
            plan,
            program,
            (capacity * entry).div_ceil(host_words::ENTRY),
        )?;
        let words = state.host.words32();
        words[host_words::CAPACITY].store(capacity as u32, Ordering::Release);
        words[host_words::LENGTH].store(kv.len() as u32, Ordering::Release);
        words[host_words::DRAFT_LENGTH].store(draft_len(kv), Ordering::Release);
        state.history.write(0, bytemuck::cast_slice(input.tokens))?;
        let bias: Vec<abi::Bias> = (input.sampling.logit_bias.iter())
            .map(|&(token, add)| abi::Bias { token, add })
            .collect();
        let filled = |bytes: &[u8], what: &str| -> Result<DeviceBuffer, DeviceError> {
            let buffer = DeviceBuffer::zeroed(context, bytes.len() as u64, what)?;
            buffer.write(0, bytes)?;
            Ok(buffer)
        };
        if !bias.is_empty() {
            state.bias = filled(bytemuck::cast_slice(&bias), "the bias of logits")?;
        }
        if input.sampling.has_penalties() {
            let mut counts = vec![Count { all: 0, output: 0 }; plan.vocab_size as usize];
            for &token in input.tokens {
                let count = input.counts.count(token);
                if let Some(place) = counts.get_mut(token as usize) {
                    *place = Count {
                        all: count.all,
                        output: count.output,
                    };
                }
            }
            state.counts = filled(bytemuck::cast_slice(&counts), "token counts")?;
        }
        let mut control = control(executor, kv, input)?;
        let draws = match input.acceptance {
            Acceptance::Rejection => draw_bytes(plan, program),
            Acceptance::Exact | Acceptance::Typical(_) => 0,
        };
        let draws = DeviceBuffer::zeroed(context, draws, "the distributions of draws")?;
        control.draws = draws.address();
        state.begin(&control, kv)?;
        let mut generation = Generation {
            executor: Arc::clone(executor),
            state,
            _draws: draws,
            launches: VecDeque::new(),
            read: 0,
            logprobs: input.logprobs,
            capacity,
            traces: input.traces,
            ended: false,
            asked: Instant::now(),
        };
        generation.queue()?;
        Ok(generation)
    }

    fn word(&self, index: usize) -> u32 {
        self.state.host.words32()[index].load(Ordering::Acquire)
    }

    fn queue(&mut self) -> Result<(), DeviceError> {
        while self.launches.len() < QUEUED && !self.ended {
            let turn = self.executor.turn();
            self.executor.launch(&self.state, ROUNDS, 0..NONE)?;
            drop(turn);
            let event = Event::new(self.executor.context())?;
            event.record()?;
            self.launches.push_back(event);
        }
        Ok(())
    }

    /// The next token; `None` at the end. Waits for the device.
    pub fn next(&mut self) -> Result<Option<Generated>> {
        let start = Instant::now();
        loop {
            let tail = self.word(host_words::TAIL) as usize;
            if self.read < tail {
                return Ok(Some(self.take()));
            }
            if self.word(host_words::FINISH) != 0 && tail == self.word(host_words::TAIL) as usize {
                self.ended = true;
                return Ok(None);
            }
            if self.asked.elapsed() > ASK {
                self.asked = Instant::now();
                self.advance()?;
            }
            if start.elapsed() > SPIN {
                std::thread::sleep(REST);
            } else {
                std::hint::spin_loop();
            }
        }
    }

    fn explain(&self, error: DeviceError) -> Error {
        let executor = &self.executor;
        (self.state).explain(executor.plan(), executor.program(), error)
    }

    /// Queues a launch for each that is over, and finds out if one failed.
    fn advance(&mut self) -> Result<()> {
        while let Some(first) = self.launches.front() {
            let done = first.is_done();
            if !done.map_err(|error| self.explain(error))? {
                break;
            }
            self.launches.pop_front();
        }
        Ok(self.queue()?)
    }

    fn take(&mut self) -> Generated {
        let words = self.state.host.words32();
        let word = |index: usize| words[index].load(Ordering::Acquire);
        let at = host_words::ENTRIES + self.read * host_words::ENTRY;
        let token = word(at);
        let logprobs = self.logprobs.map(|n| {
            let lists = host_words::ENTRIES + self.capacity * host_words::ENTRY;
            let list = lists + self.read * 2 * TOP_LIMIT;
            let entry = |i: usize| TokenLogprob {
                token: word(list + 2 * i),
                logprob: f32::from_bits(word(list + 2 * i + 1)),
            };
            Logprobs {
                chosen: TokenLogprob {
                    token,
                    logprob: f32::from_bits(word(at + 2)),
                },
                top: (0..n).map(entry).collect(),
            }
        });
        self.read += 1;
        let origin = word(at + 1);
        Generated {
            token,
            logprobs,
            accepted: origin & 1 != 0,
            guesses: origin >> 1 & 0x7f,
            levels: origin >> 8 & 0x7f,
            is_verified: origin >> 15 & 1 != 0,
            looked_up: origin >> 16 & 1 != 0,
            round: word(at + 3),
        }
    }

    /// Tokens that are there and follow the ones read, of call number `round`, and whether a draft had guessed each: its tokens come
    /// all at once.
    pub fn rest_of(&self, round: u32) -> Vec<(u32, bool)> {
        let words = self.state.host.words32();
        let tail = words[host_words::TAIL].load(Ordering::Acquire) as usize;
        let entries = (self.read..tail).map(|i| host_words::ENTRIES + i * host_words::ENTRY);
        let word = |index: usize| words[index].load(Ordering::Acquire);
        let own = entries.take_while(|at| word(at + 3) == round);
        own.map(|at| (word(at), word(at + 1) & 1 != 0)).collect()
    }

    /// The tree of verification number `index`, whose tokens have been read; `None` if trees were not wanted.
    pub fn tree(&self, index: usize) -> Option<Vec<VerifiedNode>> {
        if !self.traces {
            return None;
        }
        let lists = host_words::ENTRIES + self.capacity * host_words::ENTRY;
        let list = self.logprobs.map_or(0, |_| 2 * TOP_LIMIT);
        let round = lists + self.capacity * list + index * host_words::ROUND;
        let words = self.state.host.words32();
        let word = |index: usize| words.get(index).map_or(0, |w| w.load(Ordering::Acquire));
        let nodes = (word(round) as usize).min(ROW_LIMIT);
        let at = (0..nodes).map(|node| round + host_words::NODES + node * host_words::NODE);
        let node = |at| VerifiedNode {
            token: word(at),
            parent: Some(word(at + 1)).filter(|parent| *parent != NONE),
            score: f32::from_bits(word(at + 2)),
        };
        Some(at.map(node).collect())
    }

    /// Whether it ended because no token could be chosen.
    pub fn found_nothing(&self) -> bool {
        self.word(host_words::FINISH) == abi::FINISH_NOTHING_LEFT
    }

    /// What the loop's planner has learnt, once the generation has ended.
    pub fn learnt(&self) -> Result<Learnt, DeviceError> {
        let read = |at: usize| {
            let mut planner = abi::Planner::zeroed();
            let bytes = bytemuck::bytes_of_mut(&mut planner);
            self.state.control.read(at as u64, bytes)?;
            Ok::<_, DeviceError>(planner)
        };
        Ok(Learnt {
            drafter: read(std::mem::offset_of!(Control, planner))?,
            lookup: read(std::mem::offset_of!(Control, lookup))?,
        })
    }

    /// What its rounds took, once it has ended; `None` on a virtual device, whose clock counts instructions.
    pub fn times(&self) -> Result<Option<RoundTimes>, DeviceError> {
        if self.executor.context().facts().is_virtual {
            return Ok(None);
        }
        let mut times = abi::Times::zeroed();
        let at = std::mem::offset_of!(Control, times) as u64;
        (self.state.control).read(at, bytemuck::bytes_of_mut(&mut times))?;
        Ok(Some(RoundTimes {
            draft: Duration::from_nanos(times.draft),
            verify: Duration::from_nanos(times.verify),
            accept: Duration::from_nanos(times.accept),
        }))
    }

    /// Ends it, waits until the device has stopped, and says of `kv` what is committed.
    pub fn end(&mut self, kv: &mut DeviceKv) -> Result<()> {
        self.stop()?;
        let length = self.word(host_words::LENGTH) as usize;
        kv.advance(length);
        // The draft may have seen one token more, which need not stay the next one.
        let draft_length = self.word(host_words::DRAFT_LENGTH) as usize;
        if let Some(draft) = kv.draft_mut() {
            draft.advance(draft_length.min(length));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.ended = true;
        self.state.host.words32()[host_words::CANCEL].store(1, Ordering::Release);
        if let Some(last) = self.launches.pop_back() {
            self.launches.clear();
            let waited = last.synchronize();
            waited.map_err(|error| self.explain(error))?;
            self.executor.collect()?;
        }
        Ok(())
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // What failed is told by the next call of the device.
        let _ = self.stop();
    }
}

/// Bytes of the distributions that guesses are drawn from: a row for each node that guesses are drawn after; of heads one for each
/// level, which are no more than there are heads. None of a plan without a draft to draw from.
pub(super) fn draw_bytes(plan: &Plan, program: &DeviceProgram) -> u64 {
    let rows = (program.lists).map_or(0, |lists| lists.heads.max(program.sizes.max_rows));
    4 * u64::from(plan.vocab_size) * u64::from(rows)
}

/// Bytes of the counts that penalties go by.
pub(super) fn count_bytes(plan: &Plan) -> u64 {
    size_of::<Count>() as u64 * u64::from(plan.vocab_size)
}
