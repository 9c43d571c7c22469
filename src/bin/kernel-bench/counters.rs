use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde_json::Value;
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The file to which the virtual GPU's driver appends a line for each launch; deleted at the end.
pub struct Counters {
    path: PathBuf,
    read: Cell<u64>,
}

/// What a launch was counted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counted {
    /// Instructions (of PTX) that warps executed.
    pub warp_instructions: u64,
    /// Products of tensor cores.
    pub mma: u64,
    pub mma_flops: u64,
    /// Bytes that lanes and copies read from global memory.
    pub global_read_bytes: u64,
    /// The same, each byte once.
    pub unique_read_bytes: u64,
    pub global_written_bytes: u64,
    /// Bytes of weights that the ring fetched.
    pub weight_bytes: u64,
    /// The same, each byte once.
    pub unique_weight_bytes: u64,
    /// Passes over the banks of shared memory.
    pub shared_wavefronts: u64,
    /// Of these for conflicts.
    pub bank_conflicts: u64,
    /// Of these where weights and their activations are read and multiplied.
    pub weight_path_conflicts: u64,
    pub atomics: u64,
    pub polls: u64,
}

impl Counted {
    /// `self` and `times` times another.
    pub fn plus(self, times: u64, other: &Counted) -> Counted {
        self.zip(other, |a, b| a.saturating_add(times.saturating_mul(b)))
    }

    /// What is more than in another.
    pub fn minus(self, other: &Counted) -> Counted {
        self.zip(other, u64::saturating_sub)
    }

    fn zip(&self, other: &Counted, of: impl Fn(u64, u64) -> u64) -> Counted {
        Counted {
            warp_instructions: of(self.warp_instructions, other.warp_instructions),
            mma: of(self.mma, other.mma),
            mma_flops: of(self.mma_flops, other.mma_flops),
            global_read_bytes: of(self.global_read_bytes, other.global_read_bytes),
            unique_read_bytes: of(self.unique_read_bytes, other.unique_read_bytes),
            global_written_bytes: of(self.global_written_bytes, other.global_written_bytes),
            weight_bytes: of(self.weight_bytes, other.weight_bytes),
            unique_weight_bytes: of(self.unique_weight_bytes, other.unique_weight_bytes),
            shared_wavefronts: of(self.shared_wavefronts, other.shared_wavefronts),
            bank_conflicts: of(self.bank_conflicts, other.bank_conflicts),
            weight_path_conflicts: of(self.weight_path_conflicts, other.weight_path_conflicts),
            atomics: of(self.atomics, other.atomics),
            polls: of(self.polls, other.polls),
        }
    }
}

/// Files of what multiplies weights.
const WEIGHT_PATH: [&str; 5] = [
    "linear.cuh",
    "slices.cuh",
    "exchange.cuh",
    "formats.cuh",
    "ring.cuh",
];

impl Counters {
    pub fn create() -> Result<Counters> {
        let name = format!("kernel-bench-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Counters {
            path,
            read: Cell::new(0),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Passes over the launches so far.
    pub fn skip(&self) -> Result<()> {
        let metadata = fs::metadata(&self.path);
        let metadata = metadata.with_context(|| format!("{}", self.path.display()))?;
        self.read.set(metadata.len());
        Ok(())
    }

    /// The counts of the one launch since the last call. `bulk_line` is the line of `copies.cuh` that fetches weights.
    pub fn take(&self, bulk_line: usize) -> Result<Counted> {
        let named = || format!("{}", self.path.display());
        let mut file = File::open(&self.path).with_context(named)?;
        file.seek(SeekFrom::Start(self.read.get()))
            .with_context(named)?;
        let mut text = String::new();
        let bytes = file.read_to_string(&mut text).with_context(named)?;
        self.read.set(self.read.get() + bytes as u64);
        let mut lines = text.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            let launches = text.lines().count();
            return Err(anyhow!("one launch was to be counted, {launches} were"));
        };
        let line: Value = serde_json::from_str(line).with_context(named)?;
        Ok(counted(&line["counters"], bulk_line))
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // A file that stays in the folder for temporary ones does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

fn counted(counters: &Value, bulk_line: usize) -> Counted {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let memory = &counters["memory"];
    let conflicts = |memory: &Value| {
        number(&memory["shared_wavefronts"])
            .saturating_sub(number(&memory["shared_ideal_wavefronts"]))
    };
    let list = |name: &str| counters[name].as_array().cloned().unwrap_or_default();
    let mut counted = Counted {
        warp_instructions: number(&counters["warp_instructions"]),
        mma: list("tensor").iter().map(|t| number(&t["count"])).sum(),
        mma_flops: number(&counters["tensor_flops"]),
        global_read_bytes: number(&memory["global_read_bytes"]),
        unique_read_bytes: number(&memory["global_unique_read_bytes"]),
        global_written_bytes: number(&memory["global_written_bytes"]),
        shared_wavefronts: number(&memory["shared_wavefronts"]),
        bank_conflicts: conflicts(memory),
        atomics: number(&memory["atomics"]),
        polls: number(&memory["polls"]),
        ..Counted::default()
    };
    for line in list("lines") {
        let memory = &line["memory"];
        let file = line["file"].as_str().unwrap_or_default();
        let file = file.rsplit('/').next().unwrap_or_default();
        if WEIGHT_PATH.contains(&file) {
            counted.weight_path_conflicts += conflicts(memory);
        }
        if file == "copies.cuh" && number(&line["line"]) == bulk_line as u64 {
            counted.weight_bytes += number(&memory["global_read_bytes"]);
            counted.unique_weight_bytes += number(&memory["global_unique_read_bytes"]);
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_read_as_the_driver_writes_it() {
        let memory = json!({"shared_wavefronts": 9, "shared_ideal_wavefronts": 7, "global_read_bytes": 64,
            "global_unique_read_bytes": 48});
        let counters = json!({"warp_instructions": 5, "memory": memory, "tensor": [{"count": 3}, {"count": 4}],
            "tensor_flops": 10, "lines": [
                {"file": "linear.cuh", "line": 1, "memory": memory},
                {"file": "choose.cuh", "line": 1, "memory": memory},
                {"file": "copies.cuh", "line": 30, "memory": memory},
                {"file": "copies.cuh", "line": 31, "memory": memory}]});
        let found = counted(&counters, 30);
        assert_eq!(
            (found.warp_instructions, found.mma, found.mma_flops),
            (5, 7, 10)
        );
        assert_eq!((found.bank_conflicts, found.weight_path_conflicts), (2, 2));
        assert_eq!((found.weight_bytes, found.unique_weight_bytes), (64, 48));
        assert_eq!(found.plus(2, &found).minus(&found), found.plus(1, &found));
        assert_eq!(Counted::default().minus(&found), Counted::default());
    }
}
