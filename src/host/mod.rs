//! The host executor: runs a plan on the CPU, and defines what every op means.

mod attention;
mod batch;
mod context;
mod embed;
mod executor;
mod gather;
mod input;
mod kernels;
mod kv;
mod linear;
mod qkv;
mod rope;
mod shared;
mod team;

pub use executor::{Forward, HostExecutor, Weight};
pub use kernels::Isa;
pub use kv::{KvRows, KvSequence};
