use crate::failure::ClosedPipe;
use crate::speculation_report;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use stheno::engine::{Engine, FinishReason, Statistics, Token};

/// Writes to standard output at once; a closed pipe is told apart from a full disk.
pub fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => ClosedPipe.into(),
        _ => anyhow::Error::new(error).context("standard output"),
    })
}

/// Prints a value as JSON on a line of its own.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// What an answer was, for the line of JSON and for the timing at the end.
#[derive(Debug)]
pub struct Answer {
    /// Ids of prompt and answer.
    pub prompt_tokens: Vec<u32>,
    pub tokens: Vec<Token>,
    /// `None` without a tokenizer.
    pub text: Option<String>,
    pub finish_reason: FinishReason,
    pub statistics: Statistics,
}

impl Answer {
    /// The object of `--json`, of an answer of `engine`.
    pub fn to_json(&self, engine: &Engine, logprobs: bool) -> Value {
        let statistics = &self.statistics;
        let ids: Vec<u32> = self.tokens.iter().map(|t| t.id).collect();
        let mut object = json!({
            "prompt_tokens": self.prompt_tokens.len(),
            "tokens": ids,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "stats": {
                "prefill_tokens_per_second": statistics.prefill_tokens_per_second(),
                "decode_tokens_per_second": statistics.decode_tokens_per_second(),
                "load_seconds": statistics.load.as_secs_f64(),
            },
        });
        if engine.draft_kind().is_some() {
            let accepted: Vec<bool> = self.tokens.iter().map(|t| t.accepted).collect();
            object["accepted"] = accepted.into();
            object["stats"]["draft"] = speculation_report::draft_to_json(engine);
            let speculation = statistics.speculation.as_ref();
            object["stats"]["speculation"] = speculation.map(speculation_report::to_json).into();
        }
        if logprobs {
            let list: Vec<Value> = self.tokens.iter().map(logprobs_of).collect();
            object["logprobs"] = list.into();
        }
        object
    }

    /// The timing, as people know it.
    pub fn report(&self, seed: Option<u64>) {
        let s = &self.statistics;
        let computed = s.prompt_tokens - s.reused_tokens;
        eprint!(
            "load {:.2} s | prompt {computed} tokens, {:.1} tokens/s | answer {} tokens, {:.1} tokens/s | {}",
            s.load.as_secs_f64(),
            s.prefill_tokens_per_second(),
            s.generated_tokens,
            s.decode_tokens_per_second(),
            self.finish_reason,
        );
        match seed {
            Some(seed) => eprintln!(" | seed {seed}"),
            None => eprintln!(),
        }
    }

    /// What speculation did, if there was any.
    pub fn report_speculation(&self) {
        if let Some(speculation) = &self.statistics.speculation {
            eprint!("{}", speculation_report::to_text(speculation));
        }
    }
}

fn logprobs_of(token: &Token) -> Value {
    let top = token.top_logprobs.iter();
    let top: Vec<Value> = top
        .map(|t| json!({ "id": t.token, "logprob": t.logprob }))
        .collect();
    json!({ "id": token.id, "logprob": token.logprob, "top": top })
}
