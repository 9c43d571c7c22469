use crate::args::BenchArgs;
use crate::failure::Usage;
use crate::output::{print, print_json};
use crate::profile::Profiling;
use crate::{load, questions, speculation};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;
use stheno::engine::{Engine, Forward, GenerateOptions, Session, SessionOptions};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

/// Steps of one measurement of a number of rows.
const STEPS: usize = 16;

/// `generate bench`: the prompt is computed, tokens are generated after it, then steps of several rows, which are a
/// chain after the prompt that is not committed. One round before them warms up caches and clocks.
pub fn run(args: &BenchArgs) -> Result<u8> {
    if let Some(path) = &args.questions.questions {
        if args.profile.profile.is_some() {
            let advice =
                "--profile with --questions; profile one answer, or the bench without them";
            return Err(Usage(advice.to_owned()).into());
        }
        return questions::run(args, path);
    }
    check_flags(args)?;
    let profiling = Profiling::new(&args.profile, &args.model)?;
    let engine = load::engine(&args.model, None)?;
    check_room(args, &engine)?;
    let mut report = Report::default();
    measure(&engine, args, &mut Report::default())?;
    profiling.start(&engine)?;
    for _ in 0..args.iterations {
        measure(&engine, args, &mut report)?;
    }
    profiling.finish(&engine)?;
    if args.json {
        print_json(&json!({
            "prefill_tokens_per_second": report.prefill,
            "decode_tokens_per_second": report.decode,
            "step_seconds": report.steps,
            "threads": engine.threads(),
            "activation_dtype": engine.precision().activation.to_string(),
            "weight_bytes": engine.weight_bytes(),
        }))?;
        return Ok(0);
    }
    let prompt = args.prompt_len;
    print(&format!(
        "prompt of {prompt}: {:.1} tokens/s\nanswer of {}: {:.1} tokens/s\n",
        mean(&report.prefill),
        args.gen_len,
        mean(&report.decode)
    ))?;
    for (rows, seconds) in &report.steps {
        print(&format!(
            "step of {rows} rows: {:.3} ms\n",
            1e3 * mean(seconds)
        ))?;
    }
    Ok(0)
}

/// One number for each iteration.
#[derive(Default)]
struct Report {
    prefill: Vec<f64>,
    decode: Vec<f64>,
    steps: BTreeMap<usize, Vec<f64>>,
}

/// What no model can do, said before one is loaded.
fn check_flags(args: &BenchArgs) -> Result<()> {
    speculation::check(&args.draft, &args.speculation, &[])?;
    let rows = &args.rows;
    let twice = rows
        .iter()
        .enumerate()
        .find(|(i, n)| rows[..*i].contains(n));
    let fault = if args.draft.draft.is_some() {
        "--draft in bench is compared with plain decoding over questions; name a file with --questions".to_owned()
    } else if args.prompt_len == 0 || args.gen_len == 0 || args.iterations == 0 {
        "--prompt-len, --gen-len and --iterations must be at least 1".to_owned()
    } else if rows.contains(&0) {
        "--rows 0: a step has at least one row".to_owned()
    } else if let Some((_, rows)) = twice {
        format!("--rows names {rows} twice; once is enough")
    } else {
        return Ok(());
    };
    Err(Usage(fault).into())
}

/// Refuses what this model has no room for.
fn check_room(args: &BenchArgs, engine: &Engine) -> Result<()> {
    let context = engine.context_length();
    let max_rows = engine.step_rows();
    let most = args.rows.iter().copied().max().unwrap_or(0);
    let fault = if most > max_rows {
        let advice = match engine.device_executor() {
            Some(_) => "; --max-rows changes that",
            None => "",
        };
        format!("--rows {most}: a step of this plan has at most {max_rows} rows{advice}")
    } else if args.prompt_len.saturating_add(args.gen_len.max(most)) > context {
        format!("prompt and answer do not fit the context of {context}; shorten them or raise -c")
    } else {
        return Ok(());
    };
    Err(Usage(fault).into())
}

fn measure(engine: &Engine, args: &BenchArgs, report: &mut Report) -> Result<()> {
    let tokens = tokens(engine, args.prompt_len + args.gen_len);
    let (prompt, answer) = tokens.split_at(args.prompt_len);
    let mut session = engine.session(SessionOptions::default())?;
    let start = Instant::now();
    session.append(prompt)?;
    report
        .prefill
        .push(prompt.len() as f64 / start.elapsed().as_secs_f64());

    // An answer starts in an empty context, as other engines' benches measure it.
    let mut session = engine.session(SessionOptions::default())?;
    let mut forward = Forward::default();
    let start = Instant::now();
    if engine.device_executor().is_some() {
        // The loop of a device chooses its tokens itself.
        let mut options = GenerateOptions::greedy(answer.len());
        options.ignore_eos = true;
        let stream = session.generate(vec![answer[0]], &options)?;
        stream.into_iter().try_for_each(|token| token.map(|_| ()))?;
    } else {
        for &token in answer {
            step(engine, &session, &[token], &mut forward)?;
            session.commit(&forward, &[0])?;
        }
    }
    report
        .decode
        .push(answer.len() as f64 / start.elapsed().as_secs_f64());

    session.truncate(args.gen_len / 2);
    for &rows in &args.rows {
        let chain = &self::tokens(engine, rows)[..];
        step(engine, &session, chain, &mut forward)?;
        let start = Instant::now();
        for _ in 0..STEPS {
            step(engine, &session, chain, &mut forward)?;
        }
        let seconds = start.elapsed().as_secs_f64() / STEPS as f64;
        report.steps.entry(rows).or_default().push(seconds);
    }
    Ok(())
}

/// A step whose rows all have an output, as a verify has.
fn step(engine: &Engine, session: &Session, tokens: &[u32], forward: &mut Forward) -> Result<()> {
    let start = session.tokens().len() as u32;
    let mut rows = Row::chain(SequenceIndex(0), start, tokens);
    rows.iter_mut().for_each(|row| row.output = true);
    Ok(engine.forward_into(SegmentKind::Target, &rows, &[session], forward)?)
}

/// Ids that differ and do not depend on luck; what they mean makes no difference to the time.
fn tokens(engine: &Engine, count: usize) -> Vec<u32> {
    let vocab_size = engine.vocab_size() as u64;
    let ids = (1..=count as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocab_size) as u32);
    ids.collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
