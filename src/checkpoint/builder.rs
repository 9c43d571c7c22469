use super::affine::{AffineMatrix, AffineShape, Offsets, Scales, TILE_ROWS};
use super::plane::Plane;
use rayon::prelude::*;

/// How the groups of an [`AffineMatrix`] are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AffineForm {
    /// Scales (and minima) are of [`Scales::TwoLevel`] rather than [`Scales::Direct`].
    pub two_level: bool,
    /// The zero point of [`Offsets::Zero`]; `None` for [`Offsets::Min`].
    pub zero: Option<u8>,
}

/// Packs rows into an [`AffineMatrix`]. What is not written is zero: quanta, scales and minima.
#[derive(Debug)]
pub struct AffineBuilder {
    shape: AffineShape,
    low: Plane,
    high: Plane,
    scales: Scales,
    offsets: Offsets,
}

/// Scales or minima of one row.
#[derive(Debug, Clone, Copy)]
pub enum RowScales<'a> {
    /// f16 bits, one a group.
    Direct(&'a [u16]),
    /// Of two levels.
    TwoLevel {
        /// f16 bits, one per 256 elements.
        supers: &'a [u16],
        /// One a group.
        subs: &'a [i8],
    },
}

/// The part of a matrix under construction that 16 rows share.
pub(super) struct Tile<'a> {
    pub low: &'a mut [u8],
    pub high: &'a mut [u8],
    pub scales: TileScales<'a>,
    pub mins: TileScales<'a>,
}

/// Scales or minima of a tile; empty slices where the form has none. Rows are innermost.
pub(super) struct TileScales<'a> {
    /// Direct scales, or the super-scales of two levels.
    pub floats: &'a mut [u16],
    pub subs: &'a mut [i8],
}

impl AffineBuilder {
    /// An all-zero matrix. `None` if the shape is not one of [`AffineShape`] or too large to address.
    pub fn new(shape: AffineShape, form: AffineForm) -> Option<Self> {
        let AffineShape { n, k, bits, group } = shape;
        let k_step = if form.two_level { 256 } else { 32 };
        let shaped = matches!(bits, 4 | 5 | 6 | 8) && matches!(group, 16 | 32) && n > 0 && k > 0;
        if !shaped || !k.is_multiple_of(k_step) {
            return None;
        }
        let padded = n.checked_next_multiple_of(TILE_ROWS)?;
        // The largest plane has a byte an element, so nothing below overflows.
        padded.checked_mul(k)?.checked_add(4096)?;
        let runs = padded * (k / 32);
        let (low, high) = run_bytes(bits);
        let scales = || match form.two_level {
            false => Scales::Direct(vec![0; padded * (k / group)]),
            true => Scales::TwoLevel {
                supers: vec![0; padded * (k / 256)],
                subs: vec![0; padded * (k / group)],
            },
        };
        Some(AffineBuilder {
            shape,
            low: Plane::zeroed(runs / TILE_ROWS * low),
            high: Plane::zeroed(runs / TILE_ROWS * high),
            scales: scales(),
            offsets: form
                .zero
                .map_or_else(|| Offsets::Min(scales()), Offsets::Zero),
        })
    }

    /// Writes the quanta of a row.
    ///
    /// # Panics
    /// If `row` is not below n or there are not k quanta.
    pub fn set_quanta(&mut self, row: usize, quanta: &[u8]) {
        assert!(row < self.shape.n && quanta.len() == self.shape.k);
        let (tile, r) = (row / TILE_ROWS, row % TILE_ROWS);
        let runs = self.shape.k / 32;
        let (low, high) = run_bytes(self.shape.bits);
        let mut tile = Tile {
            low: &mut self.low.as_mut_slice()[tile * runs * low..][..runs * low],
            high: &mut self.high.as_mut_slice()[tile * runs * high..][..runs * high],
            scales: TileScales::none(),
            mins: TileScales::none(),
        };
        for (run, quanta) in quanta.as_chunks::<32>().0.iter().enumerate() {
            let quads = quanta.as_chunks::<4>().0;
            let words = std::array::from_fn(|j| u32::from_le_bytes(quads[j]));
            tile.put_run(self.shape.bits, run, r, words);
        }
    }

    /// Writes the scales of a row.
    ///
    /// # Panics
    /// If `row` is not below n, or the scales are of another form or number than the matrix has.
    pub fn set_scales(&mut self, row: usize, scales: RowScales<'_>) {
        assert!(row < self.shape.n);
        put_row(&mut self.scales, self.shape.n, row, scales);
    }

    /// Writes the minima of a row.
    ///
    /// # Panics
    /// If `row` is not below n, or the minima are of another form or number than the matrix has.
    pub fn set_mins(&mut self, row: usize, mins: RowScales<'_>) {
        assert!(row < self.shape.n);
        match &mut self.offsets {
            Offsets::Min(all) => put_row(all, self.shape.n, row, mins),
            Offsets::Zero(_) => panic!("the matrix has a zero point, not minima"),
        }
    }

    /// Hands out the matrix.
    pub fn finish(self) -> AffineMatrix {
        AffineMatrix {
            shape: self.shape,
            low: self.low,
            high: self.high,
            scales: self.scales,
            offsets: self.offsets,
        }
    }

    /// All tiles at once, for threads to fill.
    pub(super) fn par_tiles(&mut self) -> impl IndexedParallelIterator<Item = Tile<'_>> {
        let AffineShape { k, bits, group, .. } = self.shape;
        let (low, high) = run_bytes(bits);
        let lows = self.low.as_mut_slice().par_chunks_mut(k / 32 * low);
        // A plane that is not there gives an empty slice to each tile.
        let tiles = lows.len();
        let highs = split(self.high.as_mut_slice(), tiles, k / 32 * high);
        let scales = split_scales(Some(&mut self.scales), tiles, k, group);
        let mins = match &mut self.offsets {
            Offsets::Min(mins) => split_scales(Some(mins), tiles, k, group),
            Offsets::Zero(_) => split_scales(None, tiles, k, group),
        };
        lows.zip(highs)
            .zip(scales)
            .zip(mins)
            .map(move |(((low, high), scales), mins)| Tile {
                low,
                high,
                scales,
                mins,
            })
    }
}

impl Tile<'_> {
    /// Writes 32 quanta of row `r` of the tile; `words[j]` holds elements `4 j..4 j + 4`, lowest byte first.
    /// Inlined, so that a constant `bits` leaves one of the layouts.
    #[inline(always)]
    pub fn put_run(&mut self, bits: u32, run: usize, r: usize, words: [u32; 8]) {
        if bits == 8 {
            let low = &mut self.low[512 * run..][..512];
            for (j, word) in words.into_iter().enumerate() {
                store(low, 64 * j + 4 * r, word);
            }
            return;
        }
        let low = &mut self.low[256 * run..][..256];
        for j in 0..4 {
            let (even, odd) = (words[2 * j] & NIBBLES, words[2 * j + 1] & NIBBLES);
            store(low, 64 * j + 4 * r, even | odd << 4);
        }
        match bits {
            5 => {
                let word = (0..8).fold(0, |word, j| word | (words[j] >> 4 & 0x0101_0101) << j);
                store(&mut self.high[64 * run..][..64], 4 * r, word);
            }
            6 => {
                let high = &mut self.high[128 * run..][..128];
                for h in 0..2 {
                    let word = (0..4).fold(0, |word, j| {
                        word | (words[4 * h + j] >> 4 & 0x0303_0303) << (2 * j)
                    });
                    store(high, 64 * h + 4 * r, word);
                }
            }
            _ => {}
        }
    }
}

const NIBBLES: u32 = 0x0f0f_0f0f;

impl TileScales<'_> {
    fn none() -> Self {
        TileScales {
            floats: &mut [],
            subs: &mut [],
        }
    }
}

/// Bytes that 32 columns of a tile take in the low and in the high plane.
fn run_bytes(bits: u32) -> (usize, usize) {
    match bits {
        8 => (512, 0),
        6 => (256, 128),
        5 => (256, 64),
        _ => (256, 0),
    }
}

#[inline(always)]
fn store(plane: &mut [u8], at: usize, word: u32) {
    plane[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Cuts a plane into one slice a tile.
fn split<T: Send>(
    plane: &mut [T],
    tiles: usize,
    per_tile: usize,
) -> rayon::vec::IntoIter<&mut [T]> {
    let mut slices: Vec<&mut [T]> = Vec::with_capacity(tiles);
    if per_tile > 0 && !plane.is_empty() {
        slices.extend(plane.chunks_mut(per_tile));
    }
    slices.resize_with(tiles, Default::default);
    slices.into_par_iter()
}

fn split_scales(
    scales: Option<&mut Scales>,
    tiles: usize,
    k: usize,
    group: usize,
) -> impl IndexedParallelIterator<Item = TileScales<'_>> {
    let (floats, float_columns, subs): (&mut [u16], _, &mut [i8]) = match scales {
        Some(Scales::Direct(floats)) => (floats, k / group, &mut []),
        Some(Scales::TwoLevel { supers, subs }) => (supers, k / 256, subs),
        None => (&mut [], 0, &mut []),
    };
    split(floats, tiles, float_columns * TILE_ROWS)
        .zip(split(subs, tiles, k / group * TILE_ROWS))
        .map(|(floats, subs)| TileScales { floats, subs })
}

fn put_row(all: &mut Scales, n: usize, row: usize, scales: RowScales<'_>) {
    match (all, scales) {
        (Scales::Direct(all), RowScales::Direct(scales)) => put_column(all, n, row, scales),
        (
            Scales::TwoLevel { supers, subs },
            RowScales::TwoLevel {
                supers: row_supers,
                subs: row_subs,
            },
        ) => {
            put_column(supers, n, row, row_supers);
            put_column(subs, n, row, row_subs);
        }
        _ => panic!("scales of another form than the matrix has"),
    }
}

fn put_column<T: Copy>(all: &mut [T], n: usize, row: usize, values: &[T]) {
    assert_eq!(values.len() * n.next_multiple_of(TILE_ROWS), all.len());
    let (tile, r) = (row / TILE_ROWS, row % TILE_ROWS);
    let tile = &mut all[tile * values.len() * TILE_ROWS..][..values.len() * TILE_ROWS];
    for (slots, value) in tile.chunks_exact_mut(TILE_ROWS).zip(values) {
        slots[r] = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quanta_come_back(
            bits in prop::sample::select(&[4_u32, 5, 6, 8][..]),
            n in 1_usize..40,
            runs in 1_usize..4,
            seed in any::<u8>(),
        ) {
            let shape = AffineShape { n, k: 32 * runs, bits, group: 32 };
            let form = AffineForm { two_level: false, zero: None };
            let mut builder = AffineBuilder::new(shape, form).unwrap();
            let quantum = |row: usize, k: usize| {
                (row * 31 + k * 7 + usize::from(seed)) as u8 & ((1_u16 << bits) - 1) as u8
            };
            for row in 0..n {
                let quanta: Vec<u8> = (0..shape.k).map(|k| quantum(row, k)).collect();
                builder.set_quanta(row, &quanta);
                let scales: Vec<u16> = (0..runs).map(|g| (100 * row + g) as u16).collect();
                builder.set_scales(row, RowScales::Direct(&scales));
                builder.set_mins(row, RowScales::Direct(&scales));
            }
            let matrix = builder.finish();
            for row in 0..n {
                for k in 0..shape.k {
                    prop_assert_eq!(matrix.quantum(row, k), quantum(row, k));
                }
                for group in 0..runs {
                    let value = half::f16::from_bits((100 * row + group) as u16).to_f32();
                    prop_assert_eq!(matrix.group(row, group), (value, value));
                }
            }
        }
    }

    #[test]
    fn shapes_that_have_no_layout_are_refused() {
        let form = AffineForm {
            two_level: true,
            zero: Some(8),
        };
        for (n, k, bits, group) in [
            (1, 32, 4, 32),
            (0, 256, 4, 32),
            (1, 256, 3, 32),
            (1, 256, 4, 64),
            (usize::MAX, 256, 4, 32),
        ] {
            let shape = AffineShape { n, k, bits, group };
            assert!(AffineBuilder::new(shape, form).is_none(), "{shape:?}");
        }
    }
}
