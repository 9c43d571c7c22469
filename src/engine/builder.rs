use super::core::{LoadedDraft, Shared};
use super::fingerprint::fingerprint;
use super::{Device, Engine, probe};
use crate::checkpoint::{Checkpoint, WeightDtype};
use crate::draft::{Draft, EagleOptions, Way};
use crate::host::HostExecutor;
use crate::model::{
    ActivationDtype, DraftWeights, LoadProgress, ModelConfig, PlanOptions, Precision, WeightLoader,
    target_plan,
};
use crate::plan::{Dtype, Plan};
use crate::text::Text;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// Describes an engine; [`EngineBuilder::build`] loads it.
#[derive(Default)]
pub struct EngineBuilder {
    checkpoint: Option<Checkpoint>,
    draft: Option<Draft>,
    draft_dtype: WeightDtype,
    eagle: EagleOptions,
    device: Device,
    threads: Option<usize>,
    context_length: Option<usize>,
    activation_dtype: Option<ActivationDtype>,
    kv_dtype: Option<Dtype>,
    taps: Vec<u32>,
    progress: Option<Progress>,
}

/// Called with the number of weights loaded and the number there are.
type Progress = Box<dyn FnMut(usize, usize)>;

impl EngineBuilder {
    /// The model: a Hugging Face directory, a GGUF file, or the id of a model that the hub's cache holds. Opens its
    /// headers.
    ///
    /// # Errors
    /// If it is not there or its files contradict their format.
    pub fn model(mut self, spec: &str) -> Result<Self> {
        self.checkpoint = Some(Checkpoint::open_named(spec)?);
        Ok(self)
    }

    /// A model that is open already.
    pub fn checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// The draft that guesses ahead: see [`Draft::open`] for what can be one.
    ///
    /// # Errors
    /// Those of [`Draft::open`].
    pub fn draft(mut self, spec: &str) -> Result<Self> {
        self.draft = Some(Draft::open(spec)?);
        Ok(self)
    }

    /// What the draft's matrices are rounded to as they are loaded; as they are stored if not said.
    pub fn draft_dtype(mut self, dtype: WeightDtype) -> Self {
        self.draft_dtype = dtype;
        self
    }

    /// What an EAGLE head's checkpoint does not say, or says wrongly. If not said, each likely reading is tried on a text
    /// and the one that guesses best is taken.
    pub fn eagle_options(mut self, options: EagleOptions) -> Self {
        self.eagle = options;
        self
    }

    /// Where it runs; [`Device::Auto`] if not said.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Threads of the host executor; as many as the process may run at a time if not said. Results do not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Largest number of positions of a session; what the model was trained for if not said. Memory for them is taken
    /// as they fill.
    pub fn context_length(mut self, positions: usize) -> Self {
        self.context_length = Some(positions);
        self
    }

    /// Type of activations. If not said, 8 bits for a quantized checkpoint and f32 for others.
    pub fn activation_dtype(mut self, dtype: ActivationDtype) -> Self {
        self.activation_dtype = Some(dtype);
        self
    }

    /// Type of K and V. If not said, the one that goes with the activations: see [`Precision::new`].
    pub fn kv_dtype(mut self, dtype: Dtype) -> Self {
        self.kv_dtype = Some(dtype);
        self
    }

    /// Layers whose residual stream [`super::Forward::tap`] shall have, counted from 0.
    pub fn taps(mut self, layers: &[u32]) -> Self {
        self.taps = layers.to_vec();
        self
    }

    /// Called while weights are loaded, with how many are done and how many there are.
    pub fn progress(mut self, progress: impl FnMut(usize, usize) + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If no model was named, an option is out of range, or the checkpoint does not hold what its configuration says.
    pub fn build(mut self) -> Result<Engine> {
        let start = Instant::now();
        let _span = tracing::info_span!("load").entered();
        let mut checkpoint = self.checkpoint.take().ok_or_else(no_model)?;
        let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
        let precision = self.precision(&checkpoint);
        let text = Text::load(checkpoint.text_source())?;
        let eos = eos(&checkpoint, &config, text.as_ref());
        checkpoint.forget_text();
        let mut progress = self.progress.take().unwrap_or_else(|| Box::new(|_, _| {}));
        let draft = self.draft.take();
        let ways = match &draft {
            Some(draft) => draft.ways(&config, text.as_ref(), &self.eagle)?,
            None => Vec::new(),
        };
        let draft_weights = draft
            .as_ref()
            .and_then(Draft::checkpoint)
            .map(|checkpoint| DraftWeights {
                checkpoint,
                dtype: self.draft_dtype,
            });
        let mut loader = WeightLoader::new(&checkpoint, draft_weights);
        let threads = self.chosen_threads()?;
        let mut assemble = |way: Option<&Way>, text: Option<Text>| -> Result<Engine> {
            let plan = Arc::new(self.plan_of(&config, precision, way)?);
            let weights = loader.load(&plan, &mut |done: LoadProgress| {
                progress(done.weights, done.total_weights);
            })?;
            let fingerprint = fingerprint(&plan, &weights)?;
            Ok(Engine {
                shared: Arc::new(Shared {
                    path: checkpoint.path().to_owned(),
                    executor: Mutex::new(HostExecutor::new(Arc::clone(&plan), weights, threads)?),
                    plan,
                    precision,
                    fingerprint,
                    text,
                    eos: eos.clone(),
                    generation_config: checkpoint.generation_config().cloned(),
                    weight_bytes: checkpoint.weight_bytes(),
                    load: start.elapsed(),
                    threads,
                    draft: way.map(|way| LoadedDraft {
                        model: Arc::clone(&way.model),
                        description: way.description.clone(),
                    }),
                    costs: OnceLock::new(),
                }),
            })
        };
        let way = match ways.as_slice() {
            [] => None,
            [way] => Some(way.clone()),
            ways => Some(probe::settle(ways, text.as_ref(), |way| {
                assemble(Some(way), None)
            })?),
        };
        assemble(way.as_ref(), text)
    }

    /// The plan that [`EngineBuilder::build`] would run, but that of a draft that can be read in several ways the likeliest
    /// is taken. Reads no weights.
    ///
    /// # Errors
    /// Those of `build`, but for the weights.
    pub fn plan(&self) -> Result<Plan> {
        let checkpoint = self.checkpoint.as_ref().ok_or_else(no_model)?;
        let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
        let ways = match &self.draft {
            Some(draft) => draft.ways(&config, None, &self.eagle)?,
            None => Vec::new(),
        };
        self.plan_of(&config, self.precision(checkpoint), ways.first())
    }

    fn plan_of(
        &self,
        config: &ModelConfig,
        precision: Precision,
        way: Option<&Way>,
    ) -> Result<Plan> {
        let trained = config.max_position_embeddings as usize;
        let context_length = self.context_length.unwrap_or(trained);
        let context_length = u32::try_from(context_length)
            .map_err(|_| Error::Invalid(format!("a context of {context_length} positions")))?;
        let mut options = PlanOptions::new(context_length, precision);
        options.taps.clone_from(&self.taps);
        if let Some(way) = way {
            options.features = way.model.features();
        }
        let mut builder = target_plan(config, &options)?;
        if let Some(way) = way {
            way.model.declare(config, &options, &mut builder)?;
        }
        Ok(builder.finish()?)
    }

    fn precision(&self, checkpoint: &Checkpoint) -> Precision {
        let automatic = if checkpoint.is_quantized() {
            ActivationDtype::Q8
        } else {
            ActivationDtype::F32
        };
        let mut precision = Precision::new(self.activation_dtype.unwrap_or(automatic));
        precision.kv = self.kv_dtype.unwrap_or(precision.kv);
        precision
    }

    fn chosen_threads(&self) -> Result<usize> {
        match self.threads {
            Some(threads @ 1..=MAX_THREADS) => Ok(threads),
            Some(threads) => Err(Error::Invalid(format!(
                "{threads} threads; there may be 1 to {MAX_THREADS}"
            ))),
            None => Ok(default_threads()),
        }
    }
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("device", &self.device)
            .field("threads", &self.threads)
            .field("context_length", &self.context_length)
            .field("activation_dtype", &self.activation_dtype)
            .field("kv_dtype", &self.kv_dtype)
            .finish_non_exhaustive()
    }
}

fn no_model() -> Error {
    Error::Invalid("an engine needs a model; call EngineBuilder::model".into())
}

/// More threads than any machine of today has cores.
const MAX_THREADS: usize = 1024;

/// Threads that an engine takes if not told: as many as the process may run at a time.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS))
}

/// Every place that names a token which ends an answer is believed: files disagree, and going on past an end is worse
/// than stopping at one.
fn eos(checkpoint: &Checkpoint, config: &ModelConfig, text: Option<&Text>) -> Vec<u32> {
    let mut ids: BTreeSet<u32> = config.eos_token_id.iter().copied().collect();
    if let Some(value) = checkpoint
        .generation_config()
        .and_then(|c| c.get("eos_token_id"))
    {
        let many = value.as_array().map(Vec::as_slice);
        let list = many.unwrap_or(std::slice::from_ref(value)).iter();
        let list = list.filter_map(|id| u32::try_from(id.as_u64()?).ok());
        ids.extend(list);
    }
    if let Some(text) = text {
        ids.extend(text.stop_ids());
    }
    ids.into_iter().collect()
}
