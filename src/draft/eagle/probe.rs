use crate::Result;
use crate::engine::{Engine, Forward, SessionOptions};
use crate::host::{self, Call, KvSequence};
use stheno_codegen::plan::{Row, SegmentKind, SequenceIndex};

/// Rows of a call: all of them have logits, which take room.
const ROWS: usize = 32;

/// Tokens at the start that guesses are not counted of: nothing can be known there.
const START: usize = 4;

/// The share of positions of a text at which the draft, fed the target's true hidden states, guesses the target's best
/// token.
pub(super) fn agreement(
    engine: &Engine,
    target_ids: Option<&[u32]>,
    tokens: &[u32],
) -> Result<f64> {
    let (best, features) = target(engine, tokens)?;
    let columns = features.len() / tokens.len().max(1);
    let mut kv = KvSequence::new(engine.plan().kv_of(SegmentKind::DraftPrefill));
    let mut forward = host::Forward::default();
    let (mut right, mut asked) = (0u32, 0u32);
    // Row p has the features of p and the token of p + 1, and guesses what the target says at p + 1.
    let next = &tokens[1.min(tokens.len())..];
    for chunk in next.chunks(ROWS) {
        let first = kv.len();
        let rows = with_outputs(first, chunk);
        let call = Call {
            segment: SegmentKind::DraftPrefill,
            rows: &rows,
            sequences: &[&kv],
            inputs: &[&features[first * columns..][..chunk.len() * columns]],
            continues: false,
        };
        engine.call(&call, &mut forward)?;
        kv.commit(forward.kv(), &path(rows.len()))?;
        let logits = forward.output("draft.logits").unwrap_or_default();
        let guesses = logits
            .chunks((logits.len() / rows.len()).max(1))
            .map(argmax);
        for (position, guess) in (first..).zip(guesses) {
            let guess = match target_ids {
                Some(ids) => ids.get(guess as usize).copied(),
                None => Some(guess),
            };
            if position >= START {
                asked += 1;
                right += u32::from(guess == best.get(position + 1).copied());
            }
        }
    }
    Ok(f64::from(right) / f64::from(asked.max(1)))
}

/// The target's best token after each position, and its features [positions, columns].
fn target(engine: &Engine, tokens: &[u32]) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut session = engine.session(SessionOptions::default())?;
    let mut forward = Forward::default();
    let (mut best, mut features) = (Vec::new(), Vec::new());
    for chunk in tokens.chunks(ROWS) {
        let rows = with_outputs(session.tokens().len(), chunk);
        engine.forward_into(SegmentKind::Prefill, &rows, &[&session], &mut forward)?;
        best.extend(forward.logits().chunks(engine.vocab_size()).map(argmax));
        features.extend_from_slice(forward.features().unwrap_or_default());
        session.commit(&forward, &path(rows.len()))?;
    }
    Ok((best, features))
}

fn with_outputs(start: usize, tokens: &[u32]) -> Vec<Row> {
    let mut rows = Row::chain(SequenceIndex(0), start as u32, tokens);
    rows.iter_mut().for_each(|row| row.output = true);
    rows
}

fn path(rows: usize) -> Vec<u32> {
    (0..rows as u32).collect()
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let best = (0u32..)
        .zip(logits)
        .fold((0, f32::NEG_INFINITY), |best, (id, &logit)| {
            if logit > best.1 { (id, logit) } else { best }
        });
    best.0
}
