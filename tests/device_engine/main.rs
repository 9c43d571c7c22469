//! The engine on the virtual GPU, with all of its checks: the same tokens as on the host, and the loop with guesses.

#[path = "../device_behaviour/chains.rs"]
#[allow(dead_code)]
mod chains;
#[path = "../common/mod.rs"]
mod common;
#[path = "../device_behaviour/support.rs"]
mod support;
#[path = "../device_behaviour/tiny_gguf.rs"]
mod tiny_gguf;

mod drafts;
mod fixtures;
mod programs;

use support::*;

/// Settings of the virtual GPU in this process, unless the environment has others: multiprocessors, checks, and whether what a
/// GPU would not notice is an error.
const SETTINGS: [(&str, &str); 3] = [
    ("VIRTUAL_GPU_SMS", "6"),
    ("VIRTUAL_GPU_CHECKS", "all"),
    ("VIRTUAL_GPU_STRICT", "1"),
];
