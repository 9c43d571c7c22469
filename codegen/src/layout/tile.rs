//! Fragment order: where each element of a block lies, and packing at memory speed.

use super::{TILE_ROWS, WeightFormat};

/// Where an element or a scale lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Byte of the block.
    pub byte: usize,
    /// Bit of that byte; 4 for the upper nibble of an int4 pair, else 0.
    pub bit: u32,
}

/// Where element (row, k) of a block lies: the definition of the fragment order (see [`super`]).
pub fn element(format: WeightFormat, row: usize, k: usize) -> Position {
    let (g, upper) = (row % 8, row / 8);
    // Lane 4 g + t owns k = 8 t..8 t + 8 of each k32 block: 4 elements in each of two k16 steps.
    let (block, t, step, j) = (k / 32, k % 32 / 8, k % 8 / 4, k % 4);
    let (pair, odd) = (j / 2, j % 2);
    let lane = 16 * (4 * g + t);
    let byte = match format {
        WeightFormat::Bf16 | WeightFormat::F16 => {
            512 * (2 * block + step) + lane + 8 * pair + 4 * upper + 2 * odd
        }
        WeightFormat::Fp8E4M3 { .. } => 512 * block + lane + 8 * step + 4 * pair + 2 * upper + odd,
        WeightFormat::Int8 { .. } => 512 * block + lane + 8 * step + 4 * pair + 2 * odd + upper,
        WeightFormat::Int4 { .. } => {
            512 * (block / 2) + lane + 8 * (block % 2) + 4 * step + 2 * odd + pair
        }
    };
    let nibble = matches!(format, WeightFormat::Int4 { .. });
    let bit = if nibble { 4 * upper as u32 } else { 0 };
    Position { byte, bit }
}

/// Byte, in a block of k columns, of the f16 scale of a row for the block's group `group`. The offset, where there is
/// one, lies 4 bytes after it.
pub fn scale(format: WeightFormat, k: usize, row: usize, group: usize) -> usize {
    let stride = if format.has_offset() { 8 } else { 4 };
    let base = format.element_bytes(k) + group * format.group_bytes();
    base + stride * (row % 8) + 2 * (row / 8)
}

/// The 16 rows of a block, one slice each: k little-endian 16-bit elements, or k codes of a byte.
pub type Rows<'a> = [&'a [u8]; TILE_ROWS];

/// Packs the elements of a block. k is a multiple of 64; `out` begins with the block's element bytes, all of which are
/// written.
///
/// # Panics
/// If a row or `out` is too short.
pub fn pack(format: WeightFormat, rows: &Rows<'_>, k: usize, out: &mut [u8]) {
    let out = &mut out[..format.element_bytes(k)];
    match format {
        WeightFormat::Bf16 | WeightFormat::F16 => {
            each_lane::<64>(rows, 2, k, out, |x, y, out| {
                for half in 0..2 {
                    let quad = |row: &[u8; 64], lane: usize| word64(&row[lane * 16 + half * 8..]);
                    for t in 0..4 {
                        let (x, y) = (quad(x, t), quad(y, t));
                        let low = x & 0xffff_ffff | y << 32;
                        let high = x >> 32 | y & 0xffff_ffff_0000_0000;
                        let at = half * 512 + t * 16;
                        out[at..at + 8].copy_from_slice(&low.to_le_bytes());
                        out[at + 8..at + 16].copy_from_slice(&high.to_le_bytes());
                    }
                }
            });
        }
        WeightFormat::Fp8E4M3 { .. } => each_lane::<32>(rows, 1, k, out, |x, y, out| {
            for i in 0..8 {
                let (x, y) = (word(&x[4 * i..]), word(&y[4 * i..]));
                let low = x & 0xffff | y << 16;
                let high = x >> 16 | y & 0xffff_0000;
                store2(&mut out[8 * i..], low, high);
            }
        }),
        WeightFormat::Int8 { .. } => each_lane::<32>(rows, 1, k, out, |x, y, out| {
            for i in 0..8 {
                let (x, y) = (word(&x[4 * i..]), word(&y[4 * i..]));
                let low = spread(x) | spread(y) << 8;
                let high = spread(x >> 16) | spread(y >> 16) << 8;
                store2(&mut out[8 * i..], low, high);
            }
        }),
        WeightFormat::Int4 { .. } => each_lane::<64>(rows, 1, k, out, |x, y, out| {
            for half in 0..2 {
                for i in 0..8 {
                    let at = 32 * half + 4 * i;
                    let pair = swap_middle(word(&x[at..])) | swap_middle(word(&y[at..])) << 4;
                    let at = 16 * (i / 2) + 8 * half + 4 * (i % 2);
                    out[at..at + 4].copy_from_slice(&pair.to_le_bytes());
                }
            }
        }),
    }
}

/// Hands out, for each atom and each g, the bytes of rows g and g + 8 in the atom, and where lanes 4 g.. write.
/// Two k16 atoms of 16-bit elements go together, since a lane's 16 bytes of a row are shared by both.
fn each_lane<const BYTES: usize>(
    rows: &Rows<'_>,
    element: usize,
    k: usize,
    out: &mut [u8],
    f: impl Fn(&[u8; BYTES], &[u8; BYTES], &mut [u8]),
) {
    let (lower, upper) = rows.split_at(8);
    let span = out.len() / (k * element / BYTES);
    for (g, (x, y)) in lower.iter().zip(upper).enumerate() {
        let x = x[..k * element].as_chunks::<BYTES>().0;
        let y = y[..k * element].as_chunks::<BYTES>().0;
        for ((x, y), out) in x.iter().zip(y).zip(out.chunks_exact_mut(span)) {
            f(x, y, &mut out[64 * g..]);
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn word64(bytes: &[u8]) -> u64 {
    u64::from(word(bytes)) | u64::from(word(&bytes[4..])) << 32
}

fn store2(out: &mut [u8], low: u32, high: u32) {
    out[..4].copy_from_slice(&low.to_le_bytes());
    out[4..8].copy_from_slice(&high.to_le_bytes());
}

/// Bytes 0 and 1 to bytes 0 and 2.
fn spread(x: u32) -> u32 {
    x & 0xff | (x & 0xff00) << 8
}

/// Bytes 0, 2, 1, 3; nibbles only.
fn swap_middle(x: u32) -> u32 {
    (x & 0x0f00_000f) | (x & 0x0f00) << 8 | x >> 8 & 0x0f00
}

/// Reads an element of a packed block: 16 bits, a byte or a nibble as it is stored.
///
/// # Panics
/// If the block is too short.
pub fn read_element(format: WeightFormat, block: &[u8], row: usize, k: usize) -> u16 {
    let at = element(format, row, k);
    match format.bits() {
        16 => u16::from_le_bytes([block[at.byte], block[at.byte + 1]]),
        8 => block[at.byte].into(),
        _ => (block[at.byte] >> at.bit & 15).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Group;
    use super::*;
    use std::collections::HashSet;

    const FORMATS: [WeightFormat; 5] = [
        WeightFormat::Bf16,
        WeightFormat::F16,
        WeightFormat::Fp8E4M3 { group: Group::G128 },
        WeightFormat::Int8 {
            group: Group::G16,
            offset: false,
        },
        WeightFormat::Int4 {
            group: Group::G32,
            offset: true,
        },
    ];

    /// No two elements share a place, and together with the scales they fill the block.
    #[test]
    fn positions_fill_a_block() {
        for format in FORMATS {
            for k in [64, 192, 512] {
                let mut bits = HashSet::new();
                for row in 0..16 {
                    for column in 0..k {
                        let at = element(format, row, column);
                        assert!(bits.insert(at.byte * 8 + at.bit as usize));
                    }
                    let groups = format.group().map_or(0, |group| group.count(k));
                    for group in 0..groups {
                        let at = scale(format, k, row, group);
                        assert!(bits.insert(8 * at), "{format} {k} {row} {group}");
                        if format.has_offset() {
                            assert!(bits.insert(8 * (at + 4)));
                        }
                    }
                }
                let scales = format.block_bytes(k) - format.element_bytes(k);
                assert_eq!(bits.len(), 16 * k + scales / 2);
                let last = bits.iter().max().unwrap();
                assert!(last / 8 < format.block_bytes(k));
            }
        }
    }

    /// A lane's fragments of an atom are its own 16 bytes, and it owns k = 8 t..8 t + 8 of a k32 block for rows g and
    /// g + 8: what one mma.m16n8k16 wants of it.
    #[test]
    fn a_lane_owns_its_fragments() {
        for format in FORMATS {
            for row in 0..16 {
                for k in 0..512 {
                    let at = element(format, row, k);
                    let lane = at.byte % 512 / 16;
                    assert_eq!(lane, 4 * (row % 8) + k % 32 / 8);
                    // The atoms of a k32 block of 16-bit elements are its two k16 steps.
                    let atom = match format.bits() {
                        16 => 2 * (k / 32) + k % 8 / 4,
                        bits => k * bits / 256,
                    };
                    assert_eq!(at.byte / 512, atom, "{format} {k}");
                }
            }
        }
    }

    /// A shared-memory read of 16 bytes a lane is served in four phases of eight lanes; each must meet every one of
    /// the 32 banks once.
    #[test]
    fn reads_meet_no_bank_twice() {
        for format in FORMATS {
            let mut of_lane = vec![usize::MAX; 32];
            for row in 0..16 {
                for k in 0..format.atom_k().max(32) {
                    let at = element(format, row, k);
                    if at.byte < 512 {
                        let lane = 4 * (row % 8) + k % 32 / 8;
                        of_lane[lane] = of_lane[lane].min(at.byte / 16 * 16);
                    }
                }
            }
            for phase in of_lane.chunks(8) {
                let words = phase
                    .iter()
                    .flat_map(|start| (0..4).map(move |w| start / 4 + w));
                let banks: HashSet<usize> = words.map(|word| word % 32).collect();
                assert_eq!(banks.len(), 32, "{format}");
            }
            // Scales: four lanes of a g read the same words, eight g read different banks.
            if format.group().is_some() {
                let start = |g| scale(format, 512, g, 3);
                let width = if format.has_offset() { 8 } else { 4 };
                let words = (0..8).flat_map(|g| (0..width / 4).map(move |w| start(g) / 4 + w));
                let banks: HashSet<usize> = words.map(|word| word % 32).collect();
                assert_eq!(banks.len(), 8 * width / 4);
            }
        }
    }

    #[test]
    fn packing_follows_the_definition() {
        for format in FORMATS {
            for k in [64, 320, 512] {
                let size = format.bits().div_ceil(8);
                let mask = if format.bits() == 4 { 15 } else { 255 };
                let rows: Vec<Vec<u8>> = (0..16)
                    .map(|r| {
                        let byte = |i| (r * 7919 + i * 131 + i / 251) as u8 & mask;
                        (0..k * size).map(byte).collect()
                    })
                    .collect();
                let slices: Rows<'_> = std::array::from_fn(|r| rows[r].as_slice());
                let mut block = vec![0; format.block_bytes(k)];
                pack(format, &slices, k, &mut block);
                for (row, bytes) in rows.iter().enumerate() {
                    for i in 0..k {
                        let expected = match size {
                            2 => u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]),
                            _ => bytes[i].into(),
                        };
                        let found = read_element(format, &block, row, i);
                        assert_eq!(found, expected, "{format} {k} {row} {i}");
                    }
                }
            }
        }
    }
}
