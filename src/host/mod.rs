//! The host executor: runs a plan on the CPU, and defines what every op means.

mod executor;
mod kv;

pub use executor::{Forward, HostExecutor, Weight};
pub use kv::{KvRows, KvSequence};
