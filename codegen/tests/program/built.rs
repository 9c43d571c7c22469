//! Programs of known models.

use crate::models::{LLAMA_8B, SMOLLM2_135M, TOY};
use crate::program;
use stheno_codegen::layout::{Group, WeightFormat};
use stheno_codegen::program::abi::{LinearPhase, NONE, Phase, PhaseKind, SPAN_ARRIVES};

const INT4: WeightFormat = WeightFormat::Int4 {
    group: Group::G128,
    offset: false,
};

#[test]
fn a_program_prints() {
    let toy = program(TOY, |_| WeightFormat::Bf16, 4, 16);
    insta::assert_snapshot!(toy.to_string());
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
