use crate::args::{ComputeArg, DecayArg, DtypeArg, Eagle3Args, MedusaArgs, RoundingArg, TrainArgs};
use crate::{interrupt, plot, progress, target};
use anyhow::{Result, bail};
use burn::tensor::Device;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use stheno_train::data::{
    Coverage, FeatureComputer, FeatureStore, OnlineSource, draft_vocabulary, read_examples,
};
use stheno_train::{
    AdamWSettings, Card, Decay, EagleLearner, EagleSettings, EagleTraining, EvaluationRecord,
    HeldOut, Learner, MedusaLearner, MedusaSettings, Outcome, OutputDtype, Precision, Progress,
    Rounding, RunSettings, Schedule, Source, StepRecord, Target, run, tree_of, write_eagle,
    write_medusa,
};

/// Examples that say how large the target's hidden states are.
const SAMPLES: usize = 16;

pub fn eagle3(args: &Eagle3Args) -> Result<u8> {
    let mut training = Training::open(&args.train)?;
    let mut layer = EagleSettings::of(&training.target.config, training.vocabulary.len());
    layer.rope_theta = args.rope_theta;
    if let Some(size) = args.intermediate_size {
        layer.intermediate_size = size;
    }
    if let Some(heads) = args.num_key_value_heads {
        layer.num_key_value_heads = heads;
    }
    if let Some(layers) = training.aux_layers {
        layer.aux_layers = layers;
    }
    let how = EagleTraining {
        steps: args.steps,
        decay: args.step_decay,
        later_share: args.later_share,
        head_from_target: !args.random_head,
    };
    let mut learner = EagleLearner::new(
        layer,
        how,
        Arc::clone(&training.target),
        training.vocabulary.clone(),
        args.train.seed,
        &Device::flex(),
    )?;
    let samples = 0..training.source.len().min(SAMPLES);
    let samples = samples.map(|index| Ok(training.source.get(index)?.1));
    learner.calibrate(&samples.collect::<Result<Vec<_>>>()?)?;
    let Some(outcome) = training.run(&args.train, &mut learner)? else {
        return Ok(interrupt::INTERRUPTED);
    };
    let card = training.card(&args.train, "EAGLE-3 layer", outcome);
    write_eagle(
        &learner,
        &training.target,
        &args.train.out,
        dtype(&args.train),
        &card,
    )?;
    eprintln!("the layer is in {}", args.train.out.display());
    Ok(0)
}

pub fn medusa(args: &MedusaArgs) -> Result<u8> {
    let mut training = Training::open(&args.train)?;
    let settings = MedusaSettings {
        heads: args.heads,
        decay: args.head_decay,
        own_matrices: args.own_matrices,
        soft_targets: args.soft_targets,
    };
    let mut learner = MedusaLearner::new(
        settings,
        Arc::clone(&training.target),
        training.vocabulary.clone(),
        &Device::flex(),
    )?;
    let Some(outcome) = training.run(&args.train, &mut learner)? else {
        return Ok(interrupt::INTERRUPTED);
    };
    let ranks = outcome
        .evaluation
        .as_ref()
        .map(|record| &record.rank_accuracy);
    let choices = ranks
        .map(|ranks| tree_of(ranks, args.tree_nodes))
        .transpose()?;
    let card = training.card(&args.train, "Medusa heads", outcome);
    let out = &args.train.out;
    write_medusa(
        &learner,
        &training.target,
        choices.as_ref(),
        out,
        dtype(&args.train),
        &card,
    )?;
    eprintln!("the heads are in {}", out.display());
    Ok(0)
}

/// What a run needs besides the learner.
struct Training {
    target: Arc<Target>,
    source: Box<dyn Source>,
    /// Layers that stored features are of.
    aux_layers: Option<[u32; 3]>,
    vocabulary: Vec<u32>,
    coverage: Coverage,
    settings: RunSettings,
    run_dir: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Training {
    fn open(args: &TrainArgs) -> Result<Self> {
        let (checkpoint, config) = target::open(&args.target)?;
        let target = Arc::new(Target::read(&checkpoint, &config)?);
        let sizes = &target.config;
        let (source, examples, aux_layers): (Box<dyn Source>, _, _) =
            match (&args.features, &args.answers) {
                (Some(dir), _) => {
                    let mut store = FeatureStore::open(dir)?;
                    if store.hidden_size() != sizes.hidden_size as usize {
                        bail!(
                            "{} holds features of hidden_size {}, the target's is {}",
                            dir.display(),
                            store.hidden_size(),
                            sizes.hidden_size
                        );
                    }
                    let (examples, layers) = (store.examples()?, store.aux_layers());
                    (Box::new(store), examples, Some(layers))
                }
                (None, Some(dir)) => {
                    let examples = read_examples(dir, args.max_len)?;
                    let layers = EagleSettings::of(sizes, 1).aux_layers;
                    let builder = target::builder(&args.target)?;
                    let computer = FeatureComputer::new(builder, layers, sizes, &target.norm)?;
                    let source = OnlineSource {
                        examples: examples.clone(),
                        computer,
                    };
                    (Box::new(source), examples, None)
                }
                (None, None) => bail!("name --features or --answers"),
            };
        let vocab_size = sizes.vocab_size as usize;
        let wanted = args.draft_vocab_size.min(vocab_size);
        let (vocabulary, coverage) = draft_vocabulary(&examples, vocab_size, wanted)?;
        eprintln!(
            "{} examples; {wanted} of {vocab_size} tokens are {:.2} % of the answers, {} tokens occur",
            examples.len(),
            100.0 * coverage.tokens,
            coverage.distinct
        );
        let mut run_dir = args.out.clone().into_os_string();
        run_dir.push(".run");
        Ok(Training {
            target,
            source,
            aux_layers,
            vocabulary,
            coverage,
            settings: settings(args),
            run_dir: args.run_dir.clone().unwrap_or_else(|| run_dir.into()),
            stop: interrupt::install()?,
        })
    }

    /// `None` if it was stopped before its end.
    fn run(&mut self, args: &TrainArgs, learner: &mut dyn Learner) -> Result<Option<Outcome>> {
        let rounding = args.rounding.map(|rounding| match rounding {
            RoundingArg::Q8 => Rounding::Q8,
            RoundingArg::Q4 => Rounding::Q4,
        });
        learner.parameters_mut().set_rounding(rounding);
        let precision = match args.compute_dtype {
            ComputeArg::F32 => Precision::F32,
            ComputeArg::Bf16 => Precision::Bf16,
        };
        eprintln!("products in {}", precision.describe());
        learner.parameters_mut().set_precision(precision);
        let bar = progress::bar("steps", 0, 0);
        let outcome = run(
            learner,
            &mut *self.source,
            &self.settings,
            &self.run_dir,
            args.resume,
            &self.stop,
            &mut |now| match now {
                Progress::Start {
                    step,
                    total,
                    examples,
                    held_out,
                } => {
                    bar.set_length(total);
                    bar.set_position(step);
                    bar.reset_eta();
                    bar.suspend(|| {
                        eprintln!("{examples} examples for training, {held_out} held out")
                    });
                }
                Progress::Step(record) => {
                    bar.set_position(record.step);
                    bar.set_message(step_line(record));
                }
                Progress::Evaluation(record) => {
                    bar.suspend(|| eprintln!("{}", evaluation_line(record)))
                }
                Progress::Example { .. } | Progress::Checkpoint(_) => {}
            },
        )?;
        bar.finish_and_clear();
        plot::write(&self.run_dir)?;
        if !outcome.finished {
            eprintln!(
                "stopped after step {} of {}; --resume goes on",
                outcome.step, outcome.total
            );
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    fn card(&self, args: &TrainArgs, kind: &str, outcome: Outcome) -> Card {
        let base_model = args
            .base_model
            .clone()
            .unwrap_or_else(|| target::name(&args.target));
        let size = self.vocabulary.len();
        Card {
            title: format!("{kind} for {base_model}"),
            base_model,
            license: args.license.clone(),
            data: format!(
                "{} The {size} most frequent tokens of the answers are the draft's vocabulary: {:.2} % of them.",
                args.data,
                100.0 * self.coverage.tokens
            ),
            run: self.settings.clone(),
            outcome: Some(outcome),
            more: String::new(),
        }
    }
}

fn settings(args: &TrainArgs) -> RunSettings {
    RunSettings {
        batch: args.batch_size,
        parallel: args.parallel,
        epochs: args.epochs,
        max_steps: args.max_steps,
        seed: args.seed,
        held_out: HeldOut::Fraction(args.held_out),
        schedule: Schedule {
            learning_rate: args.learning_rate,
            warmup_steps: args.warmup_steps,
            decay: match args.lr_decay {
                DecayArg::Constant => Decay::Constant,
                DecayArg::Linear => Decay::Linear,
                DecayArg::Cosine => Decay::Cosine,
            },
            floor: args.lr_floor,
        },
        optimizer: AdamWSettings {
            weight_decay: args.weight_decay,
            max_grad_norm: args.max_grad_norm,
            ..AdamWSettings::default()
        },
        evaluate_every: Some(args.evaluate_every),
        checkpoint_every: Some(args.checkpoint_every),
        max_seconds: args.max_seconds,
        ..RunSettings::default()
    }
}

fn dtype(args: &TrainArgs) -> OutputDtype {
    match args.dtype {
        DtypeArg::Bf16 => OutputDtype::Bf16,
        DtypeArg::F16 => OutputDtype::F16,
        DtypeArg::F32 => OutputDtype::F32,
    }
}

fn step_line(record: &StepRecord) -> String {
    format!(
        ", loss {}, accuracy {}, {:.0} tokens/s",
        numbers(&record.loss),
        numbers(&record.accuracy),
        record.tokens_per_second
    )
}

fn evaluation_line(record: &EvaluationRecord) -> String {
    format!(
        "step {}: held out: loss {}, accuracy {}",
        record.step,
        numbers(&record.loss),
        numbers(&record.accuracy)
    )
}

fn numbers(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.3}")).collect();
    values.join(" ")
}
