use super::{CancellationToken, FinishReason, GenerateOptions, Prompt, Session, Statistics};
use crate::Result;
use crate::speculation::sampling::{Logprobs, Sampler, TokenCounts, TokenLogprob, TokenMask};
use crate::text::{StopStrings, TextStream};
use std::time::{Duration, Instant};

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
}

/// Chooses, before each token, which ones are allowed: a closure over the tokens generated so far.
type MaskHook<'a> = Box<dyn FnMut(&[u32], &mut TokenMask) -> Result<()> + 'a>;

/// The tokens of one generation, each computed when it is asked for. A token once streamed is never taken back.
///
/// Dropping the stream ends the generation; the session keeps what was computed.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    sampler: Sampler,
    /// What the penalties see.
    counts: TokenCounts,
    mask_hook: Option<MaskHook<'a>>,
    text: Option<TextState>,
    options: Limits,
    /// Prompt, then what was generated.
    history: Vec<u32>,
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
    logprobs: Option<usize>,
    cancellation: CancellationToken,
}

impl Session {
    /// Generates from a prompt, which is the whole content of the sequence: what the session holds of it already is
    /// kept, what is over is forgotten, the rest is computed before this returns.
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
        let sampler = Sampler::new(options.sampling.clone(), engine.vocab_size())?;
        let counts = TokenCounts::new(&history, options.sampling.penalty_last_n);
        // The last token needs no position: nothing is computed from it.
        let room = self.context_length() - history.len() + 1;
        let limits = Limits {
            max_tokens: options.max_tokens.unwrap_or(room).min(room),
            ignore_eos: options.ignore_eos,
            logprobs: options.logprobs,
            cancellation: options.cancellation.clone(),
        };
        let text = engine.text().map(|text| TextState {
            stream: TextStream::new(&text.tokenizer),
            stop: StopStrings::new(options.stop.iter().cloned()),
        });
        let start = Instant::now();
        let reused = self.rewind_to_shared_prefix(&history);
        let cancellation = &options.cancellation;
        let complete = self.prefill(&history[reused..], None, &mut || {
            cancellation.is_cancelled()
        })?;
        let finish = match (complete, limits.max_tokens) {
            (false, _) => Some(FinishReason::Cancelled),
            (true, 0) => Some(FinishReason::Length),
            (true, _) => None,
        };
        let statistics = Statistics {
            prompt_tokens: history.len(),
            reused_tokens: reused,
            prefill: start.elapsed(),
            load: engine.load_time(),
            ..Statistics::default()
        };
        Ok(TokenStream {
            session: self,
            sampler,
            counts,
            mask_hook: None,
            text,
            options: limits,
            history,
            statistics,
            finish,
            unsent: String::new(),
        })
    }
}

impl<'a> TokenStream<'a> {
    /// Lets `hook` choose before each token which ones are allowed: it gets the tokens generated so far and a mask that
    /// allows all.
    pub fn with_mask(
        mut self,
        hook: impl FnMut(&[u32], &mut TokenMask) -> Result<()> + 'a,
    ) -> Self {
        self.mask_hook = Some(Box::new(hook));
        self
    }

    /// Token ids of the prompt.
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history[..self.statistics.prompt_tokens]
    }

    /// Token ids generated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.history[self.statistics.prompt_tokens..]
    }

    /// Why it ended; `None` while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// What it did so far, and how long that took.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Text that was held back as the possible start of a stop string when the generation was cancelled; empty after
    /// any other end, when the last token carries it.
    pub fn take_unsent_text(&mut self) -> String {
        std::mem::take(&mut self.unsent)
    }

    fn step(&mut self) -> Result<Option<Token>> {
        if self.options.cancellation.is_cancelled() {
            self.finish = Some(FinishReason::Cancelled);
            self.unsent = self.flush_text();
            return Ok(None);
        }
        let start = Instant::now();
        let _span = tracing::debug_span!("step").entered();
        let pending = match self.tokens().last() {
            Some(&token) => {
                self.session.decode(token)?;
                true
            }
            None => false,
        };
        let mut token = self.sample()?;
        self.history.push(token.id);
        self.counts.push(token.id);
        self.count(pending, start.elapsed());
        token.text = self.advance_text(token.id);
        if self.finish.is_none() && self.statistics.generated_tokens >= self.options.max_tokens {
            self.finish = Some(FinishReason::Length);
            token.text += &self.flush_text();
        }
        Ok(Some(token))
    }

    fn sample(&mut self) -> Result<Token> {
        let mask = match &mut self.mask_hook {
            Some(hook) => {
                let mut mask = TokenMask::all(self.session.engine.vocab_size());
                hook(&self.history[self.statistics.prompt_tokens..], &mut mask)?;
                Some(mask)
            }
            None => None,
        };
        let logits = self.session.scratch.logits();
        // Of a chunk of the prompt or a step, only the last row has an output.
        let position = self.history.len() as u32;
        let choice = self
            .sampler
            .choose(logits, position, &self.counts, mask.as_ref())?;
        let logprobs = self.options.logprobs;
        let logprobs = logprobs.map(|n| Logprobs::new(logits, choice.token, n));
        Ok(Token {
            id: choice.token,
            text: String::new(),
            logprob: logprobs.as_ref().map(|l| l.chosen.logprob),
            top_logprobs: logprobs.map_or(Vec::new(), |l| l.top),
        })
    }

    fn count(&mut self, stepped: bool, time: Duration) {
        self.statistics.generated_tokens += 1;
        if stepped {
            self.statistics.decode_steps += 1;
            self.statistics.decode += time;
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
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for TokenStream<'_> {}

impl std::fmt::Debug for TokenStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStream")
            .field("statistics", &self.statistics)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}
