use crate::args::{GenerateArgs, OutputArgs, PromptArgs};
use crate::colors::Colors;
use crate::failure::{INTERRUPTED, Usage};
use crate::interrupt::Interrupt;
use crate::output::{Answer, print, print_json};
use crate::profile::Profiling;
use crate::trace::Trace;
use crate::{chat, input, load, logits, sampling, speculation};
use anyhow::Result;
use std::time::Instant;
use stheno::engine::{Engine, FinishReason, GenerateOptions, Prompt, Session, SessionOptions};
use stheno::text::Message;

/// `generate` without a subcommand.
pub fn run(args: &GenerateArgs) -> Result<u8> {
    // What is wrong on the command line is said before a model is loaded.
    let input = Input::new(&args.prompt)?;
    sampling::params(&args.sampling, None)?;
    let watching = [
        ("--show-speculation", args.output.show_speculation),
        ("--trace-rounds", args.output.trace_rounds.is_some()),
    ];
    speculation::check(&args.draft, &args.speculation, &watching)?;
    let mut outlet = Outlet::new(&args.output)?;
    let profiling = Profiling::new(&args.output.profile, &args.model)?;
    let interrupt = Interrupt::install()?;
    let engine = load::engine(&args.model, Some(&args.draft))?;
    profiling.start(&engine)?;
    let options = options(args, &engine, &interrupt)?;
    let seed = (options.sampling.temperature > 0.0).then_some(options.sampling.seed);
    let mut session = engine.session(SessionOptions::default())?;
    if args.prompt.chat {
        let first = input.text();
        let code = chat::run(&mut session, args, first, &options, &mut outlet, &interrupt)?;
        profiling.finish(&engine)?;
        return Ok(code);
    }
    let prompt = Prompt::Tokens(engine.tokenize(&input.prompt(&args.prompt)?)?);
    let scored = match (&args.output.dump_logits, &prompt) {
        (Some(path), Prompt::Tokens(tokens)) => {
            let start = Instant::now();
            logits::dump(&mut session, tokens, path, &interrupt)?;
            Some(start.elapsed())
        }
        _ => None,
    };
    let mut answer = answer(&mut session, prompt, &options, &mut outlet, &interrupt)?;
    if let Some(time) = scored {
        // The logits to dump were the prefill; the generation found them done.
        answer.statistics.reused_tokens = 0;
        answer.statistics.prefill += time;
    }
    if answer
        .text
        .as_ref()
        .is_some_and(|text| !text.ends_with('\n'))
    {
        print("\n")?;
    }
    answer.report(seed);
    if args.output.show_speculation || args.model.verbose > 0 {
        answer.report_speculation();
    }
    profiling.finish(&engine)?;
    if args.output.json {
        print_json(&answer.to_json(&engine, args.output.logprobs.is_some()))?;
    } else if answer.text.is_none() {
        let tokens = answer.tokens.iter();
        let ids: Vec<String> = tokens
            .map(|t| outlet.colors.paint(&t.id.to_string(), t.accepted))
            .collect();
        print(&format!("{}\n", ids.join(",")))?;
    }
    Ok(match answer.finish_reason {
        FinishReason::Cancelled => INTERRUPTED,
        _ if !outlet.complete() => 1,
        FinishReason::Stop | FinishReason::Length | FinishReason::Error => 0,
    })
}

/// What the flags say to answer.
enum Input {
    Nothing,
    Text(String),
    Tokens(Vec<u32>),
}

impl Input {
    fn new(args: &PromptArgs) -> Result<Self> {
        if args.n_predict < -1 {
            let n = args.n_predict;
            let advice = "give a number of tokens, or -1 to go on until the context is full";
            return Err(Usage(format!("-n {n}: {advice}")).into());
        }
        let input = match (&args.prompt, &args.file, &args.tokens) {
            (Some(text), _, _) if text.is_empty() => {
                return Err(Usage("the prompt is empty; say something with -p".into()).into());
            }
            (Some(text), _, _) => Input::Text(text.clone()),
            (_, Some(file), _) => Input::Text(input::read_text(file)?),
            (_, _, Some(tokens)) => Input::Tokens(tokens.clone()),
            _ if args.chat => Input::Nothing,
            _ => {
                let advice = "no prompt; give one with -p, -f or --tokens, or talk with --chat";
                return Err(Usage(advice.into()).into());
            }
        };
        Ok(input)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Input::Text(text) => Some(text),
            Input::Nothing | Input::Tokens(_) => None,
        }
    }

    fn prompt(self, args: &PromptArgs) -> Result<Prompt> {
        Ok(match (self, &args.system) {
            (Input::Tokens(tokens), _) => Prompt::Tokens(tokens),
            (Input::Text(text), _) if args.raw => Prompt::Raw(text),
            (Input::Text(text), None) => Prompt::Text(text),
            (Input::Text(text), Some(system)) => Prompt::Chat(vec![
                Message::new("system", system),
                Message::new("user", text),
            ]),
            (Input::Nothing, _) => return Err(Usage("no prompt; give one with -p".into()).into()),
        })
    }
}

fn options(args: &GenerateArgs, engine: &Engine, interrupt: &Interrupt) -> Result<GenerateOptions> {
    let sampling = sampling::params(&args.sampling, engine.generation_config())?;
    let mut options = GenerateOptions::sampled(0, sampling);
    options.max_tokens = usize::try_from(args.prompt.n_predict).ok();
    options.stop.clone_from(&args.prompt.stop);
    options.ignore_eos = args.prompt.ignore_eos;
    options.logprobs = args.output.logprobs;
    options.speculation = speculation::of_engine(&args.draft, &args.speculation, engine)?;
    options.cancellation = interrupt.cancellation.clone();
    Ok(options)
}

/// Where answers go as they come.
pub struct Outlet {
    stream: bool,
    colors: Colors,
    trace: Option<Trace>,
}

impl Outlet {
    fn new(args: &OutputArgs) -> Result<Self> {
        let colors = Colors::new(args.show_speculation, args.color);
        colors.explain();
        let trace = args.trace_rounds.as_deref().map(Trace::create);
        Ok(Outlet {
            stream: !args.no_stream,
            colors,
            trace: trace.transpose()?,
        })
    }

    /// Hands over what is buffered; whether everything that was asked for was written.
    pub fn complete(&mut self) -> bool {
        self.trace.as_mut().is_none_or(Trace::flush)
    }
}

/// Generates one answer and prints its text as it comes.
pub fn answer(
    session: &mut Session,
    prompt: Prompt,
    options: &GenerateOptions,
    outlet: &mut Outlet,
    interrupt: &Interrupt,
) -> Result<Answer> {
    let (stream, colors) = (outlet.stream, outlet.colors);
    let mut text = session.engine().text().map(|_| String::new());
    let mut unprinted = String::new();
    let mut emit = |fragment: &str, accepted| -> Result<()> {
        let Some(text) = &mut text else {
            return Ok(());
        };
        text.push_str(fragment);
        let painted = colors.paint(fragment, accepted);
        if stream {
            return print(&painted);
        }
        unprinted += &painted;
        Ok(())
    };
    interrupt.answering(true);
    let mut tokens = Vec::new();
    let mut generation = session.generate(prompt, options)?;
    if let Some(trace) = &mut outlet.trace {
        generation = generation.with_rounds(|round| trace.write(round));
    }
    for token in generation.by_ref() {
        let token = token?;
        emit(&token.text, token.accepted)?;
        tokens.push(token);
    }
    emit(&generation.take_unsent_text(), false)?;
    interrupt.answering(false);
    print(&unprinted)?;
    let answer = Answer {
        prompt_tokens: generation.prompt_tokens().to_vec(),
        tokens,
        text,
        finish_reason: generation.finish_reason().unwrap_or(FinishReason::Length),
        statistics: generation.statistics().clone(),
    };
    drop(generation);
    outlet.complete();
    Ok(answer)
}
