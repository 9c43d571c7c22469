use super::core::{LoadedDraft, Shared};
use super::executor::SessionKv;
use super::speculator::Speculator;
use super::{Engine, Forward};
use crate::device::Learnt;
use crate::plan::{Row, SegmentKind, SequenceIndex};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Options of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Positions the session may hold; `None` is the engine's context length.
    pub context_length: Option<usize>,
}

/// One sequence: the tokens processed so far and their KV.
///
/// A session keeps its KV between generations and reuses the prefix that a new prompt shares with it, so the turns
/// of a chat each cost only what is new.
#[derive(Debug)]
pub struct Session {
    pub(super) engine: Engine,
    pub(super) kv: SessionKv,
    /// What `kv` was computed from.
    pub(super) tokens: Vec<u32>,
    context_length: usize,
    /// Names the content: new at every change, kept by a fork.
    state: u64,
    /// Of an engine with a draft.
    pub(super) speculator: Option<Speculator>,
    /// What the loop on a device has learnt about drafting.
    pub(super) learnt: Option<Learnt>,
    /// Buffers of the last step.
    pub(super) scratch: Forward,
}

/// What a sweep over a prompt does with the logits of a position.
pub(super) type LogitsVisitor<'a> = &'a mut dyn FnMut(usize, &[f32]) -> Result<()>;

impl Session {
    pub(super) fn new(engine: &Engine, options: &SessionOptions) -> Result<Self> {
        let available = engine.context_length();
        let context_length = options.context_length.unwrap_or(available);
        if context_length == 0 || context_length > available {
            return Err(Error::Invalid(format!(
                "a session of {context_length} positions does not fit an engine built for {available}"
            )));
        }
        let kv = SessionKv::new(&engine.shared.executor, engine.plan());
        Ok(Session {
            engine: engine.clone(),
            kv,
            tokens: Vec::new(),
            context_length,
            state: fresh_state(),
            speculator: host_draft(engine).map(Speculator::new),
            learnt: None,
            scratch: Forward::default(),
        })
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Tokens whose KV is committed.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions it may hold.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// A second session that continues from the same content. Pages are shared until one of the two changes them.
    pub fn fork(&self) -> Self {
        Session {
            engine: self.engine.clone(),
            kv: self.kv.fork(),
            tokens: self.tokens.clone(),
            context_length: self.context_length,
            state: self.state,
            speculator: self.speculator.as_ref().map(Speculator::fork),
            learnt: self.learnt,
            scratch: Forward::default(),
        }
    }

    /// Forgets every position from `len` on. Does nothing if there are no more than that.
    pub fn truncate(&mut self, len: usize) {
        if len < self.tokens.len() {
            self.kv.truncate(len);
            self.tokens.truncate(len);
            if let Some(speculator) = &mut self.speculator {
                speculator.truncate(len);
            }
            self.state = fresh_state();
        }
    }

    /// Keeps the longest prefix shared with `prompt` and leaves at least one token of it to be computed; returns the
    /// length kept.
    pub(super) fn rewind_to_shared_prefix(&mut self, prompt: &[u32]) -> usize {
        let shared = std::iter::zip(&self.tokens, prompt).take_while(|(a, b)| a == b);
        let keep = shared.count().min(prompt.len().saturating_sub(1));
        self.truncate(keep);
        keep
    }

    /// Appends the rows `path` of a call of [`Engine::forward`], each the parent of the next, the first without one.
    ///
    /// # Errors
    /// If the call was made with another session or before this one changed, or `path` is not such a path.
    pub fn commit(&mut self, forward: &Forward, path: &[u32]) -> Result<()> {
        let mut tokens = Vec::with_capacity(path.len());
        for &index in path {
            let row = forward.rows.get(index as usize).ok_or_else(|| {
                let rows = forward.rows.len();
                Error::Invalid(format!("row {index} of the path: the call had {rows} rows"))
            })?;
            let state = forward.states.get(row.sequence.0 as usize);
            if state != Some(&self.state) {
                return Err(Error::Invalid(format!(
                    "row {index} of the path was computed after other content than this session's"
                )));
            }
            tokens.push(row.token);
        }
        let engine = self.engine.clone();
        let executor = &engine.shared.executor;
        executor.commit(&mut self.kv, forward, path)?;
        self.state = fresh_state();
        self.tokens.extend_from_slice(&tokens);
        match &mut self.speculator {
            None => Ok(()),
            Some(speculator) => {
                let features = rows_of(forward, path);
                speculator.advance(&self.engine, &tokens, &features)
            }
        }
    }

    /// Appends `tokens`, computing them in chunks of the prefill segment; returns the logits after the last.
    ///
    /// # Errors
    /// If there are none, or they do not fit the context or the vocabulary.
    pub fn append(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.prefill(tokens, None, &mut || false)?;
        Ok(self.scratch.logits())
    }

    /// Appends `tokens` and hands the logits after each of them to `visit`, with the position.
    ///
    /// # Errors
    /// Those of [`Session::append`] and of `visit`.
    pub fn score(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        self.prefill(tokens, Some(&mut visit), &mut || false)?;
        Ok(())
    }

    /// Appends `tokens` unless `cancelled` says so before a chunk; returns whether all were appended. The logits of
    /// the last are in `scratch`.
    pub(super) fn prefill(
        &mut self,
        tokens: &[u32],
        mut visit: Option<LogitsVisitor<'_>>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        self.check_room(tokens)?;
        let _span = tracing::info_span!("prefill", tokens = tokens.len()).entered();
        let vocab_size = self.engine.vocab_size();
        let (kind, limit) = self.engine.prefill_segment();
        let width = if visit.is_some() {
            // The head runs over all rows: bound the logits held at a time.
            limit.min(SCORED_ROWS)
        } else {
            limit
        };
        for chunk in tokens.chunks(width) {
            if cancelled() {
                return Ok(false);
            }
            let start = self.tokens.len();
            let mut rows = Row::chain(SequenceIndex(0), start as u32, chunk);
            if visit.is_some() {
                rows.iter_mut().for_each(|row| row.output = true);
            }
            self.step(kind, &rows)?;
            if let Some(visit) = &mut visit {
                let logits = self.scratch.logits().chunks_exact(vocab_size);
                for (i, logits) in logits.enumerate() {
                    visit(start + i, logits)?;
                }
            }
        }
        Ok(true)
    }

    /// Computes and commits one token in the target segment; its logits are in `scratch`.
    pub(super) fn decode(&mut self, token: u32) -> Result<()> {
        self.check_room(&[token])?;
        let rows = Row::chain(SequenceIndex(0), self.tokens.len() as u32, &[token]);
        self.step(SegmentKind::Target, &rows)
    }

    /// Runs rows of this sequence alone and commits all of them as a chain.
    fn step(&mut self, kind: SegmentKind, rows: &[Row]) -> Result<()> {
        let mut forward = std::mem::take(&mut self.scratch);
        let result = self
            .engine
            .forward_into(kind, rows, &[&*self], &mut forward)
            .and_then(|()| {
                let path: Vec<u32> = (0..rows.len() as u32).collect();
                self.commit(&forward, &path)
            });
        self.scratch = forward;
        result
    }

    fn check_room(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Invalid(
                "there are no tokens to process; give a prompt of at least one".into(),
            ));
        }
        let needed = self.tokens.len() + tokens.len();
        if needed > self.context_length {
            return Err(Error::ContextOverflow {
                needed,
                context_length: self.context_length,
            });
        }
        self.engine.check_tokens(tokens)
    }

    /// Takes over what a device has committed: the K and V of `tokens`.
    pub(super) fn adopt(&mut self, tokens: &[u32]) {
        self.state = fresh_state();
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
    }

    pub(super) fn state(&self) -> u64 {
        self.state
    }

    pub(super) fn restore(&mut self, kv: SessionKv, tokens: Vec<u32>) -> Result<()> {
        self.kv = kv;
        self.state = fresh_state();
        self.tokens = tokens;
        match &mut self.speculator {
            None => Ok(()),
            Some(speculator) => {
                speculator.truncate(0);
                // What the draft is fed of them was not saved.
                speculator.advance(&self.engine, &self.tokens, &[])
            }
        }
    }

    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.engine.shared, shared)
    }
}

/// A device drafts by itself.
fn host_draft(engine: &Engine) -> Option<&LoadedDraft> {
    let draft = engine.shared.draft.as_ref();
    draft.filter(|_| engine.device_executor().is_none())
}

/// Features of the rows of a path, [path, columns]; nothing if the plan has none.
fn rows_of<'f>(forward: &'f Forward, path: &[u32]) -> Cow<'f, [f32]> {
    let features = forward.features().unwrap_or_default();
    let columns = features.len() / forward.rows.len().max(1);
    if path.iter().zip(0..).all(|(row, i)| *row == i) {
        return Cow::Borrowed(&features[..path.len() * columns]);
    }
    let rows = path
        .iter()
        .flat_map(|row| &features[*row as usize * columns..][..columns]);
    Cow::Owned(rows.copied().collect())
}

/// Rows of a prefill chunk whose logits are all wanted.
const SCORED_ROWS: usize = 64;

fn fresh_state() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
