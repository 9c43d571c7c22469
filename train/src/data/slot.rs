use super::answers::Answered;
use super::prompts::{Conversation, Turn};
use super::resample::Settings;
use crate::{Random, Result};
use stheno::engine::{Engine, Forward, Prompt, Session};
use stheno::plan::{Row, SequenceIndex};
use stheno::speculation::sampling::{Sampler, SamplingParams, TokenCounts};
use stheno::text::Message;

/// A conversation that is being answered, one of several in a step.
pub(super) struct Slot {
    id: usize,
    /// The user's turns to come.
    users: std::vec::IntoIter<Turn>,
    messages: Vec<Message>,
    /// What the target has read and written; the session holds a part of it from the start.
    tokens: Vec<u32>,
    /// Where the answer begins that is being written.
    begin: usize,
    answers: Vec<[usize; 2]>,
    session: Session,
    sampler: Sampler,
}

impl Slot {
    /// Puts a conversation into an empty session; `None` if its first turn is longer than the settings allow.
    pub fn begin(
        engine: &Engine,
        session: Session,
        conversation: &Conversation,
        settings: &Settings,
    ) -> Result<Option<Self>> {
        let mut random = Random::new(settings.seed, conversation.id as u64);
        let sampling = SamplingParams {
            temperature: settings.temperatures.at(random.unit()),
            seed: random.bits(),
            ..SamplingParams::default()
        };
        let system = conversation
            .system
            .iter()
            .map(|text| Message::new("system", text));
        let mut slot = Slot {
            id: conversation.id,
            users: conversation.users.clone().into_iter(),
            messages: system.collect(),
            tokens: Vec::new(),
            begin: 0,
            answers: Vec::new(),
            session,
            sampler: Sampler::new(sampling, engine.vocab_size())?,
        };
        slot.session.truncate(0);
        Ok(slot.next_turn(engine, settings)?.then_some(slot))
    }

    /// Asks the user's next turn; false if there is none, or no room for it.
    fn next_turn(&mut self, engine: &Engine, settings: &Settings) -> Result<bool> {
        let Some(user) = self.users.next() else {
            return Ok(false);
        };
        let mut messages = self.messages.clone();
        let prompt = match user {
            Turn::Tokens(tokens) => Prompt::Tokens(tokens),
            Turn::Text(text) => {
                messages.push(Message::new("user", &text));
                match engine.has_chat_template() {
                    true => Prompt::Chat(messages.clone()),
                    false => Prompt::raw(text),
                }
            }
        };
        let tokens = engine.tokenize(&prompt)?;
        let room = self.session.context_length();
        if tokens.len() > settings.max_prompt_tokens || tokens.len() >= room {
            return Ok(false);
        }
        // Where text does not become the same ids again, earlier answers are context only.
        if !tokens.starts_with(&self.tokens) {
            self.answers.clear();
        }
        let shared = std::iter::zip(&tokens, self.session.tokens());
        let shared = shared.take_while(|(a, b)| a == b).count();
        self.session.truncate(shared.min(tokens.len() - 1));
        self.messages = messages;
        self.begin = tokens.len();
        self.tokens = tokens;
        Ok(true)
    }

    /// Tokens that the session does not hold yet.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.session.tokens().len()
    }

    /// The next `count` of them as rows of sequence `index`; the last has an output if no other waits.
    pub fn rows(&self, index: usize, count: usize) -> Vec<Row> {
        let start = self.session.tokens().len();
        let mut rows = Row::chain(
            SequenceIndex(index as u32),
            start as u32,
            &self.tokens[start..start + count],
        );
        if count < self.pending() {
            rows.iter_mut().for_each(|row| row.output = false);
        }
        rows
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn into_session(self) -> Session {
        self.session
    }

    /// Keeps the rows `path` of a call; with `logits` after the last of them, the next token is chosen. Returns whether
    /// the conversation has ended.
    pub fn advance(
        &mut self,
        engine: &Engine,
        settings: &Settings,
        forward: &Forward,
        path: &[u32],
        logits: Option<&[f32]>,
    ) -> Result<bool> {
        // The rows' indices in the call; parents are checked against them.
        self.session.commit(forward, path)?;
        let Some(logits) = logits else {
            return Ok(false);
        };
        let position = self.tokens.len();
        let counts = TokenCounts::new(&[], 0);
        let choice = self
            .sampler
            .choose(logits, position as u32, &counts, None)?;
        self.tokens.push(choice.token);
        let ended = engine.eos().contains(&choice.token);
        let is_full = self.tokens.len() - self.begin >= settings.max_tokens
            || self.tokens.len() >= self.session.context_length();
        if !ended && !is_full {
            return Ok(false);
        }
        self.answers.push([self.begin, self.tokens.len()]);
        let text = &self.tokens[self.begin..self.tokens.len() - usize::from(ended)];
        let text = engine
            .text()
            .map_or_else(String::new, |t| t.tokenizer.decode(text));
        self.messages.push(Message::new("assistant", text));
        // What a limit has cut off is no context for another turn.
        Ok(!ended || !self.next_turn(engine, settings)?)
    }

    /// What has been said.
    pub fn answered(&self) -> Answered {
        let written = self.answers.last().map_or(0, |[_, end]| *end);
        Answered {
            id: self.id,
            temperature: self.sampler.params().temperature,
            messages: self.messages.clone(),
            tokens: self.tokens[..written].to_vec(),
            answers: self.answers.clone(),
        }
    }
}
