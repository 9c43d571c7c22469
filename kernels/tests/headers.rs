//! Every header stands alone.

mod support;

use stheno_jit::Target;
use support::Source;

/// Sizes of some program.
pub const SIZES: [(&str, u32); 29] = [
    ("SEGMENT_PREFILL", 0),
    ("SEGMENT_TARGET", 1),
    ("SEGMENT_DRAFT_PREFILL", 2),
    ("SEGMENT_EXTEND", 3),
    ("SEGMENT_DRAFT", 4),
    ("LOOKS_UP", 1),
    ("PHASES", 511),
    ("EPILOGUES", 32767),
    ("VOCAB_SIZE", 1000),
    ("DRAFT_VOCAB_SIZE", 1000),
    ("PREFILL_ROWS", 64),
    ("VERIFY_ROWS", 16),
    ("ROW_CAPACITY", 64),
    ("ROW_TILE_SET", 15),
    ("HAS_SHORT_CHUNKS", 1),
    ("STAGES", 4),
    ("STAGE_BYTES", 16384),
    ("TILE_GROUP", 8),
    ("GROUP_1", 8),
    ("GROUP_2", 8),
    ("GROUP_4", 8),
    ("GROUP_8", 3),
    ("SLOTS_1", 2),
    ("SLOTS_2", 2),
    ("SLOTS_4", 2),
    ("SLOTS_8", 1),
    ("SCRATCH_BYTES", 65536),
    ("PARTIAL_BYTES", 16384),
    ("RESIDUAL_BYTES", 8192),
];

/// These tests have one version of NVRTC; users have others, of which 12.8 and 13.0 do not know the name.
#[test]
fn offsets_are_those_that_every_compiler_knows() {
    for (name, text) in stheno_kernels::HEADERS {
        assert!(!text.contains("__builtin_offsetof("), "{name}");
    }
}

#[test]
fn each_compiles_by_itself_for_the_oldest_and_the_newest_architecture() {
    // What decode.cuh calls, codegen writes before it includes it.
    let headers = stheno_kernels::HEADERS.iter();
    for (name, _) in headers.filter(|(name, _)| *name != "decode.cuh") {
        let source = Source {
            name: "alone.cu",
            variant: String::new(),
            text: format!("#include \"{name}\"\nKERNEL nothing() {{}}\n"),
            sizes: SIZES.to_vec(),
        };
        for number in [80, 120] {
            assert!(source.compile(Target::Virtual(number)).ptx.is_some());
        }
    }
}
