//! Any bytes as `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stheno::checkpoint::Checkpoint;

/// A safetensors file without tensors.
const EMPTY: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

fuzz_target!(|bytes: &[u8]| {
    let _ = Checkpoint::from_safetensors(bytes, EMPTY.to_vec());
});
