//! What a row computes does not depend on the rows beside it: for random mixes of trees and sequences, logits, taps
//! and committed KV equal, bit for bit, those of feeding each row's path token by token, and those of calls that continue
//! each other.

use proptest::prelude::*;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use stheno::checkpoint::Checkpoint;
use stheno::host::{Call, Forward, HostExecutor, Isa, KvSequence};
use stheno::model::{
    ActivationDtype, ModelConfig, PlanOptions, Precision, build_plan, load_weights,
};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

const FAMILIES: [&str; 4] = ["llama-biases", "mistral-sliding", "qwen2", "qwen3"];
const ACTIVATIONS: [ActivationDtype; 3] = [
    ActivationDtype::F32,
    ActivationDtype::BF16,
    ActivationDtype::Q8,
];
const VOCAB: u32 = 260;

fn executor(name: &str, activation: ActivationDtype, threads: usize) -> HostExecutor {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path()).unwrap();
    let mut options = PlanOptions::new(256, Precision::new(activation));
    options.taps = vec![0];
    let plan = build_plan(&config, &options).unwrap();
    let weights = load_weights(&plan, &checkpoint, &mut |_| {}).unwrap();
    HostExecutor::new(Arc::new(plan), weights, threads).unwrap()
}

/// Rows of a call over sequences of given committed lengths.
#[derive(Debug, Clone)]
struct Case {
    prefixes: Vec<Vec<u32>>,
    /// Sequence, token, and a number that picks the parent among earlier rows of the sequence (or none).
    rows: Vec<(usize, u32, usize)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let prefix = prop::collection::vec(0..VOCAB, 0..140);
    let prefixes = prop::collection::vec(prefix, 1..4);
    let rows = prop::collection::vec((0..3usize, 0..VOCAB, any::<prop::sample::Index>()), 1..=64);
    (prefixes, rows).prop_map(|(prefixes, rows)| {
        let sequences = prefixes.len();
        let rows = rows
            .into_iter()
            .map(|(s, t, parent)| (s % sequences, t, parent.index(1 << 20)));
        Case {
            rows: rows.collect(),
            prefixes,
        }
    })
}

impl Case {
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for &(sequence, token, pick) in &self.rows {
            let own = |row: &Row| row.sequence.0 as usize == sequence;
            let parents: Vec<u32> = (0..)
                .zip(&rows)
                .filter(|(_, r)| own(r))
                .map(|(i, _)| i)
                .collect();
            // The last choice is to have no parent.
            let parent = parents.get(pick % (parents.len() + 1)).copied();
            let position = match parent {
                Some(parent) => rows[parent as usize].position + 1,
                None => self.prefixes[sequence].len() as u32,
            };
            rows.push(Row {
                token,
                sequence: SequenceIndex(sequence as u32),
                position,
                parent,
                delta: None,
                output: true,
            });
        }
        rows
    }
}

fn commit_tokens(executor: &mut HostExecutor, sequence: &mut KvSequence, tokens: &[u32]) {
    let mut forward = Forward::default();
    for chunk in tokens.chunks(64) {
        let rows = Row::chain(SequenceIndex(0), sequence.len() as u32, chunk);
        executor
            .forward(SegmentKind::Prefill, &rows, &[sequence], &mut forward)
            .unwrap();
        sequence
            .commit(forward.kv(), &(0..rows.len() as u32).collect::<Vec<_>>())
            .unwrap();
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn kv_bytes(sequence: &KvSequence) -> Vec<u8> {
    let page = sequence.decl().page_bytes();
    let mut bytes = vec![0; sequence.pages() * page];
    for (index, page) in bytes.chunks_exact_mut(page).enumerate() {
        sequence.read_page(index, page);
    }
    bytes
}

/// The rows in calls of 7 that continue each other.
fn check_continued(
    executor: &mut HostExecutor,
    rows: &[Row],
    sequences: &[KvSequence],
    together: &Forward,
) {
    let all: Vec<&KvSequence> = sequences.iter().collect();
    let mut continued = Forward::default();
    let mut logits = Vec::new();
    for (i, rows) in rows.chunks(7).enumerate() {
        let call = Call {
            segment: SegmentKind::Target,
            rows,
            sequences: &all,
            inputs: &[],
            continues: i > 0,
        };
        executor.call(&call, &mut continued).unwrap();
        logits.extend(bits(continued.logits()));
    }
    assert_eq!(logits, bits(together.logits()));
    let parent = |row: &u32| rows[*row as usize].parent;
    let mut path: Vec<u32> = std::iter::successors(Some(rows.len() as u32 - 1), parent).collect();
    path.reverse();
    let sequence = rows[rows.len() - 1].sequence.0 as usize;
    let [mut a, mut b] = [sequences[sequence].clone(), sequences[sequence].clone()];
    a.commit(together.kv(), &path).unwrap();
    b.commit(continued.kv(), &path).unwrap();
    assert_eq!(kv_bytes(&a), kv_bytes(&b));
}

fn check(executor: &mut HostExecutor, case: &Case) {
    let kv = executor.plan().kv;
    let mut sequences: Vec<KvSequence> =
        case.prefixes.iter().map(|_| KvSequence::new(kv)).collect();
    for (sequence, prefix) in sequences.iter_mut().zip(&case.prefixes) {
        commit_tokens(executor, sequence, prefix);
    }
    let rows = case.rows();
    let mut together = Forward::default();
    let all: Vec<&KvSequence> = sequences.iter().collect();
    executor
        .forward(SegmentKind::Target, &rows, &all, &mut together)
        .unwrap();

    check_continued(executor, &rows, &sequences, &together);

    // The state after each row's path, fed one token at a time; shared prefixes of paths are fed once.
    let mut states: HashMap<usize, (KvSequence, Vec<u32>)> = HashMap::new();
    let mut single = Forward::default();
    let hidden = together.tap(0).unwrap().len() / rows.len();
    for (i, row) in rows.iter().enumerate() {
        let sequence = row.sequence.0 as usize;
        let (mut before, mut path) = match row.parent {
            Some(parent) => states[&(parent as usize)].clone(),
            None => (sequences[sequence].clone(), Vec::new()),
        };
        let alone = [Row {
            sequence: SequenceIndex(0),
            parent: None,
            ..*row
        }];
        executor
            .forward(SegmentKind::Target, &alone, &[&before], &mut single)
            .unwrap();
        let vocab = VOCAB as usize;
        assert_eq!(
            bits(&together.logits()[i * vocab..][..vocab]),
            bits(single.logits()),
            "logits of row {i}"
        );
        let tap = &together.tap(0).unwrap()[i * hidden..][..hidden];
        assert_eq!(bits(tap), bits(single.tap(0).unwrap()), "tap of row {i}");
        before.commit(single.kv(), &[0]).unwrap();
        path.push(i as u32);
        let mut committed = sequences[sequence].clone();
        committed.commit(together.kv(), &path).unwrap();
        assert!(
            kv_bytes(&committed) == kv_bytes(&before),
            "KV after row {i}"
        );
        states.insert(i, (before, path));
    }
}

#[test]
fn rows_of_trees_and_batches_equal_single_steps() {
    for family in FAMILIES {
        for activation in ACTIVATIONS {
            let executor = std::cell::RefCell::new(executor(family, activation, 1));
            let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
                cases: 25,
                ..ProptestConfig::default()
            });
            runner
                .run(&cases(), |case| {
                    check(&mut executor.borrow_mut(), &case);
                    Ok(())
                })
                .unwrap_or_else(|e| panic!("{family}, {activation:?}: {e}"));
        }
    }
}

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    let case = Case {
        prefixes: vec![(0..100).collect(), (100..130).collect()],
        rows: (0..40).map(|i| (i % 2, i as u32 * 5, i * 7)).collect(),
    };
    for family in FAMILIES {
        for activation in ACTIVATIONS {
            let mut logits = Vec::new();
            for isa in Isa::available() {
                let mut executor = executor(family, activation, 2).with_isa(isa);
                let mut sequences = vec![KvSequence::new(executor.plan().kv); 2];
                for (sequence, prefix) in sequences.iter_mut().zip(&case.prefixes) {
                    commit_tokens(&mut executor, sequence, prefix);
                }
                let all: Vec<&KvSequence> = sequences.iter().collect();
                let mut forward = Forward::default();
                executor
                    .forward(SegmentKind::Target, &case.rows(), &all, &mut forward)
                    .unwrap();
                logits.push(bits(forward.logits()));
            }
            assert!(
                logits.windows(2).all(|pair| pair[0] == pair[1]),
                "{family}, {activation:?}"
            );
        }
    }
}
