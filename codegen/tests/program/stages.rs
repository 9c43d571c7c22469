//! What phases are for and what they move.

use crate::models::{self, SMOLLM2_135M, TOY};
use crate::{drafts, program, program_of};
use stheno_codegen::layout::{Formats, Group, Layout, WeightFormat};
use stheno_codegen::plan::SegmentKind;
use stheno_codegen::program::abi::{Stamp, TimedCall, TimerHead};
use stheno_codegen::program::{CallShape, DeviceProgram, StageKind, Traffic};

const STEP: CallShape = CallShape {
    rows: 1,
    output_rows: 1,
    length: 1000,
};

#[test]
fn stages_follow_the_layers() {
    let toy = program(TOY, |_| WeightFormat::Bf16, 4, 8);
    for segment in 0..toy.segments.len() {
        let stages = toy.stages(segment);
        assert_eq!(stages.len(), toy.phases_of(segment).len());
        let layers = stages.iter().filter_map(|stage| stage.layer).max().unwrap() + 1;
        for layer in 0..layers {
            let of_layer = stages.iter().filter(|stage| stage.layer == Some(layer));
            let kinds: Vec<StageKind> = of_layer
                .map(|stage| stage.kind)
                .filter(|kind| *kind != StageKind::Gather)
                .collect();
            let expected = [
                StageKind::Qkv,
                StageKind::Attention,
                StageKind::O,
                StageKind::GateUp,
                StageKind::Down,
            ];
            assert_eq!(kinds, expected, "segment {segment}, layer {layer}");
        }
        let last: Vec<StageKind> = stages.iter().rev().take(2).map(|s| s.kind).collect();
        assert_eq!(last, [StageKind::Next, StageKind::Choose]);
        assert_eq!(stages[0].kind, StageKind::Embed);
        assert_eq!(stages[0].layer, None);
    }
}

/// A draft's products of hidden states are no layer's, and copies stand between stages without a stage of their own in them.
#[test]
fn stages_of_a_draft() {
    use StageKind::{
        Attention, Choose, Copy, Down, Embed, GateUp, Gather, Head, Next, O, Project, Qkv,
    };
    let kinds = |program: &DeviceProgram, segment: usize| -> Vec<StageKind> {
        program
            .stages(segment)
            .iter()
            .map(|stage| stage.kind)
            .collect()
    };
    let eagle3 = program_of(&drafts::eagle3(), |_| WeightFormat::Bf16, 4, 8).unwrap();
    let layer = [
        Qkv, Attention, Gather, O, GateUp, Down, Head, Copy, Choose, Next,
    ];
    let extend = [&[Embed, Copy, Copy, Project, Copy][..], &layer].concat();
    assert_eq!(kinds(&eagle3, 2), extend);
    assert_eq!(
        kinds(&eagle3, 3),
        [&[Embed, Copy, Copy, Copy][..], &layer].concat()
    );
    let medusa = program_of(&drafts::medusa(), |_| WeightFormat::Bf16, 4, 8).unwrap();
    let heads = [
        Copy, Copy, Project, Head, Copy, Project, Copy, Project, Head,
    ];
    assert_eq!(
        kinds(&medusa, 2),
        [&heads[..], &[Choose, Choose, Next]].concat()
    );
    // Worked out by hand, for three rows, two of them with outputs: rows of features are read in f32 and written in bf16; an
    // export of hidden states reads nothing.
    let shape = CallShape {
        rows: 3,
        output_rows: 2,
        length: 9,
    };
    let moved = |program: &DeviceProgram, segment: usize, phase: usize| {
        let traffic = program.traffic(&program.phases_of(segment)[phase], shape);
        assert_eq!(traffic.memory(), 0);
        traffic.activations
    };
    assert_eq!(moved(&eagle3, 2, 2), 3 * 192 * (4 + 2));
    assert_eq!(moved(&eagle3, 2, 12), 2 * 96 * 4);
    assert_eq!(moved(&medusa, 2, 0), 2 * 96 * 4);
}

#[test]
fn places_and_edges_have_names() {
    let plan = models::plan(TOY);
    let toy = program(TOY, |_| WeightFormat::Bf16, 4, 8);
    let target = plan
        .segments
        .iter()
        .position(|s| s.kind == SegmentKind::Target)
        .unwrap();
    let place = toy.place(&plan, target, 2);
    assert_eq!(
        place,
        "phase 2 of the target segment (op 2, attention of layer 0)"
    );
    let awaited = toy.awaited(target, 2).unwrap();
    assert!(
        awaited.ends_with("at which phase 1 arrives (op 1, qkv of layer 0),"),
        "{awaited}"
    );
    assert_eq!(toy.awaited(target, 0), None);
    assert_eq!(toy.place(&plan, 9, 9), "phase 9 of segment 9");
}

/// The weights of a step are what its tapes stream.
#[test]
fn weights_are_those_of_the_tapes() {
    let int4 = WeightFormat::Int4 {
        group: Group::Row,
        offset: false,
    };
    for format in [WeightFormat::Bf16, int4] {
        let program = program(SMOLLM2_135M, |_| format, 132, 8);
        let plan = models::plan(SMOLLM2_135M);
        let formats = Formats::new(&plan, |_| Some(format));
        let layout = Layout::new(&plan, &formats, program.sizes.cut()).unwrap();
        let steps = layout.validate(&plan, &formats).unwrap();
        for (segment, step) in steps.iter().enumerate() {
            let mut sum = Traffic::default();
            for phase in program.phases_of(segment) {
                sum += program.traffic(phase, STEP);
            }
            assert_eq!(sum.weights, step.streamed, "{}", step.segment);
            assert!(sum.table > 0 && sum.kv > 0 && sum.activations > 0);
            assert_eq!(sum.memory(), sum.weights + sum.table + sum.kv);
        }
    }
}

/// Worked out by hand: one row of one layer.
#[test]
fn bytes_of_attention_are_those_of_the_positions_seen() {
    let toy = program(TOY, |_| WeightFormat::Bf16, 4, 8);
    let stages = toy.stages(1);
    let index = stages
        .iter()
        .position(|stage| stage.kind == StageKind::Attention)
        .unwrap();
    let plan = models::plan(TOY);
    let heads = u64::from(plan.kv.num_key_value_heads * plan.kv.head_dim);
    let traffic = toy.traffic(&toy.phases_of(1)[index], STEP);
    // 1001 positions are read, one is written; K and V of two bytes.
    assert_eq!(traffic.kv, 1002 * heads * 4);
    let idle = CallShape {
        output_rows: 0,
        ..STEP
    };
    let choose = stages
        .iter()
        .position(|stage| stage.kind == StageKind::Choose)
        .unwrap();
    assert_eq!(
        toy.traffic(&toy.phases_of(1)[choose], idle),
        Traffic::default()
    );
}

#[test]
fn stamps_have_the_sizes_of_the_header() {
    assert_eq!(size_of::<TimerHead>(), 16);
    assert_eq!(size_of::<TimedCall>(), 16);
    assert_eq!(size_of::<Stamp>(), 32);
}
