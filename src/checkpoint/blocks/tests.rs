use super::BlockFormat;
use crate::checkpoint::bytes::FileBytes;
use half::f16;
use proptest::prelude::*;

const FORMATS: [BlockFormat; 8] = [
    BlockFormat::Q4_0,
    BlockFormat::Q4_1,
    BlockFormat::Q5_0,
    BlockFormat::Q5_1,
    BlockFormat::Q8_0,
    BlockFormat::Q4K,
    BlockFormat::Q5K,
    BlockFormat::Q6K,
];

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Element `i` of a block, straight from the published formula: (scale, quantum, offset).
fn element(format: BlockFormat, block: &[u8], i: usize) -> (f32, u8, f32) {
    let nibble = |qs: &[u8]| {
        if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 }
    };
    let fifth = |qh: &[u8]| (qh[i / 8] >> (i % 8) & 1) << 4;
    let d = half(block, 0);
    match format {
        BlockFormat::Q4_0 => (d, nibble(&block[2..]), -8.0 * d),
        BlockFormat::Q4_1 => (d, nibble(&block[4..]), half(block, 2)),
        BlockFormat::Q5_0 => (d, nibble(&block[6..]) | fifth(&block[2..]), -16.0 * d),
        BlockFormat::Q5_1 => (d, nibble(&block[8..]) | fifth(&block[4..]), half(block, 2)),
        BlockFormat::Q8_0 => (d, (i16::from(block[2 + i] as i8) + 128) as u8, -128.0 * d),
        BlockFormat::Q4K | BlockFormat::Q5K => {
            let (j, l, q) = (i / 32, i % 32, &block[4..16]);
            let (scale, minimum) = match j {
                0..4 => (q[j] & 63, q[j + 4] & 63),
                _ => (
                    (q[j + 4] & 15) | ((q[j - 4] >> 6) << 4),
                    (q[j + 4] >> 4) | ((q[j] >> 6) << 4),
                ),
            };
            let qs = match format {
                BlockFormat::Q4K => &block[16..],
                _ => &block[48..],
            };
            let byte = qs[32 * (j / 2) + l];
            let mut quantum = if j.is_multiple_of(2) {
                byte & 15
            } else {
                byte >> 4
            };
            if format == BlockFormat::Q5K && block[16 + l] >> j & 1 == 1 {
                quantum += 16;
            }
            let dmin = half(block, 2);
            (d * f32::from(scale), quantum, -(dmin * f32::from(minimum)))
        }
        BlockFormat::Q6K => {
            let (part, l, quarter) = (i / 128, i % 32, i % 128 / 32);
            let ql = &block[64 * part..];
            let qh = block[128 + 32 * part + l];
            let scale = block[192 + 8 * part + l / 16 + 2 * quarter] as i8;
            let quantum = match quarter {
                0 => ql[l] & 15 | (qh & 3) << 4,
                1 => ql[l + 32] & 15 | (qh >> 2 & 3) << 4,
                2 => ql[l] >> 4 | (qh >> 4 & 3) << 4,
                _ => ql[l + 32] >> 4 | (qh >> 6) << 4,
            };
            let scale = half(block, 208) * f32::from(scale);
            (scale, quantum, -32.0 * scale)
        }
    }
}

fn check(format: BlockFormat, n: usize, blocks: usize, bytes: Vec<u8>) {
    let (elements, size) = format.block();
    let k = blocks * elements;
    let file = FileBytes::owned("test", bytes.clone());
    let view = file.view(0..bytes.len()).unwrap();
    let matrix = format.repack(&view, n, k, |row| n - 1 - row).unwrap();
    assert!(matrix.low().as_ptr().addr().is_multiple_of(64));
    assert!(matrix.high().is_empty() || matrix.high().as_ptr().addr().is_multiple_of(64));
    let (mut out, mut quanta) = (vec![0.0; k], vec![0xff; k]);
    for row in 0..n {
        matrix.dequantize_row(row, &mut out);
        matrix.quanta_row(row, &mut quanta);
        for (i, x) in out.iter().enumerate() {
            let block = &bytes[((n - 1 - row) * blocks + i / elements) * size..][..size];
            let (scale, quantum, offset) = element(format, block, i % elements);
            assert_eq!(
                (matrix.quantum(row, i), quanta[i]),
                (quantum, quantum),
                "{format:?} row {row} k {i}"
            );
            let expected = f32::from(quantum).mul_add(scale, offset);
            let same = x.to_bits() == expected.to_bits() || x.is_nan() && expected.is_nan();
            assert!(
                same,
                "{format:?} row {row} k {i}: {x} instead of {expected}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bytes are a valid block, so random ones reach every code and odd scales too.
    #[test]
    fn repacked_blocks_have_the_values_of_the_format(
        format in prop::sample::select(&FORMATS[..]),
        n in 1_usize..36,
        blocks in 1_usize..4,
        seed in prop::collection::vec(any::<u8>(), 997),
    ) {
        let length = n * blocks * format.block().1;
        // A prime stride over the seed: no period matches a block.
        let bytes = (0..length).map(|i| seed[i % 997] ^ (i / 997) as u8).collect();
        check(format, n, blocks, bytes);
    }
}

#[test]
fn padding_rows_are_zero() {
    let bytes = vec![0x3c; 3 * 18];
    let file = FileBytes::owned("test", bytes);
    let view = file.view(0..54).unwrap();
    let matrix = BlockFormat::Q4_0.repack(&view, 3, 32, |row| row).unwrap();
    for row in 3..16 {
        assert_eq!(matrix.group(row, 0), (0.0, 0.0));
        assert!((0..32).all(|k| matrix.quantum(row, k) == 0));
    }
}

#[test]
fn a_wrong_shape_is_refused() {
    let file = FileBytes::owned("test", vec![0; 36]);
    let view = file.view(0..36).unwrap();
    for (n, k) in [(1, 32), (2, 33), (usize::MAX, 32), (0, 32), (2, usize::MAX)] {
        assert!(BlockFormat::Q4_0.repack(&view, n, k, |row| row).is_none());
    }
}
