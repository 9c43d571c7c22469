use crate::args::EvalArgs;
use crate::{interrupt, progress, target};
use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};
use std::sync::atomic::Ordering;
use stheno::checkpoint::WeightDtype;
use stheno::engine::{GenerateOptions, SpeculationStatistics};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Choices, SpeculationOptions, TreeShape};
use stheno_train::data::read_conversations;
use stheno_train::{Evaluation, evaluate, order};

pub fn run(args: &EvalArgs) -> Result<u8> {
    let conversations = read_conversations(&args.questions)?;
    let asked = order(args.seed, conversations.len());
    let asked = asked
        .into_iter()
        .take(args.num_questions.unwrap_or(usize::MAX));
    let asked: Vec<_> = asked.map(|index| &conversations[index]).collect();
    let builder = target::builder(&args.target)?.draft(&args.draft)?;
    let engine = builder.draft_dtype(WeightDtype::AsStored).build()?;
    let sampling = SamplingParams {
        temperature: args.temp,
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(args.n_predict, sampling);
    options.speculation = speculation(args)?;
    let stop = interrupt::install()?;
    let bar = progress::bar("asking", asked.len() as u64, 0);
    let result = evaluate(
        &engine,
        &asked,
        args.max_prompt_tokens,
        &options,
        &stop,
        &mut |done| {
            bar.set_position(done as u64);
        },
    )?;
    bar.finish_and_clear();
    let text = match args.json {
        true => format!("{}\n", json(args, &result)),
        false => table(&result),
    };
    print(&text)?;
    if result.left_out > 0 {
        eprintln!("{} questions left out for their length", result.left_out);
    }
    Ok(match stop.load(Ordering::Relaxed) {
        true => interrupt::INTERRUPTED,
        false => 0,
    })
}

fn speculation(args: &EvalArgs) -> Result<SpeculationOptions> {
    let shape = (
        args.speculative_num_steps,
        args.speculative_eagle_topk,
        args.speculative_num_draft_tokens,
    );
    let mut options = match shape {
        (Some(num_steps), Some(topk), Some(num_draft_tokens)) => {
            let shape = TreeShape {
                num_steps,
                topk,
                num_draft_tokens,
            };
            shape.validate()?;
            SpeculationOptions::fixed(shape)
        }
        _ => SpeculationOptions::default(),
    };
    let Some(name) = &args.medusa_choices else {
        return Ok(options);
    };
    let choices = Choices::open(name).context("--medusa-choices")?;
    options = SpeculationOptions::fixed(choices.shape());
    options.choices = Some(choices);
    Ok(options)
}

/// Writes to standard output; whoever has stopped reading wants no more of it.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

fn json(args: &EvalArgs, result: &Evaluation) -> serde_json::Value {
    let groups = result.groups.iter();
    let groups: serde_json::Map<String, serde_json::Value> = groups
        .map(|(name, of)| (name.clone(), numbers(of)))
        .collect();
    serde_json::json!({
        "draft": args.draft, "answered": result.answered, "left_out": result.left_out,
        "all": numbers(&result.all), "groups": groups,
    })
}

fn table(result: &Evaluation) -> String {
    let mut text = format!(
        "{:<24} {:>8} {:>8} {:>10}  accepted at level\n",
        "questions", "tokens", "rounds", "accept_len"
    );
    for (name, of) in &result.groups {
        text += &row(name, of);
    }
    text + &row("all", &result.all)
}

fn numbers(of: &SpeculationStatistics) -> serde_json::Value {
    serde_json::json!({
        "tokens": of.emitted, "rounds": of.rounds, "accept_len": of.accept_len(), "levels": of.levels,
    })
}

fn row(name: &str, of: &SpeculationStatistics) -> String {
    let levels = of.levels.iter().map(|level| {
        format!(
            "{:.0} %",
            100.0 * level.accepted as f64 / level.offered.max(1) as f64
        )
    });
    let levels: Vec<String> = levels.collect();
    format!(
        "{name:<24} {:>8} {:>8} {:>10.2}  {}\n",
        of.emitted,
        of.rounds,
        of.accept_len(),
        levels.join(" ")
    )
}
