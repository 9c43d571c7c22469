//! Engines of fixtures on the virtual GPU, and what tests of them share.
//!
//! `STHENO_TEST_DEVICE=cuda:0` runs them on that GPU instead; `STHENO_TEST_ROOT` is where `tests/fixtures` is found, if not in
//! the checkout that they were built in. Both are for `scripts/gpu-suite.sh`.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::{Once, OnceLock};
use stheno::device::{Context, Driver, DriverKind};
use stheno::engine::{Device, Engine, GenerateOptions, Prompt, Session, SessionOptions, Token};
use stheno::model::ActivationDtype;

pub type Builder = stheno::engine::EngineBuilder;

/// The fixture that tests without a reason for another one share, so that one program serves them all.
pub const FIXTURE: &str = "llama-tied";

pub fn settle() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, value) in crate::SETTINGS {
            if std::env::var_os(name).is_none() {
                // SAFETY: every test gets here before it does anything else, so nothing reads the environment meanwhile.
                unsafe { std::env::set_var(name, value) };
            }
        }
    });
}

/// Environment: the device that stands in for the virtual GPU.
pub const TEST_DEVICE: &str = "STHENO_TEST_DEVICE";

/// The folder that has `tests/fixtures`.
pub fn root() -> PathBuf {
    let moved = std::env::var_os("STHENO_TEST_ROOT").map(PathBuf::from);
    moved.unwrap_or(env!("CARGO_MANIFEST_DIR").into())
}

fn stand_in() -> Device {
    let named = std::env::var(TEST_DEVICE);
    named.map_or(Device::Virtual, |named| named.parse().unwrap())
}

/// A context on the virtual GPU, or on what stands in for it, for tests that need no engine.
pub fn context() -> Context {
    settle();
    let (kind, ordinal) = match stand_in() {
        Device::Cuda(ordinal) => (DriverKind::Cuda, ordinal),
        _ => (DriverKind::Virtual, 0),
    };
    Context::new(&Driver::load(kind).unwrap(), ordinal).unwrap()
}

/// The engine of a model on a device; for [`Device::Virtual`] on the one that the environment names, if it names one.
pub fn engine_at(path: &str, device: Device, change: impl FnOnce(Builder) -> Builder) -> Engine {
    settle();
    let device = match device {
        Device::Virtual => stand_in(),
        _ => device,
    };
    let builder = Engine::builder()
        .model(path)
        .unwrap()
        .device(device)
        .threads(1)
        .activation_dtype(ActivationDtype::Mixed);
    change(builder).build().unwrap()
}

/// Path of a fixture: a folder of `models` or of `drafts`.
pub fn fixture(name: &str) -> String {
    let path = root().join("tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

/// The engine of a fixture on a device, for short sequences.
pub fn engine(name: &str, device: Device, change: impl FnOnce(Builder) -> Builder) -> Engine {
    let path = fixture(&format!("models/{name}"));
    engine_at(&path, device, |builder| change(builder.context_length(160)))
}

/// The engine that most tests use: [`FIXTURE`], 200 positions, with the residual after layer 0 as an output.
pub fn shared() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        engine(FIXTURE, Device::Virtual, |builder| {
            builder.context_length(200).taps(&[0])
        })
    })
}

pub fn session(engine: &Engine) -> Session {
    engine.session(SessionOptions::default()).unwrap()
}

/// Tokens below 256 that look like chance.
pub fn tokens(count: usize, seed: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..count).map(next).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// All tokens of a generation.
pub fn generate(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Vec<Token> {
    let stream = session.generate(Prompt::Tokens(prompt.to_vec()), options);
    stream.unwrap().map(|token| token.unwrap()).collect()
}

pub fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

/// Bits of the logits after one more token; the session stays as it is.
pub fn next_logits(session: &Session, token: u32) -> Vec<u32> {
    bits(session.fork().append(&[token]).unwrap())
}

/// The session holds what one has that is fed its tokens, to the bit of the logits that follow.
pub fn assert_holds_its_tokens(session: &Session) {
    let mut fresh = session.engine().session(SessionOptions::default()).unwrap();
    fresh.append(session.tokens()).unwrap();
    assert_eq!(next_logits(session, 7), next_logits(&fresh, 7));
}
