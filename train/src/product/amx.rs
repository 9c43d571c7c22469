//! Products by the tiles of Intel's AMX: 16 rows of 64 bytes each, and one instruction multiplies 16 x 32 by 32 x 16 numbers in bf16 and
//! adds them up in f32. Numbers below the normal ones count as 0, which is what the instruction does.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Shape, TensorData};
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Rows and columns of a tile of sums, and numbers that it sums up at a time.
const TILE: usize = 16;
const DEPTH: usize = 32;
/// Rows and columns that are summed at the same time: two tiles.
const BLOCK: usize = 2 * TILE;
/// Numbers of a tile of factors.
const FACTORS: usize = TILE * DEPTH;

/// Whether the processor has the tiles and the system lets this process use them.
pub(super) fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        /// Bits of cpuid's leaf 7, EDX.
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        /// Asks the system for a part of the register state that is not saved for everyone: arch_prctl's code and the part's number.
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        if __cpuid(0).eax < 7 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        if features & AMX_BF16 == 0 || features & AMX_TILE == 0 {
            return false;
        }
        if !is_x86_feature_detected!("avx512bw") || !is_x86_feature_detected!("avx512bf16") {
            return false;
        }
        // SAFETY: the call takes two numbers and touches no memory; where it is unknown it fails.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    })
}

/// `a b`, if there are tiles, both are f32, and all dimensions but the last two are the same.
pub(super) fn product(a: &FlexTensor, b: &FlexTensor) -> Option<FlexTensor> {
    if !is_there() || a.dtype() != DType::F32 || b.dtype() != DType::F32 {
        return None;
    }
    let (a_sizes, b_sizes) = (sizes(a)?, sizes(b)?);
    let ([batch, m, k], [b_batch, b_k, n]) = (a_sizes, b_sizes);
    if batch != b_batch || k != b_k || m * n * k * batch == 0 {
        return None;
    }
    // What is not a view of rows and columns is copied into one.
    let a = if is_view(a) {
        a.clone()
    } else {
        a.to_contiguous()
    };
    let b = if is_view(b) {
        b.clone()
    } else {
        b.to_contiguous()
    };
    let mut out = vec![0.0; batch * m * n];
    let mut room = Room::default();
    for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
        let (a, b) = (Matrix::of(&a, index)?, Matrix::of(&b, index)?);
        // SAFETY: `is_there` has found the instructions.
        unsafe { multiply(&a, &b, out, &mut room) };
    }
    let mut shape = a.layout().shape().to_vec();
    *shape.last_mut()? = n;
    Some(FlexTensor::from_data(TensorData::new(
        out,
        Shape::from(shape),
    )))
}

/// Matrices, rows and columns of a tensor of two dimensions or three.
fn sizes(tensor: &FlexTensor) -> Option<[usize; 3]> {
    match *tensor.layout().shape().to_vec() {
        [rows, columns] => Some([1, rows, columns]),
        [batch, rows, columns] => Some([batch, rows, columns]),
        _ => None,
    }
}

fn is_view(tensor: &FlexTensor) -> bool {
    tensor.layout().strides().iter().all(|&stride| stride >= 0)
}

/// Rows and columns among numbers that may lie in any order.
struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// From a row to the next, and from a column to the next.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// One of a tensor's.
    fn of(tensor: &'a FlexTensor, index: usize) -> Option<Self> {
        let layout = tensor.layout();
        let [_, rows, columns] = sizes(tensor)?;
        let strides: Option<Vec<usize>> = layout
            .strides()
            .iter()
            .map(|&s| s.try_into().ok())
            .collect();
        let strides = strides?;
        let [.., row, column] = *strides else {
            return None;
        };
        let of_batch = if strides.len() == 3 { strides[0] } else { 0 };
        let start = layout.start_offset() + index * of_batch;
        Some(Matrix {
            numbers: tensor.storage::<f32>().get(start..)?,
            rows,
            columns,
            strides: [row, column],
        })
    }

    fn transposed(&self) -> Matrix<'a> {
        let [of_row, of_column] = self.strides;
        Matrix {
            numbers: self.numbers,
            rows: self.columns,
            columns: self.rows,
            strides: [of_column, of_row],
        }
    }
}

/// Factors as tiles take them; kept from one matrix of a tensor to the next.
#[derive(Default)]
struct Room {
    a: Vec<u32>,
    b: Vec<u32>,
}

/// How tiles are laid out, 1 KiB: eight of them, of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sums of a block.
#[repr(C, align(64))]
struct Sums([[f32; BLOCK]; BLOCK]);

/// `out = a b`, row by row.
///
/// # Safety
/// [`is_there`] must hold.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn multiply(a: &Matrix<'_>, b: &Matrix<'_>, out: &mut [f32], room: &mut Room) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let depths = k.div_ceil(DEPTH);
    lay(a, depths, Order::Rows, &mut room.a);
    lay(&b.transposed(), depths, Order::Pairs, &mut room.b);
    let mut config = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    config.row_bytes[..8].fill(64);
    config.rows[..8].fill(TILE as u8);
    // SAFETY: the configuration is as the processor documents it, and tiles hold nothing that the compiler knows of.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags)) };
    let panel = depths * FACTORS / 2;
    let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
    for column in (0..n).step_by(BLOCK) {
        for row in (0..m).step_by(BLOCK) {
            let of = |all: &[u32], at: usize| all[at / TILE * panel..][..2 * panel].as_ptr();
            let (a, b) = (of(&room.a, row), of(&room.b, column));
            let is_whole = row + BLOCK <= m && column + BLOCK <= n;
            // Where a block is cut off, its sums go by way of a whole one.
            let (to, stride) = match is_whole {
                true => (
                    out[row * n + column..][..(BLOCK - 1) * n + BLOCK].as_mut_ptr(),
                    4 * n,
                ),
                false => (sums.0.as_mut_ptr().cast(), 4 * BLOCK),
            };
            // SAFETY: factors are two panels each of `depths` tiles of 1 KiB, one after the other, which the slices above have
            // checked; sums go to 32 rows of 128 bytes, `stride` bytes apart, which are the block's or have been checked too.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{a} + {row}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tileloadd tmm5, [{lower} + {row}]",
                    "tileloadd tmm7, [{right} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 1024",
                    "add {b}, 1024",
                    "add {lower}, 1024",
                    "add {right}, 1024",
                    "dec {depths}",
                    "jnz 2b",
                    "tilestored [{to} + {stride}], tmm0",
                    "tilestored [{to} + {stride} + 64], tmm1",
                    "tilestored [{to_lower} + {stride}], tmm2",
                    "tilestored [{to_lower} + {stride} + 64], tmm3",
                    a = inout(reg) a => _,
                    b = inout(reg) b => _,
                    lower = inout(reg) a.add(panel) => _,
                    right = inout(reg) b.add(panel) => _,
                    row = in(reg) 64usize,
                    depths = inout(reg) depths => _,
                    to = in(reg) to,
                    to_lower = in(reg) to.byte_add(TILE * stride),
                    stride = in(reg) stride,
                    options(nostack),
                );
            }
            if !is_whole {
                let width = BLOCK.min(n - column);
                let rows = out.chunks_exact_mut(n).skip(row);
                for (out, sums) in rows.zip(&sums.0) {
                    out[column..column + width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }
    // SAFETY: gives the tiles back, which nothing uses any more.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// How a tile holds 16 rows of 32 numbers, two to a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// A row of the tile is a row: the left factor.
    Rows,
    /// A row of the tile is a pair of columns, and a word a row's two numbers there: the right factor, transposed.
    Pairs,
}

/// Lays a matrix out as tiles: all those of 16 rows, then those of the next. The number of rows is rounded up to a block's, and what is
/// beyond the matrix is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn lay(matrix: &Matrix<'_>, depths: usize, order: Order, tiles: &mut Vec<u32>) {
    let size = matrix.rows.div_ceil(BLOCK) * 2 * depths * FACTORS / 2;
    // What was there is overwritten.
    tiles.resize(size, 0);
    let is_along = matrix.strides[1] == 1;
    let panels = tiles.chunks_exact_mut(depths * FACTORS / 2);
    for (first, panel) in (0..).step_by(TILE).zip(panels) {
        let tiles = panel.as_chunks_mut::<{ FACTORS / 2 }>().0;
        for (start, tile) in (0..).step_by(DEPTH).zip(tiles) {
            let (found, words) = match (is_along, matrix.strides[0]) {
                (true, _) => (Order::Rows, rows_of(matrix, first, start)),
                (false, 1) => (Order::Pairs, pairs_of(matrix, first, start)),
                (false, _) => {
                    let mut block = [0.0; FACTORS];
                    let copy = copied(matrix, first, start, &mut block);
                    (Order::Rows, rows_of(&copy, 0, 0))
                }
            };
            let words = if found == order {
                words
            } else {
                transposed(words)
            };
            for (words, to) in words.iter().zip(tile.as_chunks_mut::<TILE>().0) {
                // SAFETY: there are 64 bytes.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *words) };
            }
        }
    }
}

/// Up to 16 numbers that follow each other; as many as there are of `count`, then 0.
#[target_feature(enable = "avx512f")]
fn load(numbers: &[f32], at: usize, count: usize) -> __m512 {
    if count == 0 {
        return _mm512_setzero_ps();
    }
    let numbers = &numbers[at..at + count.min(TILE)];
    let mask = (u32::MAX >> (32 - numbers.len())) as u16;
    // SAFETY: only the numbers of the slice are read.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

/// 32 numbers, of which those of `low` come first.
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(high: __m512, low: __m512) -> __m512i {
    // SAFETY: both are 512 bits without further meaning.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Rows of a matrix whose rows lie in one piece.
#[target_feature(enable = "avx512f,avx512bf16")]
fn rows_of(matrix: &Matrix<'_>, first: usize, start: usize) -> [__m512i; TILE] {
    let width = matrix.columns - start;
    let mut words = [_mm512_setzero_si512(); TILE];
    let rows = matrix.rows.saturating_sub(first);
    for (row, words) in words.iter_mut().enumerate().take(rows) {
        let at = (first + row) * matrix.strides[0] + start;
        let low = load(matrix.numbers, at, width);
        let high = load(matrix.numbers, at + TILE, width.saturating_sub(TILE));
        *words = rounded(high, low);
    }
    words
}

/// Pairs of columns of a matrix whose columns lie in one piece.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs_of(matrix: &Matrix<'_>, first: usize, start: usize) -> [__m512i; TILE] {
    let rows = matrix.rows.saturating_sub(first);
    let column = |column: usize| match column < matrix.columns {
        true => load(matrix.numbers, column * matrix.strides[1] + first, rows),
        false => load(&[], 0, 0),
    };
    // Number i of the first column beside number i of the second.
    let mut order = [0u16; DEPTH];
    for (i, pair) in order.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *pair = [i as u16, (TILE + i) as u16];
    }
    // SAFETY: there are 64 bytes.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let mut words = [_mm512_setzero_si512(); TILE];
    for (pair, words) in words.iter_mut().enumerate() {
        let at = start + 2 * pair;
        *words = _mm512_permutexvar_epi16(order, rounded(column(at + 1), column(at)));
    }
    words
}

/// A tile's part of a matrix that has no pieces.
fn copied<'a>(
    matrix: &Matrix<'_>,
    first: usize,
    start: usize,
    block: &'a mut [f32; FACTORS],
) -> Matrix<'a> {
    let [of_row, of_column] = matrix.strides;
    let rows = TILE.min(matrix.rows.saturating_sub(first));
    let columns = DEPTH.min(matrix.columns - start);
    for (row, to) in block.chunks_exact_mut(DEPTH).enumerate().take(rows) {
        for (column, to) in to.iter_mut().enumerate().take(columns) {
            *to = matrix.numbers[(first + row) * of_row + (start + column) * of_column];
        }
    }
    Matrix {
        numbers: block,
        rows,
        columns,
        strides: [DEPTH, 1],
    }
}

/// 16 rows of 16 words, as columns.
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; TILE]) -> [__m512i; TILE] {
    let zero = _mm512_setzero_si512();
    let (mut twos, mut fours, mut all) = ([zero; TILE], [zero; TILE], [zero; TILE]);
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        twos[2 * i] = _mm512_unpacklo_epi32(a, b);
        twos[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    for i in (0..TILE).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(twos[i], twos[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(twos[i], twos[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(twos[i + 1], twos[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(twos[i + 1], twos[i + 3]);
    }
    // Quarter q of fours[4 i + j] is column 4 q + j of rows 4 i to 4 i + 3.
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (low, high) = (
            _mm512_shuffle_i32x4::<0x44>(a, b),
            _mm512_shuffle_i32x4::<0xee>(a, b),
        );
        let (next_low, next_high) = (
            _mm512_shuffle_i32x4::<0x44>(c, d),
            _mm512_shuffle_i32x4::<0xee>(c, d),
        );
        all[j] = _mm512_shuffle_i32x4::<0x88>(low, next_low);
        all[4 + j] = _mm512_shuffle_i32x4::<0xdd>(low, next_low);
        all[8 + j] = _mm512_shuffle_i32x4::<0x88>(high, next_high);
        all[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high, next_high);
    }
    all
}
