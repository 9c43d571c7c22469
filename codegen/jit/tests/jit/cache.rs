//! The cache: hits, damage, concurrent writers.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use stheno_jit::{Cache, Compiled, Origin, Request, Target};

use crate::{AXPY, nvrtc};

fn request() -> Request {
    Request {
        name_expressions: vec!["axpy".to_owned()],
        ..Request::new("axpy.cu", AXPY, Target::Real("sm_80".to_owned()))
    }
}

/// Compiles `request()` through a cache opened in `directory` for this one call, as a new process would.
fn compile(directory: &Path) -> (Compiled, Origin) {
    Cache::open(directory)
        .unwrap()
        .compile(&nvrtc(), &request())
        .unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| name(entry.unwrap()))
        .collect()
}

#[test]
fn the_second_time_comes_from_disk_and_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("not/there/yet");
    let (first, origin) = compile(&directory);
    assert_eq!(origin, Origin::Compiler);
    assert_eq!(first, nvrtc().compile(&request()).unwrap());
    assert!(first.cubin.is_some() && first.ptx.is_some() && !first.resources.is_empty());
    assert_eq!(compile(&directory), (first, Origin::Disk));
    assert_eq!(files(&directory).len(), 1);
}

#[test]
fn another_request_is_another_entry() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    cache.compile(&nvrtc(), &request()).unwrap();
    let other = Request {
        target: Target::Virtual(80),
        ..request()
    };
    let (compiled, origin) = cache.compile(&nvrtc(), &other).unwrap();
    assert_eq!((compiled.cubin, origin), (None, Origin::Compiler));
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn a_rejected_source_leaves_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Request {
        source: "not C++".to_owned(),
        ..request()
    };
    Cache::open(folder.path())
        .unwrap()
        .compile(&nvrtc(), &broken)
        .unwrap_err();
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn damaged_entries_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, _) = compile(folder.path());
    let entry = Cache::open(folder.path())
        .unwrap()
        .entry(&nvrtc(), &request());
    let good = fs::read(&entry).unwrap();
    let flipped = |position: usize| {
        let mut bytes = good.clone();
        bytes[position] ^= 1;
        bytes
    };
    let damages = [
        Vec::new(),
        good[..10].to_vec(),
        good[..20].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        flipped(0),
        flipped(16),
        flipped(48),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        vec![0; good.len()],
    ];
    for (index, damage) in damages.iter().enumerate() {
        fs::write(&entry, damage).unwrap();
        assert_eq!(
            compile(folder.path()),
            (expected.clone(), Origin::Compiler),
            "damage {index}"
        );
        assert_eq!(fs::read(&entry).unwrap(), good, "damage {index}");
        assert_eq!(compile(folder.path()).1, Origin::Disk, "damage {index}");
    }
}

#[test]
fn writers_at_the_same_time_leave_one_whole_entry() {
    let folder = tempfile::tempdir().unwrap();
    let expected = nvrtc().compile(&request()).unwrap();
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..5 {
                    assert_eq!(compile(folder.path()).0, expected);
                    // Another round of writers: the entry vanishes under those that are about to read it.
                    for file in files(folder.path()).iter().filter(|name| name.len() == 64) {
                        let _ = fs::remove_file(folder.path().join(file));
                    }
                }
            });
        }
    });
    assert_eq!(compile(folder.path()).0, expected);
    assert_eq!(compile(folder.path()), (expected, Origin::Disk));
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_cache_that_takes_nothing_still_compiles() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("kernels");
    let cache = Cache::open(&directory).unwrap();
    fs::remove_dir(&directory).unwrap();
    fs::write(&directory, "a file where the directory was").unwrap();
    let (compiled, origin) = cache.compile(&nvrtc(), &request()).unwrap();
    assert!(compiled.cubin.is_some());
    assert_eq!(origin, Origin::Compiler);

    let message = Cache::open(&directory).unwrap_err().to_string();
    assert!(
        message.contains("kernels cannot be opened: ")
            && message.ends_with("choose another directory")
    );
}
