//! Kernels that other compilers and projects made: Triton, Numba, CuPy, Warp, CUB, `nvcuda::wmma`. Each has its PTX, one launch of it and
//! what NumPy says must come out (`scripts/strangers/case.py` says in which form). Those under `kernels/` are compiled from
//! functions of ours and run with every `cargo test`; `scripts/strangers.sh` makes the others and runs all.

mod expected;
mod known;
mod stranger;
mod table;

use std::path::Path;

use known::known;
use stranger::{Outcome, Stranger};
use virtual_gpu::{Checks, LaunchOptions, MmaMode};

/// Projects with their kernels in the order of their names: each folder of `folder` is a project.
fn projects(folder: &Path) -> Vec<(String, Vec<Stranger>)> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    let project = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, Stranger::all_in(path))
    };
    folders.iter().map(project).collect()
}

fn checked(seed: u64) -> LaunchOptions {
    LaunchOptions {
        seed,
        fuel: 20_000_000,
        ..LaunchOptions::default()
    }
}

#[test]
fn kernels_of_other_compilers_give_the_right_result_and_no_finding() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers/kernels");
    let plain = LaunchOptions {
        checks: Checks::None,
        counters: false,
        mma: MmaMode::Fast,
        ..checked(0)
    };
    let mut failures = String::new();
    let mut count = 0;
    for (project, kernels) in projects(&folder) {
        for kernel in kernels {
            let wanted = known(&project, &kernel.name);
            for (options, wanted) in [
                (checked(0), wanted.clone()),
                (checked(5), wanted),
                (plain, Outcome::Right),
            ] {
                let outcome = kernel.run(&options);
                if !outcome.is_like(&wanted) {
                    failures += &format!("{project}/{}: {outcome}\n", kernel.name);
                }
            }
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count >= 40, "{count} kernels");
}

#[test]
fn a_wrong_result_and_a_wrong_kernel_are_told_from_right_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers/kernels/numba");
    let kernels = Stranger::all_in(&folder);
    let saxpy = kernels
        .into_iter()
        .find(|kernel| kernel.name == "saxpy_sm80")
        .unwrap();
    assert!(saxpy.run(&checked(0)).is_like(&Outcome::Right));
    for (from, to) in [
        ("fma.rn.f32", "add.f32"),
        ("setp.", "nonsense."),
        ("st.global.f32", "ld.global.f32"),
    ] {
        assert!(saxpy.ptx.contains(from), "{from}");
        let changed = Stranger {
            ptx: saxpy.ptx.replace(from, to),
            ..saxpy.clone()
        };
        let outcome = changed.run(&checked(0));
        assert!(!outcome.is_like(&Outcome::Right), "{from}: {outcome}");
    }
}

/// Runs what lies in the folder that `STRANGERS` names and prints a row for each project.
#[test]
#[ignore = "needs the kernels of other projects: scripts/strangers.sh makes them and runs this"]
fn every_stranger_runs() {
    let folder = std::env::var_os("STRANGERS").expect("STRANGERS names no folder");
    let mut rows = table::Table::default();
    for (project, kernels) in projects(Path::new(&folder)) {
        for kernel in kernels {
            let outcomes = [0, 1, 2].map(|seed| kernel.run(&checked(seed)));
            rows.add(&project, &kernel.name, &outcomes);
        }
    }
    print!("{rows}");
    assert!(rows.is_as_known(), "other outcomes than those on record");
}
