use super::accept::{Chooser, Picked};
use super::executor::{SessionKv, lock};
use super::{Engine, GenerateOptions, Session, Statistics};
use crate::device::{DeviceDrafter, Generation, GenerationInput};
use crate::speculation::Policy;
use crate::{Error, Result};

/// A generation whose loop runs on the device: the host only reads tokens as they come.
#[derive(Debug)]
pub(super) struct DeviceStream {
    running: Option<Generation>,
    stop_ids: Vec<u32>,
    draft_tokens: u32,
    drafter: DeviceDrafter,
    /// The call that the last token came from, and tokens that came from it.
    round: (u32, usize),
}

/// Tokens looked up ahead where nothing else is said: with the token before them the rows of the narrowest product.
const LOOKUP_TOKENS: u32 = 7;

/// Tokens that a draft model guesses ahead where nothing else is said: each costs a step of it.
const MODEL_TOKENS: u32 = 4;

impl DeviceStream {
    /// `None` if the engine is on the host, or the options need the host between tokens.
    pub fn new(engine: &Engine, options: &GenerateOptions) -> Option<Self> {
        engine.device_executor()?;
        let stop_ids = match options.ignore_eos {
            true => Vec::new(),
            false => engine.eos().to_vec(),
        };
        if !Generation::can(&stop_ids, options.logprobs) {
            return None;
        }
        let (drafter, usual) = match engine.draft_kind() {
            Some("ngram") => (DeviceDrafter::Lookup, LOOKUP_TOKENS),
            Some(_) => (DeviceDrafter::Model, MODEL_TOKENS),
            None => (DeviceDrafter::Lookup, 0),
        };
        let draft_tokens = match options.speculation.policy {
            Policy::Automatic => usual,
            Policy::Fixed(shape) if usual > 0 => shape.num_steps,
            Policy::Off | Policy::Fixed(_) => 0,
        };
        Some(DeviceStream {
            running: None,
            stop_ids,
            draft_tokens,
            drafter,
            round: (0, 0),
        })
    }

    /// Whether it guesses ahead.
    pub fn drafts(&self) -> bool {
        self.draft_tokens > 0
    }

    /// The next token, counted. Starts the loop when it is first asked.
    pub fn next(
        &mut self,
        session: &mut Session,
        chooser: &mut Chooser<'_>,
        max_tokens: usize,
        statistics: &mut Statistics,
    ) -> Result<Picked> {
        if self.running.is_none() {
            self.running = Some(self.start(session, chooser, max_tokens)?);
        }
        let Some(running) = &mut self.running else {
            return Err(Error::Cancelled);
        };
        let Some(generated) = running.next()? else {
            return Err(Error::Invalid(match running.found_nothing() {
                true => {
                    "no token can be chosen: the bias forbids all, or the logits are not numbers"
                }
                false => "the device ended the generation early",
            }
            .into()));
        };
        if self.round.0 != generated.round {
            self.round = (generated.round, 0);
            statistics.decode_steps = generated.round as usize;
            if let Some(speculation) = &mut statistics.speculation {
                speculation.count_round(generated.guesses as usize);
            }
        }
        if let Some(speculation) = &mut statistics.speculation {
            speculation.count_token(self.round.1, generated.accepted);
        }
        self.round.1 += 1;
        chooser.counts.push(generated.token);
        Ok(Picked {
            id: generated.token,
            logprobs: generated.logprobs,
            accepted: generated.accepted,
        })
    }

    fn start(
        &self,
        session: &mut Session,
        chooser: &Chooser<'_>,
        max_tokens: usize,
    ) -> Result<Generation> {
        let engine = session.engine.clone();
        let (Some(executor), SessionKv::Device(kv)) = (engine.device_executor(), &session.kv)
        else {
            return Err(Error::Invalid("the session is on the host".to_owned()));
        };
        let input = GenerationInput {
            tokens: chooser.counts.tokens(),
            prompt: chooser.prompt_tokens,
            limit: chooser.prompt_tokens + max_tokens,
            sampling: chooser.sampler.params(),
            counts: &chooser.counts,
            stop_ids: &self.stop_ids,
            logprobs: chooser.logprobs,
            draft_tokens: self.draft_tokens,
            drafter: self.drafter,
        };
        Generation::start(executor, &mut lock(kv), &input)
    }

    /// Stops the device. `tokens` are those known; the session holds the K and V of as many of them as were computed.
    pub fn end(&mut self, session: &mut Session, tokens: &[u32]) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let SessionKv::Device(kv) = &session.kv else {
            return Ok(());
        };
        let ended = running.end(&mut lock(kv));
        let length = {
            let mut kv = lock(kv);
            let length = kv.len().min(tokens.len());
            kv.truncate(length);
            length
        };
        session.adopt(&tokens[..length]);
        ended
    }
}
