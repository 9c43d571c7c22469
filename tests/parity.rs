//! Tiny seeded checkpoints of every family and RoPE scaling against what transformers computes on them in float32
//! (`tests/fixtures/make_fixtures.py`).

use safetensors::SafeTensors;
use std::path::PathBuf;
use std::sync::Arc;
use stheno::checkpoint::Checkpoint;
use stheno::host::{Forward, HostExecutor, KvSequence};
use stheno::model::{
    ActivationDtype, ModelConfig, PlanOptions, Precision, build_plan, load_weights,
};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

const CONTEXT: u32 = 64;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn names() -> Vec<String> {
    let dir = std::fs::read_dir(fixtures().join("models")).unwrap();
    let mut names: Vec<String> = dir
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 13, "fixtures are missing: {names:?}");
    names
}

fn executor(name: &str) -> HostExecutor {
    let checkpoint = Checkpoint::open(&fixtures().join("models").join(name)).unwrap();
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path()).unwrap();
    let options = PlanOptions::new(CONTEXT, Precision::new(ActivationDtype::F32));
    let plan = build_plan(&config, &options).unwrap();
    let weights = load_weights(&plan, &checkpoint, &mut |_| {}).unwrap();
    HostExecutor::new(Arc::new(plan), weights, 2).unwrap()
}

struct Expected(Vec<u8>);

impl Expected {
    fn read(name: &str) -> Self {
        Expected(std::fs::read(fixtures().join(format!("expected/{name}.safetensors"))).unwrap())
    }

    fn ids(&self, tensor: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(tensor).unwrap().data().to_vec();
        data.as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b) as u32)
            .collect()
    }

    /// transformers rotates all rows of one call with the dynamic base of the last one; fed step by step, with that of
    /// each row's own length, which is what this engine does always. `stepwise` is stored where the two differ.
    fn logits(&self) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file
            .tensor("stepwise")
            .or_else(|_| file.tensor("logits"))
            .unwrap();
        tensor
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..logits.len())
        .rev()
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.unwrap() as u32
}

#[test]
fn logits_of_64_tokens_match_transformers() {
    for name in names() {
        let mut executor = executor(&name);
        let expected = Expected::read(&name);
        let mut rows = Row::chain(SequenceIndex(0), 0, &expected.ids("input_ids"));
        rows.iter_mut().for_each(|row| row.output = true);
        let sequence = KvSequence::new(executor.plan().kv);
        let mut forward = Forward::default();
        executor
            .forward(SegmentKind::Prefill, &rows, &[&sequence], &mut forward)
            .unwrap();
        let expected = expected.logits();
        assert_eq!(forward.logits().len(), expected.len(), "{name}");
        let errors = forward
            .logits()
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs());
        let largest = errors.fold(0f32, f32::max);
        assert!(largest <= 1e-3, "{name}: logits differ by up to {largest}");
    }
}

#[test]
fn greedy_tokens_match_transformers() {
    for name in names() {
        let mut executor = executor(&name);
        let expected = Expected::read(&name);
        let mut sequence = KvSequence::new(executor.plan().kv);
        let mut forward = Forward::default();
        let mut next = expected.ids("input_ids")[..16].to_vec();
        let mut tokens: Vec<u32> = Vec::new();
        while tokens.len() < 32 {
            let rows = Row::chain(SequenceIndex(0), sequence.len() as u32, &next);
            executor
                .forward(SegmentKind::Target, &rows, &[&sequence], &mut forward)
                .unwrap();
            let path: Vec<u32> = (0..rows.len() as u32).collect();
            sequence.commit(forward.kv(), &path).unwrap();
            next = vec![argmax(forward.logits())];
            tokens.extend(&next);
        }
        assert_eq!(tokens, expected.ids("greedy"), "{name}");
    }
}
