use super::executor::{Executor, lock};
use super::speculator::measure_costs;
use super::{Device, EngineBuilder, Forward, Session, SessionOptions};
use crate::device::DeviceExecutor;
use crate::draft::{DraftModel, Drafter, Ngram};
use crate::host::{self, Call};
use crate::model::Precision;
use crate::plan::{Plan, Row, SegmentKind};
use crate::speculation::CostTable;
use crate::text::Text;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A loaded model, ready to run. Clones share it.
///
/// Sessions of one engine may be used from several threads; their calls take turns, since one call uses every thread
/// of the executor.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) plan: Arc<Plan>,
    pub(super) precision: Precision,
    pub(super) fingerprint: u64,
    pub(super) text: Option<Text>,
    /// Token ids that end an answer.
    pub(super) eos: Vec<u32>,
    pub(super) generation_config: Option<serde_json::Value>,
    pub(super) weight_bytes: u64,
    pub(super) load: Duration,
    pub(super) threads: usize,
    pub(super) draft: Option<LoadedDraft>,
    pub(super) costs: OnceLock<CostTable>,
    pub(super) device: Device,
    pub(super) device_reason: String,
    pub(super) executor: Executor,
}

/// The draft of an engine.
#[derive(Debug)]
pub(super) struct LoadedDraft {
    pub model: Arc<dyn DraftModel>,
    /// Whether lookup takes turns with it.
    pub lookup: bool,
    /// What was inferred about it.
    pub description: String,
}

impl LoadedDraft {
    /// Who drafts for an empty sequence. Each is asked before those that follow it, which are slower.
    pub fn start(&self) -> Vec<(&'static str, Box<dyn Drafter>)> {
        let own = (self.model.kind(), self.model.start());
        let lookup = self.lookup.then(|| (Ngram.kind(), Ngram.start()));
        lookup.into_iter().chain([own]).collect()
    }
}

impl Engine {
    /// Starts to describe an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// If the options ask for more positions than the engine was built for.
    pub fn session(&self, options: SessionOptions) -> Result<Session> {
        Session::new(self, &options)
    }

    /// Runs `rows` over the committed content of `sessions`, which [`Row::sequence`] counts from 0. Nothing is
    /// committed; [`Session::commit`] does that, with the path that is wanted.
    ///
    /// The call runs in the target segment where the rows fit it, otherwise in the prefill segment. On the host all rows share one
    /// pass over the weights; on a device sequences run one after the other, to the same result.
    ///
    /// # Errors
    /// If rows contradict each other or the sessions, exceed the context or are too many, or a session belongs to
    /// another engine.
    pub fn forward(&self, rows: &[Row], sessions: &[&Session]) -> Result<Forward> {
        let mut forward = Forward::default();
        let kind = if rows.len() <= self.step_rows() {
            SegmentKind::Target
        } else {
            SegmentKind::Prefill
        };
        self.forward_into(kind, rows, sessions, &mut forward)?;
        Ok(forward)
    }

    /// [`Engine::forward`] in a segment of the caller's choice, with the result in `out`.
    ///
    /// # Errors
    /// Those of [`Engine::forward`].
    pub fn forward_into(
        &self,
        segment: SegmentKind,
        rows: &[Row],
        sessions: &[&Session],
        out: &mut Forward,
    ) -> Result<()> {
        out.rows.clear();
        out.states.clear();
        if !sessions.iter().all(|s| s.belongs_to(&self.shared)) {
            return Err(Error::Invalid(
                "a session of another engine was handed to this one".into(),
            ));
        }
        let sequences: Vec<_> = sessions.iter().map(|s| &s.kv).collect();
        let executor = &self.shared.executor;
        executor.forward(segment, rows, &sequences, out)?;
        out.rows.extend_from_slice(rows);
        out.states.extend(sessions.iter().map(|s| s.state()));
        Ok(())
    }

    /// Runs a segment of the draft.
    pub(crate) fn call(&self, call: &Call<'_>, out: &mut host::Forward) -> Result<()> {
        match &self.shared.executor {
            Executor::Host(executor) => lock(executor).call(call, out),
            Executor::Device(_) => Err(Error::Unsupported(
                "segments of a draft on a device in this version".into(),
            )),
        }
    }

    /// The program on a device and what runs it; `None` on the host.
    pub fn device_executor(&self) -> Option<&Arc<DeviceExecutor>> {
        match &self.shared.executor {
            Executor::Host(_) => None,
            Executor::Device(executor) => Some(executor),
        }
    }

    /// Rows of one step, at most.
    pub fn step_rows(&self) -> usize {
        (self.shared.executor).rows_of(self.plan(), SegmentKind::Target)
    }

    pub(super) fn draft(&self) -> Option<&Arc<dyn DraftModel>> {
        self.shared.draft.as_ref().map(|draft| &draft.model)
    }

    /// Whether n-gram lookup takes turns with the draft: `ngram+DRAFT`.
    pub fn has_lookup_beside(&self) -> bool {
        (self.shared.draft.as_ref()).is_some_and(|draft| draft.lookup)
    }

    /// Kind of the draft, if there is one: `medusa`, `eagle`, `eagle3`, `small-model` or `ngram`.
    pub fn draft_kind(&self) -> Option<&'static str> {
        self.draft().map(|draft| draft.kind())
    }

    /// What was inferred about the draft from its checkpoint, for people.
    pub fn draft_description(&self) -> Option<&str> {
        let draft = self.shared.draft.as_ref()?;
        Some(&draft.description)
    }

    /// What steps of the target cost here; measured when it is first asked for.
    ///
    /// # Errors
    /// Those of [`Engine::forward`].
    pub fn costs(&self) -> Result<CostTable> {
        if let Some(costs) = self.shared.costs.get() {
            return Ok(costs.clone());
        }
        let measured = match self.device_executor() {
            Some(executor) => executor.step_costs()?,
            None => measure_costs(self)?,
        };
        Ok(self.shared.costs.get_or_init(|| measured).clone())
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Directory or file that the model came from.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        self.shared.device
    }

    /// Why it runs there.
    pub fn device_reason(&self) -> &str {
        &self.shared.device_reason
    }

    /// Types of activations and KV.
    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// Largest number of positions of a session.
    pub fn context_length(&self) -> usize {
        self.plan().context_length as usize
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.plan().vocab_size as usize
    }

    /// Tokenizer and chat template, if the checkpoint has them.
    pub fn text(&self) -> Option<&Text> {
        self.shared.text.as_ref()
    }

    /// Token ids that end an answer.
    pub fn eos(&self) -> &[u32] {
        &self.shared.eos
    }

    /// The checkpoint's `generation_config.json`, if it has one.
    pub fn generation_config(&self) -> Option<&serde_json::Value> {
        self.shared.generation_config.as_ref()
    }

    /// Bytes of the weights as stored in the checkpoint.
    pub fn weight_bytes(&self) -> u64 {
        self.shared.weight_bytes
    }

    /// Time it took to load.
    pub fn load_time(&self) -> Duration {
        self.shared.load
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.shared.fingerprint
    }

    /// The segment that prompts run in, and its rows.
    pub(super) fn prefill_segment(&self) -> (SegmentKind, usize) {
        let find = |kind| self.plan().segment(kind);
        let prefill = find(SegmentKind::Prefill).or(find(SegmentKind::Target));
        let kind = prefill.map_or(SegmentKind::Prefill, |s| s.kind);
        (kind, self.shared.executor.rows_of(self.plan(), kind))
    }

    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.plan().vocab_size;
        match tokens.iter().find(|&&token| token >= vocab_size) {
            Some(token) => Err(Error::Invalid(format!(
                "token {token} is not in the vocabulary; ids are below {vocab_size}"
            ))),
            None => Ok(()),
        }
    }
}
