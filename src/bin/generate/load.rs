use crate::args::{ActivationArg, DraftArgs, DraftDtypeArg, KvArg, ModelArgs};
use crate::failure::Usage;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stheno::checkpoint::WeightDtype;
use stheno::device::Survey;
use stheno::draft::EagleOptions;
use stheno::engine::{Device, Engine, EngineBuilder};
use stheno::model::{ActivationDtype, RandomFormat, RandomModel};
use stheno::plan::Dtype;

/// Opens the model that the flags name, as they say, and its draft if there is to be one.
pub fn builder(args: &ModelArgs, draft: Option<&DraftArgs>) -> Result<EngineBuilder> {
    let device = args.device.parse().map_err(|e| Usage(format!("{e}")))?;
    let model = args.model.as_deref().filter(|m| !m.is_empty());
    let mut builder = match (&args.random, model) {
        (Some(name), _) => {
            let format = args.format.unwrap_or(RandomFormat::Bf16);
            Engine::builder().random(RandomModel::named(name, args.layers, format)?)
        }
        (None, Some(model)) => Engine::builder().model(model)?,
        (None, None) => {
            let advice = "no model; name a directory, a GGUF file or a hub id with -m";
            return Err(Usage(advice.to_owned()).into());
        }
    };
    builder = builder.device(device);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(context_length) = args.ctx_size {
        builder = builder.context_length(context_length);
    }
    if let Some(rows) = args.max_rows {
        builder = builder.max_rows(rows);
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
    let builder = builder.draft(spec)?.eagle_options(options);
    Ok(match args.draft_dtype {
        None | Some(DraftDtypeArg::Auto) => builder,
        Some(DraftDtypeArg::Stored) => builder.draft_dtype(WeightDtype::AsStored),
        Some(DraftDtypeArg::Q8) => builder.draft_dtype(WeightDtype::Q8),
        Some(DraftDtypeArg::Q4) => builder.draft_dtype(WeightDtype::Q4),
    })
}

/// Loads the model, with a progress bar where somebody looks at it.
pub fn engine(args: &ModelArgs, draft: Option<&DraftArgs>) -> Result<Engine> {
    let builder = builder(args, draft)?;
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let (loading, packing) = (bar.clone(), bar.clone());
    let engine = builder
        .progress(move |done, all| {
            let template = "loading {bar:32} {pos}/{len} weights";
            show(&loading, template, (done as u64, all as u64));
        })
        .device_progress(move |done, all| {
            let template = match all {
                0 => "compiling the device program",
                _ => "to the device {bar:32} {bytes}/{total_bytes}",
            };
            show(&packing, template, (done, all));
        })
        .build();
    bar.finish_and_clear();
    let engine = engine?;
    // That a machine without a GPU takes the host is worth a line to those who ask only.
    let is_news = || engine.device() != Device::Host || Survey::look().cuda.is_ok();
    if args.device == "auto" && (args.verbose > 0 || is_news()) {
        eprintln!("device {}: {}", engine.device(), engine.device_reason());
    }
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
    if let Some(executor) = engine.device_executor().filter(|_| args.verbose > 0) {
        let report = executor.report();
        eprintln!(
            "{}: program ready in {:.2} s ({:?}), {} registers a thread, weights there in {:.2} s, {} rows a step",
            executor.context().facts().name,
            report.compile.as_secs_f64(),
            report.origin,
            report.registers,
            report.upload.as_secs_f64(),
            engine.step_rows(),
        );
    }
    if let Some(description) = engine.draft_description() {
        eprintln!("draft: {description}");
    }
    Ok(engine)
}

fn show(bar: &ProgressBar, template: &str, (done, all): (u64, u64)) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_length(all);
    bar.set_position(done);
    bar.tick();
}

fn activation_dtype(arg: ActivationArg) -> Option<ActivationDtype> {
    match arg {
        ActivationArg::Auto => None,
        ActivationArg::F32 => Some(ActivationDtype::F32),
        ActivationArg::Bf16 => Some(ActivationDtype::BF16),
        ActivationArg::Mixed => Some(ActivationDtype::Mixed),
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
