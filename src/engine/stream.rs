use super::accept::{Chooser, Picked};
use super::device_stream::DeviceStream;
use super::speculator::RoundInput;
use super::{
    CancellationToken, FinishReason, GenerateOptions, Prompt, Round, Session,
    SpeculationStatistics, Statistics,
};
use crate::speculation::SpeculationOptions;
use crate::speculation::sampling::{Sampler, TokenCounts, TokenLogprob, TokenMask};
use crate::text::{StopStrings, TextStream};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::time::Instant;

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id. A token that ends the answer is streamed too, without text of its own.
    pub id: u32,
    /// The text that it completes: nothing while a character or a possible stop string is unfinished, and then that
    /// of several tokens at once. Nothing ever if the checkpoint has no tokenizer.
    pub text: String,
    /// Log-probability under the model, before any filter; only if [`GenerateOptions::logprobs`] asks for it.
    pub logprob: Option<f32>,
    /// The most probable tokens and their log-probabilities, best first.
    pub top_logprobs: Vec<TokenLogprob>,
    /// Whether a draft had guessed it.
    pub accepted: bool,
}

/// Chooses, before each token, which ones are allowed: a closure over the tokens generated so far.
pub(super) type MaskHook<'a> = Box<dyn FnMut(&[u32], &mut TokenMask) -> Result<()> + 'a>;

/// Sees every round of speculation.
type RoundHook<'a> = Box<dyn FnMut(&Round) + 'a>;

/// The tokens of one generation, each computed when it is asked for, or several at a time where a draft guessed them. A
/// token once streamed is never taken back.
///
/// Dropping the stream ends the generation; the session keeps what was computed for the tokens streamed.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    chooser: Chooser<'a>,
    round_hook: Option<RoundHook<'a>>,
    text: Option<TextState>,
    options: Limits,
    /// Whether tokens come in rounds of speculation, and of which.
    speculation: Option<SpeculationOptions>,
    /// Where the loop runs on a device, once it does.
    device: Option<DeviceStream>,
    /// Tokens chosen that were not streamed yet, and what went wrong after the last of them.
    ready: VecDeque<Picked>,
    failure: Option<Error>,
    statistics: Statistics,
    finish: Option<FinishReason>,
    unsent: String,
}

#[derive(Debug)]
struct TextState {
    stream: TextStream,
    stop: StopStrings,
}

#[derive(Debug)]
struct Limits {
    max_tokens: usize,
    ignore_eos: bool,
    cancellation: CancellationToken,
}

impl Session {
    /// Generates from a prompt, which is the whole content of the sequence: what the session holds of it already is
    /// kept, what is over is forgotten, the rest is computed before this returns; or with the first token, where a device has a
    /// draft that is fed hidden states of the prompt.
    ///
    /// # Errors
    /// If the prompt is empty, does not fit the context, or cannot be turned into tokens; if an option is out of range.
    pub fn generate<'a>(
        &'a mut self,
        prompt: impl Into<Prompt>,
        options: &GenerateOptions,
    ) -> Result<TokenStream<'a>> {
        let engine = self.engine.clone();
        options.validate(engine.vocab_size())?;
        let history = engine.tokenize(&prompt.into())?;
        if history.len() > self.context_length() {
            return Err(crate::Error::ContextOverflow {
                needed: history.len(),
                context_length: self.context_length(),
            });
        }
        let chooser = Chooser {
            sampler: Sampler::new(options.sampling.clone(), engine.vocab_size())?,
            counts: TokenCounts::new(&history, options.sampling.penalty_last_n),
            mask_hook: None,
            logprobs: options.logprobs,
            prompt_tokens: history.len(),
            vocab_size: engine.vocab_size(),
        };
        let speculates = self.start_speculation(&options.speculation)?;
        // The last token needs no position: nothing is computed from it.
        let room = self.context_length() - history.len() + 1;
        let limits = Limits {
            max_tokens: options.max_tokens.unwrap_or(room).min(room),
            ignore_eos: options.ignore_eos,
            cancellation: options.cancellation.clone(),
        };
        let text = engine.text().map(|text| TextState {
            stream: TextStream::new(&text.tokenizer),
            stop: StopStrings::new(options.stop.iter().cloned()),
        });
        let start = Instant::now();
        let reused = self.rewind_to_shared_prefix(&history);
        let device = DeviceStream::new(&engine, options);
        let cancellation = &options.cancellation;
        let takes_prompt = device.as_ref().is_some_and(DeviceStream::takes_prompt);
        let complete = match takes_prompt && limits.max_tokens > 0 {
            true => !cancellation.is_cancelled(),
            false => self.prefill(&history[reused..], None, &mut || {
                cancellation.is_cancelled()
            })?,
        };
        let finish = match (complete, limits.max_tokens) {
            (false, _) => Some(FinishReason::Cancelled),
            (true, 0) => Some(FinishReason::Length),
            (true, _) => None,
        };
        let device_drafts = device.as_ref().is_some_and(DeviceStream::drafts);
        let statistics = Statistics {
            prompt_tokens: history.len(),
            reused_tokens: reused,
            prefill: start.elapsed(),
            load: engine.load_time(),
            speculation: (speculates || device_drafts).then(SpeculationStatistics::default),
            ..Statistics::default()
        };
        Ok(TokenStream {
            session: self,
            chooser,
            round_hook: None,
            text,
            options: limits,
            speculation: speculates.then(|| options.speculation.clone()),
            device,
            ready: VecDeque::new(),
            failure: None,
            statistics,
            finish,
            unsent: String::new(),
        })
    }
}

impl<'a> TokenStream<'a> {
    /// Lets `hook` choose before each token which ones are allowed: it gets the tokens generated so far and a mask that
    /// allows all. With speculation it is asked about tokens ahead of those streamed.
    pub fn with_mask(
        mut self,
        hook: impl FnMut(&[u32], &mut TokenMask) -> Result<()> + 'a,
    ) -> Self {
        self.chooser.mask_hook = Some(Box::new(hook));
        // The hook runs between tokens, so the host has to, which guesses nothing for a device.
        if self.device.take().is_some() {
            self.statistics.speculation = None;
        }
        self
    }

    /// Shows every round of speculation to `hook`, before its tokens are streamed. A device that is asked for its rounds
    /// writes every tree to the host's memory; the loop does not wait for that, and
    /// has to be asked before its first token.
    pub fn with_rounds(mut self, hook: impl FnMut(&Round) + 'a) -> Self {
        self.round_hook = Some(Box::new(hook));
        self
    }

    /// Token ids of the prompt.
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history()[..self.statistics.prompt_tokens]
    }

    /// Token ids generated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.history()[self.statistics.prompt_tokens..]
    }

    /// Why it ended; `None` while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// What it did so far, and how long that took.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Text that was held back as the possible start of a stop string when the generation was cancelled; empty after
    /// any other end, when the last token carries it.
    pub fn take_unsent_text(&mut self) -> String {
        std::mem::take(&mut self.unsent)
    }

    /// Prompt, then the tokens streamed.
    fn history(&self) -> &[u32] {
        let chosen = self.chooser.counts.tokens();
        &chosen[..chosen.len() - self.ready.len()]
    }

    fn step(&mut self) -> Result<Option<Token>> {
        if self.options.cancellation.is_cancelled() {
            self.finish = Some(FinishReason::Cancelled);
            self.unsent = self.flush_text();
            self.rewind();
            return Ok(None);
        }
        if self.ready.is_empty() {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.decode()?;
        }
        let Some(picked) = self.ready.pop_front() else {
            return self.failure.take().map_or(Ok(None), Err);
        };
        self.statistics.generated_tokens += 1;
        let logprobs = picked.logprobs;
        let mut token = Token {
            id: picked.id,
            text: self.advance_text(picked.id),
            logprob: logprobs.as_ref().map(|l| l.chosen.logprob),
            top_logprobs: logprobs.map_or(Vec::new(), |l| l.top),
            accepted: picked.accepted,
        };
        if self.finish.is_none() && self.statistics.generated_tokens >= self.options.max_tokens {
            self.finish = Some(FinishReason::Length);
            token.text += &self.flush_text();
        }
        if self.finish.is_some() {
            self.rewind();
        }
        Ok(Some(token))
    }

    /// Chooses at least one more token.
    fn decode(&mut self) -> Result<()> {
        let _span = tracing::debug_span!("step").entered();
        let takes_prompt = self.device.as_ref().is_some_and(DeviceStream::takes_prompt);
        let last = self.tokens().last().copied();
        let Some(last) = last.or(takes_prompt.then_some(0)) else {
            return self.first_token();
        };
        let start = Instant::now();
        let is_prompt = takes_prompt && self.tokens().is_empty();
        if let Some(mut device) = self.device.take() {
            let (wanted, statistics) = (self.options.max_tokens, &mut self.statistics);
            let hook = self.round_hook.as_mut().map(|hook| &mut **hook as _);
            let chosen = device.next(self.session, &mut self.chooser, wanted, statistics, hook);
            self.device = Some(device);
            self.ready.push_back(chosen?);
            match is_prompt {
                true => self.statistics.prefill += start.elapsed(),
                false => self.statistics.decode += start.elapsed(),
            }
            return Ok(());
        }
        match self.speculation.take() {
            Some(options) => {
                let done = self.round(last, &options);
                self.speculation = Some(options);
                done?;
            }
            None => {
                self.session.decode(last)?;
                let picked = self.chooser.choose(self.session.scratch.logits())?;
                self.ready.push_back(picked);
            }
        }
        self.statistics.decode_steps += 1;
        self.statistics.decode += start.elapsed();
        Ok(())
    }

    /// Chooses the token after the prompt, and computes before what of the prompt was left to a loop that a mask keeps from running.
    fn first_token(&mut self) -> Result<()> {
        let known = self.session.tokens.len();
        let rest = self.history().get(known..).unwrap_or_default().to_vec();
        if !rest.is_empty() {
            let (start, cancellation) = (Instant::now(), self.options.cancellation.clone());
            let mut cancelled = || cancellation.is_cancelled();
            let complete = self.session.prefill(&rest, None, &mut cancelled)?;
            self.statistics.prefill += start.elapsed();
            if !complete {
                self.finish = Some(FinishReason::Cancelled);
                return Ok(());
            }
        }
        // Of the prompt's last chunk, only the last row has an output.
        let picked = self.chooser.choose(self.session.scratch.logits())?;
        self.ready.push_back(picked);
        Ok(())
    }

    /// Drafts, verifies, accepts, commits.
    fn round(&mut self, root: u32, options: &SpeculationOptions) -> Result<()> {
        let wanted = self.options.max_tokens - self.statistics.generated_tokens;
        let input = RoundInput {
            root,
            levels: u32::try_from(wanted - 1).unwrap_or(u32::MAX),
            options,
            sampler: &mut self.chooser.sampler,
            counts: &mut self.chooser.counts,
        };
        let prefix_len = self.session.tokens.len();
        let scratch = std::mem::take(&mut self.session.scratch);
        let verified = self.session.draft_and_verify(input, scratch)?;
        let accept = Instant::now();
        let tree = &verified.proposal.tree;
        let (engine, ignore_eos) = (&self.session.engine, self.options.ignore_eos);
        let (logits, vocab_size) = (verified.forward.logits(), engine.vocab_size());
        let walk = self.chooser.walk(
            options.acceptance,
            tree,
            &verified.proposal.q,
            |node| &logits[node * vocab_size..(node + 1) * vocab_size],
            |token| !ignore_eos && engine.eos().contains(&token),
            wanted,
        );
        self.session.commit(&verified.forward, &walk.path)?;
        self.session.learn(&verified, &walk.path);
        if let Some(hook) = &mut self.round_hook {
            let bonus = walk.tokens.last().filter(|t| !t.accepted).map(|t| t.id);
            hook(&Round::new(prefix_len, tree, &walk.path, bonus));
        }
        if let Some(statistics) = &mut self.statistics.speculation {
            statistics.count(tree, &walk.path, walk.tokens.len());
            statistics.count_drafter(verified.drafter, 1, walk.tokens.len());
            statistics.draft += verified.draft;
            statistics.verify += verified.verify;
            statistics.accept += accept.elapsed();
        }
        self.ready.extend(walk.tokens);
        self.failure = walk.error;
        self.session.scratch = verified.forward;
        Ok(())
    }

    /// Forgets what was computed for tokens that were not streamed. The last token streamed is not computed, as after a
    /// plain step.
    fn rewind(&mut self) {
        let kept = self.history().len();
        self.ready.clear();
        let known = self.chooser.counts.tokens();
        if let Some(device) = &mut self.device
            && let Err(error) = device.end(self.session, known, &mut self.statistics)
        {
            // The session says so when it is used again.
            tracing::warn!(%error, "the device did not end the generation well");
        }
        self.chooser.counts.truncate(kept);
        if kept > self.statistics.prompt_tokens {
            self.session.truncate(kept - 1);
        }
    }

    /// The text that a token completes; notes the end of the answer.
    fn advance_text(&mut self, id: u32) -> String {
        let ends = !self.options.ignore_eos && self.session.engine.eos().contains(&id);
        if ends {
            self.finish = Some(FinishReason::Stop);
            return self.flush_text();
        }
        let Some(state) = &mut self.text else {
            return String::new();
        };
        let found = state.stop.push(&state.stream.push(id).unwrap_or_default());
        if found.stopped {
            self.finish = Some(FinishReason::Stop);
        }
        found.text
    }

    /// Everything held back; nothing more comes.
    fn flush_text(&mut self) -> String {
        let Some(state) = &mut self.text else {
            return String::new();
        };
        let tail = state.stream.finish();
        let mut text = state.stop.push(&tail.unwrap_or_default()).text;
        text += &state.stop.finish();
        text
    }
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        match self.step() {
            Ok(token) => token.map(Ok),
            Err(error) => {
                // Nothing sensible follows an error; the caller has it.
                self.finish = Some(FinishReason::Error);
                self.rewind();
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for TokenStream<'_> {}

impl Drop for TokenStream<'_> {
    fn drop(&mut self) {
        self.rewind();
    }
}

impl std::fmt::Debug for TokenStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStream")
            .field("statistics", &self.statistics)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}
