use crate::args::ResampleArgs;
use crate::{interrupt, progress, target};
use anyhow::Result;
use std::sync::atomic::Ordering;
use std::time::Instant;
use stheno_train::data::{Resampler, Settings, Shards, read_conversations};

pub fn run(args: &ResampleArgs) -> Result<u8> {
    let settings = Settings {
        max_tokens: args.n_predict,
        max_prompt_tokens: args.max_prompt_tokens,
        seed: args.seed,
        temperatures: args.temperatures.clone(),
        shard_size: args.shard_size,
    };
    let conversations = read_conversations(&args.prompts)?;
    let name = target::name(&args.target);
    let mut shards = Shards::open(&args.out, &name, conversations.len(), &settings)?;
    let engine = target::builder(&args.target)?.build()?;
    let resampler = Resampler::new(&engine, &settings, args.parallel)?;
    let stop = interrupt::install()?;
    let limit = args
        .num_prompts
        .unwrap_or(conversations.len())
        .min(conversations.len());
    let bar = progress::bar("answering", limit as u64, 0);
    let start = Instant::now();
    let mut first = None;
    let end = resampler.run(&conversations, limit, &mut shards, &stop, &mut |now| {
        if first.is_none() {
            first = Some(now.answered);
            bar.set_position(now.answered as u64);
            bar.reset_eta();
        }
        bar.set_position((now.answered + now.left_out) as u64);
        let speed = now.tokens as f64 / start.elapsed().as_secs_f64();
        bar.set_message(format!(", {speed:.0} tokens/s"));
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{} of {} conversations answered, {} of them now with {} tokens in {:.0} s; {} left out for their length",
        end.answered,
        end.all,
        end.answered - first.unwrap_or(0),
        end.tokens,
        start.elapsed().as_secs_f64(),
        end.left_out
    );
    Ok(match stop.load(Ordering::Relaxed) {
        true => interrupt::INTERRUPTED,
        false => 0,
    })
}
