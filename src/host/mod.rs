//! The host executor: runs a plan on the CPU, and defines what every op means.

mod attention;
mod batch;
mod context;
mod copy;
mod embed;
mod executor;
mod forward;
mod gather;
mod input;
mod kernels;
mod kv;
mod linear;
mod qkv;
mod rope;
mod shared;
mod team;

pub use executor::{Call, HostExecutor, Weight};
pub use forward::Forward;
pub use kernels::Isa;
pub use kv::{KvRows, KvSequence};
pub(crate) use rope::rotations;
