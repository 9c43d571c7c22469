//! Outcomes on record of kernels that do not simply run: what is found in them is there, and what is refused is named.

use virtual_gpu::check::finding::FindingKind;

use super::stranger::Outcome;

/// How a kernel is known to end.
pub fn known(project: &str, name: &str) -> Outcome {
    let refused = |instruction: &str| Outcome::Refused(instruction.to_owned());
    let (kernel, architecture) = name.rsplit_once('_').unwrap_or((name, ""));
    match (project, kernel, architecture) {
        // Lanes that hold the same partial result have added it up in different orders; all of them store theirs, each
        // with other last bits, and which one stays is not defined.
        ("triton", "welford", _) => Outcome::Found(FindingKind::RaceShared, String::new()),
        // Its minimum of floats reads its place by a plain load before the first compare-and-swap.
        ("warp", "extremes", _) => Outcome::Found(FindingKind::RaceGlobal, String::new()),
        // Merging reads one key behind the last, for which it has room but no value; what it compares it does not use.
        ("cccl", "merge_sort", _) => Outcome::Found(FindingKind::UninitializedRead, String::new()),
        (
            "triton",
            "attention_causal_bf16"
            | "attention_f16"
            | "matmul_f16_f32"
            | "matmul_f16"
            | "matmul_i8",
            "sm100",
        ) => refused("tcgen05.alloc"),
        _ => Outcome::Right,
    }
}
