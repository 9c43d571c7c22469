//! `mma`, `ldmatrix`, `stmatrix` and `movmatrix`.

use crate::machine::{as_words, assert_clean, bytes_of, kernel, random_words, run, words};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::num::{Arch, Mma, MmaMode, MmaShape, ScalarType};
use virtual_gpu::{LaunchConfig, LaunchOptions, Module};

/// All forms of `mma` that are computed.
fn forms() -> Vec<(String, Mma)> {
    use ScalarType::*;
    let mut forms = Vec::new();
    let mut add = |k: u32, a, b, c, satfinite| {
        let shape = MmaShape { m: 16, n: 8, k };
        let mma = Mma {
            shape,
            a,
            b,
            c,
            d: c,
            satfinite,
        };
        forms.push(mma);
    };
    for k in [8, 16] {
        add(k, F16, F16, F16, false);
        add(k, F16, F16, F32, false);
        add(k, BF16, BF16, F32, false);
        add(k / 2, TF32, TF32, F32, false);
        for (a, b) in [(E4M3, E4M3), (E4M3, E5M2), (E5M2, E4M3), (E5M2, E5M2)] {
            add(2 * k, a, b, F32, false);
            add(2 * k, a, b, F16, false);
        }
        for (a, b) in [(S8, S8), (S8, U8), (U8, S8), (U8, U8)] {
            add(2 * k, a, b, S32, false);
            add(2 * k, a, b, S32, true);
        }
    }
    for k in [4, 8, 16] {
        add(k, F64, F64, F64, false);
    }
    let shape = MmaShape { m: 8, n: 8, k: 4 };
    forms.push(Mma {
        shape,
        a: F64,
        b: F64,
        c: F64,
        d: F64,
        satfinite: false,
    });
    let name = |ty: ScalarType| format!("{ty:?}").to_lowercase();
    let text = |mma: &Mma| {
        let MmaShape { m, n, k } = mma.shape;
        let satfinite = if mma.satfinite { ".satfinite" } else { "" };
        format!(
            "mma.sync.aligned.m{m}n{n}k{k}.row.col{satfinite}.{}.{}.{}.{}",
            name(mma.d),
            name(mma.a),
            name(mma.b),
            name(mma.c)
        )
    };
    forms.iter().map(|mma| (text(mma), *mma)).collect()
}

/// Loads registers of a fragment: `count` of them from `pointer`, each 32 lanes of 4 or 8 bytes.
fn load(pointer: &str, register: &str, first: usize, count: usize, bytes: usize) -> String {
    let ty = if bytes == 8 { "f64" } else { "b32" };
    let mut text = format!("mul.wide.u32 %x0, %lane, {bytes};\nadd.s64 %x1, {pointer}, %x0;\n");
    for index in 0..count {
        let at = index * 32 * bytes;
        text += &format!("ld.global.{ty} {register}{}, [%x1+{at}];\n", first + index);
    }
    text
}

fn list(register: &str, first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count)
        .map(|i| format!("{register}{i}"))
        .collect();
    format!("{{{}}}", names.join(", "))
}

#[test]
fn products_are_those_of_the_model() {
    for (text, mma) in forms() {
        let (a_rows, b_rows, c_rows) = mma.registers();
        let double = mma.a == ScalarType::F64;
        let (register, bytes, words) = if double { ("%d", 8, 2) } else { ("%r", 4, 1) };
        let (a, b, c) = (a_rows / words, b_rows / words, c_rows / words);
        let mut body = load("%p0", register, 0, a, bytes);
        body += &load("%p1", register, 8, b, bytes);
        body += &load("%p2", register, 12, c, bytes);
        body += &format!(
            "{text} {}, {}, {}, {};\n",
            list(register, 16, c),
            list(register, 0, a),
            list(register, 8, b),
            list(register, 12, c)
        );
        body += &format!("mul.wide.u32 %x0, %lane, {bytes};\nadd.s64 %x1, %p3, %x0;\n");
        for index in 0..c {
            let ty = if double { "f64" } else { "b32" };
            let at = index * 32 * bytes;
            body += &format!("st.global.{ty} [%x1+{at}], {register}{};\n", 16 + index);
        }
        let rows = |seed: u64, count: usize| -> Vec<[u32; 32]> {
            let mut words = random_words(seed, 32 * count);
            if double {
                // Of moderate size: high words with exponents near one.
                words.iter_mut().skip(1).step_by(2).for_each(|high| {
                    *high = (*high & 0x800f_ffff) | (0x3f0 + (*high >> 28)) << 20;
                });
            }
            words.as_chunks::<32>().0.to_vec()
        };
        let (a, b, c) = (rows(1, a_rows), rows(2, b_rows), rows(3, c_rows));
        let flat = |rows: &[[u32; 32]]| bytes_of(rows.iter().flatten().copied());
        for mode in [
            MmaMode::Fast,
            MmaMode::Exact(Arch::Ampere),
            MmaMode::Exact(Arch::Hopper),
        ] {
            let mut expected = vec![[0; 32]; c_rows];
            mma.run(mode, &a, &b, &c, &mut expected);
            let mut buffers = vec![flat(&a), flat(&b), flat(&c), flat(&expected)];
            buffers[3].fill(0xee);
            let options = LaunchOptions {
                mma: mode,
                ..LaunchOptions::default()
            };
            let ptx = kernel(4, &body);
            let report = run(
                &ptx,
                "test",
                LaunchConfig::linear(1, 32),
                options,
                &mut buffers,
                &[],
            );
            assert_clean(&report);
            assert_eq!(
                as_words(&buffers[3]),
                expected.as_flattened(),
                "{text} {mode:?}"
            );
        }
    }
}

#[test]
fn a_product_of_whole_numbers_is_the_sum_of_products() {
    // Row g of A and column g of B by the layout of m16n8k16 (PTX ISA): pairs of columns 2 t and 2 t + 8.
    let a = |i: usize, l: usize| (i * 3 + l) % 7;
    let b = |l: usize, j: usize| (l + j * 5) % 4;
    let pair = |low: usize, high: usize| {
        let bf16 = |n: usize| (n as f32).to_bits() >> 16;
        bf16(low) | bf16(high) << 16
    };
    let lanes = |f: &dyn Fn(usize, usize) -> u32| -> Vec<u8> {
        bytes_of((0..32).map(|lane| f(lane / 4, lane % 4)))
    };
    let a_bytes: Vec<u8> = [(0, 0), (8, 0), (0, 8), (8, 8)]
        .iter()
        .flat_map(|&(row, k)| lanes(&|g, t| pair(a(row + g, k + 2 * t), a(row + g, k + 2 * t + 1))))
        .collect();
    let b_bytes: Vec<u8> = [0, 8]
        .iter()
        .flat_map(|&k| lanes(&|g, t| pair(b(k + 2 * t, g), b(k + 2 * t + 1, g))))
        .collect();
    let mut body = load("%p0", "%r", 0, 4, 4) + &load("%p1", "%r", 8, 2, 4);
    body += "mov.f32 %f0, 0f3F800000;\n\
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2, %r3}, {%r8, %r9}, \
        {%f0, %f0, %f0, %f0};\n\
        mul.wide.u32 %x0, %lane, 16;\nadd.s64 %x1, %p2, %x0;\nst.global.v4.f32 [%x1], {%f1, %f2, %f3, %f4};\n";
    let out = words(&body, vec![a_bytes, b_bytes, vec![0; 512]]);
    for lane in 0..32 {
        for (v, word) in out[4 * lane..4 * lane + 4].iter().enumerate() {
            let (i, j) = (lane / 4 + v / 2 * 8, lane % 4 * 2 + v % 2);
            let sum: usize = (0..16).map(|l| a(i, l) * b(l, j)).sum();
            assert_eq!(
                f32::from_bits(*word),
                1.0 + sum as f32,
                "row {i} column {j}"
            );
        }
    }
}

/// Fills `memory` from `%p0`, 128 bytes a lane.
const FILL: &str = "mul.wide.u32 %x0, %lane, 128;\nadd.s64 %x1, %p0, %x0;\nmad.lo.u32 %r60, %lane, 128, %s;\n\
    mov.u32 %r61, 0;\nfill: ld.global.v4.b32 {%r62, %r63, %r58, %r59}, [%x1];\n\
    st.shared.v4.b32 [%r60], {%r62, %r63, %r58, %r59};\n\
    add.s64 %x1, %x1, 16;\nadd.u32 %r60, %r60, 16;\nadd.u32 %r61, %r61, 1;\n\
    setp.lt.u32 %q0, %r61, 8;\n@%q0 bra fill;\nbar.warp.sync 0xffffffff;\n";

/// Offset of the row whose address lane `lane` gives: rows in an order without pattern.
fn row_offset(lane: usize) -> usize {
    (lane * 37 + 11) % 128 * 16
}

/// Puts into `%r0` the address of the lane's row.
const ROW: &str =
    "mad.lo.u32 %r0, %lane, 37, 11;\nand.b32 %r0, %r0, 127;\nmad.lo.u32 %r0, %r0, 16, %s;\n";

fn element(memory: &[u32], row: usize, column: usize) -> u32 {
    let word = memory[row / 4 + column / 2];
    word >> (16 * (column % 2)) & 0xffff
}

#[test]
fn matrices_are_loaded_by_rows_or_by_columns() {
    let memory = random_words(7, 1024);
    for count in [1, 2, 4] {
        for transposed in [false, true] {
            let trans = if transposed { ".trans" } else { "" };
            let names: Vec<String> = (0..count).map(|i| format!("%r{}", 1 + i)).collect();
            let mut body = format!(
                "{FILL}{ROW}ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{}}}, [%r0];\n",
                names.join(", ")
            );
            body += "mul.wide.u32 %x0, %lane, 4;\nadd.s64 %x1, %p1, %x0;\n";
            for (index, name) in names.iter().enumerate() {
                body += &format!("st.global.b32 [%x1+{}], {name};\n", 128 * index);
            }
            let out = words(&body, vec![bytes_of(memory.clone()), vec![0; 128 * count]]);
            for matrix in 0..count {
                for lane in 0..32 {
                    let half = |i: usize| {
                        let (row, column) = (lane / 4, lane % 4 * 2 + i);
                        let (row, column) = if transposed {
                            (column, row)
                        } else {
                            (row, column)
                        };
                        element(&memory, row_offset(8 * matrix + row), column)
                    };
                    let expected = half(0) | half(1) << 16;
                    assert_eq!(
                        out[32 * matrix + lane],
                        expected,
                        "x{count}{trans} {matrix} {lane}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_stored_as_matrices_is_loaded_again() {
    let values = random_words(9, 128);
    for trans in ["", ".trans"] {
        let mut body = load("%p0", "%r", 1, 4, 4);
        body += ROW;
        body += &format!(
            "stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r0], {{%r1, %r2, %r3, %r4}};\n\
             bar.warp.sync 0xffffffff;\n\
             ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {{%r5, %r6, %r7, %r8}}, [%r0];\n"
        );
        if !trans.is_empty() {
            for r in 5..9 {
                body += &format!("movmatrix.sync.aligned.m8n8.trans.b16 %r{r}, %r{r};\n");
            }
        }
        body += "mul.wide.u32 %x0, %lane, 4;\nadd.s64 %x1, %p1, %x0;\n";
        for r in 0..4 {
            body += &format!("st.global.b32 [%x1+{}], %r{};\n", 128 * r, 5 + r);
        }
        assert_eq!(
            words(&body, vec![bytes_of(values.clone()), vec![0; 512]]),
            values
        );
    }
}

#[test]
fn generic_addresses_of_matrices_must_be_shared() {
    let body = "cvt.u64.u32 %x0, %s;\ncvta.shared.u64 %x1, %x0;\n\
        mul.wide.u32 %x2, %lane, 16;\nadd.s64 %x1, %x1, %x2;\nst.v4.b32 [%x1], {%lane, 1, 2, 3};\nbar.warp.sync -1;\n\
        ldmatrix.sync.aligned.m8n8.x1.b16 {%r1}, [%x1];\n\
        mul.wide.u32 %x0, %lane, 4;\nadd.s64 %x1, %p0, %x0;\nst.global.b32 [%x1], %r1;\n";
    let out = words(body, vec![vec![0; 128]]);
    assert_eq!(out[..8], [0, 1, 2, 3, 1, 1, 2, 3]);
    let wrong = "ldmatrix.sync.aligned.m8n8.x1.b16 {%r1}, [%p0];\n";
    let (ptx, options) = (kernel(1, wrong), LaunchOptions::default());
    let report = run(
        &ptx,
        "test",
        LaunchConfig::linear(1, 32),
        options,
        &mut [vec![0; 64]],
        &[],
    );
    assert_eq!(report.first_kind(), Some(FindingKind::OutOfBounds));
}

#[test]
fn all_lanes_must_take_part() {
    let guarded = "setp.lt.u32 %q0, %lane, 9;\nmov.b32 %r1, %lane;\n\
        @%q0 movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\n";
    let returned = "setp.lt.u32 %q0, %lane, 9;\n@%q0 ret;\nmov.b32 %r1, %lane;\n\
        movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\n";
    let aside = "setp.lt.u32 %q0, %lane, 9;\nmov.b32 %r1, %lane;\n@%q0 bra past;\n\
        movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\npast:\n";
    for (text, threads) in [(guarded, 32), (returned, 32), (aside, 32), (returned, 48)] {
        let (ptx, options) = (kernel(0, text), LaunchOptions::default());
        let report = run(
            &ptx,
            "test",
            LaunchConfig::linear(1, threads),
            options,
            &mut [],
            &[],
        );
        assert_eq!(
            report.first_kind(),
            Some(FindingKind::DivergentBarrier),
            "{text}"
        );
        assert!(!report.completed);
    }
}

#[test]
fn other_forms_are_refused_by_name() {
    let forms = [
        (
            "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%r0}, {%r0}, {%r0}, {%r0};",
            ".s4",
        ),
        (
            "mma.sync.aligned.m8n8k4.col.row.f32.f16.f16.f32 {%r0}, {%r0}, {%r0}, {%r0};",
            ".row.col",
        ),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r0}, {%r0}, {%r0}, {%r0};",
            "4",
        ),
        (
            "mma.sync.aligned.kind::f8f6f4.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%r0}, {%r0}, {%r0}, {%r0};",
            "kind",
        ),
        (
            "mma.sp.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 {%r0}, {%r0}, {%r0}, {%r0};",
            ".sp",
        ),
        (
            "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0}, [%r1];",
            "m8n8",
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0}, [%r1];",
            "2 registers",
        ),
    ];
    for (text, word) in forms {
        let error = Module::from_ptx(&kernel(0, text)).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}
