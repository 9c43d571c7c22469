//! The structures of `program/abi.rs` against the headers that they mirror: a kernel tells sizes and offsets.

use std::mem::offset_of;
use stheno_codegen::jit::{Cache, FindOptions, Nvrtc, Request, Target};
use stheno_codegen::program::abi::{
    AttentionPhase, Bias, Call, Candidate, ChoosePhase, Commit, Control, CopyPhase, Count,
    EmbedPhase, Generation, Growth, Judged, KvPool, LinearPhase, NarrowPhase, Part, Path, Phase,
    Planner, Program, ROW_LIMIT, STOP_LIMIT, Sampling, Segment, Span, Stage, StaticTree, TOP_LIMIT,
    TapeRange, Times, Tree,
};
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, Module, Profile};

/// An expression of CUDA and what it must be.
macro_rules! size {
    ($name:ident) => {
        (
            concat!("sizeof(", stringify!($name), ")").to_owned(),
            size_of::<$name>(),
        )
    };
}

macro_rules! offsets {
    ($list:ident, $name:ident: $($field:ident),*) => {
        $($list.push((
            concat!("OFFSET_OF(", stringify!($name), ", ", stringify!($field), ")").to_owned(),
            offset_of!($name, $field),
        ));)*
    };
}

fn expected() -> Vec<(String, usize)> {
    let mut list = vec![
        size!(Part),
        size!(LinearPhase),
        size!(AttentionPhase),
        size!(NarrowPhase),
        size!(CopyPhase),
        size!(ChoosePhase),
        size!(Phase),
        size!(Span),
        size!(Segment),
        size!(Stage),
        size!(TapeRange),
        size!(Call),
        size!(Sampling),
        size!(Bias),
        size!(Count),
        size!(Generation),
        size!(Tree),
        size!(Candidate),
        size!(Growth),
        size!(Planner),
        size!(Times),
        size!(StaticTree),
        size!(Judged),
        size!(Control),
        size!(KvPool),
        size!(Path),
        size!(Commit),
        size!(Program),
        ("ROW_LIMIT".to_owned(), ROW_LIMIT),
        ("STOP_LIMIT".to_owned(), STOP_LIMIT),
        ("TOP_LIMIT".to_owned(), TOP_LIMIT),
        (
            "OFFSET_OF(Phase, linear)".to_owned(),
            offset_of!(Phase, words),
        ),
    ];
    offsets!(list, LinearPhase: stats, eps, epilogue, output, view, best, part_count, parts);
    offsets!(list, EmbedPhase: columns, exponent, table, view, view_stats);
    offsets!(list, AttentionPhase: variant, group, scale, qkv, q_norm, q_eps, rope, output, counters);
    offsets!(list, ChoosePhase: logits, best, choices, top, candidates, adjusted, head);
    offsets!(list, CopyPhase: from, to, in_order, columns, norm, inverse_n, stats, view, view_stats);
    offsets!(list, Phase: kind, flags, edge_in, arrivals_in, edge_out, op);
    offsets!(list, Span: offset, first_tile, tiles);
    offsets!(list, Stage: offset, bytes, phase);
    offsets!(list, TapeRange: first, count, before_outputs);
    offsets!(list, Segment: first_phase, phases);
    offsets!(list, Call: segment, run, rows, row_tiles, output_rows, output_tiles, length, chooses);
    offsets!(list, Call: expected, expected_rows, expected_outputs, moved, base);
    offsets!(list, Call: tokens, positions, parents, outputs, path, sources);
    offsets!(list, Sampling: seed, temperature, top_p, min_p, repetition_penalty, presence_penalty);
    offsets!(list, Sampling: frequency_penalty, top_k, penalty_window, greedy, penalises);
    offsets!(list, Sampling: bias_count, masked, top_logprobs, prompt_length);
    offsets!(list, Generation: mode, finish, length, known, begin, limit, stop_count);
    offsets!(list, Generation: drafter, draft_length, drafting, levels, topk, nodes, moved);
    offsets!(list, Generation: last_row, traces, rounds, stops, runs, path);
    offsets!(list, Generation: acceptance, posterior_threshold, posterior_alpha);
    offsets!(list, Tree: nodes, levels, tokens, parents, scores);
    offsets!(list, Candidate: key, token, parent);
    offsets!(list, Growth: levels, records, kept_count, width, rows, last_row, kept, frontier, parents);
    offsets!(list, Planner: automatic, steps, start, level, stretch, child_rate, gain, rounds, left);
    offsets!(list, Planner: length, behind, drafted, offered, accepted);
    offsets!(list, Control: round, launch_round, pause_round, generation, sampling, call, tree, growth, planner);
    offsets!(list, Times: clock, arrived, draft, verify, accept);
    offsets!(list, Control: times, draws, static_tree, judged);
    offsets!(list, StaticTree: nodes, levels, parents, ranks, depths);
    offsets!(list, Judged: score, logprob);
    offsets!(list, KvPool: layer_bytes, table, planes, row_bytes);
    offsets!(list, Path: start, count, rows);
    offsets!(list, Commit: pool, path);
    offsets!(list, Program: arena, constants, workspace, phases, segments, stages, tapes, spans);
    offsets!(list, Program: edges, control, history, counts, bias, mask, host, timers, kv);
    offsets!(list, Program: span_count, patience, phase_begin, phase_end, rounds, home);
    offsets!(list, Program: target_ids, logit_scale);
    list
}

#[test]
fn structures_are_those_of_the_headers() {
    let expected = expected();
    let mut text = String::from(
        "#include \"commit.cuh\"\n#include \"control.cuh\"\nKERNEL tell(u32* out) {\n",
    );
    for (i, (expression, _)) in expected.iter().enumerate() {
        text += &format!("    out[{i}] = {expression};\n");
    }
    text += "}\n";
    let options = FindOptions::for_project(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let nvrtc = Nvrtc::find(&options).unwrap_or_else(|error| panic!("{error}"));
    let toy = crate::program(
        crate::models::TOY,
        |_| stheno_codegen::layout::WeightFormat::Bf16,
        4,
        8,
    );
    let mut request = Request::new("abi.cu", text, Target::Virtual(80));
    request.headers = toy.source.headers();
    request.options = vec!["--std=c++17".to_owned()];
    let cache = Cache::open(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi")).unwrap();
    let compiled = cache.compile(&nvrtc, &request);
    let ptx = compiled.unwrap_or_else(|error| panic!("{error}")).0.ptx;
    let module = Module::from_ptx(&ptx.unwrap()).unwrap();
    let mut gpu = Device::new(Profile::h100());
    let out = gpu.alloc(4 * expected.len()).unwrap();
    let report = gpu.launch(
        &module,
        "tell",
        &LaunchConfig::linear(1, 1),
        &out.0.to_le_bytes(),
        &LaunchOptions::default(),
    );
    assert!(report.unwrap().completed);
    let mut found = vec![0; 4 * expected.len()];
    gpu.read(out, &mut found).unwrap();
    for ((expression, expected), found) in expected.iter().zip(found.as_chunks::<4>().0) {
        assert_eq!(
            u32::from_le_bytes(*found) as usize,
            *expected,
            "{expression}"
        );
    }
}
