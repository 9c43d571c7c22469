use crate::args::EvalArgs;
use crate::{interrupt, progress, target};
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::atomic::Ordering;
use stheno::engine::{GenerateOptions, SpeculationStatistics};
use stheno::speculation::sampling::SamplingParams;
use stheno::speculation::{Choices, SpeculationOptions, TreeShape};
use stheno_train::data::{order, read_conversations};
use stheno_train::evaluate;

pub fn run(args: &EvalArgs) -> Result<u8> {
    let conversations = read_conversations(&args.questions)?;
    let asked = order(args.seed, conversations.len());
    let asked = asked
        .into_iter()
        .take(args.num_questions.unwrap_or(usize::MAX));
    let asked: Vec<_> = asked.map(|index| &conversations[index]).collect();
    let engine = target::builder(&args.target)?.draft(&args.draft)?.build()?;
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
    if args.json {
        let groups: serde_json::Map<String, serde_json::Value> = result
            .groups
            .iter()
            .map(|(name, of)| (name.clone(), numbers(of)))
            .collect();
        let json = serde_json::json!({
            "draft": args.draft, "answered": result.answered, "left_out": result.left_out,
            "all": numbers(&result.all), "groups": groups,
        });
        println!("{json}");
    } else {
        println!(
            "{:<24} {:>8} {:>8} {:>10}  accepted at level",
            "questions", "tokens", "rounds", "accept_len"
        );
        for (name, of) in &result.groups {
            println!("{}", row(name, of));
        }
        println!("{}", row("all", &result.all));
        if result.left_out > 0 {
            eprintln!("{} questions left out for their length", result.left_out);
        }
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
    let choices = match Choices::named(name) {
        Some(choices) => choices,
        None if Path::new(name).is_file() => Choices::from_file(Path::new(name))?,
        None => bail!("--medusa-choices {name}: there is no such file and no tree of that name"),
    };
    let ranks = (1..=choices.depth()).filter_map(|depth| choices.max_rank_at(depth));
    options = SpeculationOptions::fixed(TreeShape {
        num_steps: choices.depth(),
        topk: ranks.max().unwrap_or(0) + 1,
        num_draft_tokens: choices.nodes() as u32,
    });
    options.choices = Some(choices);
    Ok(options)
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
        "{name:<24} {:>8} {:>8} {:>10.2}  {}",
        of.emitted,
        of.rounds,
        of.accept_len(),
        levels.join(" ")
    )
}
