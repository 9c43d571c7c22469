use super::prompts::Conversation;
use super::shards::Shards;
use super::slot::Slot;
use crate::{Error, Result, order};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use stheno::engine::{Engine, Forward, Session, SessionOptions};
use stheno::plan::SegmentKind;

/// How answers are made. Which conversations are answered at a time makes no difference to any answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Turns with a longer prompt are left out, in tokens of the whole conversation.
    pub max_prompt_tokens: usize,
    /// Chooses the order of conversations, their temperatures and the answers.
    pub seed: u64,
    /// One temperature is drawn for each conversation.
    pub temperatures: Temperatures,
    /// Conversations of a shard.
    pub shard_size: usize,
}

/// Temperatures with weights, like `0:0.4,0.7:0.6`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Temperatures(Vec<[f32; 2]>);

impl Temperatures {
    /// The one that a draw from [0, 1) falls on.
    pub(super) fn at(&self, draw: f64) -> f32 {
        let all: f64 = self.0.iter().map(|[_, weight]| f64::from(*weight)).sum();
        let mut below = 0.0;
        for [temperature, weight] in &self.0 {
            below += f64::from(*weight) / all;
            if draw < below {
                return *temperature;
            }
        }
        self.0.last().map_or(0.0, |[temperature, _]| *temperature)
    }
}

impl Default for Temperatures {
    /// The mix of AngelSlim's recipe.
    fn default() -> Self {
        Temperatures(vec![
            [0.0, 0.4],
            [0.3, 0.1],
            [0.5, 0.1],
            [0.7, 0.1],
            [1.0, 0.3],
        ])
    }
}

impl fmt::Display for Temperatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|[t, w]| format!("{t}:{w}")).collect();
        f.write_str(&pairs.join(","))
    }
}

impl FromStr for Temperatures {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let pair = |pair: &str| {
            let (temperature, weight) = pair.split_once(':').unwrap_or((pair, "1"));
            let pair = [
                temperature.trim().parse().ok()?,
                weight.trim().parse().ok()?,
            ];
            pair.iter()
                .all(|x: &f32| *x >= 0.0 && x.is_finite())
                .then_some(pair)
        };
        let pairs: Option<Vec<[f32; 2]>> = text.split(',').map(pair).collect();
        match pairs {
            Some(pairs) if pairs.iter().any(|[_, weight]| *weight > 0.0) => Ok(Temperatures(pairs)),
            _ => Err(Error::Invalid(format!(
                "`{text}` is no list of temperatures and weights like 0:0.4,0.7:0.6"
            ))),
        }
    }
}

/// How far a [`Resampler`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Conversations answered, those of earlier runs among them.
    pub answered: usize,
    /// Conversations left out because their prompt is too long.
    pub left_out: usize,
    /// Conversations that there are.
    pub all: usize,
    /// Tokens that this run has written.
    pub tokens: usize,
}

/// Lets a target answer prompts, several conversations in each step.
pub struct Resampler<'a> {
    engine: &'a Engine,
    settings: &'a Settings,
    sequences: usize,
    widths: Widths,
}

/// Rows of one call.
#[derive(Debug, Clone, Copy)]
struct Widths {
    prefill: usize,
    step: usize,
}

impl<'a> Resampler<'a> {
    /// `sequences` conversations at a time.
    ///
    /// # Errors
    /// If there are none, or more than a step has rows.
    pub fn new(engine: &'a Engine, settings: &'a Settings, sequences: usize) -> Result<Self> {
        let prefill = engine.plan().segments.iter();
        let prefill = prefill.filter(|segment| segment.kind == SegmentKind::Prefill);
        let prefill = prefill.map(|segment| segment.max_rows as usize).max();
        let step = engine.step_rows();
        let widths = Widths {
            prefill: prefill.unwrap_or(step).max(step),
            step,
        };
        if !(1..=step).contains(&sequences) {
            return Err(Error::Invalid(format!(
                "{sequences} sequences at a time; a step has 1 to {step} rows"
            )));
        }
        if settings.max_tokens == 0 || settings.max_prompt_tokens == 0 || settings.shard_size == 0 {
            return Err(Error::Invalid(
                "limits of tokens and the size of shards must be at least 1".to_owned(),
            ));
        }
        Ok(Resampler {
            engine,
            settings,
            sequences,
            widths,
        })
    }

    /// Answers the first `limit` of `conversations`, in an order of the seed's, that `shards` does not have; ends early when `stop` is
    /// set, with every conversation that was answered to its end on disk.
    ///
    /// # Errors
    /// Those of the engine and of the disk.
    pub fn run(
        &self,
        conversations: &[Conversation],
        limit: usize,
        shards: &mut Shards,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Progress> {
        let order = order(self.settings.seed, conversations.len());
        let wanted: Vec<&Conversation> = order
            .iter()
            .take(limit)
            .map(|&i| &conversations[i])
            .collect();
        let mut now = Progress {
            all: wanted.len(),
            ..Progress::default()
        };
        let (done, to_do): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|c| shards.has(c.id));
        now.answered = done.len();
        let mut to_do = to_do.into_iter();
        let mut slots: Vec<Slot> = Vec::new();
        let mut idle: Vec<Session> = Vec::new();
        let mut forward = Forward::default();
        progress(now);
        while !stop.load(Ordering::Relaxed) {
            while slots.len() < self.sequences
                && let Some(conversation) = to_do.next()
            {
                let session = match idle.pop() {
                    Some(session) => session,
                    None => self.engine.session(SessionOptions::default())?,
                };
                match Slot::begin(self.engine, session, conversation, self.settings)? {
                    Some(slot) => slots.push(slot),
                    None => now.left_out += 1,
                }
            }
            if slots.is_empty() {
                break;
            }
            let ended = self.step(&mut slots, &mut forward, &mut now)?;
            for index in ended.into_iter().rev() {
                let slot = slots.swap_remove(index);
                shards.push(&slot.answered())?;
                now.answered += 1;
                idle.push(slot.into_session());
            }
            progress(now);
        }
        shards.flush()?;
        Ok(now)
    }

    /// One call over all slots; returns those that have ended, in order.
    fn step(
        &self,
        slots: &mut [Slot],
        forward: &mut Forward,
        now: &mut Progress,
    ) -> Result<Vec<usize>> {
        let is_prefill = slots.iter().any(|slot| slot.pending() > 1);
        let (kind, width) = match is_prefill {
            true => (SegmentKind::Prefill, self.widths.prefill),
            false => (SegmentKind::Target, self.widths.step),
        };
        let mut rows = Vec::with_capacity(width);
        let mut counts = Vec::with_capacity(slots.len());
        for (index, slot) in slots.iter().enumerate() {
            // Every slot gets a row; the first that have more waiting get what is left.
            let waiting = slots.len() - index - 1;
            let count = slot.pending().min(width - rows.len() - waiting);
            let first = rows.len() as u32;
            let mut own = slot.rows(index, count);
            for row in &mut own {
                row.parent = row.parent.map(|parent| parent + first);
            }
            rows.extend(own);
            counts.push(count);
        }
        let sessions: Vec<&Session> = slots.iter().map(Slot::session).collect();
        self.engine.forward_into(kind, &rows, &sessions, forward)?;
        let mut logits = forward.logits().chunks_exact(self.engine.vocab_size());
        let mut ended = Vec::new();
        let mut first = 0;
        for (index, (slot, count)) in slots.iter_mut().zip(counts).enumerate() {
            let path: Vec<u32> = (first..first + count as u32).collect();
            first += count as u32;
            let own = match count == slot.pending() {
                true => logits.next(),
                false => None,
            };
            now.tokens += usize::from(own.is_some());
            if slot.advance(self.engine, self.settings, forward, &path, own)? {
                ended.push(index);
            }
        }
        Ok(ended)
    }
}
