//! The sizes chosen for known models on known GPUs.

use crate::models::{LLAMA_1B, LLAMA_8B, QWEN3_8B, SMOLLM2_135M, Sizes, plan};
use proptest::prelude::*;
use stheno_codegen::layout::{CHUNK, Formats, Group, Layout, WeightFormat};
use stheno_codegen::tune::{Architecture, Facts, ProgramLayout, ROW_LAYOUTS, TuneError};

fn facts(sizes: Sizes, format: WeightFormat, head: WeightFormat) -> Facts {
    let plan = plan(sizes);
    let formats = Formats::new(&plan, |id| {
        let name = plan.weight(id).name.as_str();
        Some(if matches!(name, "head" | "embed") {
            head
        } else {
            format
        })
    });
    Facts::new(&plan, &formats)
}

/// All choices for a model, one after the other.
fn choices(facts: &Facts) -> String {
    let architectures = [
        Architecture::H100,
        Architecture::A100,
        Architecture::RTX_4090,
    ];
    let mut text = String::new();
    for architecture in architectures {
        for rows in ROW_LAYOUTS {
            match ProgramLayout::choose(facts, &architecture, rows) {
                Ok(layout) => text += &layout.to_string(),
                Err(error) => text += &format!("refused: {error}\n"),
            }
        }
    }
    text
}

const INT4: WeightFormat = WeightFormat::Int4 {
    group: Group::G128,
    offset: false,
};

#[test]
fn llama_8b() {
    let facts = facts(LLAMA_8B, WeightFormat::Bf16, WeightFormat::Bf16);
    insta::assert_snapshot!(choices(&facts));
}

#[test]
fn llama_8b_int4() {
    insta::assert_snapshot!(choices(&facts(LLAMA_8B, INT4, WeightFormat::Bf16)));
}

#[test]
fn llama_1b() {
    let facts = facts(LLAMA_1B, WeightFormat::Bf16, WeightFormat::Bf16);
    insta::assert_snapshot!(choices(&facts));
}

#[test]
fn qwen3_8b_int4() {
    insta::assert_snapshot!(choices(&facts(QWEN3_8B, INT4, INT4)));
}

#[test]
fn smollm2_135m() {
    let facts = facts(SMOLLM2_135M, WeightFormat::Bf16, WeightFormat::Bf16);
    insta::assert_snapshot!(choices(&facts));
}

/// Whatever is chosen fits, and its cut can be laid out.
#[test]
fn what_is_chosen_fits() {
    let formats = [
        WeightFormat::Bf16,
        INT4,
        WeightFormat::Int8 {
            group: Group::G16,
            offset: true,
        },
    ];
    let mut chosen = 0;
    for sizes in [LLAMA_8B, SMOLLM2_135M] {
        for format in formats {
            let plan = plan(sizes);
            let formats = Formats::new(&plan, |_| Some(format));
            let facts = Facts::new(&plan, &formats);
            for architecture in Architecture::KNOWN {
                for rows in ROW_LAYOUTS {
                    let Ok(program) = ProgramLayout::choose(&facts, &architecture, rows) else {
                        continue;
                    };
                    chosen += 1;
                    assert!(program.shared_bytes <= architecture.shared_memory_per_block);
                    assert!(program.stages >= 2 && program.tile_group >= 1);
                    let accumulators = program.tile_group * rows / 2;
                    assert!(accumulators + 40 <= program.registers);
                    let tiles = program.row_capacity() / 8;
                    let slots = program.slots.into_iter().zip([1, 2, 4, 8]);
                    for (slots, tiles) in slots.filter(|(_, n)| *n <= tiles) {
                        assert!(slots * tiles * 8192 <= program.scratch_bytes);
                    }
                    if sizes.layers == SMOLLM2_135M.layers {
                        let layout = Layout::new(&plan, &formats, program.cut()).unwrap();
                        layout.validate(&plan, &formats).unwrap();
                    }
                }
            }
        }
    }
    assert!(chosen > 100, "{chosen}");
}

/// Passes take few tiles at a time, and a stage holds as many blocks, or half or a quarter of them.
#[test]
fn tile_groups_and_stages_suit_each_other() {
    let facts = facts(LLAMA_8B, INT4, WeightFormat::Bf16);
    let program = |rows| ProgramLayout::choose(&facts, &Architecture::H100, rows).unwrap();
    assert_eq!((program(8).tile_group, program(64).tile_group), (4, 2));
    let unit = |format: WeightFormat| program(8).cut().unit(format.block_bytes(CHUNK) as u64);
    assert_eq!((unit(INT4), unit(WeightFormat::Bf16)), (4, 1));
    assert_eq!(program(8).slots, [8, 4, 2, 1]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let facts = facts(LLAMA_8B, WeightFormat::Bf16, WeightFormat::Bf16);
    let choose = |arch: &Architecture, rows| ProgramLayout::choose(&facts, arch, rows);
    let error = choose(&Architecture::RTX_4090, 64).unwrap_err();
    assert!(
        matches!(error, TuneError::DoesNotFit { fits: Some(32), .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("64 rows do not fit RTX 4090") && text.ends_with("32 rows fit"),
        "{text}"
    );
    let heaviest = WeightFormat::Int8 {
        group: Group::G16,
        offset: true,
    };
    let heavy = self::facts(LLAMA_8B, heaviest, WeightFormat::Bf16);
    let error = ProgramLayout::choose(&heavy, &Architecture::H100, 64).unwrap_err();
    assert!(
        matches!(error, TuneError::DoesNotFit { fits: Some(32), .. }),
        "{error}"
    );
    assert_eq!(
        choose(&Architecture::H100, 12).unwrap_err(),
        TuneError::Rows { max_rows: 12 }
    );
    let turing = Architecture {
        name: "T4".into(),
        compute_capability: (7, 5),
        ..Architecture::A100
    };
    let error = choose(&turing, 8).unwrap_err().to_string();
    assert!(error.contains("T4 has compute capability 7.5"), "{error}");
    let tiny = Architecture {
        shared_memory_per_block: 16 << 10,
        ..Architecture::H100
    };
    let error = choose(&tiny, 8).unwrap_err();
    assert!(
        matches!(error, TuneError::DoesNotFit { fits: None, .. }),
        "{error}"
    );
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..1000u32, any::<u32>()]
}

proptest! {
    /// Any sizes are chosen for or refused.
    #[test]
    fn choosing_never_panics(
        numbers in proptest::collection::vec(number(), 8),
        streams in any::<bool>(),
        rows in prop_oneof![Just(8u32), Just(16), Just(32), Just(64), any::<u32>()],
    ) {
        let facts = Facts {
            formats: if streams { vec![INT4, WeightFormat::F16] } else { Vec::new() },
            tiles: numbers[0],
            residual: numbers[1],
            kv_heads: numbers[2],
            head_dim: numbers[3],
            kv_bytes: numbers[4] % 5,
            queries_per_kv: numbers[5],
        };
        let architecture = Architecture {
            sm_count: numbers[6],
            shared_memory_per_block: numbers[7],
            ..Architecture::H100
        };
        for architecture in [architecture, Architecture::H100] {
            match ProgramLayout::choose(&facts, &architecture, rows) {
                Ok(program) => {
                    prop_assert!(program.shared_bytes <= architecture.shared_memory_per_block);
                    prop_assert!(program.stages >= 2);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
