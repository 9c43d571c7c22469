use crate::checkpoint::blocks::BlockFormat;
use crate::checkpoint::tensor::Storage;
use stheno_codegen::plan::Dtype;

/// How the tensors of a GGUF type are stored; the name of the type if it is not supported.
pub(super) fn storage_of(id: u32) -> Result<Storage, String> {
    Ok(match id {
        0 => Storage::Float(Dtype::F32),
        1 => Storage::Float(Dtype::F16),
        2 => Storage::Blocks(BlockFormat::Q4_0),
        3 => Storage::Blocks(BlockFormat::Q4_1),
        6 => Storage::Blocks(BlockFormat::Q5_0),
        7 => Storage::Blocks(BlockFormat::Q5_1),
        8 => Storage::Blocks(BlockFormat::Q8_0),
        12 => Storage::Blocks(BlockFormat::Q4K),
        13 => Storage::Blocks(BlockFormat::Q5K),
        14 => Storage::Blocks(BlockFormat::Q6K),
        30 => Storage::Float(Dtype::BF16),
        _ => {
            let known = UNSUPPORTED.iter().find(|(other, _)| *other == id);
            return Err(known.map_or_else(|| format!("type {id}"), |(_, name)| (*name).to_owned()));
        }
    })
}

const UNSUPPORTED: [(u32, &str); 24] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];
