//! The number of multiprocessors changes no bit. It is the virtual GPU's for a whole process, so each number has one. Where
//! tests run on a GPU, its bits are compared with those of the virtual one in the same way.

use crate::chains::{chain, executor, sequence};
use crate::{TEST_DEVICE, generate, ids, session, shared, tokens};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;
use stheno::engine::GenerateOptions;
use stheno::plan::SegmentKind;
use stheno::speculation::sampling::SamplingParams;

/// Where a child process writes what it found.
const RESULT: &str = "DEVICE_ENGINE_RESULT";

/// All bits of calls and of a generation.
fn digest() -> u64 {
    let executor = executor(shared());
    let mut hasher = DefaultHasher::new();
    let mut kv = sequence(executor, &tokens(125, 71));
    for (segment, count) in [
        (SegmentKind::Target, 1),
        (SegmentKind::Target, 6),
        (SegmentKind::Prefill, 13),
    ] {
        chain(executor, segment, &mut kv, &tokens(count, 72)).hash(&mut hasher);
        kv.read().unwrap().hash(&mut hasher);
    }
    let params = SamplingParams {
        top_p: 0.9,
        frequency_penalty: 0.2,
        ..SamplingParams::default()
    };
    let mut options = GenerateOptions::sampled(10, params);
    options.logprobs = Some(3);
    options.ignore_eos = true;
    let found = generate(&mut session(shared()), &tokens(8, 73), &options);
    ids(&found).hash(&mut hasher);
    for token in &found {
        token.logprob.map(f32::to_bits).hash(&mut hasher);
    }
    hasher.finish()
}

/// Runs in a process of its own.
#[test]
#[ignore = "started by `multiprocessors_change_no_bit`"]
fn digest_in_a_process() {
    // Nobody has started it.
    let Some(path) = std::env::var_os(RESULT) else {
        return;
    };
    let blocks = executor(shared()).context().facts().sm_count;
    std::fs::write(path, format!("{blocks} {}", digest())).unwrap();
}

#[test]
fn multiprocessors_change_no_bit() {
    let expected = digest();
    let directory = tempfile::tempdir().unwrap();
    for count in [1, 4, 7, 132] {
        let path = directory.path().join(count.to_string());
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "grids::digest_in_a_process"])
            .env(TEST_DEVICE, "virtual")
            .env("VIRTUAL_GPU_SMS", count.to_string())
            .env(RESULT, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{count} multiprocessors: {said}");
        let found = std::fs::read_to_string(&path).unwrap();
        assert_eq!(found, format!("{count} {expected}"));
    }
}
