use super::core::{LoadedDraft, Shared};
use super::executor::Executor;
use super::fingerprint::{fingerprint, fingerprint_of_random};
use super::{Device, Engine, probe};
use crate::checkpoint::{Checkpoint, WeightDtype};
use crate::device::{
    Context, DeviceExecutor, DeviceWeights, Driver, DriverKind, ExecutorOptions, Guesses, Lowered,
    ModelWeights,
};
use crate::draft::{Draft, EagleOptions, Way};
use crate::host::HostExecutor;
use crate::model::{
    ActivationDtype, DraftWeights, LoadProgress, ModelConfig, PlanOptions, Precision, RandomModel,
    RandomWeights, WeightLoader, target_plan,
};
use crate::plan::{Dtype, Plan};
use crate::text::Text;
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use stheno_codegen::jit::Cache;
use stheno_codegen::program::DeviceProgram;

/// Describes an engine; [`EngineBuilder::build`] loads it.
pub struct EngineBuilder {
    checkpoint: Option<Checkpoint>,
    random: Option<RandomModel>,
    draft: Option<Draft>,
    draft_dtype: Option<WeightDtype>,
    eagle: EagleOptions,
    device: Device,
    context: Option<Context>,
    max_rows: Option<u32>,
    threads: Option<usize>,
    context_length: Option<usize>,
    activation_dtype: Option<ActivationDtype>,
    kv_dtype: Option<Dtype>,
    taps: Vec<u32>,
    progress: Option<Progress>,
    device_progress: Option<DeviceProgress>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        EngineBuilder {
            checkpoint: None,
            random: None,
            draft: None,
            draft_dtype: None,
            eagle: EagleOptions::default(),
            device: Device::Auto,
            context: None,
            max_rows: None,
            threads: None,
            context_length: None,
            activation_dtype: None,
            kv_dtype: None,
            taps: Vec::new(),
            progress: None,
            device_progress: None,
        }
    }
}

/// Rows of a step on a device: all that the tensor cores' narrowest product has.
const PLAIN_MAX_ROWS: u32 = 8;

/// And with a draft: the nodes of a tree that are worth a step where memory is what takes the time.
const DRAFTING_MAX_ROWS: u32 = 32;

/// Called with the number of weights loaded and the number there are.
type Progress = Box<dyn FnMut(usize, usize)>;

/// Called with the bytes of weights that are on the device and the bytes there are.
type DeviceProgress = Box<dyn FnMut(u64, u64)>;

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

    /// A model without a checkpoint, whose weights come from a seed; it has no tokenizer. Runs on a device only.
    pub fn random(mut self, model: RandomModel) -> Self {
        self.random = Some(model);
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

    /// What the draft's dense matrices are rounded to as they are loaded. If not said, to 8 bits where the model itself is quantized:
    /// guesses hardly change, and the text never does. Otherwise they stay as they are stored.
    pub fn draft_dtype(mut self, dtype: WeightDtype) -> Self {
        self.draft_dtype = Some(dtype);
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

    /// Runs in a context and stream of the caller's, instead of on [`EngineBuilder::device`].
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Rows of one step that a device program is laid out for: 8, 16, 32 or 64; if not said 8, or 32 with a draft. Wider
    /// programs verify larger trees in a step and hold less of other things. The host takes any number.
    pub fn max_rows(mut self, rows: u32) -> Self {
        self.max_rows = Some(rows);
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

    /// Type of activations. If not said, on the host 8 bits for a quantized checkpoint and f32 for others; a device computes
    /// in [`ActivationDtype::Mixed`] only.
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

    /// Called while weights are packed and copied to a device, with how many bytes are there and how many there will be; with
    /// 0 of 0 before the program is compiled, which may take seconds.
    pub fn device_progress(mut self, progress: impl FnMut(u64, u64) + 'static) -> Self {
        self.device_progress = Some(Box::new(progress));
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If no model was named, an option is out of range, the checkpoint does not hold what its configuration says, or the
    /// device is not there or cannot run it.
    pub fn build(mut self) -> Result<Engine> {
        let start = Instant::now();
        let _span = tracing::info_span!("load").entered();
        if let Some(model) = self.random.take() {
            return self.build_random(&model, start);
        }
        let mut checkpoint = self.checkpoint.take().ok_or_else(no_model)?;
        let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
        let (device, device_reason, context) = self.place()?;
        let is_quantized = checkpoint.is_quantized();
        let precision = self.precision(is_quantized, context.is_some())?;
        let text = Text::load(checkpoint.text_source())?;
        let eos = eos(&checkpoint, &config, text.as_ref());
        checkpoint.forget_text();
        let mut progress = self.progress.take().unwrap_or_else(|| Box::new(|_, _| {}));
        let device_progress = self.device_progress.take();
        let mut device_progress = device_progress.unwrap_or_else(|| Box::new(|_, _| {}));
        let max_rows = self.layout_rows();
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
                dtype: self.draft_dtype.unwrap_or(match is_quantized {
                    true => WeightDtype::Q8,
                    false => WeightDtype::AsStored,
                }),
            });
        let mut loader = WeightLoader::new(&checkpoint, draft_weights);
        let threads = self.chosen_threads()?;
        let mut assemble =
            |way: Option<&Way>, text: Option<Text>, context: Option<&Context>| -> Result<Engine> {
                let plan = Arc::new(self.plan_of(&config, precision, way)?);
                let weights = loader.load(&plan, &mut |done: LoadProgress| {
                    progress(done.weights, done.total_weights);
                })?;
                let fingerprint = fingerprint(&plan, &weights)?;
                let executor = match context {
                    None => Executor::Host(Box::new(Mutex::new(HostExecutor::new(
                        Arc::clone(&plan),
                        weights,
                        threads,
                    )?))),
                    Some(context) => {
                        let progress = &mut *device_progress;
                        on_device(
                            context,
                            &plan,
                            &DeviceWeights::new(&weights),
                            max_rows,
                            way.map_or_else(Guesses::default, |way| way.model.guesses()),
                            progress,
                        )?
                    }
                };
                Ok(Engine {
                    shared: Arc::new(Shared {
                        path: checkpoint.path().to_owned(),
                        device,
                        device_reason: device_reason.clone(),
                        executor,
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
                            lookup: way.lookup,
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
                // The host's executor runs single segments of a draft.
                assemble(Some(way), None, None)
            })?),
        };
        assemble(way.as_ref(), text, context.as_ref())
    }

    /// The plan that [`EngineBuilder::build`] would run, but that of a draft that can be read in several ways the likeliest
    /// is taken. Reads no weights.
    ///
    /// # Errors
    /// Those of `build`, but for the weights.
    pub fn plan(&self) -> Result<Plan> {
        if let Some(model) = &self.random {
            return self.plan_of(&model.config, self.precision(false, true)?, None);
        }
        let checkpoint = self.checkpoint.as_ref().ok_or_else(no_model)?;
        let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path())?;
        let ways = match &self.draft {
            Some(draft) => draft.ways(&config, None, &self.eagle)?,
            None => Vec::new(),
        };
        let on_device = matches!(self.place()?.0, Device::Cuda(_) | Device::Virtual);
        let precision = self.precision(checkpoint.is_quantized(), on_device)?;
        self.plan_of(&config, precision, ways.first())
    }

    /// The device program of [`EngineBuilder::plan`], printed with its sizes and their reasons; `None` on the host. Reads all
    /// weights, whose formats decide how they lie on the device, and touches no memory of the device.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn device_program(&self) -> Result<Option<DeviceProgram>> {
        let Some(context) = self.place()?.2 else {
            return Ok(None);
        };
        let plan = self.plan()?;
        let lower = |weights: &dyn ModelWeights| {
            Lowered::new(context.facts(), &plan, weights, self.layout_rows())
        };
        let lowered = match &self.random {
            Some(model) => lower(&RandomWeights::new(&plan, model.format, model.seed)?)?,
            None => {
                let checkpoint = self.checkpoint.as_ref().ok_or_else(no_model)?;
                let weights = WeightLoader::new(checkpoint, None).load(&plan, &mut |_| {})?;
                lower(&DeviceWeights::new(&weights))?
            }
        };
        Ok(Some(lowered.program))
    }

    fn build_random(&self, model: &RandomModel, start: Instant) -> Result<Engine> {
        if self.checkpoint.is_some() || self.draft.is_some() {
            return Err(Error::Invalid(
                "random weights replace a checkpoint and have no draft; leave out the one or the other".into(),
            ));
        }
        let (device, device_reason, context) = self.place()?;
        let context = context.ok_or_else(|| {
            Error::Unsupported(
                "random weights on the host, which runs checkpoints only; choose a device with --device cuda:N or virtual"
                    .into(),
            )
        })?;
        let precision = self.precision(false, true)?;
        let plan = Arc::new(self.plan_of(&model.config, precision, None)?);
        let weights = RandomWeights::new(&plan, model.format, model.seed)?;
        Ok(Engine {
            shared: Arc::new(Shared {
                path: format!("random:{}", model.name).into(),
                device,
                device_reason,
                executor: on_device(
                    &context,
                    &plan,
                    &weights,
                    self.layout_rows(),
                    Guesses::default(),
                    &mut |_, _| {},
                )?,
                precision,
                fingerprint: fingerprint_of_random(&plan, model)?,
                weight_bytes: model.format.bytes_of(&plan),
                plan,
                text: None,
                eos: Vec::new(),
                generation_config: None,
                load: start.elapsed(),
                threads: self.chosen_threads()?,
                draft: None,
                costs: OnceLock::new(),
            }),
        })
    }

    fn layout_rows(&self) -> u32 {
        let usual = match self.draft {
            Some(_) => DRAFTING_MAX_ROWS,
            None => PLAIN_MAX_ROWS,
        };
        self.max_rows.unwrap_or(usual)
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
            if way.lookup {
                builder.look_up();
            }
        }
        Ok(builder.finish()?)
    }

    /// The device, why it is that one, and its context if it is none of the host.
    fn place(&self) -> Result<(Device, String, Option<Context>)> {
        if let Some(context) = &self.context {
            let device = match context.facts().is_virtual {
                true => Device::Virtual,
                false => Device::Cuda(0),
            };
            let reason = "its context was given".to_owned();
            return Ok((device, reason, Some(context.clone())));
        }
        let (device, reason) = self.device.resolve()?;
        let (kind, ordinal) = match device {
            Device::Auto | Device::Host => return Ok((Device::Host, reason, None)),
            Device::Cuda(ordinal) => (DriverKind::Cuda, ordinal),
            Device::Virtual => (DriverKind::Virtual, 0),
        };
        let context = Context::new(&Driver::load(kind)?, ordinal)?;
        Ok((device, reason, Some(context)))
    }

    fn precision(&self, is_quantized: bool, on_device: bool) -> Result<Precision> {
        let automatic = match (on_device, is_quantized) {
            (true, _) => ActivationDtype::Mixed,
            (false, true) => ActivationDtype::Q8,
            (false, false) => ActivationDtype::F32,
        };
        let mut precision = Precision::new(self.activation_dtype.unwrap_or(automatic));
        precision.kv = self.kv_dtype.unwrap_or(precision.kv);
        if on_device && precision.activation != ActivationDtype::Mixed {
            return Err(Error::Unsupported(format!(
                "activations in {} on a device, which computes in mixed precision; leave --activation-dtype out",
                precision.activation
            )));
        }
        if on_device && precision.kv == Dtype::F32 {
            return Err(Error::Unsupported(
                "K and V in f32 on a device, which keeps them in bf16 or f16".into(),
            ));
        }
        Ok(precision)
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

fn on_device(
    context: &Context,
    plan: &Arc<Plan>,
    weights: &dyn ModelWeights,
    max_rows: u32,
    guesses: Guesses,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Executor> {
    let cache = Cache::default_directory().map(Cache::open).transpose();
    let options = ExecutorOptions {
        max_rows,
        // Without a place to keep them, kernels are compiled anew.
        cache: cache.ok().flatten(),
        guesses,
    };
    let plan = Arc::clone(plan);
    progress(0, 0);
    let executor = DeviceExecutor::new(context, plan, weights, &options, progress)?;
    Ok(Executor::Device(Arc::new(executor)))
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
