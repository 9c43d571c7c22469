//! What a row computes does not depend on the rows beside it, nor on the segment, nor on how many rows the program is for:
//! logits, hidden states and committed K and V of chains equal, bit for bit, those of single steps.

use crate::chains::{Singles, chain, executor, sequence, singles};
use crate::{FIXTURE, engine, engine_at, shared, tiny_gguf, tokens};
use stheno::device::{DeviceExecutor, DeviceKv};
use stheno::engine::Device;
use stheno::plan::{Dtype, SegmentKind};

const SEGMENTS: [SegmentKind; 2] = [SegmentKind::Target, SegmentKind::Prefill];

/// Chains of the first `counts` tokens in both segments, as far as those take them.
fn check(
    executor: &DeviceExecutor,
    prefix: &DeviceKv,
    tokens: &[u32],
    counts: impl IntoIterator<Item = usize>,
    expected: &Singles,
) {
    for count in counts {
        for segment in SEGMENTS {
            if count > executor.rows_of(segment) {
                continue;
            }
            let mut kv = prefix.clone();
            let found = chain(executor, segment, &mut kv, &tokens[..count]);
            let place = format!("{segment}, {count} rows after {}", prefix.len());
            for (row, (found, expected)) in found.iter().zip(&expected.rows).enumerate() {
                assert!(found.0 == expected.0, "logits of row {row}: {place}");
                assert!(found.1 == expected.1, "tap of row {row}: {place}");
            }
            assert!(kv.read().unwrap() == expected.kv[count], "K and V: {place}");
        }
    }
}

#[test]
fn chains_around_page_boundaries_equal_single_steps() {
    let executor = executor(shared());
    for (length, counts) in [
        (0, vec![1, 7, 64]),
        (127, (1..=32).chain([64]).collect()),
        (128, vec![1, 2, 8, 17, 64]),
        (129, vec![1, 3, 8, 33, 64]),
    ] {
        let prefix = sequence(executor, &tokens(length, 1));
        let tokens = tokens(64, 2);
        let expected = singles(executor, &prefix, &tokens);
        assert!(!expected.rows[0].1.is_empty(), "the plan has a tap");
        check(executor, &prefix, &tokens, counts, &expected);
    }
}

/// Programs for more rows have other sizes of everything: the bits are those of the program for 8.
#[test]
fn programs_for_more_rows_give_the_same_bits() {
    let narrow = executor(shared());
    let (start, tokens) = (tokens(120, 3), tokens(64, 4));
    let expected = singles(narrow, &sequence(narrow, &start), &tokens);
    for max_rows in [16, 32, 64] {
        let wide = engine(FIXTURE, Device::Virtual, |builder| {
            builder.context_length(200).taps(&[0]).max_rows(max_rows)
        });
        let executor = executor(&wide);
        assert_eq!(executor.rows_of(SegmentKind::Target), max_rows as usize);
        let prefix = sequence(executor, &start);
        assert!(
            prefix.read().unwrap() == expected.kv[0],
            "{max_rows}: the prefix"
        );
        let counts = [1, 5, 8, 9, 16, 23, 32, 50, 64];
        let counts = counts
            .into_iter()
            .filter(|count| *count <= max_rows as usize);
        check(executor, &prefix, &tokens, counts, &expected);
    }
}

/// 4 and 8 bits with scales and offsets, K and V in f16.
#[test]
fn chains_of_a_quantized_model_equal_single_steps() {
    let file = tiny_gguf::write();
    let quantized = engine_at(file.path().to_str().unwrap(), Device::Virtual, |builder| {
        let builder = builder.context_length(200).taps(&[0]).max_rows(32);
        builder.kv_dtype(Dtype::F16)
    });
    let executor = executor(&quantized);
    for length in [126, 129] {
        let prefix = sequence(executor, &tokens(length, 5));
        let tokens = tokens(40, 6);
        let expected = singles(executor, &prefix, &tokens);
        check(executor, &prefix, &tokens, [1, 2, 8, 13, 32, 40], &expected);
    }
}
