//! Loaded weights in the device's layout are what the host multiplies with, for every type that a checkpoint can have.

mod common;

use common::{CONFIG, llama, safetensors};
use half::{bf16, f16};
use std::sync::Arc;
use stheno::checkpoint::{Checkpoint, Matrix, WeightDtype};
use stheno::device::{
    ArenaUpload, Context, DeviceBuffer, DeviceError, DeviceWeights, Driver, DriverKind, UploadError,
};
use stheno::host::Weight;
use stheno_codegen::layout::{Cut, Layout, Mapping, Mappings, PlacementId, WeightSource};
use stheno_codegen::plan::{
    Dim, Dtype, Epilogue, InputDtype, KvDecl, Linear, Op, Part, Plan, PlanBuilder, Segment,
    SegmentKind, WeightId,
};

/// Not a multiple of a tile, so that the last is padded; more than a chunk of columns.
const N: u32 = 37;
const K: u32 = 768;

/// A plan that multiplies once, and has a vector before its matrix.
fn plan() -> (Plan, WeightId) {
    let kv = KvDecl {
        layers: 1,
        num_key_value_heads: 1,
        head_dim: 16,
        dtype: Dtype::F16,
    };
    let mut b = PlanBuilder::new("one", N, 16, kv);
    b.vector("vector", 5);
    let weight = b.matrix("matrix", N, K);
    let input = b.buffer("input", Dtype::F32, Dim::Rows, K);
    let output = b.buffer("output", Dtype::F32, Dim::Rows, N);
    b.segment(Segment {
        kind: SegmentKind::Target,
        max_rows: 8,
        inputs: vec![input],
        outputs: vec![output],
        ops: vec![Op::Linear(Linear {
            input,
            norm: None,
            input_dtype: InputDtype::F32,
            parts: vec![Part { weight, bias: None }],
            epilogue: Epilogue::Store { output },
        })],
    });
    (b.finish().unwrap(), weight)
}

/// Reads every row back from the packed arena and compares. Where the mapping loses nothing elements are equal, else
/// `tolerance(mapping, row, column)` apart at most.
fn check(matrix: Matrix, tolerance: impl Fn(&Mapping, usize, usize) -> f32) -> Mapping {
    let (plan, id) = plan();
    let matrix = Arc::new(matrix);
    let weights = [
        Weight::Vector([0.0; 5].into()),
        Weight::Matrix(Arc::clone(&matrix)),
    ];
    let source = DeviceWeights::new(&weights);
    assert!(source.matrix(WeightId(0)).is_none() && source.matrix(WeightId(2)).is_none());
    let mappings = Mappings::new(&plan, &source).unwrap();
    let cut = Cut {
        sm_count: 2,
        tile_group: 1,
        stage_bytes: 32 << 10,
    };
    let layout = Layout::new(&plan, &mappings.formats(), cut).unwrap();
    let mut arena = vec![0; layout.arena_bytes as usize];
    layout
        .build(&plan, &mappings, &source, &mut arena, |_, _| {})
        .unwrap();
    let mapping = mappings.get(id).unwrap().clone();
    let mut expected = vec![0.0; K as usize];
    for row in 0..N {
        matrix.dequantize_row(row as usize, &mut expected);
        let found = layout
            .read_row(&arena, &mappings, PlacementId(0), id, row)
            .unwrap();
        for (column, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let most = match mapping.lossless {
                true => 0.0,
                false => tolerance(&mapping, row as usize, column),
            };
            assert!(
                (found - expected).abs() <= most,
                "{mapping:?}: row {row} column {column}: {found} instead of {expected}, {most} allowed"
            );
        }
    }
    mapping
}

/// 2^-11 of the scaled quantum and of the offset; what is tiny beside the largest scale may be lost.
fn coded(matrix: &Matrix) -> impl Fn(&Mapping, usize, usize) -> f32 + use<> {
    let Matrix::Affine(affine) = matrix else {
        panic!("the matrix is dense");
    };
    let affine = affine.clone();
    let groups = affine.shape().k / affine.shape().group;
    let all = (0..affine.shape().n).flat_map(|row| (0..groups).map(move |group| (row, group)));
    let all = all.map(|(row, group)| affine.group(row, group));
    let largest = all.fold(0.0, |most: f32, (scale, offset)| {
        most.max(scale.abs()).max(offset.abs())
    });
    move |mapping, row, column| {
        let (scale, offset) = affine.group(row, column / affine.shape().group);
        let bias = f32::from(mapping.bias);
        let code = f32::from(affine.quantum(row, column)) - bias;
        let offset = bias.mul_add(scale, offset);
        // The sum is rounded, too.
        let bound = (scale * code).abs() + offset.abs();
        2f32.powi(-11) * 1.001 * bound + 256.0 * 2f32.powi(-39) * largest
    }
}

/// The same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn unit(&mut self) -> f32 {
        self.next() as f32 / 2f32.powi(30) - 1.0
    }
}

/// A GGUF type: its number, elements and bytes of a block, and where in the block f16 scales are.
struct Blocks {
    name: &'static str,
    id: u32,
    elements: usize,
    bytes: usize,
    scales: &'static [usize],
    lossless: bool,
}

const fn blocks(
    (name, id): (&'static str, u32),
    (elements, bytes): (usize, usize),
    scales: &'static [usize],
    lossless: bool,
) -> Blocks {
    Blocks {
        name,
        id,
        elements,
        bytes,
        scales,
        lossless,
    }
}

const BLOCKS: [Blocks; 8] = [
    blocks(("Q4_0", 2), (32, 18), &[0], true),
    blocks(("Q4_1", 3), (32, 20), &[0, 2], true),
    blocks(("Q5_0", 6), (32, 22), &[0], true),
    blocks(("Q5_1", 7), (32, 24), &[0, 2], true),
    blocks(("Q8_0", 8), (32, 34), &[0], true),
    blocks(("Q4_K", 12), (256, 144), &[0, 2], false),
    blocks(("Q5_K", 13), (256, 176), &[0, 2], false),
    blocks(("Q6_K", 14), (256, 210), &[208], false),
];

fn of_gguf(blocks: &Blocks) -> Matrix {
    let count = (N * K) as usize / blocks.elements;
    let mut random = Random(u64::from(blocks.id));
    let mut data: Vec<u8> = (0..count * blocks.bytes)
        .map(|_| random.next() as u8)
        .collect();
    for block in data.chunks_mut(blocks.bytes) {
        for at in blocks.scales {
            let scale = f16::from_f32(random.unit() / 64.0);
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    let file = llama().tensor("token_embd.weight", &[K.into(), N.into()], blocks.id, &data);
    let checkpoint = Checkpoint::from_gguf(file.build()).unwrap();
    let name = "model.embed_tokens.weight";
    checkpoint.matrix(name, N as usize, K as usize).unwrap()
}

#[test]
fn every_quantized_type_of_gguf_is_read_exactly() {
    for blocks in &BLOCKS {
        let matrix = of_gguf(blocks);
        let tolerance = coded(&matrix);
        let mapping = check(matrix, tolerance);
        assert_eq!(
            mapping.lossless, blocks.lossless,
            "{}: {mapping:?}",
            blocks.name
        );
    }
}

fn dense(dtype: &str, elements: impl Fn(f32) -> Vec<u8>) -> Matrix {
    let mut random = Random(9);
    let data: Vec<u8> = (0..N * K).flat_map(|_| elements(random.unit())).collect();
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"{dtype}","shape":[{N},{K}],"data_offsets":[0,{}]}}}}"#,
        data.len()
    );
    let checkpoint = Checkpoint::from_safetensors(CONFIG, safetensors(&header, &data)).unwrap();
    checkpoint
        .matrix("lm_head.weight", N as usize, K as usize)
        .unwrap()
}

fn f32s() -> Matrix {
    dense("F32", |x| x.to_le_bytes().to_vec())
}

#[test]
fn dense_types_are_taken_as_they_are_and_f32_is_rounded() {
    let exact = |_: &Mapping, _, _| 0.0;
    let of_bf16 = |x| bf16::from_f32(x);
    assert!(check(dense("BF16", |x| of_bf16(x).to_le_bytes().to_vec()), exact).lossless);
    assert!(
        check(
            dense("F16", |x| f16::from_f32(x).to_le_bytes().to_vec()),
            exact
        )
        .lossless
    );
    let short = dense("F32", |x| of_bf16(x).to_f32().to_le_bytes().to_vec());
    assert!(check(short, exact).lossless);
    // Half of the last place of a bf16 below 1.
    assert!(!check(f32s(), |_, _, _| 2f32.powi(-9)).lossless);
}

#[test]
fn what_was_quantized_while_loading_is_read_exactly() {
    for dtype in [WeightDtype::Q8, WeightDtype::Q4] {
        let matrix = f32s().quantized(dtype);
        let tolerance = coded(&matrix);
        assert!(check(matrix, tolerance).lossless, "{dtype:?}");
    }
}

/// By way of the virtual GPU's driver.
#[test]
fn an_arena_on_the_device_is_the_one_on_the_host() {
    let (plan, _) = plan();
    let weights = [
        Weight::Vector([0.0; 5].into()),
        Weight::Matrix(Arc::new(of_gguf(&BLOCKS[5]))),
    ];
    let source = DeviceWeights::new(&weights);
    let mappings = Mappings::new(&plan, &source).unwrap();
    let cut = Cut {
        sm_count: 3,
        tile_group: 1,
        stage_bytes: 32 << 10,
    };
    let layout = Layout::new(&plan, &mappings.formats(), cut).unwrap();
    let bytes = layout.arena_bytes;
    let mut expected = vec![0; bytes as usize];
    layout
        .build(&plan, &mappings, &source, &mut expected, |_, _| {})
        .unwrap();

    let driver = Driver::load(DriverKind::Virtual).unwrap();
    let context = Context::new(&driver, 0).unwrap();
    let buffer = DeviceBuffer::zeroed(&context, bytes, "the arena").unwrap();
    let mut upload = ArenaUpload::new(&buffer);
    layout
        .build(&plan, &mappings, &source, &mut upload, |_, _| {})
        .unwrap();
    let mut found = vec![0xff; bytes as usize];
    buffer.read(0, &mut found).unwrap();
    assert!(found == expected, "the arenas differ");

    let short = DeviceBuffer::zeroed(&context, bytes - 1, "a short arena").unwrap();
    let mut upload = ArenaUpload::new(&short);
    let error = layout.build(&plan, &mappings, &source, &mut upload, |_, _| {});
    assert!(
        matches!(error, Err(UploadError::Device(DeviceError::Range { .. }))),
        "{error:?}"
    );
}
