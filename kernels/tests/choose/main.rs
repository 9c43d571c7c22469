//! What choices of tokens are made of, element by element, against the same in Rust.

#[path = "../support/mod.rs"]
mod support;

use std::ops::RangeInclusive;

use stheno_jit::Target;
use support::{ARCHITECTURES, Gpu, Shape, Source, WITHOUT_PRODUCTS};
use virtual_gpu::LaunchOptions;

fn source() -> Source {
    Source {
        name: "choose.cu",
        variant: String::new(),
        text: include_str!("choose.cu").into(),
        sizes: WITHOUT_PRODUCTS.to_vec(),
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs a kernel over elements of some words each, and returns what it made of each.
fn run<const IN: usize, const OUT: usize>(kernel: &str, elements: &[[u32; IN]]) -> Vec<[u32; OUT]> {
    let mut gpu = Gpu::new(2);
    let input = gpu.upload(&bytes_of(elements.as_flattened()));
    let output = gpu.upload(&vec![0; elements.len() * OUT * 4]);
    let mut parameter = [input.0.to_le_bytes(), output.0.to_le_bytes()].concat();
    parameter.extend((elements.len() as u64).to_le_bytes());
    let shape = Shape {
        blocks: 2,
        threads: 256,
        shared: 0,
    };
    let module = source().module(80);
    gpu.launch(
        &module,
        kernel,
        shape,
        &parameter,
        &LaunchOptions::default(),
    );
    let words = gpu.download(output, elements.len() * OUT * 4);
    let words = words.chunks_exact(4 * OUT);
    words
        .map(|bytes| {
            std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
        })
        .collect()
}

/// A sample of all words, and those about which something is special.
fn words() -> Vec<[u32; 1]> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-45,
        -1e-45,
        89.0,
        -105.0,
        f32::MIN_POSITIVE,
    ];
    let mut words: Vec<u32> = special.map(f32::to_bits).to_vec();
    words.extend([2, 3, u32::MAX, u32::MAX - 1, 1 << 31]);
    words.extend((0..=u32::MAX).step_by(99_991));
    words.into_iter().map(|word| [word]).collect()
}

/// Whether a float is in ulps of the exact value's binade near it.
fn assert_near(got: f32, exact: f64, ulps: f64, what: &str) {
    if f64::from(got) == exact || exact.is_nan() && got.is_nan() {
        return;
    }
    if exact.abs() > f64::from(f32::MAX) {
        assert!(got.is_infinite(), "{what}: {got} for {exact}");
        return;
    }
    let exponent = ((exact.to_bits() >> 52 & 2047) as i32 - 1023).max(-126);
    let error = (f64::from(got) - exact).abs() * 2f64.powi(23 - exponent);
    assert!(error <= ulps, "{what}: {got} for {exact}");
}

fn assert_within(value: f32, range: RangeInclusive<f64>, word: u32) {
    assert!(
        range.contains(&f64::from(value)),
        "{value} is not in {range:?} for {word:#x}"
    );
}

#[test]
fn functions_are_what_they_are_called() {
    let words = words();
    for ([word], results) in words.iter().zip(run::<1, 8>("functions", &words)) {
        let x = f32::from_bits(*word);
        let [exp, log, rest, ordered, finite, unit, noise, bound] = results;
        let real = f64::from(x);
        assert_near(f32::from_bits(exp), real.exp(), 1.05, "exp");
        assert_near(f32::from_bits(log), real.ln(), 0.9, "log");
        let expected = if x.is_nan() {
            f32::NEG_INFINITY
        } else {
            x.min(f32::MAX)
        };
        assert_eq!(finite, expected.to_bits());
        // The order of integers, with the sign's half turned over; both zeros are one.
        let bits = (expected + 0.0).to_bits();
        let expected = if bits >> 31 == 1 {
            !bits
        } else {
            bits + (1 << 31)
        };
        assert_eq!(ordered, expected);
        let v = (f64::from(word >> 1) + 0.5) / 2f64.powi(31);
        let unit = f32::from_bits(unit);
        assert!(unit > 0.0 && unit < 1.0);
        assert_near(unit, v, 2.0, "unit");
        let v = f64::from(unit);
        assert_near(f32::from_bits(rest), -(-v).ln_1p(), 2.0, "-log(1 - v)");
        let exact = -(-(-v).ln_1p()).ln();
        let noise = f32::from_bits(noise);
        assert_within(noise, exact - 3e-6..=exact + 3e-6, *word);
        // Never below the noise, and within a factor of two and what a logarithm of a large -log(1 - v) adds.
        assert_within(
            noise,
            f64::NEG_INFINITY..=f64::from(f32::from_bits(bound)),
            *word,
        );
        assert!(noise < 22.2);
        if noise > 1.0 {
            assert!(f32::from_bits(bound) < noise + 1.0);
        }
    }
}

/// Written apart from the kernel's: one multiplication of 64 bits after another, as the paper says.
fn philox_rounds(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let wide = |factor: u64, word: u32| {
            let product = factor * u64::from(word);
            [(product >> 32) as u32, product as u32]
        };
        let ([high0, low0], [high1, low1]) = (wide(0xd251_1f53, c[0]), wide(0xcd9e_8d57, c[2]));
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
        k = [
            k[0].wrapping_add(0x9e37_79b9),
            k[1].wrapping_add(0xbb67_ae85),
        ];
    }
    c
}

#[test]
fn philox_gives_the_published_answers() {
    // Of Random123's `kat_vectors`.
    let mut elements = vec![[0; 6], [u32::MAX; 6]];
    elements.push([
        0x243f_6a88,
        0x85a3_08d3,
        0x1319_8a2e,
        0x0370_7344,
        0xa409_3822,
        0x299f_31d0,
    ]);
    let published = [
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ];
    elements.extend((0..500u32).map(|i| {
        std::array::from_fn(|j| i.wrapping_mul(0x9e37_79b1).rotate_left(5 * j as u32) ^ j as u32)
    }));
    let results = run::<6, 4>("philox", &elements);
    assert_eq!(results[..3], published);
    for (&[a, b, c, d, e, f], result) in elements.iter().zip(results) {
        assert_eq!(result, philox_rounds([a, b, c, d], [e, f]));
    }
}

#[test]
fn shares_are_rounded_up() {
    let mut cases = Vec::new();
    for p in [
        f32::MIN_POSITIVE,
        1e-9,
        0.1,
        1.0 / 3.0,
        0.5,
        0.95,
        0.999_999_94,
    ] {
        let totals = [
            1,
            1000,
            (1 << 40) - 1,
            1 << 40,
            (1 << 40) * 3 + 12_345_677,
            (1 << 63) - 1,
            1 << 63,
        ];
        cases.extend(totals.map(|total| (p, total)));
    }
    let halves = |&(p, total): &(f32, u64)| [p.to_bits(), 0, total as u32, (total >> 32) as u32];
    let elements: Vec<[u32; 4]> = cases.iter().map(halves).collect();
    for (&(p, total), [low, high]) in cases.iter().zip(run::<4, 2>("shares", &elements)) {
        let steps = (f64::from(p) * 2f64.powi(32)).ceil() as u128;
        let expected = (steps * u128::from(total)).div_ceil(1 << 32) as u64;
        assert_eq!(
            u64::from(high) << 32 | u64::from(low),
            expected,
            "{p} of {total}"
        );
    }
}

#[test]
#[ignore = "minutes: run with --include-ignored"]
fn nothing_spills() {
    for architecture in ARCHITECTURES {
        for (kernel, registers) in source().registers(architecture) {
            // Of nine warps three share a quarter of the 65536 registers.
            assert!(
                registers <= 168,
                "{kernel} takes {registers} registers for {architecture}"
            );
        }
    }
    assert!(source().compile(Target::Virtual(80)).ptx.is_some());
}
