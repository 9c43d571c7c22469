//! The arena: what is shared, how it is streamed to a sink, how evenly it is cut.

use crate::models::{LLAMA_8B, TOY, plan};
use crate::weights::{BF16, Weights};
use stheno_codegen::layout::{
    ArenaSink, Cut, Formats, Group, Layout, LayoutError, Mappings, Phase, RowOrder, TablePlace,
    WeightFormat,
};
use stheno_codegen::plan::{Epilogue, Op};

const CUT: Cut = Cut {
    sm_count: 5,
    tile_group: 4,
    stage_bytes: 16 << 10,
};

fn toy(tied: bool) -> (stheno_codegen::plan::Plan, Weights, Mappings) {
    let plan = plan(crate::models::Sizes { tied, ..TOY });
    let weights = Weights::random(&plan, 4, |_| BF16);
    let mappings = Mappings::new(&plan, &weights).unwrap();
    (plan, weights, mappings)
}

/// Prefill reads the target's spans, the draft its head, and a tied embedding gathers from the head's tiles.
#[test]
fn segments_share_spans() {
    let (plan, _, mappings) = toy(true);
    let layout = Layout::new(&plan, &mappings.formats(), CUT).unwrap();
    let [prefill, target, draft] = layout.segments.as_slice() else {
        panic!("{} segments", layout.segments.len());
    };
    assert_eq!(prefill.phases, target.phases);
    let head = target.phases.last().unwrap().placements[0];
    assert_eq!(draft.phases.last().unwrap().placements, [head]);
    assert_eq!(layout.tables[0].place, TablePlace::Tiles(head));
    assert_eq!(layout.tables.len(), 1);
    // Every matrix lies once.
    let mut weights: Vec<_> = layout
        .placements
        .iter()
        .flat_map(|p| &p.stack.parts)
        .map(|p| p.weight)
        .collect();
    let all = weights.len();
    weights.sort();
    weights.dedup();
    assert_eq!((weights.len(), all), (22, 22));
}

#[test]
fn an_untied_embedding_lies_row_by_row() {
    let (plan, weights, mappings) = toy(false);
    let layout = Layout::new(&plan, &mappings.formats(), CUT).unwrap();
    let TablePlace::Rows {
        format,
        offset,
        stride,
    } = layout.tables[0].place
    else {
        panic!("{:?}", layout.tables);
    };
    assert_eq!((format, stride), (WeightFormat::Bf16, 192));
    let mut arena = vec![0; layout.arena_bytes as usize];
    layout
        .build(&plan, &mappings, &weights, &mut arena, |_, _| ())
        .unwrap();
    let table = &weights.0[&layout.tables[0].weight];
    for row in 0..77 {
        let bytes = &arena[offset as usize + row * stride as usize..][..192];
        let found = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| half::bf16::from_le_bytes(*b).to_f32());
        assert!(found.eq(table.row(row)));
    }
    layout.validate(&plan, &mappings.formats()).unwrap();
}

/// A coded table that is not tied has tiles of its own, which no op streams.
#[test]
fn an_untied_coded_embedding_has_tiles() {
    let plan = plan(crate::models::Sizes { tied: false, ..TOY });
    let coded = crate::weights::four_bits(stheno_codegen::layout::Group::G32);
    let weights = Weights::random(&plan, 4, |name| if name == "embed" { coded } else { BF16 });
    let mappings = Mappings::new(&plan, &weights).unwrap();
    let layout = Layout::new(&plan, &mappings.formats(), CUT).unwrap();
    let TablePlace::Tiles(id) = layout.tables[0].place else {
        panic!("{:?}", layout.tables);
    };
    assert!(!layout.placement(id).streamed);
    let mut arena = vec![0; layout.arena_bytes as usize];
    layout
        .build(&plan, &mappings, &weights, &mut arena, |_, _| ())
        .unwrap();
    let weight = layout.tables[0].weight;
    for row in 0..77 {
        let found = layout.read_row(&arena, &mappings, id, weight, row).unwrap();
        assert_eq!(found, weights.0[&weight].row(row as usize));
    }
    layout.validate(&plan, &mappings.formats()).unwrap();
}

#[test]
fn one_thread_and_many_pack_the_same() {
    let (plan, weights, mappings) = toy(true);
    let layout = Layout::new(&plan, &mappings.formats(), CUT).unwrap();
    let pack = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut arena = vec![0; layout.arena_bytes as usize];
        pool.install(|| layout.build(&plan, &mappings, &weights, &mut arena, |_, _| ()))
            .unwrap();
        arena
    };
    assert_eq!(pack(1), pack(4));
}

/// A sink that takes only so much.
struct Small(u64, Vec<u64>);

impl ArenaSink for Small {
    type Error = LayoutError;

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LayoutError> {
        self.1.push(offset);
        match (offset + bytes.len() as u64) <= self.0 {
            true => Ok(()),
            false => Err(LayoutError::Arena {
                reason: "full".to_owned(),
            }),
        }
    }
}

#[test]
fn a_sink_is_written_in_order_and_may_fail() {
    let (plan, weights, mappings) = toy(true);
    let layout = Layout::new(&plan, &mappings.formats(), CUT).unwrap();
    let mut sink = Small(layout.arena_bytes, Vec::new());
    layout
        .build(&plan, &mappings, &weights, &mut sink, |_, _| ())
        .unwrap();
    assert!(sink.1.is_sorted() && sink.1.len() > 20);
    let mut sink = Small(layout.arena_bytes / 2, Vec::new());
    let full = layout.build(&plan, &mappings, &weights, &mut sink, |_, _| ());
    assert_eq!(full.unwrap_err().to_string(), "arena: full");
    let mut short = vec![0; 100];
    let error = layout.build(&plan, &mappings, &weights, &mut short, |_, _| ());
    assert!(matches!(error, Err(LayoutError::Arena { .. })));
}

/// Bytes of a phase: of the SM that has most, and the mean of all.
fn balance(layout: &Layout, phase: &Phase) -> (u64, f64) {
    let of_sm = (0..layout.cut.sm_count as usize).map(|sm| {
        let spans = phase.placements.iter();
        let spans = spans.map(|id| layout.placement(*id).span(sm));
        spans.map(|span| span.end - span.start).sum::<u64>()
    });
    let of_sm: Vec<u64> = of_sm.collect();
    let mean = of_sm.iter().sum::<u64>() as f64 / of_sm.len() as f64;
    (of_sm.into_iter().max().unwrap(), mean)
}

/// The tile map of an 8B on 132 SMs: what each phase needs at most of an SM, and that O and down share their map.
#[test]
fn an_8b_is_cut_evenly() {
    let plan = plan(LLAMA_8B);
    let formats = Formats::new(&plan, |_| Some(WeightFormat::Bf16));
    let cut = Cut {
        sm_count: 132,
        tile_group: 4,
        stage_bytes: 16 << 10,
    };
    let layout = Layout::new(&plan, &formats, cut).unwrap();
    let target = &layout.segments[1];
    let stack = |phase: &Phase| &layout.placement(phase.placements[0]).stack;
    let most = |phase: &Phase| balance(&layout, phase).0 / stack(phase).tile_bytes();
    let most: Vec<u64> = target.phases[..4].iter().map(most).collect();
    assert_eq!(most, [3, 2, 14, 2]);
    for phase in &target.phases {
        let (max, mean) = balance(&layout, phase);
        assert!(mean > 0.96 * max as f64, "{phase:?}");
    }
    let first_tiles = |phase: usize| {
        &layout
            .placement(target.phases[phase].placements[0])
            .first_tiles
    };
    assert_eq!(first_tiles(1), first_tiles(3));
    assert_eq!(
        layout.placement(target.phases[0].placements[0]).stack.parts[0].order,
        RowOrder::Plain
    );
    let residuals = plan.segments[1].ops.iter().filter(
        |op| matches!(op, Op::Linear(l) if matches!(l.epilogue, Epilogue::Residual { .. })),
    );
    assert_eq!(residuals.count(), 64);
    let steps = layout.validate(&plan, &formats).unwrap();
    // 15.01 GB, as one reckons for this model, and no padding.
    assert_eq!((steps[1].streamed, steps[1].padding), (15_009_316_864, 0));
}

/// v in 8 bits beside q and k in 4, as mixed GGUF files have it: ranges follow the bytes, not the number of tiles.
#[test]
fn formats_that_differ_are_cut_by_bytes() {
    let plan = plan(LLAMA_8B);
    let (group, offset) = (Group::G32, false);
    let formats = Formats::new(&plan, |id| {
        Some(match plan.weight(id).name.ends_with('v') {
            true => WeightFormat::Int8 { group, offset },
            false => WeightFormat::Int4 { group, offset },
        })
    });
    let cut = Cut {
        sm_count: 64,
        tile_group: 4,
        stage_bytes: 18432,
    };
    let layout = Layout::new(&plan, &formats, cut).unwrap();
    let target = &layout.segments[1];
    let [qk, v] = target.phases[0].placements.as_slice() else {
        panic!("{:?}", target.phases[0]);
    };
    let (qk, v) = (layout.placement(*qk), layout.placement(*v));
    assert_eq!((qk.stack.parts.len(), v.stack.parts.len()), (2, 1));
    let (max, mean) = balance(&layout, &target.phases[0]);
    let tile = v.stack.tile_bytes() as f64;
    assert!(max as f64 <= mean + tile, "{max} {mean}");
    // One SM stands between the two stacks, all others read of one only.
    let both = (0..64).filter(|&sm| !qk.tiles(sm).is_empty() && !v.tiles(sm).is_empty());
    assert!(both.count() <= 1);
    layout.validate(&plan, &formats).unwrap();
}
