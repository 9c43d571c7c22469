//! Decode steps of the whole program on the virtual GPU, counted: what they read of global memory, and how often.

use crate::loaded::{Case, Loaded, assert_good, line};
use crate::models::{LLAMA_8B, Sizes};
use stheno_codegen::layout::{Group, WeightFormat};
use stheno_codegen::plan::SegmentKind;
use stheno_codegen::program::abi::{LinearPhase, NONE, PhaseKind, SPAN_ARRIVES};
use virtual_gpu::profile::counters::Counters;
use virtual_gpu::{Checks, Module};

/// Positions before the step: a page and a part of the next.
const LENGTH: u32 = 200;

/// Greedy steps after [`LENGTH`] positions, in one launch.
fn steps(case: &Case, module: &Module, steps: u32, checks: Checks) -> Counters {
    let target = case.segment(SegmentKind::Target);
    let mut control = case.round(target, LENGTH, &[]);
    let call = &mut control.call;
    (call.expected, call.expected_rows, call.expected_outputs) = (call.segment, 1, 1);
    let mut loaded = Loaded::new(case);
    let report = loaded.launch(module, &control, steps, checks);
    assert_good(&report);
    let seen = loaded.seen();
    assert_eq!(
        (seen.tokens, seen.length),
        (steps, LENGTH + steps),
        "a token a step"
    );
    report.counters
}

/// Bytes of inputs that warps read out of shared memory in a step of one row: each warp its slices, in every pass over the block's
/// tiles. Slices that stay for all passes hold the one row, others eight.
fn input_reads(case: &Case, segment: usize) -> u64 {
    let sizes = &case.program.sizes;
    let mut bytes = 0;
    for phase in case.program.phases_of(segment) {
        if phase.kind != PhaseKind::Linear as u32 {
            continue;
        }
        let linear: LinearPhase = phase.part();
        let spans = case.program.spans.chunks(case.program.span_count as usize);
        for tiles in spans.map(|spans| spans[linear.span as usize].tiles & !SPAN_ARRIVES) {
            let groups = sizes.cut().groups(tiles);
            let passes: usize = groups
                .map(|group| group.len().div_ceil(sizes.groups[0] as usize))
                .sum();
            for warp in 0..8 {
                let own = linear.k / 512 + u32::from(warp * 64 < linear.k % 512);
                let stays = own * 128 <= sizes.slots[0] * 1024;
                let slice = if stays { 128 } else { 1024 };
                bytes += u64::from(own * slice) * passes as u64;
            }
        }
    }
    bytes
}

/// `most`: unique bytes over those that a step cannot do without.
fn check(name: &str, case: &Case, checks: Checks, most: f64) {
    let ptx = case.ptx();
    for word in ["barrier.cluster", "griddepcontrol"] {
        assert!(
            !ptx.contains(word),
            "the program has no barrier of the grid"
        );
    }
    println!("{name}:");
    let module = Module::from_ptx(&ptx).unwrap_or_else(|error| panic!("{error}"));
    // What a launch fetches ahead at its end, for a step that comes in the next one, is no step's: it is what one step and
    // three have in common.
    let one = steps(case, &module, 1, checks);
    let three = steps(case, &module, 3, checks);
    let target = case.segment(SegmentKind::Target);
    let (elements, weights) = case.weight_bytes(target);
    let kv = case.kv_bytes(LENGTH + 1) + case.kv_bytes(LENGTH + 2);
    let activations = case.program.activation_bytes(target, 1, 1);
    let row = u64::from(case.plan.buffers[0].columns) * 2;
    let of = |header: &str, text: &str| (line(&one, header, text), line(&three, header, text));

    let (first, all) = of("copies.cuh", "cp.async.bulk.shared");
    let records = case.record_bytes(target);
    assert_eq!(
        all.async_bytes - first.async_bytes,
        2 * (weights + records),
        "each weight once a step, and with each stage the record of another"
    );
    let ring = case.program.sizes.stages * case.program.sizes.stage_bytes;
    let blocks = u64::from(case.program.sizes.architecture.sm_count);
    assert!(first.async_bytes <= weights + records + u64::from(ring + 512) * blocks);
    let streamed = first.async_bytes;
    let (first, all) = of("copies.cuh", "cp.async.cg.shared");
    assert_eq!(
        all.async_bytes - first.async_bytes,
        2 * activations + kv,
        "inputs as the formula says, and K and V once"
    );
    let (first, all) = of("prelude.cuh", "ld.shared.v4.u32");
    assert_eq!(
        all.shared_bytes - first.shared_bytes,
        2 * (elements + input_reads(case, target)),
        "every weight that was fetched is read once, and every input once a pass"
    );
    assert_eq!(all.bank_conflicts(), 0);
    let (_, scales) = of("formats.cuh", "ld.shared.u32");
    assert_eq!(scales.bank_conflicts(), 0);
    assert_eq!(scales.shared_requests > 0, weights > elements);

    let needed = weights + case.kv_bytes(LENGTH) + row;
    let memory = &one.memory;
    let unique = memory.global_unique_read_bytes as f64 / needed as f64;
    let share = |bytes: u64| 100.0 * bytes as f64 / needed as f64;
    let again = memory.global_read_bytes - streamed - case.kv_bytes(LENGTH);
    println!(
        "  needed {needed} bytes: weights {weights}, K and V {}, a row {row}\n  \
         unique reads {unique:.4} of it; from L2 {again} bytes ({:.2} %), of them activations {activations} ({:.2} %)\n  \
         polls {}, bank conflicts {} of {} passes",
        case.kv_bytes(LENGTH),
        share(again),
        share(activations),
        memory.polls,
        memory.bank_conflicts(),
        memory.shared_wavefronts,
    );
    assert!(unique <= most, "{unique} of what is needed");
}

/// Parents of a tree of 16 nodes and four levels, of those after the root.
const TREE: [u32; 15] = [0, 0, 0, 0, 1, 1, 1, 2, 2, 5, 5, 6, 8, 10, 10];

/// A round that verifies a tree of 16 nodes reads at most `most` times what a round of one row does, each byte counted once.
fn check_tree(name: &str, case: &Case, checks: Checks, most: f64) {
    println!("{name}:");
    let module = Module::from_ptx(&case.ptx()).unwrap_or_else(|error| panic!("{error}"));
    let target = case.segment(SegmentKind::Target);
    let (_, weights) = case.weight_bytes(target);
    let [step, tree] = [&[][..], &TREE].map(|parents| {
        let control = case.round(target, LENGTH, parents);
        assert_eq!(control.call.expected, NONE);
        let mut loaded = Loaded::new(case);
        let report = loaded.launch(&module, &control, 1, checks);
        assert_good(&report);
        let seen = loaded.seen();
        assert!(seen.tokens > 0 && seen.length == LENGTH + seen.tokens);
        let memory = report.counters.memory;
        assert!(memory.global_unique_read_bytes > weights);
        memory
    });
    let ratio = tree.global_unique_read_bytes as f64 / step.global_unique_read_bytes as f64;
    println!(
        "  unique reads: a row {} bytes, a tree of 16 nodes {} ({ratio:.4}), weights {weights}; all reads {} and {}",
        step.global_unique_read_bytes,
        tree.global_unique_read_bytes,
        step.global_read_bytes,
        tree.global_read_bytes,
    );
    assert!(ratio <= most, "{ratio} of a row's");
}

const FORMATS: [(&str, WeightFormat); 3] = [
    ("bf16", WeightFormat::Bf16),
    ("fp8", WeightFormat::Fp8E4M3 { group: Group::Row }),
    (
        "int4",
        WeightFormat::Int4 {
            group: Group::G128,
            offset: false,
        },
    ),
];

/// Two layers of an eighth of the width.
const NARROW: Sizes = Sizes {
    layers: 2,
    hidden: 512,
    intermediate: 1792,
    heads: 4,
    kv_heads: 1,
    vocab: 16032,
    ..LLAMA_8B
};

const WIDE: Sizes = Sizes {
    layers: 2,
    ..LLAMA_8B
};

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn a_step_of_a_narrow_model_reads_what_it_needs() {
    for (name, format) in FORMATS {
        check(name, &Case::new(NARROW, format, 33, 8), Checks::All, 1.1);
    }
}

/// Two layers of the Llama-3.1-8B shape on a whole H100. A minute or more, and 4 GB of memory.
#[test]
#[ignore = "takes minutes; run it in release"]
fn a_step_of_the_8b_shape_reads_what_it_needs() {
    for (name, format) in FORMATS {
        check(name, &Case::new(WIDE, format, 132, 8), Checks::Bounds, 1.02);
    }
}

#[test]
fn a_tree_of_a_narrow_model_reads_what_a_row_does() {
    let (name, int4) = FORMATS[2];
    check_tree(name, &Case::new(NARROW, int4, 33, 16), Checks::Bounds, 1.05);
}

/// Two layers of the Llama-3.1-8B shape on a whole H100. A minute or more, and 4 GB of memory.
#[test]
#[ignore = "takes minutes; run it in release"]
fn a_tree_of_the_8b_shape_reads_what_a_row_does() {
    for (name, format) in [FORMATS[0], FORMATS[2]] {
        check_tree(
            name,
            &Case::new(WIDE, format, 132, 16),
            Checks::Bounds,
            1.05,
        );
    }
}
