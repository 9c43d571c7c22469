//! Any bytes as a GGUF file: header, configuration, and every tensor that is small enough to read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stheno::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_gguf(bytes.to_vec()) {
        for name in checkpoint.tensor_names() {
            let _ = checkpoint.matrix(name, 4, 32);
            let _ = checkpoint.matrix(name, 8, 32);
            let _ = checkpoint.matrix(name, 1, 256);
            let _ = checkpoint.vector(name, 8);
        }
    }
});
