//! `generate bench --questions`: every question answered with and without the draft, by turns in one run.

mod file;
mod plot;
mod report;
mod tally;

use crate::args::{BenchArgs, SamplingArgs};
use crate::failure::{INTERRUPTED, Usage};
use crate::interrupt::Interrupt;
use crate::output::{print, print_json};
use crate::{load, sampling, speculation};
use anyhow::Result;
use file::Question;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::{Answered, Report};
use std::path::Path;
use stheno::engine::{Engine, GenerateOptions, Prompt, Session, SessionOptions, Statistics};
use stheno::speculation::{Acceptance, SpeculationOptions};
use stheno::text::Message;
use tally::{Side, Tally, differing};

/// Plain answers come from an engine without a draft, as a user without one has it: a draft costs time even where it is
/// not asked, since it follows the text.
pub fn run(args: &BenchArgs, path: &Path) -> Result<u8> {
    check(args)?;
    let wanted = &args.questions;
    let questions = file::read(path, &wanted.categories, wanted.num_questions)?;
    let interrupt = Interrupt::install()?;
    let drafting = load::engine(&args.model, Some(&args.draft))?;
    let speculation = speculation::of_engine(&args.draft, &args.speculation, &drafting)?;
    if drafting.text().is_none() {
        let advice = "questions are text, and the model has no tokenizer";
        return Err(Usage(advice.into()).into());
    }
    let plain = load::engine(&args.model, None)?;
    let sampling = sampling::params(&greedy(&args.sampling), drafting.generation_config())?;
    let mut options = GenerateOptions::sampled(wanted.n_predict, sampling);
    options.cancellation = interrupt.cancellation.clone();
    let mut comparison = Comparison {
        plain: plain.session(SessionOptions::default())?,
        drafting: drafting.session(SessionOptions::default())?,
        options,
        speculation,
        drafting_first: false,
    };
    interrupt.answering(true);
    let mut report = Report::new(&comparison.options, &comparison.speculation);
    let cancelled = comparison.answer_all(&questions, &mut report)?;
    interrupt.answering(false);
    if args.json {
        print_json(&report.to_json(&drafting))?;
    } else {
        print(&report.to_table())?;
    }
    if let Some(path) = &wanted.plot {
        plot::write(path, &report.categories())?;
    }
    if cancelled {
        return Ok(INTERRUPTED);
    }
    let differing = report.differing();
    if differing.is_empty() {
        return Ok(0);
    }
    let ids = differing.join(", ");
    if comparison.speculation.acceptance != Acceptance::Exact {
        eprintln!("generate: answers differ from plain decoding in questions {ids}");
        return Ok(0);
    }
    anyhow::bail!("exact acceptance gave other tokens than plain decoding in questions {ids}")
}

/// What can be said before a model is loaded.
fn check(args: &BenchArgs) -> Result<()> {
    let fault = if args.draft.draft.is_none() {
        "--questions compares plain decoding with speculation; name a draft with --draft"
    } else if args.speculation.no_speculation {
        "--questions compares plain decoding with speculation; leave out --no-speculation"
    } else if args.questions.n_predict == 0 {
        "-n 0: an answer has at least one token"
    } else {
        sampling::params(&greedy(&args.sampling), None)?;
        return speculation::check(&args.draft, &args.speculation, &[]);
    };
    Err(Usage(fault.into()).into())
}

/// Measurements are greedy unless a temperature is asked for, whatever the model's own defaults.
fn greedy(args: &SamplingArgs) -> SamplingArgs {
    SamplingArgs {
        temp: args.temp.or(Some(0.0)),
        ..args.clone()
    }
}

/// Both ways of decoding. Each keeps its session, and with it what it learned about the draft.
struct Comparison {
    plain: Session,
    drafting: Session,
    options: GenerateOptions,
    speculation: SpeculationOptions,
    /// Which goes first, by turns.
    drafting_first: bool,
}

/// One way's answer.
struct Run {
    tokens: Vec<u32>,
    text: String,
    statistics: Statistics,
}

impl Comparison {
    /// Answers the questions; whether that was cancelled.
    fn answer_all(&mut self, questions: &[Question], report: &mut Report) -> Result<bool> {
        let turns: usize = questions.iter().map(|question| question.turns.len()).sum();
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(turns as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} turns, {eta} left") {
            bar.set_style(style);
        }
        self.warm_up(questions)?;
        let cancellation = self.options.cancellation.clone();
        for question in questions {
            let answered = self.answer(question, &bar)?;
            // An answer that was cut short says nothing.
            if cancellation.is_cancelled() {
                break;
            }
            match answered {
                Some(answered) => report.push(answered),
                None => {
                    report.skipped += 1;
                    let name = question.name();
                    bar.suspend(|| {
                        eprintln!("question {name} does not fit the context; it is skipped")
                    });
                }
            }
        }
        bar.finish_and_clear();
        Ok(cancellation.is_cancelled())
    }

    /// Answers the first turn that fits, for caches, clocks and the measurement of steps; forgets it again.
    fn warm_up(&mut self, questions: &[Question]) -> Result<()> {
        for question in questions {
            if let Some(prompt) = self.prompt(&Conversation::new(&question.turns[0]))? {
                self.both(&prompt)?;
                break;
            }
        }
        self.plain.truncate(0);
        self.drafting.truncate(0);
        Ok(())
    }

    /// All turns of a question; `None` if one does not fit the context.
    fn answer(&mut self, question: &Question, bar: &ProgressBar) -> Result<Option<Answered>> {
        let mut tally = Tally {
            questions: 1,
            ..Tally::default()
        };
        let mut conversation = Conversation::default();
        for turn in &question.turns {
            conversation.ask(turn);
            let Some(prompt) = self.prompt(&conversation)? else {
                return Ok(None);
            };
            let (plain, drafting) = self.both(&prompt)?;
            tally.add(&Tally {
                questions: 0,
                plain: Side::of(&plain.statistics),
                speculative: Side::of(&drafting.statistics),
                speculation: drafting.statistics.speculation.unwrap_or_default(),
                differing: differing(&plain.tokens, &drafting.tokens),
            });
            // Both are asked the same, also where acceptance is not exact.
            conversation.answered(plain.text);
            bar.inc(1);
        }
        Ok(Some(Answered {
            question: question.clone(),
            tally,
        }))
    }

    fn prompt(&self, conversation: &Conversation) -> Result<Option<Vec<u32>>> {
        let engine: &Engine = self.plain.engine();
        let tokens = engine.tokenize(&conversation.prompt(engine.has_chat_template()))?;
        Ok((tokens.len() <= self.plain.context_length()).then_some(tokens))
    }

    /// The answers without and with the draft.
    fn both(&mut self, prompt: &[u32]) -> Result<(Run, Run)> {
        let mut off = self.options.clone();
        off.speculation = SpeculationOptions::off();
        let mut on = self.options.clone();
        on.speculation = self.speculation.clone();
        self.drafting_first = !self.drafting_first;
        Ok(if self.drafting_first {
            let drafting = generate(&mut self.drafting, prompt, &on)?;
            (generate(&mut self.plain, prompt, &off)?, drafting)
        } else {
            let plain = generate(&mut self.plain, prompt, &off)?;
            (plain, generate(&mut self.drafting, prompt, &on)?)
        })
    }
}

fn generate(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Result<Run> {
    let mut stream = session.generate(prompt, options)?;
    let (mut tokens, mut text) = (Vec::new(), String::new());
    for token in stream.by_ref() {
        let token = token?;
        text += &token.text;
        tokens.push(token.id);
    }
    Ok(Run {
        tokens,
        text,
        statistics: stream.statistics().clone(),
    })
}

/// What was said so far.
#[derive(Debug, Default)]
struct Conversation {
    messages: Vec<Message>,
    /// The same without roles, for models without a chat template.
    raw: String,
}

impl Conversation {
    fn new(turn: &str) -> Self {
        let mut conversation = Conversation::default();
        conversation.ask(turn);
        conversation
    }

    fn ask(&mut self, turn: &str) {
        if !self.raw.is_empty() {
            self.raw += "\n\n";
        }
        self.raw += turn;
        self.messages.push(Message::new("user", turn));
    }

    fn answered(&mut self, text: String) {
        self.raw += &text;
        self.messages.push(Message::new("assistant", text));
    }

    fn prompt(&self, template: bool) -> Prompt {
        match template {
            true => Prompt::Chat(self.messages.clone()),
            false => Prompt::Raw(self.raw.clone()),
        }
    }
}
