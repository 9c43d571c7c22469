//! `wgmma`: products of warpgroups in all their forms, and what goes wrong with them.

use crate::machine::{as_words, assert_clean, bytes_of, random_words, run};
use virtual_gpu::check::finding::FindingKind;
use virtual_gpu::num::{Arch, MmaMode};
use virtual_gpu::{LaunchConfig, LaunchOptions, LaunchReport, Module};

/// Element types, and how small whole numbers are written in them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    /// Bits of exponent and fraction, and bytes.
    Float(&'static str, u32, u32, u32),
    Integer(&'static str),
}

const BF16: Type = Type::Float("bf16", 8, 7, 2);
const F16: Type = Type::Float("f16", 5, 10, 2);
const TF32: Type = Type::Float("tf32", 8, 23, 4);
const E4M3: Type = Type::Float("e4m3", 4, 3, 1);
const E5M2: Type = Type::Float("e5m2", 5, 2, 1);
const S8: Type = Type::Integer("s8");
const U8: Type = Type::Integer("u8");

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Float(name, ..) | Self::Integer(name) => name,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Float(.., bytes) => bytes,
            Self::Integer(_) => 1,
        }
    }

    fn encode(self, value: i32) -> u32 {
        let Self::Float(_, exponent, fraction, _) = self else {
            return value as u32 & 0xff;
        };
        if value == 0 {
            return 0;
        }
        let log = value.unsigned_abs().ilog2();
        let mantissa = (value.unsigned_abs() << fraction >> log) & ((1 << fraction) - 1);
        let biased = log + (1 << (exponent - 1)) - 1;
        u32::from(value < 0) << (exponent + fraction) | biased << fraction | mantissa
    }
}

/// How a matrix lies in shared memory: bytes that a swizzle spans, 16 for none, and whether `mn` is contiguous.
#[derive(Clone, Copy, Debug)]
struct Layout {
    span: u32,
    mn_major: bool,
}

impl Layout {
    /// Bytes from a group of eight to the next, along the strided and the leading dimension, of at most 256 in `mn`.
    fn offsets(self) -> (u32, u32) {
        match (self.mn_major, self.span) {
            (false, 16) => (128, 4096),
            (false, span) => (8 * span, 16),
            (true, 16) => (128, 8192),
            (true, span) => (8 * span, 2 * 8 * span),
        }
    }

    /// Where element (`mn`, `k`) of `bytes` bytes lies, drawn as rows that swizzles rearrange.
    fn place(self, mn: u32, k: u32, bytes: u32) -> u32 {
        let (stride, leading) = self.offsets();
        let (along, across) = if self.mn_major { (mn, k) } else { (k, mn) };
        let byte = along * bytes;
        let linear = match (self.span, self.mn_major) {
            (16, false) => across % 8 * 16 + across / 8 * stride + byte / 16 * leading + byte % 16,
            (16, true) => across % 8 * 16 + across / 8 * leading + byte / 16 * stride + byte % 16,
            (span, _) => {
                across % 8 * span + across / 8 * stride + byte / span * leading + byte % span
            }
        };
        let (chunk, line) = (linear / 16, linear / 128);
        (chunk ^ (line & (self.span / 16 - 1))) * 16 + linear % 16
    }

    fn descriptor(self) -> u64 {
        let (stride, leading) = self.offsets();
        let mode = match self.span {
            16 => 0u64,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        u64::from(leading / 16) << 16 | u64::from(stride / 16) << 32 | mode << 62
    }
}

/// One product.
#[derive(Clone, Copy, Debug)]
struct Form {
    n: u32,
    d: &'static str,
    a: Type,
    b: Type,
    a_layout: Option<Layout>,
    b_layout: Layout,
    negated: (bool, bool),
    adds: bool,
}

const B_AT: u32 = 64 << 10;

impl Form {
    fn k(&self) -> u32 {
        32 / self.a.bytes()
    }

    fn registers(&self) -> u32 {
        if self.d == "f16" {
            self.n / 4
        } else {
            self.n / 2
        }
    }

    fn instruction(&self) -> String {
        let sums: Vec<String> = (0..self.registers()).map(|i| format!("%s{i}")).collect();
        let a = if self.a_layout.is_some() {
            "%da"
        } else {
            "{%a0, %a1, %a2, %a3}"
        };
        let sign = |negated: bool| if negated { -1 } else { 1 };
        let mut tail = String::new();
        if self.d != "s32" {
            tail += &format!(", {}, {}", sign(self.negated.0), sign(self.negated.1));
        }
        if self.a.bytes() == 2 {
            if let Some(layout) = self.a_layout {
                tail += &format!(", {}", u32::from(layout.mn_major));
            }
            tail += &format!(", {}", u32::from(self.b_layout.mn_major));
        }
        format!(
            "wgmma.mma_async.sync.aligned.m64n{}k{}.{}.{}.{} {{{}}}, {a}, %db, %adds{tail};\n",
            self.n,
            self.k(),
            self.d,
            self.a.name(),
            self.b.name(),
            sums.join(", ")
        )
    }

    /// The kernel: words of shared memory, registers of A, and the sums, which begin with `start`.
    fn ptx(&self, start: u32, product: &str) -> String {
        let a = self.a_layout.map_or(0, Layout::descriptor);
        let mut text = format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 image[];\n\
             .visible .entry test(.param .u64 x, .param .u64 r, .param .u64 y, .param .u32 n)\n{{\n\
             .reg .b32 %s<128>;\n.reg .b32 %a<4>;\n.reg .b64 %da, %db, %x<8>;\n.reg .b32 %i<8>;\n.reg .pred %p, %adds;\n\
             ld.param.u64 %x0, [x];\nld.param.u64 %x1, [r];\nld.param.u64 %x2, [y];\nld.param.u32 %i0, [n];\n\
             mov.u32 %i1, %tid.x;\nmov.u32 %i3, image;\n\
             fill: setp.ge.u32 %p, %i1, %i0;\n@%p bra filled;\nmul.wide.u32 %x3, %i1, 4;\nadd.u64 %x3, %x0, %x3;\n\
             ld.global.u32 %i2, [%x3];\nshl.b32 %i4, %i1, 2;\nadd.u32 %i4, %i4, %i3;\nst.shared.u32 [%i4], %i2;\n\
             add.u32 %i1, %i1, 128;\nbra fill;\nfilled:\nfence.proxy.async;\nbar.sync 0;\n\
             shr.u32 %i4, %i3, 4;\ncvt.u64.u32 %x3, %i4;\nor.b64 %da, %x3, {a:#x};\n\
             add.u32 %i4, %i3, {B_AT};\nshr.u32 %i4, %i4, 4;\ncvt.u64.u32 %x3, %i4;\nor.b64 %db, %x3, {:#x};\n\
             setp.eq.u32 %adds, {}, 1;\nmov.u32 %i1, %tid.x;\nmul.wide.u32 %x3, %i1, 4;\nadd.u64 %x1, %x1, %x3;\n\
             add.u64 %x2, %x2, %x3;\n",
            self.b_layout.descriptor(),
            u32::from(self.adds)
        );
        for i in 0..4 {
            text += &format!("ld.global.b32 %a{i}, [%x1+{}];\n", 512 * i);
        }
        for i in 0..self.registers() {
            text += &format!("mov.b32 %s{i}, {start};\n");
        }
        text += product;
        for i in 0..self.registers() {
            text += &format!("st.global.b32 [%x2+{}], %s{i};\n", 512 * i);
        }
        text + "ret;\n}\n"
    }
}

const WHOLE: [&str; 2] = [
    "wgmma.fence.sync.aligned;\n",
    "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n",
];

/// Small whole numbers without pattern.
fn matrix(seed: u64, rows: u32, k: u32, ty: Type) -> Vec<Vec<i32>> {
    let low = if ty == U8 { 0 } else { -3 };
    let words = random_words(seed, (rows * k) as usize);
    let value = |word: &u32| low + (word >> 7) as i32 % 7;
    words
        .chunks(k as usize)
        .map(|row| row.iter().map(value).collect())
        .collect()
}

/// A and B, each by rows of sums.
type Matrices = [Vec<Vec<i32>>; 2];

/// Shared memory, registers of A and room for the sums, and the matrices in them.
fn inputs(form: &Form) -> ([Vec<u8>; 3], Matrices) {
    let (a, b) = (
        matrix(1, 64, form.k(), form.a),
        matrix(2, form.n, form.k(), form.b),
    );
    let mut image = vec![0; 160 << 10];
    let mut put = |at: u32, layout: Layout, matrix: &[Vec<i32>], ty: Type| {
        for (mn, row) in matrix.iter().enumerate() {
            for (k, value) in row.iter().enumerate() {
                let to = (at + layout.place(mn as u32, k as u32, ty.bytes())) as usize;
                let bytes = ty.encode(*value).to_le_bytes();
                image[to..to + ty.bytes() as usize].copy_from_slice(&bytes[..ty.bytes() as usize]);
            }
        }
    };
    if let Some(layout) = form.a_layout {
        put(0, layout, &a, form.a);
    }
    put(B_AT, form.b_layout, &b, form.b);
    // A register holds neighbours in k: register r of thread t has row 16 (t / 32) + t % 32 / 4 + 8 (r % 2).
    let each = 4 / form.a.bytes();
    let mut registers = Vec::new();
    for r in 0..4u32 {
        for t in 0..128u32 {
            let row = 16 * (t / 32) + t % 32 / 4 + 8 * (r % 2);
            let first = each * (4 * (r / 2) + t % 4);
            let bits = 8 * form.a.bytes();
            registers.push((0..each).fold(0u32, |word, i| {
                let element = form.a.encode(a[row as usize][(first + i) as usize]);
                word | element << (bits * i % 32)
            }));
        }
    }
    let sums = vec![0; form.registers() as usize * 512];
    ([image, bytes_of(registers), sums], [a, b])
}

fn launch(form: &Form, ptx: &str, options: LaunchOptions) -> (LaunchReport, Vec<u32>, Matrices) {
    let (mut buffers, matrices) = inputs(form);
    let words = buffers[0].len() as u32 / 4;
    let config = LaunchConfig {
        dynamic_shared: 160 << 10,
        ..LaunchConfig::linear(1, 128)
    };
    let report = run(ptx, "test", config, options, &mut buffers, &[words]);
    (report, as_words(&buffers[2]), matrices)
}

fn check(form: &Form, options: LaunchOptions) {
    let start: i32 = 5;
    let half = F16.encode(start) | F16.encode(start) << 16;
    let bits = match form.d {
        "f16" => half,
        "s32" => start as u32,
        _ => (start as f32).to_bits(),
    };
    let ptx = form.ptx(
        bits,
        &format!("{}{}{}", WHOLE[0], form.instruction(), WHOLE[1]),
    );
    let (report, found, [a, b]) = launch(form, &ptx, options);
    assert_clean(&report);
    let sign = if form.negated.0 != form.negated.1 {
        -1
    } else {
        1
    };
    let sum = |row: u32, column: u32| {
        let products = a[row as usize]
            .iter()
            .zip(&b[column as usize])
            .map(|(a, b)| a * b);
        sign * products.sum::<i32>() + if form.adds { start } else { 0 }
    };
    for (index, word) in found.into_iter().enumerate() {
        let (r, t) = (index as u32 / 128, index as u32 % 128);
        let row = 16 * (t / 32) + t % 32 / 4;
        let expected = match form.d {
            "f16" => {
                let column = r / 2 * 8 + t % 4 * 2;
                let at = |column| F16.encode(sum(row + 8 * (r % 2), column));
                at(column) | at(column + 1) << 16
            }
            ty => {
                let sum = sum(row + 8 * (r / 2 % 2), r / 4 * 8 + t % 4 * 2 + r % 2);
                if ty == "s32" {
                    sum as u32
                } else {
                    (sum as f32).to_bits()
                }
            }
        };
        assert_eq!(word, expected, "{form:?}: register {r} of thread {t}");
    }
}

const PLAIN: Layout = Layout {
    span: 16,
    mn_major: false,
};

fn form(n: u32, d: &'static str, a: Type, b: Type) -> Form {
    Form {
        n,
        d,
        a,
        b,
        a_layout: Some(PLAIN),
        b_layout: PLAIN,
        negated: (false, false),
        adds: true,
    }
}

#[test]
fn all_types_give_sums_of_products() {
    let types = [
        ("f32", BF16, BF16),
        ("f32", F16, F16),
        ("f16", F16, F16),
        ("f32", TF32, TF32),
        ("f32", E4M3, E5M2),
        ("f16", E5M2, E4M3),
        ("f32", E4M3, E4M3),
        ("s32", S8, S8),
        ("s32", U8, S8),
        ("s32", S8, U8),
        ("s32", U8, U8),
    ];
    for (index, (d, a, b)) in types.into_iter().enumerate() {
        for (mode, in_registers) in [(MmaMode::Exact(Arch::Hopper), false), (MmaMode::Fast, true)] {
            let mut form = form([8, 24, 32][index % 3], d, a, b);
            form.adds = index % 2 == 0;
            if in_registers {
                form.a_layout = None;
            }
            if d != "s32" {
                form.negated = (index % 3 == 0, index % 4 == 1);
            }
            let options = LaunchOptions {
                mma: mode,
                seed: index as u64,
                ..LaunchOptions::default()
            };
            check(&form, options);
        }
    }
}

#[test]
fn all_layouts_are_read() {
    for span in [16, 32, 64, 128] {
        for mn_major in [false, true] {
            for turned in [false, true] {
                let mut form = form(64, "f32", BF16, BF16);
                form.a_layout = Some(Layout { span, mn_major });
                form.b_layout = Layout {
                    span,
                    mn_major: turned,
                };
                // Rows of 64 bytes and less hold fewer columns than the matrix has in groups that follow each other.
                check(&form, LaunchOptions::default());
            }
        }
    }
    let mut wide = form(256, "f32", BF16, BF16);
    wide.b_layout.span = 128;
    check(&wide, LaunchOptions::default());
}

#[test]
fn eight_bit_floats_are_added_with_few_bits() {
    // 448 * 448 is below 2^18, so that 13 bits below it end at 2^4: 3 * 3 is lost, or not with all 25 bits.
    let mut form = form(8, "f32", E4M3, E4M3);
    form.adds = false;
    let text = form.ptx(
        0,
        &format!("{}{}{}", WHOLE[0], form.instruction(), WHOLE[1]),
    );
    for (mode, expected) in [
        (MmaMode::Exact(Arch::Hopper), 200_704.0f32),
        (MmaMode::Fast, 200_713.0),
    ] {
        let mut image = vec![0u8; 160 << 10];
        // Row 0 of A and column 0 of B: 448, then 3 (0x7e and 0x44).
        (image[0], image[1]) = (0x7e, 0x44);
        (image[B_AT as usize], image[B_AT as usize + 1]) = (0x7e, 0x44);
        let mut buffers = [image, vec![0; 2048], vec![0; 2048]];
        let config = LaunchConfig {
            dynamic_shared: 160 << 10,
            ..LaunchConfig::linear(1, 128)
        };
        let options = LaunchOptions {
            mma: mode,
            ..LaunchOptions::default()
        };
        let report = run(&text, "test", config, options, &mut buffers, &[40 << 10]);
        assert_clean(&report);
        assert_eq!(f32::from_bits(as_words(&buffers[2])[0]), expected);
    }
}

#[test]
fn products_are_counted() {
    let form = form(64, "f32", BF16, BF16);
    let text = form.ptx(
        0,
        &format!("{}{}{}", WHOLE[0], form.instruction(), WHOLE[1]),
    );
    let (report, _, _) = launch(&form, &text, LaunchOptions::default());
    assert_eq!(report.counters.tensor_flops, 2 * 64 * 64 * 16);
    assert_eq!(
        report.counters.tensor[0].shape,
        "m64n64k16 f32.bf16.bf16.f32"
    );
    assert_eq!(report.counters.tensor[0].count, 4);
}

#[test]
fn misuse_of_products_is_found() {
    let form = form(8, "f32", BF16, BF16);
    let [fence, wait] = WHOLE;
    let product = form.instruction();
    let mut sources = form;
    sources.a_layout = None;
    let from_registers = sources.instruction();
    let commit = "wgmma.commit_group.sync.aligned;\n";
    let cases = [
        // Sums before they are there.
        (
            format!("{fence}{product}{commit}mov.b32 %i5, %s1;\n{wait}"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{product}{commit}mov.b32 %s1, 0;\n{wait}"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{product}{commit}{product}{commit}wgmma.wait_group.sync.aligned 1;\n"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{product}wgmma.wait_group.sync.aligned 0;\n"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{from_registers}{commit}mov.b32 %a2, 0;\n{wait}"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{from_registers}{commit}ld.global.b32 %a2, [%x1];\n{wait}"),
            Some(FindingKind::PendingAsyncRead),
        ),
        (
            format!("{fence}{from_registers}{commit}mov.b32 %i5, %a2;\n{wait}"),
            None,
        ),
        (format!("{fence}{product}{commit}{product}{wait}"), None),
        // Fences of registers.
        (
            format!("{product}{wait}"),
            Some(FindingKind::MissingProxyFence),
        ),
        (
            format!("{fence}mov.b32 %s0, 0;\n{product}{wait}"),
            Some(FindingKind::MissingProxyFence),
        ),
        (
            format!("{fence}mov.b32 %a0, 0;\n{from_registers}{wait}"),
            Some(FindingKind::MissingProxyFence),
        ),
        (
            format!("{fence}{product}{wait}add.f32 %s0, %s0, %s0;\n{product}{wait}"),
            Some(FindingKind::MissingProxyFence),
        ),
        (
            format!("{fence}{product}{wait}add.f32 %s0, %s0, %s0;\n{fence}{product}{wait}"),
            None,
        ),
        // Shared memory.
        (
            format!(
                "setp.eq.u32 %p, %i1, 0;\n@%p st.shared.u32 [%i3], 1;\nbar.sync 0;\n{fence}{product}{wait}"
            ),
            Some(FindingKind::MissingProxyFence),
        ),
        (
            format!(
                "{fence}{product}{commit}setp.eq.u32 %p, %i1, 0;\n@%p st.shared.u32 [image], 1;\n{wait}"
            ),
            Some(FindingKind::RaceShared),
        ),
        (
            format!(
                "{fence}{product}{wait}bar.sync 0;\nsetp.eq.u32 %p, %i1, 0;\n@%p st.shared.u32 [image], 1;\n"
            ),
            None,
        ),
        (
            format!("add.u64 %da, %da, 0x2800;\n{fence}{product}{wait}"),
            Some(FindingKind::OutOfBounds),
        ),
        (
            format!(
                "or.b64 %db, %db, 0x4000000000000000;\nadd.u64 %db, %db, 8;\n{fence}{product}{wait}"
            ),
            Some(FindingKind::Misaligned),
        ),
        // All warps of the group, and all of the same.
        (
            format!("setp.lt.u32 %p, %i1, 96;\n@!%p bra out;\n{fence}{product}{wait}out:\n"),
            Some(FindingKind::Deadlock),
        ),
        (
            format!("setp.lt.u32 %p, %i1, 96;\n@!%p add.u64 %db, %db, 16;\n{fence}{product}{wait}"),
            Some(FindingKind::DivergentBarrier),
        ),
        (
            format!("setp.lt.u32 %p, %i1, 16;\n@%p bra out;\n{fence}{product}{wait}out:\n"),
            Some(FindingKind::DivergentBarrier),
        ),
    ];
    for (text, expected) in cases {
        for seed in 0..3 {
            let options = LaunchOptions {
                seed,
                ..LaunchOptions::default()
            };
            let (report, ..) = launch(&form, &form.ptx(0, &text), options);
            assert_eq!(
                report.first_kind(),
                expected,
                "{text} {seed} {:?}",
                report.findings
            );
        }
    }
}

#[test]
fn forms_that_there_are_not_are_refused() {
    let good = form(8, "f32", BF16, BF16);
    let text = good.instruction();
    let changed = |from: &str, to: &str| good.ptx(0, &text.replacen(from, to, 1));
    assert!(Module::from_ptx(&changed("x", "x")).is_ok());
    for (from, to) in [
        ("m64n8k16", "m64n12k16"),
        ("m64n8k16", "m64n8k32"),
        ("m64n8k16", "m128n8k16"),
        ("f32.bf16.bf16", "f16.bf16.bf16"),
        ("f32.bf16.bf16", "f32.bf16.f16"),
        ("%s3}", "%s3, %s4}"),
        (", 1, 1, 0, 0", ", 2, 1, 0, 0"),
        (", 1, 1, 0, 0", ", 1, 1, 0, 2"),
        (", 1, 1, 0, 0", ", 1, 1"),
        (".sync.aligned", ".sync"),
    ] {
        let error = Module::from_ptx(&changed(from, to));
        assert!(error.is_err(), "{to}");
    }
    let mut narrow = form(40, "s32", S8, S8);
    assert!(Module::from_ptx(&narrow.ptx(0, &narrow.instruction())).is_err());
    narrow.n = 48;
    assert!(Module::from_ptx(&narrow.ptx(0, &narrow.instruction())).is_ok());
}
