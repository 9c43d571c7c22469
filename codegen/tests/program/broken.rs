//! Programs broken on purpose: the validator names what is wrong.

use crate::models::TOY;
use crate::program;
use stheno_codegen::layout::WeightFormat;
use stheno_codegen::program::abi::{
    AttentionPhase, EpilogueKind, LinearPhase, NONE, PhaseKind, SPAN_ARRIVES, Stage,
};
use stheno_codegen::program::{DeviceProgram, ProgramError};

fn error(change: impl FnOnce(&mut DeviceProgram)) -> String {
    let mut program = program(TOY, |_| WeightFormat::Bf16, 4, 8);
    program.validate().unwrap();
    change(&mut program);
    match program.validate() {
        Err(ProgramError::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Whether it says that a region is read or written too early; which of the two depends on which block runs ahead.
fn is_about_order(text: &str) -> bool {
    ["may read before block", "may write", "nobody has written"]
        .iter()
        .any(|words| text.contains(words))
}

/// Index of the first linear phase of the target with that epilogue.
fn linear(program: &DeviceProgram, epilogue: EpilogueKind) -> usize {
    let first = program.segments[1].first_phase as usize;
    let found = program.phases[first..].iter().position(|phase| {
        phase.kind == PhaseKind::Linear as u32
            && phase.part::<LinearPhase>().epilogue == epilogue as u32
    });
    first + found.unwrap()
}

fn kind(program: &DeviceProgram, kind: PhaseKind) -> usize {
    let first = program.segments[1].first_phase as usize;
    let mut phases = program.phases[first..].iter();
    first + phases.position(|phase| phase.kind == kind as u32).unwrap()
}

fn change_linear(program: &mut DeviceProgram, index: usize, change: impl FnOnce(&mut LinearPhase)) {
    let mut linear: LinearPhase = program.phases[index].part();
    change(&mut linear);
    let bytes: &[u8] = bytemuck::bytes_of(&linear);
    bytemuck::cast_slice_mut::<u32, u8>(&mut program.phases[index].words)[..bytes.len()]
        .copy_from_slice(bytes);
}

#[test]
fn arrivals_that_never_come() {
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Gated);
        program.phases[index].arrivals_in += 1;
    });
    assert!(
        text.contains("waits in phase") && text.contains("arrivals at edge"),
        "{text}"
    );
}

#[test]
fn arrivals_that_are_too_many() {
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Gated);
        program.phases[index].arrivals_in -= 1;
    });
    assert!(
        text.contains("arrivals in a run") || is_about_order(&text),
        "{text}"
    );
}

#[test]
fn a_wait_that_is_missing() {
    for epilogue in [
        EpilogueKind::Gated,
        EpilogueKind::Residual,
        EpilogueKind::Qkv,
    ] {
        let text = error(|program| {
            let index = linear(program, epilogue);
            program.phases[index].edge_in = NONE;
        });
        assert!(is_about_order(&text), "{epilogue:?}: {text}");
    }
}

#[test]
fn a_block_that_does_not_arrive() {
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Qkv);
        let span = program.phases[index].part::<LinearPhase>().span;
        program.spans[span as usize].tiles &= !SPAN_ARRIVES;
    });
    assert!(text.contains("arrivals at edge"), "{text}");
}

#[test]
fn a_buffer_that_is_overwritten_too_early() {
    // The gated values overwrite what they are made of.
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Gated);
        let input = program.phases[index].part::<LinearPhase>().input;
        change_linear(program, index, |linear| linear.output = input);
    });
    assert!(is_about_order(&text), "{text}");
    // Attention's output is where the queries are.
    let text = error(|program| {
        let index = kind(program, PhaseKind::Attention);
        let mut attention: AttentionPhase = program.phases[index].part();
        attention.output = attention.qkv;
        let bytes = bytemuck::bytes_of(&attention);
        bytemuck::cast_slice_mut::<u32, u8>(&mut program.phases[index].words)[..bytes.len()]
            .copy_from_slice(bytes);
    });
    assert!(is_about_order(&text), "{text}");
}

#[test]
fn a_call_that_is_published_while_blocks_still_run() {
    let text = error(|program| {
        let index = kind(program, PhaseKind::Next);
        program.phases[index].edge_in = NONE;
        program.phases[index].arrivals_in = 0;
    });
    assert!(
        text.contains("may come while block") || is_about_order(&text),
        "{text}"
    );
}

#[test]
fn edges_and_spans_that_are_not_there() {
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Qkv);
        program.phases[index].edge_out = program.edges;
    });
    assert!(text.contains("there is no edge"), "{text}");
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Qkv);
        let edge = program.phases[index].edge_out;
        let other = linear(program, EpilogueKind::Gated);
        program.phases[other].edge_out = edge;
    });
    assert!(text.contains("two phases arrive"), "{text}");
    let text = error(|program| {
        let index = linear(program, EpilogueKind::Qkv);
        change_linear(program, index, |linear| linear.span = 1 << 20);
    });
    assert!(text.contains("there is no span"), "{text}");
    let text = error(|program| program.spans.truncate(3));
    assert!(text.contains("spans for 4 blocks"), "{text}");
}

/// Stages of block 0 of the target's first tape.
fn stages(program: &mut DeviceProgram) -> &mut [Stage] {
    let tape = 12;
    let range = program.tapes[tape];
    &mut program.stages[range.first as usize..][..range.count as usize]
}

#[test]
fn tapes_that_hold_something_else() {
    for (change, told) in [
        (
            (|program| stages(program).swap(0, 1)) as fn(&mut DeviceProgram),
            "is looked for",
        ),
        (|program| stages(program)[2].bytes -= 16, "is looked for"),
        (
            |program| {
                let fullest = program.sizes.stage_bytes;
                let stage = stages(program).iter_mut().find(|s| s.bytes < fullest);
                stage.unwrap().bytes += 16;
            },
            "are read",
        ),
        (|program| stages(program)[1].offset += 16, "is looked for"),
        (|program| stages(program)[1].phase += 1, "is looked for"),
        (
            |program| {
                let tape = 12;
                program.tapes[tape].count -= 1;
            },
            "it ends before",
        ),
        (
            |program| {
                let tape = 12;
                program.tapes[tape].before_outputs -= 1;
            },
            "before the output rows",
        ),
        (
            |program| program.stages.truncate(3),
            "longer than all stages",
        ),
    ] {
        let text = error(change);
        assert!(text.contains(told), "{told}: {text}");
    }
}
