//! The engine: a loaded model, its sessions, and the tokens they generate.
//!
//! [`Engine`] and [`Session::generate`] are what most programs need. The layer below is [`Engine::forward`] over rows
//! of any shape with [`Session::commit`], and sessions that [`Session::fork`], [`Session::truncate`],
//! [`Session::save`] and [`Session::load`].

mod accept;
mod atomic_file;
mod builder;
mod cancel;
mod core;
mod device;
mod device_calls;
mod device_stream;
mod executor;
mod fingerprint;
mod forward;
mod options;
mod probe;
mod prompt;
mod round;
mod session;
mod snapshot;
mod speculator;
mod statistics;
mod stream;

pub use self::core::Engine;
pub use atomic_file::AtomicFile;
pub use builder::{EngineBuilder, default_threads};
pub use cancel::CancellationToken;
pub use device::Device;
pub use forward::Forward;
pub use options::GenerateOptions;
pub use prompt::Prompt;
pub use round::{DrafterStatistics, LevelStatistics, Round, SpeculationStatistics};
pub use session::{Session, SessionOptions};
pub use statistics::{FinishReason, Statistics};
pub use stream::{Token, TokenStream};
