//! A kernel that cannot go on says where it stands.

use super::DeviceWeights;
use super::*;
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::model::{
    ActivationDtype, ModelConfig, PlanOptions, Precision, load_weights, target_plan,
};
use crate::plan::{Row, SegmentKind, SequenceIndex};
use std::process::Command;
use std::sync::Arc;
use stheno_codegen::jit::Cache;

/// Set in a process that this test has started, with a virtual GPU of its own size.
const CHILD: &str = "STHENO_STUCK_CHILD";

/// Polls: many for a virtual GPU of four blocks, few for the test.
const PATIENCE: u32 = 20_000;

#[test]
fn a_stuck_kernel_names_phase_and_edge() {
    if std::env::var_os(CHILD).is_none() {
        // A failed kernel ends its context, and the driver takes its settings from the environment.
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "device::stuck::a_stuck_kernel_names_phase_and_edge",
            ])
            .env(CHILD, "1")
            .env("VIRTUAL_GPU_SMS", "4")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let path = format!("{}/tests/fixtures/models/llama", env!("CARGO_MANIFEST_DIR"));
    let checkpoint = Checkpoint::open_named(&path).unwrap();
    let config = ModelConfig::from_json(checkpoint.config(), checkpoint.path()).unwrap();
    let options = PlanOptions::new(160, Precision::new(ActivationDtype::Mixed));
    let plan = Arc::new(target_plan(&config, &options).unwrap().finish().unwrap());
    let weights = load_weights(&plan, &checkpoint, &mut |_| {}).unwrap();
    let context = Context::new(&Driver::load(DriverKind::Virtual).unwrap(), 0).unwrap();
    let options = ExecutorOptions {
        max_rows: 8,
        cache: Cache::default_directory()
            .map(Cache::open)
            .transpose()
            .unwrap(),
        guesses: Guesses::default(),
    };
    let (mut before, mut total) = (0, 0);
    let mut executor = DeviceExecutor::new(
        &context,
        Arc::clone(&plan),
        &DeviceWeights::new(&weights),
        &options,
        &mut |done, all| {
            assert!(done > before && done <= all);
            (before, total) = (done, all);
        },
    )
    .unwrap();
    assert_eq!(before, total);
    let target = plan
        .segments
        .iter()
        .position(|s| s.kind == SegmentKind::Target);
    let segment = target.unwrap();
    // Attention waits for one block more than there are.
    let edge = executor.plant(segment, 2, PATIENCE).unwrap();
    let rows = Row::chain(SequenceIndex(0), 0, &[5, 6, 7]);
    let mut kv = DeviceKv::new(&plan);
    let mut out = DeviceForward::default();
    let error = executor
        .forward(SegmentKind::Target, &rows, &mut kv, &mut out)
        .unwrap_err();
    let text = error.to_string();
    let Error::Device(DeviceError::Stuck {
        place,
        what,
        seen,
        wanted,
        ..
    }) = error
    else {
        panic!("{text}");
    };
    assert_eq!(
        place,
        "phase 2 of the target segment (op 2, attention of layer 0)"
    );
    let expected = format!("edge {edge}, at which phase 1 arrives (op 1, qkv of layer 0),");
    assert_eq!(what, expected);
    assert_eq!(wanted, seen + 1);
    assert!(text.contains("is another program using the GPU?"), "{text}");
}
