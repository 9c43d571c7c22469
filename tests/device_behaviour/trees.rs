//! Trees in one call: every row's logits and hidden state, and K and V of a path that is committed, are to the bit those of single
//! steps along its ancestors.

use crate::chains::{RowBits, executor, outputs, sequence, singles};
use crate::{
    FIXTURE, engine, engine_at, fixture, generate, ids, session, shared, tiny_gguf, tokens,
};
use std::sync::OnceLock;
use stheno::device::{DeviceExecutor, DeviceForward, DeviceKv};
use stheno::engine::{Device, Engine, GenerateOptions};
use stheno::plan::{Dtype, Row, SegmentKind, SequenceIndex};

/// [`FIXTURE`] laid out for 64 rows, with the tap of [`shared`].
fn wide() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        engine(FIXTURE, Device::Virtual, |builder| {
            builder.context_length(200).taps(&[0]).max_rows(64)
        })
    })
}

/// Rows of a tree after `start` positions; `parent` says that of each row, from a number that looks like chance.
fn tree(
    start: usize,
    count: usize,
    seed: u32,
    parent: impl Fn(usize, u32) -> Option<u32>,
) -> Vec<Row> {
    let choices = tokens(2 * count, seed);
    let mut rows: Vec<Row> = Vec::new();
    for i in 0..count {
        let parent = parent(i, choices[count + i]);
        let position = parent.map_or(start as u32, |p| rows[p as usize].position + 1);
        rows.push(Row {
            token: choices[i],
            sequence: SequenceIndex(0),
            position,
            parent,
            delta: None,
            output: true,
        });
    }
    rows
}

/// Any earlier row, or none.
fn random(i: usize, chance: u32) -> Option<u32> {
    (chance % (i as u32 + 1)).checked_sub(1)
}

/// Under one root; mostly the row before, so that it is deep.
fn deep(i: usize, chance: u32) -> Option<u32> {
    let last = (i as u32).checked_sub(1)?;
    Some(if chance.is_multiple_of(3) {
        chance % (i as u32)
    } else {
        last
    })
}

fn star(i: usize, _: u32) -> Option<u32> {
    (i > 0).then_some(0)
}

/// A parent of row i, or none, from a number that looks like chance.
type Shape = fn(usize, u32) -> Option<u32>;

const SHAPES: [(&str, Shape); 3] = [("random", random), ("deep", deep), ("star", star)];

fn path_to(rows: &[Row], row: usize) -> Vec<u32> {
    let mut path = vec![row as u32];
    while let Some(parent) = rows[path[0] as usize].parent {
        path.insert(0, parent);
    }
    path
}

/// One call over the tree, then each of `leaves` committed to a fork and continued.
fn check(executor: &DeviceExecutor, prefix: &DeviceKv, rows: &[Row], leaves: &[usize], what: &str) {
    for segment in [SegmentKind::Target, SegmentKind::Prefill] {
        let (mut kv, mut forward) = (prefix.clone(), DeviceForward::default());
        executor
            .forward(segment, rows, &mut kv, &mut forward)
            .unwrap();
        let found: Vec<RowBits> = outputs(executor, &forward);
        let mut forks: Vec<DeviceKv> = leaves.iter().map(|_| kv.clone()).collect();
        for (&leaf, fork) in leaves.iter().zip(&mut forks) {
            let path = path_to(rows, leaf);
            let along: Vec<u32> = path.iter().map(|row| rows[*row as usize].token).collect();
            let expected = singles(executor, prefix, &along);
            for (row, expected) in path.iter().zip(&expected.rows) {
                assert!(
                    found[*row as usize].0 == expected.0,
                    "{what}, {segment}: logits of row {row}"
                );
                assert!(
                    found[*row as usize].1 == expected.1,
                    "{what}, {segment}: tap of row {row}"
                );
            }
            executor.commit(fork, &forward, &path).unwrap();
            assert!(
                fork.read().unwrap() == expected.kv[path.len()],
                "{what}, {segment}: K and V of {path:?}"
            );
        }
    }
}

#[test]
fn rows_of_trees_equal_single_steps() {
    let executor = executor(wide());
    for (length, count, seed) in [
        (0, 9, 1),
        (61, 64, 2),
        (120, 40, 3),
        (127, 17, 4),
        (128, 64, 5),
    ] {
        let prefix = sequence(executor, &tokens(length, 91));
        for (name, shape) in SHAPES {
            let rows = tree(length, count, seed, shape);
            let leaves = [count - 1, count / 2, count / 3];
            check(
                executor,
                &prefix,
                &rows,
                &leaves,
                &format!("{name} of {count} after {length}"),
            );
        }
    }
}

/// Steps along a path do not know how many rows the program is for.
#[test]
fn narrow_programs_take_trees_too() {
    let executor = executor(shared());
    let prefix = sequence(executor, &tokens(126, 92));
    for seed in 6..9 {
        let rows = tree(126, 8, seed, random);
        check(
            executor,
            &prefix,
            &rows,
            &[3, 5, 7],
            &format!("seed {seed}"),
        );
    }
}

/// 4 and 8 bits, K and V in f16; and a sliding window.
#[test]
fn other_formats_and_windows() {
    let file = tiny_gguf::write();
    let quantized = engine_at(file.path().to_str().unwrap(), Device::Virtual, |builder| {
        let builder = builder.context_length(200).taps(&[0]).max_rows(32);
        builder.kv_dtype(Dtype::F16)
    });
    let sliding = engine_at(
        &fixture("models/mistral-sliding"),
        Device::Virtual,
        |builder| builder.context_length(200).taps(&[0]).max_rows(32),
    );
    for engine in [&quantized, &sliding] {
        let executor = executor(engine);
        let prefix = sequence(executor, &tokens(123, 93));
        let rows = tree(123, 30, 94, deep);
        check(executor, &prefix, &rows, &[29, 17], "30 rows");
    }
}

/// The engine's own rows and commits: what is over stays, a call that came between takes what it overwrote.
#[test]
fn a_path_of_a_call_is_committed() {
    let engine = wide();
    let mut one = session(engine);
    one.append(&tokens(20, 95)).unwrap();
    let rows = tree(20, 12, 96, deep);
    let forward = engine.forward(&rows, &[&one]).unwrap();
    let fork = one.fork();
    let path = path_to(&rows, 11);
    assert!(path.len() > 2 && path.iter().zip(0..).any(|(row, i)| *row != i));
    let error = one.commit(&forward, &path[1..]).unwrap_err().to_string();
    assert!(error.contains("no path"), "{error}");
    one.commit(&forward, &path).unwrap();
    assert!(one.commit(&forward, &path[..1]).is_err());
    // The session goes on as one that was fed the path.
    let mut fed = session(engine);
    fed.append(one.tokens()).unwrap();
    let mut options = GenerateOptions::greedy(5);
    options.ignore_eos = true;
    let prompt = [one.tokens(), &[7]].concat();
    let answers = [&mut one, &mut fed].map(|session| ids(&generate(session, &prompt, &options)));
    assert_eq!(answers[0], answers[1]);

    let first = engine.forward(&rows, &[&fork]).unwrap();
    engine.forward(&rows[..1], &[&fork]).unwrap();
    let mut fork = fork;
    let error = fork.commit(&first, &path).unwrap_err().to_string();
    assert!(error.contains("is gone"), "{error}");
}
