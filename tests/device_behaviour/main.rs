//! How the engine behaves on the virtual GPU, with checks of bounds: bits that depend on nothing but the tokens, the decode loop,
//! sessions. All checks are on in `device_engine`.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod chains;
mod draft_model;
mod endings;
mod families;
mod grids;
mod heads;
mod lookup_beside;
mod ngram;
mod real;
mod rejection;
mod rows;
mod sampling;
mod sessions;
mod several;
mod stepped;
mod support;
mod tiny_gguf;
mod tree_rounds;
mod trees;
mod typical;

use support::*;

/// Settings of the virtual GPU in this process, unless the environment has others: multiprocessors, checks, and whether what a
/// GPU would not notice is an error.
const SETTINGS: [(&str, &str); 3] = [
    ("VIRTUAL_GPU_SMS", "4"),
    ("VIRTUAL_GPU_CHECKS", "bounds"),
    ("VIRTUAL_GPU_STRICT", "1"),
];
