//! The command `virtual-gpu`: what it prints, what it writes and how it exits.

mod bad_use;
mod files;
mod findings;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A kernel that doubles `n` numbers.
const DOUBLE: &str = r#"extern "C" __global__ void twice(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 2.0f * x[i];
    }
}
"#;

/// A folder with a case `k.json` and its source `k.cu`.
struct Folder(TempDir);

impl Folder {
    fn new(source: &str, case: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("k.cu", source);
        folder.write("k.json", case);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs the case with further arguments.
    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut all = vec!["run", "k.json"];
        all.extend(arguments);
        command(self.0.path(), &all)
    }
}

/// Exit code and what was printed.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.out, self.err))
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_virtual-gpu"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .args(arguments)
        .output()
        .unwrap();
    Outcome {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// A launch of `twice` on 100 numbers, with `n` as the kernel's bound.
fn twice(n: u32) -> String {
    format!(
        r#"{{"kernel": "twice", "arch": "compute_80", "grid": [4, 1, 1], "block": [32, 1, 1],
            "dynamic_shared": 0, "cooperative": false, "args": [
            {{"buffer": "f32", "elements": 100, "init": "iota", "role": "in"}},
            {{"buffer": "f32", "elements": 100, "init": "uninit", "role": "out"}},
            {{"scalar": "i32", "value": {n}}}]}}"#
    )
}
