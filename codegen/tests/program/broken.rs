//! Programs broken on purpose: the validator names what is wrong.

use crate::models::TOY;
use crate::{drafts, program, program_of};
use stheno_codegen::layout::WeightFormat;
use stheno_codegen::program::abi::{
    AttentionPhase, CopyPhase, EpilogueKind, LinearPhase, NONE, PhaseKind, SPAN_ARRIVES, Stage,
};
use stheno_codegen::program::{DeviceProgram, ProgramError};

fn error(change: impl FnOnce(&mut DeviceProgram)) -> String {
    error_of(program(TOY, |_| WeightFormat::Bf16, 4, 8), change)
}

/// The same of an EAGLE-3 layer: segments 2 and 3.
fn error_of_draft(change: impl FnOnce(&mut DeviceProgram)) -> String {
    let eagle3 = program_of(&drafts::eagle3(), |_| WeightFormat::Bf16, 4, 8);
    error_of(eagle3.unwrap(), change)
}

fn error_of(mut program: DeviceProgram, change: impl FnOnce(&mut DeviceProgram)) -> String {
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

/// Index of copy number `number` of a kind in a segment.
fn copy(program: &DeviceProgram, segment: usize, kind: PhaseKind, number: usize) -> usize {
    let first = program.segments[segment].first_phase as usize;
    let phases = program.phases_of(segment).iter().enumerate();
    let mut copies = phases.filter(|(_, phase)| phase.kind == kind as u32);
    first + copies.nth(number).unwrap().0
}

fn change_copy(program: &mut DeviceProgram, index: usize, change: impl FnOnce(&mut CopyPhase)) {
    let mut copy: CopyPhase = program.phases[index].part();
    change(&mut copy);
    let bytes = bytemuck::bytes_of(&copy);
    bytemuck::cast_slice_mut::<u32, u8>(&mut program.phases[index].words)[..bytes.len()]
        .copy_from_slice(bytes);
}

/// Rows are read after they were written, and by an edge.
#[test]
fn rows_that_are_not_there_yet() {
    // A product that does not wait for the copies that it reads.
    for (segment, number) in [(2, 0), (2, 1), (3, 0)] {
        let text = error_of_draft(|program| {
            let first = program.segments[segment].first_phase as usize;
            let phases = program.phases_of(segment).iter().enumerate();
            let mut linear = phases.filter(|(_, phase)| phase.kind == PhaseKind::Linear as u32);
            let index = first + linear.nth(number).unwrap().0;
            program.phases[index].edge_in = NONE;
        });
        assert!(is_about_order(&text), "{segment}, {number}: {text}");
    }
    // A copy under a norm that does not wait for the sums of squares.
    let text = error_of_draft(|program| {
        let index = copy(program, 2, PhaseKind::Export, 0);
        program.phases[index].edge_in = NONE;
    });
    assert!(is_about_order(&text), "{text}");
    // A copy at which a block does not arrive: the others wait for one too few.
    let text = error_of_draft(|program| {
        let index = copy(program, 2, PhaseKind::Copy, 0);
        program.phases[index].flags = 0;
    });
    assert!(text.contains("arrivals at edge"), "{text}");
    // The target's features, before the target has computed them: not an input there.
    let text = error_of_draft(|program| program.inputs.retain(|input| input.segment != 2));
    assert!(
        text.contains("reads what nobody has written of `features`"),
        "{text}"
    );
    // A place where nothing is.
    let text = error_of_draft(|program| {
        let index = copy(program, 3, PhaseKind::Import, 0);
        change_copy(program, index, |copy| copy.from = 7);
    });
    assert!(text.contains("nobody has written"), "{text}");
}

/// Rows that others still read, or write.
#[test]
fn rows_that_are_overwritten_too_early() {
    // Both halves of the pair in one place.
    let text = error_of_draft(|program| {
        let index = copy(program, 3, PhaseKind::Copy, 0);
        change_copy(program, index, |copy| copy.to_column = 0);
    });
    assert!(is_about_order(&text), "{text}");
    // What is handed on takes the place of logits while others still write them.
    let text = error_of_draft(|program| {
        let logits = program.output("draft.logits").unwrap().offset;
        let index = copy(program, 3, PhaseKind::Export, 1);
        change_copy(program, index, |copy| copy.to = logits);
        program.phases[index].edge_in = NONE;
    });
    assert!(is_about_order(&text), "{text}");
}

/// A residual that begins on other blocks than those that add to it.
#[test]
fn a_residual_that_is_cut_otherwise() {
    let text = error_of_draft(|program| {
        let first = program.segments[2].first_phase as usize;
        let phases = program.phases_of(2).iter();
        let begin = |phase: &stheno_codegen::program::abi::Phase| {
            phase.kind == PhaseKind::Linear as u32
                && phase.part::<LinearPhase>().epilogue == EpilogueKind::Begin as u32
        };
        let index = first + { phases }.position(begin).unwrap();
        let span = program.phases[index].part::<LinearPhase>().span;
        program.spans[(program.span_count + span) as usize].first_tile += 1;
    });
    assert!(text.contains("tiles of the residual from"), "{text}");
}
