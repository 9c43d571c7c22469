use crate::args::GenerateArgs;
use crate::failure::{INTERRUPTED, Usage};
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::run::{Outlet, answer};
use anyhow::{Context, Result};
use std::io::{BufRead, IsTerminal};
use stheno::engine::{FinishReason, GenerateOptions, Prompt, Session};
use stheno::text::Message;

/// Talks in turns. The session keeps the KV of all of them, so that a turn costs only what it adds.
pub fn run(
    session: &mut Session,
    args: &GenerateArgs,
    first: Option<&str>,
    options: &GenerateOptions,
    outlet: &mut Outlet,
    interrupt: &Interrupt,
) -> Result<u8> {
    let seed = (options.sampling.temperature > 0.0).then_some(options.sampling.seed);
    if !session.engine().has_chat_template() {
        let advice = "the model has no chat template; use -p with --raw instead of --chat";
        return Err(Usage(advice.into()).into());
    }
    let mut messages: Vec<Message> = args
        .prompt
        .system
        .iter()
        .map(|text| Message::new("system", text))
        .collect();
    let people = std::io::stdin().is_terminal();
    if people {
        eprintln!("Say something; an empty line or Ctrl-D ends.");
    }
    let mut next = first.map(str::to_owned);
    loop {
        let turn = match next.take() {
            Some(turn) => turn,
            None => match read_turn(people)? {
                Some(turn) => turn,
                None => return Ok(if outlet.complete() { 0 } else { 1 }),
            },
        };
        messages.push(Message::new("user", turn));
        let prompt = Prompt::Chat(messages.clone());
        let answer = answer(session, prompt, options, outlet, interrupt)?;
        print("\n")?;
        if args.model.verbose > 0 || !people {
            answer.report(seed);
        }
        if args.model.verbose > 0 || args.output.show_speculation {
            answer.report_speculation();
        }
        if answer.finish_reason == FinishReason::Cancelled {
            return Ok(INTERRUPTED);
        }
        messages.push(Message::new("assistant", answer.text.unwrap_or_default()));
    }
}

/// One line; `None` at the end.
fn read_turn(people: bool) -> Result<Option<String>> {
    if people {
        eprint!("> ");
    }
    let mut line = Vec::new();
    let read = std::io::stdin().lock().read_until(b'\n', &mut line);
    read.context("standard input")?;
    let line = String::from_utf8(line)
        .map_err(|_| anyhow::anyhow!("standard input: the text is not UTF-8"))?;
    let line = line.trim_end_matches(['\n', '\r']);
    Ok((!line.is_empty()).then(|| line.to_owned()))
}
