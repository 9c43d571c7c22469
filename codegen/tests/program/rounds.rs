//! Calls of rounds on the virtual GPU: a draft reads its own weights and stores no logits, and before a step nothing of the cache moves
//! but what came true.

use crate::drafts;
use crate::loaded::{Case, Loaded, assert_good, fill_range, line, weights};
use crate::models::{self, TOY};
use std::ops::Range;
use stheno_codegen::layout::{PlacementId, TablePlace, WeightFormat};
use stheno_codegen::plan::{KV_PAGE, Op, SegmentKind};
use stheno_codegen::program::abi::{ChoosePhase, PhaseKind, TOP_LIMIT, flags};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::{Checks, DevicePointer, LaunchReport, Module};

/// Ranges of the arena: spans of what a segment multiplies with, and the table that it takes rows from.
fn own_ranges(case: &Case, segment: usize) -> Vec<Range<u64>> {
    let layout = &case.layout;
    let placed = &layout.segments[segment].phases;
    let mut ids: Vec<PlacementId> = placed.iter().flat_map(|p| p.placements.clone()).collect();
    let mut ranges = Vec::new();
    for op in &case.plan.segments[segment].ops {
        let Op::Embed { table, .. } = op else {
            continue;
        };
        let table = layout.tables.iter().find(|t| t.weight == *table).unwrap();
        match table.place {
            TablePlace::Tiles(id) => ids.push(id),
            TablePlace::Rows { offset, stride, .. } => {
                ranges.push(offset..offset + u64::from(table.rows) * stride);
            }
        }
    }
    for id in ids {
        let placement = layout.placement(id);
        ranges.extend((0..layout.cut.sm_count as usize).map(|sm| placement.span(sm)));
    }
    ranges
}

/// A call of a segment with an arena of which these ranges are written, and nothing else.
fn call_with(case: &Case, module: &Module, segment: usize, ranges: &[Range<u64>]) -> LaunchReport {
    let mut loaded = Loaded::with_arena(case, |gpu| {
        let bytes = case.layout.arena_bytes;
        let arena = gpu.alloc_named(bytes as usize, "arena").unwrap();
        for range in ranges {
            let start = DevicePointer(arena.0 + range.start);
            fill_range(gpu, start, range.end - range.start, &weights);
        }
        arena
    });
    // Rows that follow the same position.
    let control = case.call(segment, 30, &[0, 0]);
    loaded.launch(module, &control, 1, Checks::All)
}

fn reads_unwritten_weights(report: &LaunchReport) -> bool {
    let first = report.findings.first();
    first.is_some_and(|finding| {
        finding.kind == FindingKind::UninitializedRead && finding.message.contains("arena")
    })
}

/// Bytes that nobody has written are a finding where they are read: the rest of the arena stays so.
#[test]
fn drafts_read_no_weights_but_their_own() {
    let cases = [
        ("a layer with the target's head", models::plan(TOY)),
        ("EAGLE-3", drafts::eagle3()),
        ("Medusa", drafts::medusa()),
    ];
    for (name, plan) in cases {
        let case = Case::of_plan(plan, WeightFormat::Bf16, 4, 8);
        let module = Module::from_ptx(&case.ptx()).unwrap_or_else(|error| panic!("{error}"));
        let kinds: Vec<SegmentKind> = case.plan.segments.iter().map(|s| s.kind).collect();
        let is_target = |kind| matches!(kind, SegmentKind::Prefill | SegmentKind::Target);
        for (segment, kind) in kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| !is_target(**kind))
        {
            println!("{name}, {kind}:");
            let ranges = own_ranges(&case, segment);
            let written: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            assert!(2 * written < case.layout.arena_bytes, "{name}, {kind}");
            let report = call_with(&case, &module, segment, &ranges);
            assert_good(&report);
            // Each of the products' weights once, and nothing ahead for others; with stages come records of the tape.
            let streamed = line(&report.counters, "copies.cuh", "cp.async.bulk.shared");
            let (_, own) = case.weight_bytes(segment);
            let most = own + case.record_bytes(segment);
            let streamed = streamed.async_bytes;
            assert!(
                (own..=most).contains(&streamed),
                "{name}, {kind}: {streamed}"
            );
            println!(
                "  {streamed} bytes streamed, {own} of them weights; {written} of {} written",
                case.layout.arena_bytes
            );
            // A range less is noticed.
            let (first, rest) = ranges.split_first().unwrap();
            assert!(first.start < first.end);
            assert!(reads_unwritten_weights(&call_with(
                &case, &module, segment, rest
            )));
        }
        let target = case.segment(SegmentKind::Target);
        let ranges = own_ranges(&case, kinds.len() - 1);
        assert!(
            reads_unwritten_weights(&call_with(&case, &module, target, &ranges)),
            "{name}"
        );
    }
}

/// The choices of a segment that are lists.
fn lists_of(case: &Case, segment: usize) -> Vec<ChoosePhase> {
    let phases = case.program.phases_of(segment).iter();
    let choices = phases.filter(|phase| phase.kind == PhaseKind::Choose as u32);
    let lists = choices.filter(|phase| phase.flags & flags::LISTS != 0);
    lists.map(|phase| phase.part()).collect()
}

/// The lists of a draft's call that keeps so many tokens instead of logits, or logits, row by row; and how many bytes of the logits'
/// places are not 0.
fn call_that_lists(case: &Case, module: &Module, segment: usize, kept: u32) -> (Vec<u8>, usize) {
    let mut control = case.call(segment, 30, &[0, 0]);
    control.call.listed = kept;
    let rows = control.call.output_rows;
    let mut loaded = Loaded::new(case);
    for input in case.program.inputs.iter().filter(|i| i.segment == segment) {
        let values = (0..rows * input.columns).map(|i| (i as f32 * 0.7).sin());
        loaded.write_workspace(input.offset, &values.collect::<Vec<f32>>());
    }
    let report = loaded.launch(module, &control, 1, Checks::All);
    assert_good(&report);
    let (mut top, mut stored) = (Vec::new(), 0);
    for list in lists_of(case, segment) {
        for row in 0..rows {
            let at = list.top + row * 8 * TOP_LIMIT as u32;
            top.extend(loaded.workspace(at, 8 * control.generation.topk));
        }
        let logits = loaded.workspace(list.logits, 4 * rows * list.vocab_size);
        stored += logits.into_iter().filter(|byte| *byte != 0).count();
    }
    (top, stored)
}

/// What a list is made of is left of a draft's logits, which nobody else needs: the same list as out of all of them.
#[test]
fn logits_that_are_listed_are_not_stored() {
    for (name, plan) in [("EAGLE-3", drafts::eagle3()), ("Medusa", drafts::medusa())] {
        let case = Case::of_plan(plan, WeightFormat::Bf16, 4, 8);
        let module = Module::from_ptx(&case.ptx()).unwrap_or_else(|error| panic!("{error}"));
        let segment = case.segment(SegmentKind::Draft);
        let topk = case.call(segment, 30, &[]).generation.topk;
        let (expected, stored) = call_that_lists(&case, &module, segment, 0);
        assert!(stored > 0, "{name}");
        let (found, stored) = call_that_lists(&case, &module, segment, topk);
        assert_eq!(stored, 0, "{name}");
        assert_eq!(found, expected, "{name}");
    }
}

/// Paths of rows of the last call, which began at a position: on a page, over the end of one, straight in part and all of it.
const PATHS: [(u32, &[u8]); 4] = [
    (60, &[0, 3]),
    (KV_PAGE as u32 - 2, &[0, 2, 5, 6]),
    (KV_PAGE as u32 - 1, &[0, 1, 4]),
    (90, &[0, 1, 2]),
];

/// What came true of the last call becomes the positions that it is at; else a call writes its own rows only.
#[test]
fn a_step_moves_the_rows_of_the_path() {
    let case = Case::new(TOY, WeightFormat::Bf16, 4, 8);
    let module = Module::from_ptx(&case.ptx()).unwrap_or_else(|error| panic!("{error}"));
    let target = case.segment(SegmentKind::Target);
    for (start, path) in PATHS {
        let length = start + path.len() as u32;
        let mut control = case.call(target, length, &[0, 0]);
        control.call.moved = path.len() as u32;
        control.call.path[..path.len()].copy_from_slice(path);
        let mut loaded = Loaded::new(&case);
        let before = [0, 1].map(|cache| loaded.cache(cache));
        let report = loaded.launch(&module, &control, 1, Checks::All);
        assert_good(&report);
        let [mut expected, draft] = before.clone();
        let mut moved = 0;
        for (at, row) in (start as usize..).zip(path) {
            let from = start as usize + usize::from(*row);
            expected[at] = before[0][from].clone();
            moved += u64::from(from != at);
        }
        let found = loaded.cache(0);
        let own = length as usize..length as usize + control.call.rows as usize;
        for (position, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let is_own = own.contains(&position);
            assert_eq!(
                found != expected,
                is_own,
                "{path:?} from {start}: {position}"
            );
        }
        assert!(loaded.cache(1) == draft, "{path:?}: the draft's cache");
        let written = line(&report.counters, "commit.cuh", "if (rows[j] != j)");
        let bytes = moved * found[0].len() as u64;
        assert_eq!(written.global_written_bytes, bytes, "{path:?}");
        assert!(bytes > 0 || path == [0, 1, 2]);
    }
}
