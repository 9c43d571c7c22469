//! The EAGLE-3 layer under heads/ gives the logits in the engine that PyTorch reads out of its files
//! (fixtures/make_head_fixtures.py).

use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stheno::checkpoint::{Checkpoint, WeightDtype};
use stheno::engine::Engine;
use stheno::host::{Call, Forward, HostExecutor, KvSequence};
use stheno::model::{ActivationDtype, DraftWeights, WeightLoader};
use stheno::plan::{Row, SegmentKind, SequenceIndex};

const TOLERANCE: f32 = 1e-3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn f32s(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32);
    let words = tensor.data().chunks_exact(4);
    words
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn i64s(tensors: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::I64);
    let words = tensor.data().chunks_exact(8);
    words
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn the_trained_layer_has_the_logits_of_pytorch() {
    let model = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !model.exists() {
        println!(
            "skipped: {} is missing, scripts/fetch-model.sh fetches it",
            model.display()
        );
        return;
    }
    let head = root().join("heads/SmolLM2-135M-Instruct-EAGLE3");
    let bytes = std::fs::read(root().join("train/tests/fixtures/heads.safetensors")).unwrap();
    let fixture = SafeTensors::deserialize(&bytes).unwrap();

    let builder = Engine::builder().model(model.to_str().unwrap()).unwrap();
    let builder = builder.draft(head.to_str().unwrap()).unwrap();
    let plan = builder
        .activation_dtype(ActivationDtype::F32)
        .threads(1)
        .plan()
        .unwrap();
    let target = Checkpoint::open(&model).unwrap();
    let draft = Checkpoint::open_draft(head.to_str().unwrap()).unwrap();
    let draft = DraftWeights {
        checkpoint: &draft,
        dtype: WeightDtype::AsStored,
    };
    let weights = WeightLoader::new(&target, Some(draft))
        .load(&plan, &mut |_| {})
        .unwrap();
    let mut executor = HostExecutor::new(Arc::new(plan), weights, 1).unwrap();

    let tokens: Vec<u32> = i64s(&fixture, "tokens")
        .into_iter()
        .map(|id| id as u32)
        .collect();
    let aux = f32s(&fixture, "aux");
    let mut rows = Row::chain(SequenceIndex(0), 0, &tokens[1..]);
    rows.iter_mut().for_each(|row| row.output = true);
    let kv = KvSequence::new(executor.plan().kv_of(SegmentKind::Draft));
    let call = Call {
        segment: SegmentKind::DraftPrefill,
        rows: &rows,
        sequences: &[&kv],
        inputs: &[&aux],
        continues: false,
    };
    let mut forward = Forward::default();
    executor.call(&call, &mut forward).unwrap();
    let found = forward.output("draft.logits").unwrap();
    let ids = i64s(&fixture, "ids");
    let expected = f32s(&fixture, "logits");
    let compared = i64s(&fixture, "rows");
    assert_eq!(found.len(), rows.len() * ids.len());
    assert_eq!(expected.len(), compared.len() * ids.len());
    for (row, expected) in compared.iter().zip(expected.chunks_exact(ids.len())) {
        let found = &found[*row as usize * ids.len()..][..ids.len()];
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(largest > 1.0, "nothing is compared: {largest}");
        for (own, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found - expected).abs();
            assert!(
                error <= TOLERANCE,
                "row {row}, token {}: {found}, expected {expected}",
                ids[own]
            );
        }
    }
}
