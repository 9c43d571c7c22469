//! Plans: what the validator refuses and how it says so, serialization, and how a plan is printed.

mod random;
mod refusals;
mod tiny;

use stheno_codegen::plan::{Dim, Dtype, Plan, PlanBuilder, PlanError, RopeDecl};
use tiny::{KV, tiny};

#[test]
fn a_plan_survives_json() {
    let plan = tiny();
    let text = serde_json::to_string(&plan).unwrap();
    let back: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.validate(), Ok(()));
    let mut plain = plan;
    plain.ropes[0].dynamic = None;
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("dynamic"), "{text}");
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plain);
}

#[test]
fn a_plan_prints() {
    insta::assert_snapshot!(tiny().to_string());
}

#[test]
fn equal_declarations_share_an_id() {
    let mut b = PlanBuilder::new("shared", 1, 1, KV);
    assert_eq!(b.matrix("w", 2, 3), b.matrix("w", 2, 3));
    let first = b.buffer("x", Dtype::F32, Dim::Rows, 4);
    assert_eq!(b.buffer("x", Dtype::F32, Dim::Rows, 4), first);
    let rope = RopeDecl {
        inv_freq: vec![1.0],
        attention_factor: 1.0,
        dynamic: None,
    };
    assert_eq!(b.rope(rope.clone()), b.rope(rope));
    assert_ne!(b.buffer("x", Dtype::BF16, Dim::Rows, 4), first);
    let error = b.finish().unwrap_err();
    assert_eq!(
        error,
        PlanError::DuplicateName {
            name: "x".to_owned()
        }
    );
}
