use crate::args::{ActivationArg, DraftArgs, KvArg, ModelArgs};
use crate::failure::Usage;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stheno::draft::EagleOptions;
use stheno::engine::{Engine, EngineBuilder};
use stheno::model::ActivationDtype;
use stheno::plan::Dtype;

/// Opens the model that the flags name, as they say, and its draft if there is to be one.
pub fn builder(args: &ModelArgs, draft: Option<&DraftArgs>) -> Result<EngineBuilder> {
    let Some(model) = args.model.as_deref().filter(|m| !m.is_empty()) else {
        let advice = "no model; name a directory, a GGUF file or a hub id with -m";
        return Err(Usage(advice.to_owned()).into());
    };
    let device = args.device.parse().map_err(|e| Usage(format!("{e}")))?;
    let mut builder = Engine::builder().model(model)?.device(device);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(context_length) = args.ctx_size {
        builder = builder.context_length(context_length);
    }
    if let Some(dtype) = activation_dtype(args.activation_dtype) {
        builder = builder.activation_dtype(dtype);
    }
    if let Some(dtype) = kv_dtype(args.kv_dtype) {
        builder = builder.kv_dtype(dtype);
    }
    match draft {
        None => Ok(builder),
        Some(draft) => with_draft(builder, draft),
    }
}

fn with_draft(builder: EngineBuilder, args: &DraftArgs) -> Result<EngineBuilder> {
    let Some(spec) = &args.draft else {
        return Ok(builder);
    };
    let options = EagleOptions {
        rope_theta: args.draft_rope_theta,
        aux_layers: args.draft_aux_layers.clone(),
    };
    Ok(builder
        .draft(spec)?
        .draft_dtype(args.draft_dtype.unwrap_or_default())
        .eagle_options(options))
}

/// Loads the model, with a progress bar where somebody looks at it.
pub fn engine(args: &ModelArgs, draft: Option<&DraftArgs>) -> Result<Engine> {
    let builder = builder(args, draft)?;
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("loading {bar:32} {pos}/{len} weights") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let engine = builder
        .progress(move |done, all| {
            shown.set_length(all as u64);
            shown.set_position(done as u64);
        })
        .build();
    bar.finish_and_clear();
    let engine = engine?;
    if args.verbose > 0 {
        let precision = engine.precision();
        eprintln!(
            "{}: {} plan, context {}, activations {}, kv {}, {} threads, {:.1} MB of weights",
            engine.path().display(),
            engine.plan().name,
            engine.context_length(),
            precision.activation,
            precision.kv,
            engine.threads(),
            engine.weight_bytes() as f64 / 1e6
        );
    }
    if let Some(description) = engine.draft_description() {
        eprintln!("draft: {description}");
    }
    Ok(engine)
}

fn activation_dtype(arg: ActivationArg) -> Option<ActivationDtype> {
    match arg {
        ActivationArg::Auto => None,
        ActivationArg::F32 => Some(ActivationDtype::F32),
        ActivationArg::Bf16 => Some(ActivationDtype::BF16),
        ActivationArg::Q8 => Some(ActivationDtype::Q8),
    }
}

fn kv_dtype(arg: KvArg) -> Option<Dtype> {
    match arg {
        KvArg::Auto => None,
        KvArg::F32 => Some(Dtype::F32),
        KvArg::F16 => Some(Dtype::F16),
        KvArg::Bf16 => Some(Dtype::BF16),
    }
}
