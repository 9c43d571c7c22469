use crate::args::FeaturesArgs;
use crate::{interrupt, progress, target};
use anyhow::Result;
use std::sync::atomic::Ordering;
use stheno_train::data::{FeatureComputer, FeatureWriter, read_examples};
use stheno_train::{EagleSettings, Target};

pub fn run(args: &FeaturesArgs) -> Result<u8> {
    let examples = read_examples(&args.answers, args.max_len)?;
    let (checkpoint, config) = target::open(&args.target)?;
    let hidden_size = config.hidden_size as usize;
    let tokens: usize = examples.iter().map(|example| example.tokens.len()).sum();
    let bytes = FeatureWriter::bytes(tokens, hidden_size);
    eprintln!(
        "{} examples of {tokens} tokens: {:.2} GB",
        examples.len(),
        bytes as f64 / 1e9
    );
    if args.dry_run {
        return Ok(0);
    }
    let layers = match args.aux_layers.as_deref() {
        None => EagleSettings::of(&config, 1).aux_layers,
        Some(&[low, middle, high]) => [low, middle, high],
        Some(_) => {
            let fault = "--aux-layers takes three layers, with commas between them";
            return Err(stheno_train::Error::Invalid(fault.to_owned()).into());
        }
    };
    let name = target::name(&args.target);
    let mut writer = FeatureWriter::open(&args.out, &name, hidden_size, layers, examples.len())?;
    let builder = target::builder(&args.target)?;
    let norm = Target::final_norm(&checkpoint, &config)?;
    let mut computer = FeatureComputer::new(builder, layers, &config, &norm)?;
    let stop = interrupt::install()?;
    let count = |examples: &[stheno_train::Example]| -> u64 {
        examples
            .iter()
            .map(|example| example.tokens.len() as u64)
            .sum()
    };
    let done = writer.written();
    let bar = progress::bar("tokens", tokens as u64, count(&examples[..done]));
    for example in &examples[done..] {
        if stop.load(Ordering::Relaxed) {
            return Ok(interrupt::INTERRUPTED);
        }
        writer.push(example, &computer.compute(example)?)?;
        bar.inc(example.tokens.len() as u64);
    }
    bar.finish_and_clear();
    Ok(0)
}
