//! Placements broken on purpose: each fault is found, and named where it is.

use crate::models::{TOY, plan};
use crate::weights::BF16;
use crate::weights::Weights;
use stheno_codegen::layout::{
    Cut, Formats, Layout, LayoutError, Mappings, PlacementId, RowOrder, TablePlace, WeightFormat,
};
use stheno_codegen::plan::{Plan, SegmentKind};

struct Case {
    plan: Plan,
    formats: Formats,
    layout: Layout,
}

const CUT: Cut = Cut {
    sm_count: 4,
    tile_group: 2,
    stage_bytes: 16 << 10,
};

fn case() -> Case {
    let plan = plan(TOY);
    let weights = Weights::random(&plan, 3, |_| BF16);
    let formats = Mappings::new(&plan, &weights).unwrap().formats();
    let layout = Layout::new(&plan, &formats, CUT).unwrap();
    Case {
        plan,
        formats,
        layout,
    }
}

/// The error that a change provokes.
fn error(change: impl FnOnce(&mut Layout)) -> LayoutError {
    let mut case = case();
    assert!(case.layout.validate(&case.plan, &case.formats).is_ok());
    change(&mut case.layout);
    case.layout
        .validate(&case.plan, &case.formats)
        .expect_err("the fault is not found")
}

const TARGET: usize = 1;

#[test]
fn spans_that_overlap_or_leave_the_arena() {
    let arena = |change: &dyn Fn(&mut Layout)| match error(change) {
        LayoutError::Arena { reason } => reason,
        other => panic!("{other}"),
    };
    let reason = arena(&|l| l.placements[1].offsets[2] = l.placements[0].offsets[2]);
    assert!(reason.contains("overlaps"), "{reason}");
    let reason = arena(&|l| l.placements[1].offsets[2] += 16);
    assert!(reason.contains("not aligned"), "{reason}");
    let reason = arena(&|l| l.arena_bytes -= 128);
    assert!(reason.contains("outside"), "{reason}");
    let reason = arena(&|l| l.placements[0].first_tiles[4] -= 1);
    assert!(reason.contains("do not cover"), "{reason}");
    let reason = arena(&|l| l.placements[0].first_tiles[1] = 15);
    assert!(reason.contains("do not cover"), "{reason}");
    let reason = arena(&|l| {
        l.placements[0].offsets.pop();
    });
    assert!(reason.contains("3 spans"), "{reason}");
    let reason = arena(&|l| l.cut.stage_bytes = 1024);
    assert!(reason.contains("longer than a stage"), "{reason}");
    let reason = arena(&|l| l.placements[0].stack.parts[1].first_tile += 1);
    assert!(
        reason.contains("stands nowhere") || reason.contains("cover"),
        "{reason}"
    );
}

#[test]
fn phases_that_are_not_the_ops() {
    let phase = |change: &dyn Fn(&mut Layout)| match error(change) {
        LayoutError::Phase { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let reason = phase(&|l| drop(l.segments[TARGET].phases.remove(0)));
    assert!(reason.contains("no phase"), "{reason}");
    let reason = phase(&|l| {
        let again = l.segments[TARGET].phases[0].clone();
        l.segments[TARGET].phases.push(again);
    });
    assert!(reason.contains("no linear op"), "{reason}");
    let reason = phase(&|l| l.segments[TARGET].phases[1].placements[0] = PlacementId(3));
    assert!(reason.contains("is expected"), "{reason}");
    let reason = phase(&|l| l.segments[TARGET].phases[1].placements[0] = PlacementId(99));
    assert!(reason.contains("not there"), "{reason}");
    let reason = phase(&|l| l.segments[TARGET].phases[0].placements.push(PlacementId(1)));
    assert!(reason.contains("none of its parts"), "{reason}");
    let reason = phase(&|l| l.segments[TARGET].phases[1].placements.clear());
    assert!(reason.contains("lies nowhere"), "{reason}");
    let reason = phase(&|l| l.segments[TARGET].kind = SegmentKind::Draft);
    assert!(reason.contains("those of draft"), "{reason}");
    // Gate and up, each in the place of the other.
    let reason = phase(&|l| {
        let parts = &mut l.placements[2].stack.parts;
        (parts[0].order, parts[1].order) = (RowOrder::Up, RowOrder::Gate);
    });
    assert!(reason.contains("stand in order"), "{reason}");
}

/// O and down of one residual must give an SM the same rows.
#[test]
fn residual_rows_change_hands() {
    let mut case = case();
    let down = case.layout.segments[TARGET].phases[3].placements[0];
    let placement = &mut case.layout.placements[down.index()];
    assert_eq!(placement.first_tiles, [0, 1, 3, 4, 6]);
    placement.first_tiles[1] = 2;
    // Each span still has the room of its tiles: only the ownership is wrong.
    let mut end = case.layout.arena_bytes;
    for sm in 0..4 {
        placement.offsets[sm] = end;
        end = placement.span(sm).end.next_multiple_of(128);
    }
    case.layout.arena_bytes = end;
    let error = case.layout.validate(&case.plan, &case.formats).unwrap_err();
    assert!(error.to_string().contains("residual rows"), "{error}");
}

#[test]
fn tables_without_rows() {
    let weight = |change: &dyn Fn(&mut Layout)| match error(change) {
        LayoutError::Weight { name, reason } => {
            assert_eq!(name, "embed");
            reason
        }
        other => panic!("{other}"),
    };
    weight(&|l| l.tables[0].rows += 1);
    weight(&|l| l.tables[0].place = TablePlace::Tiles(PlacementId(0)));
}

#[test]
fn cuts_that_cannot_be() {
    let case = case();
    let cut = |cut: Cut| Layout::new(&case.plan, &case.formats, cut).unwrap_err();
    let none = cut(Cut { sm_count: 0, ..CUT });
    assert!(none.to_string().contains("0 SMs"), "{none}");
    for tile_group in [0, 3] {
        cut(Cut { tile_group, ..CUT });
    }
    let small = cut(Cut {
        stage_bytes: 4096,
        ..CUT
    });
    assert!(
        small.to_string().contains("does not fit a stage"),
        "{small}"
    );
    let formless = Formats::new(&case.plan, |_| None);
    let error = Layout::new(&case.plan, &formless, CUT).unwrap_err();
    assert!(error.to_string().contains("0.q"), "{error}");
}

#[test]
fn weights_beyond_all_memory() {
    let plan = plan(crate::models::Sizes {
        vocab: u32::MAX,
        hidden: 1 << 20,
        ..TOY
    });
    let formats = Formats::new(&plan, |_| Some(WeightFormat::Bf16));
    let error = Layout::new(&plan, &formats, CUT).unwrap_err();
    assert!(
        error.to_string().contains("`embed`: its op would read"),
        "{error}"
    );
}
