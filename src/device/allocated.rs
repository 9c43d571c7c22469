//! What a generation has allocated is what was demanded of the device before anything was.

use super::demand::Demand;
use super::memory::ALLOCATED;
use crate::engine::{Device, Engine, GenerateOptions, SessionOptions};
use crate::speculation::sampling::SamplingParams;
use crate::speculation::{Acceptance, Policy, SpeculationOptions, TreeShape};
use std::process::Command;
use std::sync::atomic::Ordering;

/// Set in a process that this test has started: the driver takes its settings from the environment, and no other test allocates.
const CHILD: &str = "STHENO_ALLOCATED_CHILD";

const TEST: &str = "device::allocated::what_is_allocated_was_demanded";

#[test]
fn what_is_allocated_was_demanded() {
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST])
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
    let allocated = || ALLOCATED.load(Ordering::Relaxed);
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    for draft in ["models/llama", "drafts/eagle3", "drafts/medusa-a"] {
        assert_eq!(allocated(), 0);
        let engine = Engine::builder()
            .model(&fixture("drafts/target-llama"))
            .unwrap()
            .draft(&fixture(draft))
            .unwrap()
            .device(Device::Virtual)
            .context_length(256)
            .build()
            .unwrap();
        let mut options = GenerateOptions::sampled(
            usize::MAX,
            SamplingParams {
                repetition_penalty: 1.1,
                ..SamplingParams::default()
            },
        );
        // To the end of the context.
        (options.max_tokens, options.ignore_eos) = (None, true);
        options.speculation = SpeculationOptions {
            policy: Policy::Fixed(TreeShape {
                num_steps: 2,
                topk: 2,
                num_draft_tokens: 4,
            }),
            acceptance: Acceptance::Rejection,
            ..SpeculationOptions::default()
        };
        let mut session = engine.session(SessionOptions::default()).unwrap();
        let mut stream = session.generate(vec![97, 11, 64], &options).unwrap();
        // With some drafts the loop begins at the second token.
        stream.next().unwrap().unwrap();
        stream.next().unwrap().unwrap();
        let found = allocated();
        let executor = engine.device_executor().unwrap();
        let ids = executor.target_ids.len() as usize / 4;
        let (plan, arena) = (executor.plan(), executor.arena.len());
        let demand = Demand::of(plan, executor.program(), arena, ids);
        assert_eq!(found, demand.total(), "{draft}: {demand:?}");
    }
}
