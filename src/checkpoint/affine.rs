use super::plane::Plane;
use half::f16;

/// Rows of W that lie interleaved in an [`AffineMatrix`].
pub const TILE_ROWS: usize = 16;

/// Dimensions of an [`AffineMatrix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AffineShape {
    /// Outputs.
    pub n: usize,
    /// Inputs; a multiple of 32 and of `group`.
    pub k: usize,
    /// Bits of one quantum: 4, 5, 6 or 8.
    pub bits: u32,
    /// Elements along K that share a scale: 16 or 32 (coarser groups repeat their scale).
    pub group: usize,
}

/// Scale of each group.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// f16 per group: [tiles, groups, 16].
    Direct(Vec<u16>),
    /// `super_scale * sub_scale`, f16 per 256 elements [tiles, k / 256, 16] and i8 per group
    /// [tiles, groups, 16] (the K-quants of GGUF). The product is taken in f32.
    TwoLevel {
        /// f16 bits.
        supers: Vec<u16>,
        /// Multipliers.
        subs: Vec<i8>,
    },
}

/// What is added to `scale * q`.
#[derive(Debug, Clone, PartialEq)]
pub enum Offsets {
    /// The same zero point everywhere: offset = -zero * scale.
    Zero(u8),
    /// A minimum per group, laid out like [`Scales`]: offset = min. For two levels, offset = super * sub.
    Min(Scales),
}

/// The canonical quantized matrix: `w[n, k] = scale[n, g] * q[n, k] + offset[n, g]`, q unsigned, g = k / group.
///
/// Rows are interleaved in tiles of 16 ([`TILE_ROWS`]; n is padded with zeros), so that one vector register
/// holds the same k of several outputs and sums need no horizontal step. Let t be the tile, r the row in it, and
/// take k in runs of 32. Planes, all [tiles, k / 32, ...]:
///
/// * `low`, 4 bits (bits = 4, 5, 6): 256 bytes a run. For j in 0..4, byte `64 j + 4 r + b` holds element
///   `8 j + b` in its low and element `8 j + 4 + b` in its high nibble (b in 0..4).
/// * `low`, 8 bits (bits = 8): 512 bytes a run. For j in 0..8, byte `64 j + 4 r + b` is element `4 j + b`.
/// * `high`, 1 bit (bits = 5): 64 bytes a run. Bit j of byte `4 r + b` is bit 4 of element `4 j + b`, j in 0..8.
/// * `high`, 2 bits (bits = 6): 128 bytes a run. For h in 0..2, bits `2 j'..2 j' + 2` of byte `64 h + 4 r + b`
///   are bits 4 and 5 of element `4 (4 h + j') + b`, j' in 0..4.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMatrix {
    pub(super) shape: AffineShape,
    pub(super) low: Plane,
    pub(super) high: Plane,
    pub(super) scales: Scales,
    pub(super) offsets: Offsets,
}

impl AffineMatrix {
    /// Dimensions.
    pub fn shape(&self) -> AffineShape {
        self.shape
    }

    /// Low bits, see the type; the start is aligned to 64 bytes, as is that of `high`.
    pub fn low(&self) -> &[u8] {
        &self.low
    }

    /// High bits, see the type; empty for 4 and 8 bits.
    pub fn high(&self) -> &[u8] {
        &self.high
    }

    /// Scales.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Bytes that one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        let offsets = match &self.offsets {
            Offsets::Zero(_) => 0,
            Offsets::Min(mins) => mins.bytes(),
        };
        self.low.len() + self.high.len() + self.scales.bytes() + offsets
    }

    /// Scale and offset of a group of row `row`, in f32.
    pub fn group(&self, row: usize, group: usize) -> (f32, f32) {
        let scale = self.scales.at(&self.shape, row, group);
        let offset = match &self.offsets {
            Offsets::Zero(zero) => -f32::from(*zero) * scale,
            Offsets::Min(mins) => mins.at(&self.shape, row, group),
        };
        (scale, offset)
    }

    /// Quantum of element (row, k).
    pub fn quantum(&self, row: usize, k: usize) -> u8 {
        let (r, b) = (row % TILE_ROWS, k % 4);
        let run = (row / TILE_ROWS) * (self.shape.k / 32) + k / 32;
        let quad = k % 32 / 4;
        let lane = 4 * r + b;
        if self.shape.bits == 8 {
            return self.low[run * 512 + 64 * quad + lane];
        }
        let byte = self.low[run * 256 + 64 * (quad / 2) + lane];
        let low = if quad.is_multiple_of(2) {
            byte & 15
        } else {
            byte >> 4
        };
        let high = match self.shape.bits {
            5 => self.high[run * 64 + lane] >> quad & 1,
            6 => self.high[run * 128 + 64 * (quad / 4) + lane] >> (2 * (quad % 4)) & 3,
            _ => 0,
        };
        low | high << 4
    }

    /// Writes the quanta of a row, one a byte.
    ///
    /// # Panics
    /// If `row` is not below n or `out` has not k elements.
    pub fn quanta_row(&self, row: usize, out: &mut [u8]) {
        assert!(row < self.shape.n && out.len() == self.shape.k);
        let (tile, r) = (row / TILE_ROWS, row % TILE_ROWS);
        let first = tile * (self.shape.k / 32);
        for (run, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let run = first + run;
            let quads = out.as_chunks_mut::<4>().0;
            if self.shape.bits == 8 {
                let low = self.low[512 * run..][..512].as_chunks::<64>().0;
                for (quad, lanes) in quads.iter_mut().zip(low) {
                    quad.copy_from_slice(&lanes[4 * r..4 * r + 4]);
                }
                continue;
            }
            let low = self.low[256 * run..][..256].as_chunks::<64>().0;
            for (pair, lanes) in quads.as_chunks_mut::<2>().0.iter_mut().zip(low) {
                for (b, byte) in lanes[4 * r..4 * r + 4].iter().enumerate() {
                    pair[0][b] = byte & 15;
                    pair[1][b] = byte >> 4;
                }
            }
            // High bits of a quad, and which byte of them is a lane's.
            let (high, mask, per_byte) = match self.shape.bits {
                5 => (&self.high[64 * run..][..64], 1, 8),
                6 => (&self.high[128 * run..][..128], 3, 4),
                _ => continue,
            };
            for (j, quad) in quads.iter_mut().enumerate() {
                let shift = 8 / per_byte * (j % per_byte);
                let lanes = &high[64 * (j / per_byte) + 4 * r..][..4];
                for (quantum, byte) in quad.iter_mut().zip(lanes) {
                    *quantum |= (byte >> shift & mask) << 4;
                }
            }
        }
    }

    /// Writes a row in f32: `fma(q, scale, offset)`.
    ///
    /// # Panics
    /// If `row` is not below n or `out` has not k elements.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.shape.n && out.len() == self.shape.k);
        for (group, chunk) in out.chunks_mut(self.shape.group).enumerate() {
            let (scale, offset) = self.group(row, group);
            for (i, x) in chunk.iter_mut().enumerate() {
                let q = self.quantum(row, group * self.shape.group + i);
                *x = f32::from(q).mul_add(scale, offset);
            }
        }
    }
}

impl Scales {
    fn bytes(&self) -> usize {
        match self {
            Scales::Direct(scales) => 2 * scales.len(),
            Scales::TwoLevel { supers, subs } => 2 * supers.len() + subs.len(),
        }
    }

    fn at(&self, shape: &AffineShape, row: usize, group: usize) -> f32 {
        let (tile, r) = (row / TILE_ROWS, row % TILE_ROWS);
        let index = |per_tile: usize, i: usize| (tile * per_tile + i) * TILE_ROWS + r;
        let groups = shape.k / shape.group;
        match self {
            Scales::Direct(scales) => f16::from_bits(scales[index(groups, group)]).to_f32(),
            Scales::TwoLevel { supers, subs } => {
                let outer = supers[index(shape.k / 256, group * shape.group / 256)];
                f16::from_bits(outer).to_f32() * f32::from(subs[index(groups, group)])
            }
        }
    }
}
