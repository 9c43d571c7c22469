//! Replays the seed corpora of `fuzz/`: whatever is in there must be read or refused, without a panic.

use std::path::Path;
use stheno::checkpoint::Checkpoint;

fn replay(target: &str, run: impl Fn(Vec<u8>)) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        run(std::fs::read(entry.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds > 0, "{} is empty", corpus.display());
}

#[test]
fn gguf() {
    replay("gguf", |bytes| {
        if let Ok(checkpoint) = Checkpoint::from_gguf(bytes) {
            for name in checkpoint.tensor_names() {
                let _ = checkpoint.matrix(name, 4, 32);
                let _ = checkpoint.matrix(name, 8, 32);
                let _ = checkpoint.matrix(name, 1, 256);
                let _ = checkpoint.vector(name, 8);
            }
        }
    });
}

#[test]
fn safetensors() {
    replay("safetensors", |bytes| {
        if let Ok(checkpoint) = Checkpoint::from_safetensors(b"{}", bytes) {
            for name in checkpoint.tensor_names() {
                let _ = checkpoint.matrix(name, 2, 2);
                let _ = checkpoint.vector(name, 2);
            }
        }
    });
}

#[test]
fn torch() {
    replay("torch", |bytes| {
        if let Ok(checkpoint) = Checkpoint::from_torch(b"{}", bytes) {
            for name in checkpoint.tensor_names() {
                let _ = checkpoint.matrix(name, 2, 2);
                let _ = checkpoint.matrix(name, 6, 4);
                let _ = checkpoint.vector(name, 2);
                let _ = checkpoint.integers(name, 3);
            }
        }
    });
}

#[test]
fn config() {
    replay("config", |bytes| {
        let empty = b"\x02\0\0\0\0\0\0\0{}".to_vec();
        let _ = Checkpoint::from_safetensors(&bytes, empty);
    });
}
