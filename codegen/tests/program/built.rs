//! Programs of known models.

use crate::models::{self, LLAMA_8B, SMOLLM2_135M, Sizes, TOY};
use crate::{drafts, program, program_of};
use stheno_codegen::layout::{Group, WeightFormat};
use stheno_codegen::program::abi::{
    ChoosePhase, LinearPhase, NONE, Phase, PhaseKind, SPAN_ARRIVES,
};

const INT4: WeightFormat = WeightFormat::Int4 {
    group: Group::G128,
    offset: false,
};

#[test]
fn a_program_prints() {
    let toy = program(TOY, |_| WeightFormat::Bf16, 4, 16);
    insta::assert_snapshot!(toy.to_string());
}

/// The segments of a draft, and the target's features before them.
#[test]
fn programs_of_drafts_print() {
    for (name, plan) in [("eagle3", drafts::eagle3()), ("medusa", drafts::medusa())] {
        let program = program_of(&plan, |_| WeightFormat::Bf16, 4, 16).unwrap();
        let text = program.to_string();
        let from = text.find("segment 1").unwrap();
        insta::assert_snapshot!(name, &text[from..]);
    }
}

/// Blocks without tiles of the residual, and blocks with many.
#[test]
fn drafts_have_programs_on_any_grid() {
    for plan in [drafts::eagle3(), drafts::medusa()] {
        for sm_count in [1, 4, 7, 132] {
            for max_rows in [8, 64] {
                program_of(&plan, |_| INT4, sm_count, max_rows).unwrap();
            }
        }
    }
}

/// What one segment hands out and another takes is one region; so is what a step of a draft hands to the next.
#[test]
fn hidden_states_are_handed_on_in_place() {
    let eagle3 = program_of(&drafts::eagle3(), |_| WeightFormat::Bf16, 4, 16).unwrap();
    let of = |name: &str| {
        let inputs = eagle3.inputs.iter().filter(|input| input.name == name);
        inputs
            .map(|input| (input.segment, input.offset))
            .collect::<Vec<_>>()
    };
    let offset = |name: &str| eagle3.output(name).unwrap().offset;
    assert_eq!(of("features"), [(2, offset("features"))]);
    assert_eq!(of("draft.feedback"), [(3, offset("draft.hidden"))]);
    let medusa = program_of(&drafts::medusa(), |_| WeightFormat::Bf16, 4, 16).unwrap();
    let lists = medusa.lists.unwrap();
    assert_eq!((lists.heads, lists.rows), (2, 16));
    assert_eq!(eagle3.lists.unwrap().heads, 1);
    let chosen: Vec<ChoosePhase> = (medusa.phases_of(2).iter())
        .filter(|phase| phase.kind == PhaseKind::Choose as u32)
        .map(Phase::part)
        .collect();
    let places: Vec<u32> = chosen.iter().map(|choose| choose.top).collect();
    assert_eq!(places, [lists.top, lists.top + 4096]);
}

/// A block holds one hidden state of a row at a time.
#[test]
fn two_residuals_at_once_are_refused() {
    let mut plan = drafts::eagle3();
    // The features are projected before the embedding is copied.
    plan.segments[2].ops.swap(1, 2);
    plan.validate().unwrap();
    let error = program_of(&plan, |_| WeightFormat::Bf16, 4, 16).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("`draft.residual` while `draft.embedding` is still needed"),
        "{error}"
    );
}

#[test]
fn too_many_heads_of_a_group_are_refused() {
    let sizes = |heads| Sizes {
        heads,
        kv_heads: 1,
        head_dim: 16,
        ..SMOLLM2_135M
    };
    let of = |heads| program_of(&models::plan(sizes(heads)), |_| WeightFormat::Bf16, 132, 8);
    assert!(of(512).is_ok());
    let error = of(513).unwrap_err().to_string();
    assert!(
        error.contains("513 query heads to a KV head, a device takes 512"),
        "{error}"
    );
}

#[test]
fn the_source_is_constants_and_calls() {
    let format = |name: &str| match name {
        "embed" | "head" => WeightFormat::Bf16,
        _ => INT4,
    };
    let source = program(LLAMA_8B, format, 132, 16).source;
    insta::assert_snapshot!(format!("{}\n{}", source.sizes, source.program));
}

/// Every tile of every stack belongs to one block, and as many blocks arrive as a phase counts on.
#[test]
fn tiles_and_arrivals_add_up() {
    for sm_count in [1, 7, 132] {
        let program = program(SMOLLM2_135M, |_| WeightFormat::Bf16, sm_count, 8);
        let mut last = (NONE, 0);
        for phase in program.phases_of(1) {
            if phase.kind != PhaseKind::Linear as u32 {
                continue;
            }
            let linear: LinearPhase = phase.part();
            let span =
                |block: u32| program.spans[(block * program.span_count + linear.span) as usize];
            let spans: Vec<_> = (0..sm_count).map(span).collect();
            let mut next = 0;
            for span in &spans {
                assert_eq!(span.first_tile, next);
                next += span.tiles & !SPAN_ARRIVES;
            }
            let rows: u32 = linear.parts[..linear.part_count as usize]
                .iter()
                .map(|part| part.n.div_ceil(16))
                .sum();
            assert_eq!(next, rows, "{linear:?}");
            if last.0 == phase.edge_in && last.0 != NONE {
                assert_eq!(last.1, phase.arrivals_in);
            }
            let arrive = spans.iter().filter(|span| span.tiles & SPAN_ARRIVES != 0);
            last = (phase.edge_out, arrive.count() as u32);
        }
    }
}

/// Checkpoints with k-quants keep V in more bits than Q and K: two stacks of one op write the columns of one region.
#[test]
fn one_op_may_have_matrices_of_two_formats() {
    let format = |name: &str| match name.ends_with(".v") {
        true => WeightFormat::Int8 {
            group: Group::G32,
            offset: false,
        },
        false => WeightFormat::Int4 {
            group: Group::G32,
            offset: true,
        },
    };
    for sm_count in [1, 3, 4, 132] {
        let toy = program(TOY, format, sm_count, 8);
        let of_op = |phase: &&Phase| phase.op == 1 && phase.kind == PhaseKind::Linear as u32;
        assert_eq!(toy.phases_of(0).iter().filter(of_op).count(), 2);
    }
}
