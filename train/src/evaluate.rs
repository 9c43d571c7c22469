use crate::Result;
use crate::data::{Conversation, Turn};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use stheno::engine::{Engine, GenerateOptions, Prompt, SessionOptions, SpeculationStatistics};
use stheno::text::Message;

/// What a draft's rounds gave over some conversations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// By [`Conversation::group`].
    pub groups: BTreeMap<String, SpeculationStatistics>,
    /// Of all conversations.
    pub all: SpeculationStatistics,
    /// Conversations answered.
    pub answered: usize,
    /// Conversations left out, since their prompt is longer than asked for or than the context.
    pub left_out: usize,
}

/// Lets an engine with a draft answer `conversations`, turn by turn, as `options` say; counts what rounds gave. Ends early when
/// `stop` is set. `progress` is told after each conversation how many there were.
///
/// # Errors
/// Those of the engine.
pub fn evaluate(
    engine: &Engine,
    conversations: &[&Conversation],
    max_prompt_tokens: usize,
    options: &GenerateOptions,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    let mut session = engine.session(SessionOptions::default())?;
    let mut evaluation = Evaluation::default();
    for conversation in conversations {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let system = conversation
            .system
            .iter()
            .map(|text| Message::new("system", text));
        let mut messages: Vec<Message> = system.collect();
        let mut statistics = SpeculationStatistics::default();
        for turn in &conversation.users {
            let prompt = match turn {
                Turn::Tokens(tokens) => Prompt::Tokens(tokens.clone()),
                Turn::Text(text) if engine.has_chat_template() => {
                    messages.push(Message::new("user", text));
                    Prompt::Chat(messages.clone())
                }
                Turn::Text(text) => Prompt::raw(text),
            };
            let tokens = engine.tokenize(&prompt)?;
            if tokens.len() > max_prompt_tokens || tokens.len() >= session.context_length() {
                evaluation.left_out += 1;
                break;
            }
            let mut stream = session.generate(tokens, options)?;
            let mut answer = String::new();
            for token in stream.by_ref() {
                answer += &token?.text;
            }
            if let Some(rounds) = &stream.statistics().speculation {
                statistics.add(rounds);
            }
            messages.push(Message::new("assistant", answer));
        }
        if statistics.rounds > 0 {
            let group = conversation
                .group
                .clone()
                .unwrap_or_else(|| "all".to_owned());
            evaluation.groups.entry(group).or_default().add(&statistics);
            evaluation.all.add(&statistics);
            evaluation.answered += 1;
        }
        progress(evaluation.answered + evaluation.left_out);
    }
    Ok(evaluation)
}
