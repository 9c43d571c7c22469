//! How generations end, and that a session then holds what was streamed and nothing else.

use crate::{
    FIXTURE, assert_holds_its_tokens, engine_at, generate, ids, root, session, shared, tokens,
};
use std::collections::BTreeMap;
use stheno::engine::{Device, Engine, FinishReason, GenerateOptions, Prompt};
use stheno::speculation::sampling::SamplingParams;

fn sampled(count: usize, seed: u64) -> GenerateOptions {
    let params = SamplingParams {
        seed,
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(count, params);
    options.ignore_eos = true;
    options
}

#[test]
fn the_limit_of_tokens() {
    let prompt = tokens(120, 31);
    for count in [1, 2, 3, 12] {
        let mut session = session(shared());
        let mut stream = session
            .generate(Prompt::Tokens(prompt.clone()), &sampled(count, 1))
            .unwrap();
        let found: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
        assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
        drop(stream);
        assert_eq!(found.len(), count);
        let all: Vec<u32> = prompt.iter().chain(&found).copied().collect();
        assert_eq!(session.tokens(), &all[..all.len() - 1]);
        assert_holds_its_tokens(&session);
    }
}

#[test]
fn the_end_of_the_context() {
    let prompt = tokens(190, 32);
    let mut session = session(shared());
    let mut options = sampled(1, 2);
    options.max_tokens = None;
    let found = generate(&mut session, &prompt, &options);
    // The last one needs no position.
    assert_eq!(found.len(), 200 - 190 + 1);
    assert_eq!(session.tokens().len(), 200);
}

/// The token that ends an answer is made likely, so that it comes soon.
#[test]
fn a_token_that_ends_the_answer() {
    let eos = shared().eos()[0];
    let prompt = tokens(20, 33);
    let mut options = sampled(100, 6);
    options.ignore_eos = false;
    options.sampling.logit_bias = vec![(eos, 2.5)];
    let mut session = session(shared());
    let mut stream = session
        .generate(Prompt::Tokens(prompt.clone()), &options)
        .unwrap();
    let found: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
    assert_eq!(stream.finish_reason(), Some(FinishReason::Stop));
    drop(stream);
    assert!((3..100).contains(&found.len()), "{} tokens", found.len());
    assert_eq!(
        found.iter().position(|id| *id == eos),
        Some(found.len() - 1)
    );
    assert_eq!(session.tokens().len(), prompt.len() + found.len() - 1);
    assert_holds_its_tokens(&session);
    // Told to go on, it does.
    options.ignore_eos = true;
    let more = ids(&generate(&mut session, &prompt, &options));
    assert_eq!(more.len(), 100);
    assert_eq!(more[..found.len()], found);
}

#[test]
fn a_stream_that_is_dropped_or_cancelled() {
    let prompt = tokens(20, 34);
    let all = ids(&generate(&mut session(shared()), &prompt, &sampled(60, 4)));
    for (count, cancels) in [(1, false), (5, false), (5, true)] {
        let mut session = session(shared());
        let options = sampled(60, 4);
        let mut stream = session
            .generate(Prompt::Tokens(prompt.clone()), &options)
            .unwrap();
        let found = stream.by_ref().take(count);
        let found: Vec<u32> = found.map(|token| token.unwrap().id).collect();
        assert_eq!(found, all[..count]);
        if cancels {
            options.cancellation.cancel();
            assert!(stream.next().is_none());
            assert_eq!(stream.finish_reason(), Some(FinishReason::Cancelled));
        }
        drop(stream);
        let held = [&prompt[..], &all[..count - 1]].concat();
        assert_eq!(session.tokens(), held);
        assert_holds_its_tokens(&session);
        // What was streamed as a prompt goes on as it would have: positions and seed are the same.
        let prompt = [&prompt[..], &all[..count]].concat();
        let rest = ids(&generate(&mut session, &prompt, &sampled(60 - count, 4)));
        assert_eq!(rest, all[count..]);
    }
}

/// A byte-level tokenizer: token i is byte i.
fn tokenizer() -> String {
    let printable = |byte: &u32| matches!(*byte, 33..=126 | 161..=172 | 174..=255);
    let mut vocab: BTreeMap<String, u32> = BTreeMap::new();
    let mut others = 256;
    for byte in 0..256 {
        let code = if printable(&byte) {
            byte
        } else {
            others += 1;
            others - 1
        };
        vocab.insert(char::from_u32(code).unwrap().to_string(), byte);
    }
    for id in 256..260 {
        vocab.insert(format!("word{id}"), id);
    }
    let level = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": []
        }
    })
    .to_string()
}

fn speaking() -> (tempfile::TempDir, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let model = root().join("tests/fixtures/models").join(FIXTURE);
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(model.join(name), directory.path().join(name)).unwrap();
    }
    std::fs::write(directory.path().join("tokenizer.json"), tokenizer()).unwrap();
    let path = directory.path().to_str().unwrap();
    let engine = engine_at(path, Device::Virtual, |builder| builder.context_length(200));
    (directory, engine)
}

/// The device runs ahead of the text: what it computed beyond the stop string is forgotten.
#[test]
fn a_stop_string() {
    let (_directory, engine) = speaking();
    let prompt = tokens(20, 35);
    let plain = generate(&mut session(&engine), &prompt, &sampled(80, 5));
    let texts = plain.iter().map(|token| token.text.as_str());
    let whole: String = texts.clone().collect();
    // Two printable tokens in a row; all of the text before is streamed without them.
    let is_plain = |id: u32| (33..127).contains(&id);
    let at = (3..70)
        .find(|&i| {
            let pair: String = [plain[i].id, plain[i + 1].id]
                .map(|id| char::from_u32(id).unwrap_or('?'))
                .iter()
                .collect();
            is_plain(plain[i].id) && is_plain(plain[i + 1].id) && whole.matches(&pair).count() == 1
        })
        .expect("two printable tokens in a row");
    let stop: String = [plain[at].id, plain[at + 1].id]
        .map(|id| char::from_u32(id).unwrap())
        .iter()
        .collect();
    let mut options = sampled(80, 5);
    options.stop = vec![stop.clone()];
    let mut session = session(&engine);
    let mut stream = session
        .generate(Prompt::Tokens(prompt.clone()), &options)
        .unwrap();
    let found: Vec<_> = stream.by_ref().map(|token| token.unwrap()).collect();
    assert_eq!(stream.finish_reason(), Some(FinishReason::Stop));
    drop(stream);
    assert_eq!(ids(&found), ids(&plain[..at + 2]));
    let text: String = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(text, whole[..whole.find(&stop).unwrap()]);
    assert_eq!(session.tokens().len(), prompt.len() + at + 1);
    assert_holds_its_tokens(&session);
}
