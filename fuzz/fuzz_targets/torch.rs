//! Any bytes as a file of `torch.save`: archive, pickle, and every tensor that is small enough to read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stheno::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_torch(b"{}", bytes.to_vec()) {
        for name in checkpoint.tensor_names() {
            let _ = checkpoint.matrix(name, 2, 2);
            let _ = checkpoint.matrix(name, 6, 4);
            let _ = checkpoint.vector(name, 2);
            let _ = checkpoint.integers(name, 3);
        }
    }
});
