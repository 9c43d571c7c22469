//! The CUDA headers of Stheno's device programs as text, for NVRTC. Each holds one concept; none includes a header of a
//! toolkit. `sizes.cuh` is not among them: whoever compiles a program writes it (see `program.cuh`).

pub mod attention;

macro_rules! headers {
    ($($name:literal),* $(,)?) => {
        /// Every header: its name in `#include`, and its text.
        pub const HEADERS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../", $name)))),*];
    };
}

headers! {
    "accept.cuh",
    "activation.cuh",
    "adjust.cuh",
    "attention.cuh",
    "attention_keys.cuh",
    "attention_merge.cuh",
    "attention_score.cuh",
    "attention_split.cuh",
    "attention_sums.cuh",
    "attention_tree.cuh",
    "choose.cuh",
    "commit.cuh",
    "consumers.cuh",
    "control.cuh",
    "copies.cuh",
    "copy_rows.cuh",
    "counts.cuh",
    "decode.cuh",
    "edges.cuh",
    "embed.cuh",
    "epilogue.cuh",
    "exchange.cuh",
    "formats.cuh",
    "formats/float16.cuh",
    "formats/fp8.cuh",
    "formats/integer.cuh",
    "formats/scales.cuh",
    "grow.cuh",
    "kv_types.cuh",
    "linear.cuh",
    "logprobs.cuh",
    "math.cuh",
    "matrices.cuh",
    "mbarrier.cuh",
    "mma.cuh",
    "ngram.cuh",
    "norm.cuh",
    "nucleus.cuh",
    "order.cuh",
    "penalties.cuh",
    "philox.cuh",
    "planner.cuh",
    "prelude.cuh",
    "program.cuh",
    "rejection.cuh",
    "residual.cuh",
    "ring.cuh",
    "rope.cuh",
    "rounds.cuh",
    "slices.cuh",
    "static_tree.cuh",
    "sync.cuh",
    "timers.cuh",
    "token_ring.cuh",
    "typical.cuh",
    "view.cuh",
    "vocabulary.cuh",
}
