//! The CUDA that is compiled for a program: constants, and calls of the headers with them. Pure.

use crate::layout::{Group, WeightFormat};
use crate::plan::{Dtype, KvDecl};
use crate::tune::{ProgramLayout, ROW_TILES};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// An instantiation of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionVariant {
    /// Elements of a head.
    pub head_dim: u32,
    /// Type of K and V: [`Dtype::BF16`] or [`Dtype::F16`].
    pub kv: Dtype,
}

impl AttentionVariant {
    pub(super) fn of(kv: &KvDecl) -> Self {
        AttentionVariant {
            head_dim: kv.head_dim,
            kv: kv.dtype,
        }
    }
}

/// What the text depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ingredients<'a> {
    pub layout: &'a ProgramLayout,
    /// What phases call a stack is an index of it.
    pub stacks: &'a [WeightFormat],
    /// Stacks that are multiplied, and those that embedding tables are, `NONE` for rows: code of others would only take
    /// time to compile.
    pub multiplied: BTreeSet<u32>,
    pub embedded: BTreeSet<u32>,
    /// What attention phases call a variant is an index of it.
    pub variants: &'a [AttentionVariant],
    /// Indices of prefill, target, draft prefill, extend and draft; `NONE` where the plan has none.
    pub segments: [u32; 5],
    /// Whether rounds may be guessed by lookup.
    pub looks_up: bool,
    /// Kinds of phases that there are, a bit each.
    pub phases: u32,
    /// Pairs of an epilogue and an activation that there are, bit `3 epilogue + activation`.
    pub epilogues: u32,
    /// Whether a product has a last chunk that is shorter than the others.
    pub has_short_chunks: bool,
    /// Tokens of the target, and those that a draft can be fed.
    pub vocab_size: u32,
    pub draft_vocab_size: u32,
}

/// Name of the kernel.
pub const KERNEL: &str = "decode";

/// Name of the kernel that moves rows of a path to their positions.
pub const COMMIT_KERNEL: &str = "commit";

/// The header `sizes.cuh`.
pub(super) fn sizes(ingredients: &Ingredients<'_>) -> String {
    let layout = ingredients.layout;
    let mut text = String::from("// Written by codegen.\n#pragma once\n");
    let mut define = |name: &str, value: u32| {
        let _ = writeln!(text, "#define {name} {value}u");
    };
    define("ROW_CAPACITY", layout.row_capacity());
    define("PREFILL_ROWS", layout.prefill_rows);
    define("VERIFY_ROWS", layout.max_rows);
    let names = ["PREFILL", "TARGET", "DRAFT_PREFILL", "EXTEND", "DRAFT"];
    for (name, segment) in names.into_iter().zip(ingredients.segments) {
        define(&format!("SEGMENT_{name}"), segment);
    }
    define("LOOKS_UP", ingredients.looks_up.into());
    define("PHASES", ingredients.phases);
    define("EPILOGUES", ingredients.epilogues);
    define("VOCAB_SIZE", ingredients.vocab_size);
    define("DRAFT_VOCAB_SIZE", ingredients.draft_vocab_size);
    define("ROW_TILE_SET", layout.row_tile_set());
    define("HAS_SHORT_CHUNKS", ingredients.has_short_chunks.into());
    define("STAGES", layout.stages);
    define("STAGE_BYTES", layout.stage_bytes);
    define("TILE_GROUP", layout.tile_group);
    for (i, tiles) in ROW_TILES.into_iter().enumerate() {
        define(&format!("GROUP_{tiles}"), layout.groups[i]);
        define(&format!("SLOTS_{tiles}"), layout.slots[i]);
    }
    define("SCRATCH_BYTES", layout.scratch_bytes);
    define("PARTIAL_BYTES", layout.partial_bytes);
    define("RESIDUAL_BYTES", layout.residual_bytes);
    text
}

/// The source that is compiled.
pub(super) fn program(ingredients: &Ingredients<'_>) -> String {
    let mut text = String::from(HEAD);
    let mut cases = |signature: &str, chosen_by: &str, calls: Vec<(String, String)>| {
        let _ = writeln!(text, "\n{signature} {{\n    switch ({chosen_by}) {{");
        for (name, call) in calls {
            let _ = writeln!(text, "        case {name}: return {call};");
        }
        text.push_str("    }\n}\n");
    };
    let format = |stack: &u32| {
        ingredients
            .stacks
            .get(*stack as usize)
            .copied()
            .map(format_name)
    };
    cases(
        "DEVICE void run_stack(const Program& program, Shared& shared, const Span& span)",
        "shared.phase.linear.stack",
        ingredients
            .multiplied
            .iter()
            .filter_map(|stack| Some((stack.to_string(), format(stack)?)))
            .map(|(stack, format)| (stack, format!("linear<{format}>(program, shared, span)")))
            .collect(),
    );
    cases(
        "DEVICE void run_embed(const Program& program, Shared& shared)",
        "shared.phase.embed.stack",
        ingredients
            .embedded
            .iter()
            .map(|stack| match format(stack) {
                Some(format) => (
                    stack.to_string(),
                    format!("embed_tiles<{format}>(program, shared)"),
                ),
                None => ("NONE".to_owned(), "embed_rows(program, shared)".to_owned()),
            })
            .collect(),
    );
    cases(
        "DEVICE void run_attention(const Program& program, Shared& shared)",
        "shared.phase.attention.variant",
        ingredients
            .variants
            .iter()
            .enumerate()
            .map(|(index, variant)| {
                let kv = match variant.kv {
                    Dtype::F16 => "KvF16",
                    Dtype::BF16 | Dtype::F32 => "KvBf16",
                };
                let call = format!("attention<{}, {kv}>(program, shared)", variant.head_dim);
                (index.to_string(), call)
            })
            .collect(),
    );
    text.push_str("\n#include \"decode.cuh\"\n");
    text
}

const HEAD: &str = "// Written by codegen.
#include \"attention.cuh\"
#include \"embed.cuh\"
#include \"formats.cuh\"
#include \"linear.cuh\"
#include \"program.cuh\"
#include \"ring.cuh\"
";

/// The type of a format in `formats.cuh`.
fn format_name(format: WeightFormat) -> String {
    let group = |group: Group| group.elements().unwrap_or(0);
    match format {
        WeightFormat::Bf16 => "Bf16".to_owned(),
        WeightFormat::F16 => "F16".to_owned(),
        WeightFormat::Fp8E4M3 { group: g } => format!("Fp8<{}>", group(g)),
        WeightFormat::Int8 { group: g, offset } => format!("Int8<{}, {offset}>", group(g)),
        WeightFormat::Int4 { group: g, offset } => format!("Int4<{}, {offset}>", group(g)),
    }
}
