//! Kernels made of one instruction, run over edge and random values, compared with a reference.

use std::collections::BTreeSet;
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, Module, Profile, ptx};

/// Head of every module.
pub const HEAD: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// Width of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    H,
    W,
    D,
    P,
}

impl Kind {
    fn mask(self) -> u64 {
        match self {
            Kind::H => 0xffff,
            Kind::W => 0xffff_ffff,
            Kind::D => u64::MAX,
            Kind::P => 1,
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Kind::H => "h",
            Kind::W => "w",
            Kind::D => "d",
            Kind::P => "p",
        }
    }

    fn ty(self) -> &'static str {
        match self {
            Kind::H => "b16",
            Kind::W => "b32",
            Kind::D => "b64",
            Kind::P => "pred",
        }
    }
}

/// What values a source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    I16,
    I32,
    I64,
    /// A shift amount or a bit position in 32 bits.
    Small,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
    Bool,
}

impl Class {
    pub fn kind(self) -> Kind {
        match self {
            Class::I16 | Class::F16 | Class::Bf16 => Kind::H,
            Class::I64 | Class::F64 => Kind::D,
            Class::Bool => Kind::P,
            _ => Kind::W,
        }
    }

    fn edges(self) -> Vec<u64> {
        const F16: [u64; 18] = [
            0, 0x8000, 1, 0x83ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00,
            0x7c01, 0xfe01, 0x3800, 0x3c01, 0x5640, 0xb555,
        ];
        const BF16: [u64; 18] = [
            0, 0x8000, 1, 0x807f, 0x0080, 0x3f80, 0xbf80, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0,
            0x7f81, 0xffc1, 0x3f00, 0x3f81, 0x42c8, 0xbeab,
        ];
        let pairs = |halves: &[u64]| {
            let n = halves.len();
            (0..n)
                .map(|i| halves[i] | halves[(i * 7 + 3) % n] << 16)
                .collect()
        };
        match self {
            Class::I16 => vec![
                0, 1, 2, 3, 7, 0x7f, 0x80, 0xff, 0x100, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe,
                0xffff,
            ],
            Class::I32 => vec![
                0,
                1,
                2,
                3,
                31,
                0x7f80,
                0xffff,
                0x1_0000,
                0xff_ffff,
                0x80_0000,
                0x7fff_fffe,
                0x7fff_ffff,
                0x8000_0000,
                0x8000_0001,
                0xffff_fffe,
                0xffff_ffff,
                0x8180_7f01,
            ],
            Class::I64 => vec![
                0,
                1,
                2,
                3,
                63,
                0xffff_ffff,
                0x1_0000_0000,
                i64::MAX as u64,
                1 << 63,
                (1 << 63) + 1,
                u64::MAX - 1,
                u64::MAX,
                0x8000_0000,
                0xffff_ffff_8000_0000,
                0x0123_4567_89ab_cdef,
            ],
            Class::Small => vec![
                0,
                1,
                2,
                7,
                8,
                15,
                16,
                17,
                31,
                32,
                33,
                47,
                63,
                64,
                65,
                127,
                128,
                255,
                256,
                257,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                0x110,
            ],
            Class::F16 => F16.to_vec(),
            Class::Bf16 => BF16.to_vec(),
            Class::F16x2 => pairs(&F16),
            Class::Bf16x2 => pairs(&BF16),
            Class::F32 => vec![
                0,
                0x8000_0000,
                1,
                0x8000_0001,
                0x007f_ffff,
                0x0080_0000,
                0x8080_0000,
                0x3f80_0000,
                0xbf80_0000,
                0x7f7f_ffff,
                0xff7f_ffff,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0xffc0_0001,
                0x7f80_0001,
                0x3f00_0000,
                0x3f80_0001,
                0x4b80_0001,
                0xbdcc_cccd,
                0x4f00_0000,
                0xcf00_0000,
                0x5f00_0000,
                0x3fc0_0000,
                0xc020_0000,
            ],
            Class::F64 => vec![
                0,
                1 << 63,
                1,
                0x000f_ffff_ffff_ffff,
                0x0010_0000_0000_0000,
                0x3ff0_0000_0000_0000,
                0xbff0_0000_0000_0000,
                0x7fef_ffff_ffff_ffff,
                0xffef_ffff_ffff_ffff,
                0x7ff0_0000_0000_0000,
                0xfff0_0000_0000_0000,
                0x7ff8_0000_0000_0000,
                0xfff8_0000_0000_0001,
                0x7ff0_0000_0000_0001,
                0x3fe0_0000_0000_0000,
                0x3ff0_0000_0000_0001,
                0x47ef_ffff_f000_0000,
                0x36a0_0000_0000_0000,
                0x41e0_0000_0000_0000,
                0xc3e0_0000_0000_0000,
                0xc004_0000_0000_0000,
            ],
            Class::Bool => vec![0, 1],
        }
    }

    fn random(self, rng: &mut Rng) -> u64 {
        let bits = rng.next();
        // Half of the floats have exponents near each other.
        let near = bits >> 60 & 1 == 0;
        let half = |bits: u64| {
            if near {
                bits & 0x83ff | (13 + (bits >> 10 & 3)) << 10
            } else {
                bits & 0xffff
            }
        };
        let brain = |bits: u64| {
            if near {
                bits & 0x807f | (125 + (bits >> 7 & 3)) << 7
            } else {
                bits & 0xffff
            }
        };
        match self {
            Class::I16 => bits & 0xffff,
            Class::I32 => bits >> 8 & 0xffff_ffff,
            Class::I64 => bits,
            Class::Small => bits & 0x7f,
            Class::F16 => half(bits),
            Class::Bf16 => brain(bits),
            Class::F16x2 => half(bits) | half(bits >> 20) << 16,
            Class::Bf16x2 => brain(bits) | brain(bits >> 20) << 16,
            Class::F32 if near => bits & 0x807f_ffff | (117 + (bits >> 40) % 20) << 23,
            Class::F32 => bits & 0xffff_ffff,
            Class::F64 if near => {
                bits & 0x800f_ffff_ffff_ffff | (1010 + (rng.next() >> 40) % 26) << 52
            }
            Class::F64 => bits,
            Class::Bool => bits & 1,
        }
    }

    /// A constant operand and its bits.
    fn constant(self) -> Option<(&'static str, u64)> {
        Some(match self {
            Class::I16 => ("-3", 0xfffd),
            Class::I32 => ("-3", 0xffff_fffd),
            Class::I64 => ("-3", u64::MAX - 2),
            Class::Small => ("5", 5),
            Class::F32 => ("0fBFC00000", 0xbfc0_0000),
            Class::F64 => ("0d3FF8000000000000", 0x3ff8_0000_0000_0000),
            _ => return None,
        })
    }
}

/// A generator of numbers that are the same in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

type Reference = Box<dyn Fn(&[u64]) -> Vec<u64>>;
type Judge = Box<dyn Fn(&[u64], &[u64]) -> bool>;

/// How a result is judged.
pub enum Check {
    /// It is these bits.
    Exact(Reference),
    /// The function accepts sources and results.
    Accept(Judge),
}

/// One instruction form.
pub struct Form {
    /// Lines without their semicolons: `D0`, `D1` are the results, `S0`, `S1`, ... the sources, `t0`..`t7` 32-bit and
    /// `u0`..`u7` 64-bit registers.
    pub body: String,
    pub results: Vec<Kind>,
    pub sources: Vec<Class>,
    pub check: Check,
    /// Whether the body is `opcode D0, S0, ...` and so can have other operands.
    plain: bool,
}

/// `opcode D0, S0, S1, ...` with an exact result.
pub fn form(
    opcode: impl Into<String>,
    result: Kind,
    sources: &[Class],
    reference: impl Fn(&[u64]) -> u64 + 'static,
) -> Form {
    let mut form = body(opcode.into(), &[result], sources, move |x| {
        vec![reference(x)]
    });
    let names: Vec<String> = (0..sources.len())
        .map(|index| format!("S{index}"))
        .collect();
    form.body = format!("{} D0, {}", form.body, names.join(", "));
    form.plain = true;
    form
}

/// As [`form`], judged by a function of sources and result.
pub fn bounded(
    opcode: impl Into<String>,
    result: Kind,
    sources: &[Class],
    judge: impl Fn(&[u64], u64) -> bool + 'static,
) -> Form {
    let mut form = form(opcode, result, sources, |_| 0);
    form.check = Check::Accept(Box::new(move |x, y| judge(x, y[0])));
    form
}

/// Any lines.
pub fn body(
    body: impl Into<String>,
    results: &[Kind],
    sources: &[Class],
    reference: impl Fn(&[u64]) -> Vec<u64> + 'static,
) -> Form {
    Form {
        body: body.into(),
        results: results.to_vec(),
        sources: sources.to_vec(),
        check: Check::Exact(Box::new(reference)),
        plain: false,
    }
}

/// What a lane keeps that an instruction does not run for.
const OLD: u64 = 0x5a5a_a5a5_1234_4321;

struct Variant {
    guard: &'static str,
    /// The operand that is the destination too.
    shared: Option<usize>,
    constant: Option<(&'static str, u64)>,
}

impl Form {
    /// Opcodes of the body.
    pub fn opcodes(&self) -> impl Iterator<Item = &str> {
        self.body
            .lines()
            .filter_map(|line| line.split_whitespace().next())
    }

    /// The plain variant, and all others where asked.
    fn variants(&self, all: bool) -> Vec<Variant> {
        let plain = |guard| Variant {
            guard,
            shared: None,
            constant: None,
        };
        if !all {
            return vec![plain("")];
        }
        let mut variants = vec![plain(""), plain("@q "), plain("@!q ")];
        if self.plain {
            let last = self.sources.len() - 1;
            for index in [0, last] {
                if self.sources[index].kind() == self.results[0]
                    && (index == last || index == 0 && last != 0)
                {
                    variants.push(Variant {
                        shared: Some(index),
                        ..plain("")
                    });
                }
            }
            if last > 0
                && let Some(constant) = self.sources[last].constant()
            {
                variants.push(Variant {
                    constant: Some(constant),
                    ..plain("")
                });
            }
        }
        variants
    }

    /// The text of a kernel that runs the variants on `count` lanes. A body may use its lane's 32 bytes of shared
    /// memory at `sa` (generic: `sg`) and of local memory at `mine` (generic: `lg`), and the sources in memory at
    /// `from`.
    pub fn text(&self, count: usize, all: bool) -> String {
        let mut text = format!(
            "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .pred p<16>, q, off;\n.reg .b16 h<16>;\n\
             .reg .b32 w<16>, t<8>, i, n, z;\n.reg .b64 d<16>, u<8>, from, to, at;\n{}\
             mov.u32 i, %ctaid.x;\nmov.u32 n, %ntid.x;\nmov.u32 z, %tid.x;\nmad.lo.u32 i, i, n, z;\n\
             setp.ge.u32 off, i, {count};\n@off ret;\nand.b32 z, i, 5;\nsetp.eq.u32 q, z, 0;\n\
             ld.param.u64 from, [in];\nld.param.u64 to, [out];\nmul.wide.u32 at, i, {};\nadd.s64 from, from, at;\n\
             mul.wide.u32 at, i, 8;\nadd.s64 to, to, at;\n",
            self.rooms(),
            8 * self.stride()
        );
        let name = |kind: Kind, index: usize| format!("{}{index}", kind.letter());
        for (index, class) in self.sources.iter().enumerate() {
            let at = 8 * index;
            text += &match class.kind() {
                // The upper half of a 16-bit register's row must not matter.
                Kind::H => format!("ld.global.s16 h{index}, [from+{at}];\n"),
                Kind::W => format!("ld.global.b32 w{index}, [from+{at}];\n"),
                Kind::D => format!("ld.global.b64 d{index}, [from+{at}];\n"),
                Kind::P => format!("ld.global.u32 z, [from+{at}];\nsetp.ne.u32 p{index}, z, 0;\n"),
            };
        }
        for (number, variant) in self.variants(all).iter().enumerate() {
            for (index, kind) in self.results.iter().enumerate() {
                let register = name(*kind, 8 + index);
                text += &match (variant.shared, kind) {
                    (Some(source), _) => {
                        format!("mov.{} {register}, {};\n", kind.ty(), name(*kind, source))
                    }
                    (_, Kind::P) => format!("setp.eq.u32 {register}, i, i;\n"),
                    _ => format!("mov.{} {register}, {};\n", kind.ty(), OLD & kind.mask()),
                };
            }
            let mut lines = self.body.clone();
            for (index, kind) in self.results.iter().enumerate() {
                lines = lines.replace(&format!("D{index}"), &name(*kind, 8 + index));
            }
            for (index, class) in self.sources.iter().enumerate() {
                let constant = variant.constant.filter(|_| index + 1 == self.sources.len());
                let operand = match constant {
                    Some((constant, _)) => constant.to_string(),
                    None if variant.shared == Some(index) => name(class.kind(), 8),
                    None => name(class.kind(), index),
                };
                lines = lines.replace(&format!("S{index}"), &operand);
            }
            for line in lines.lines() {
                text += &format!("{}{line};\n", variant.guard);
            }
            for (index, kind) in self.results.iter().enumerate() {
                let at = 8 * count * (number * self.results.len() + index);
                let register = name(*kind, 8 + index);
                text += &if *kind == Kind::P {
                    format!("selp.b32 z, 1, 0, {register};\nst.global.b32 [to+{at}], z;\n")
                } else {
                    format!("st.global.{} [to+{at}], {register};\n", kind.ty())
                };
            }
        }
        text + "ret;\n}\n"
    }

    /// Words from one lane's sources to the next one's; vectors of 16 bytes are aligned.
    fn stride(&self) -> usize {
        self.sources.len().next_multiple_of(2)
    }

    fn rooms(&self) -> String {
        if !["sa", "sg", "lg", "mine"]
            .iter()
            .any(|name| self.body.contains(name))
        {
            return String::new();
        }
        ".shared .align 16 .b8 room[2560];\n.local .align 16 .b8 mine[32];\n.reg .b32 sa;\n.reg .b64 sg, lg;\n\
         mov.u32 sa, %tid.x;\nmul.lo.u32 sa, sa, 32;\nmov.u32 z, room;\nadd.u32 sa, sa, z;\ncvt.u64.u32 sg, sa;\n\
         cvta.shared.u64 sg, sg;\nmov.u64 lg, mine;\ncvta.local.u64 lg, lg;\n"
            .to_string()
    }

    /// Whether every value of the only source is tried.
    fn exhaustive(&self) -> bool {
        matches!(self.sources[..], [class] if class.kind() == Kind::H)
    }

    fn lanes(&self) -> Vec<Vec<u64>> {
        let mut rng = Rng(self.body.len() as u64 * 977 + self.sources.len() as u64);
        let mut lanes = Vec::new();
        let edges: Vec<Vec<u64>> = self.sources.iter().map(|class| class.edges()).collect();
        let all: usize = edges.iter().map(Vec::len).product();
        // All combinations of edges, or as many as there is room for, spread over them.
        let step = all.div_ceil(900) | 1;
        let mut index = 0;
        while index < all {
            let mut rest = index;
            let lane = edges.iter().map(|edges| {
                let value = edges[rest % edges.len()];
                rest /= edges.len();
                value
            });
            lanes.push(lane.collect());
            index += step;
        }
        for round in 0..700 {
            let lane = self.sources.iter().enumerate().map(|(at, class)| {
                let edges = &edges[at];
                let random = class.random(&mut rng);
                // Some random values meet an edge.
                if round % 8 == at {
                    edges[random as usize % edges.len()]
                } else {
                    random
                }
            });
            lanes.push(lane.collect());
        }
        lanes
    }

    /// Runs the form and compares every lane of every variant.
    pub fn run(&self) {
        self.run_on(self.lanes(), true, 80);
        if self.exhaustive() {
            self.run_on((0..1 << 16).map(|bits| vec![bits]).collect(), false, 1024);
        }
    }

    fn run_on(&self, lanes: Vec<Vec<u64>>, all: bool, block: u32) {
        let count = lanes.len();
        let text = self.text(count, all);
        let module =
            Module::from_ptx(&text).unwrap_or_else(|error| panic!("{}: {error}", self.body));
        let variants = self.variants(all);
        let padding = [0].repeat(self.stride() - self.sources.len());
        let input: Vec<u8> = lanes
            .iter()
            .flat_map(|lane| lane.iter().chain(&padding))
            .flat_map(|value: &u64| value.to_le_bytes())
            .collect();
        let output = launch(
            &module,
            &input,
            8 * count * variants.len() * self.results.len(),
            count,
            block,
        );
        for (number, variant) in variants.iter().enumerate() {
            for (lane, sources) in lanes.iter().enumerate() {
                let got: Vec<u64> = (0..self.results.len())
                    .map(|index| output[count * (number * self.results.len() + index) + lane])
                    .collect();
                let runs = match variant.guard {
                    "" => true,
                    "@q " => lane & 5 == 0,
                    _ => lane & 5 != 0,
                };
                let mut sources = sources.clone();
                if let (Some((_, value)), Some(last)) = (variant.constant, sources.last_mut()) {
                    *last = value;
                }
                let expected = match &self.check {
                    _ if !runs => self.results.iter().map(|kind| OLD & kind.mask()).collect(),
                    Check::Exact(reference) => reference(&sources),
                    Check::Accept(judge) => {
                        assert!(
                            judge(&sources, &got),
                            "{} variant {number} lane {lane}: of {sources:x?} got {got:x?}",
                            self.body
                        );
                        continue;
                    }
                };
                let masked: Vec<u64> = expected
                    .iter()
                    .zip(&self.results)
                    .map(|(value, kind)| value & kind.mask())
                    .collect();
                assert_eq!(
                    got, masked,
                    "{} variant {number} lane {lane}: of {sources:x?} got {got:x?}, expected {masked:x?}",
                    self.body
                );
            }
        }
    }
}

/// Runs all forms, and says all that fail.
pub fn run_all(forms: &[Form]) {
    let failures: Vec<String> = forms
        .iter()
        .filter_map(|form| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| form.run()));
            let error = result.err()?;
            let message = error.downcast_ref::<String>().cloned();
            Some(message.unwrap_or_else(|| form.body.clone()))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} forms fail:\n{}",
        failures.len(),
        forms.len(),
        failures.join("\n")
    );
}

/// Launches `k(in, out)` on at least `threads` threads in blocks of `block`; `out` is `bytes` of zeros before.
pub fn launch(module: &Module, input: &[u8], bytes: usize, threads: usize, block: u32) -> Vec<u64> {
    let config = LaunchConfig::linear((threads as u32).div_ceil(block), block);
    let output = run(module, &config, input, bytes);
    output
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// Launches `k(in, out)`; `out` is `bytes` of zeros before. There must be no findings.
pub fn run(module: &Module, config: &LaunchConfig, input: &[u8], bytes: usize) -> Vec<u8> {
    let mut device = Device::new(Profile::h100());
    let from = device.alloc(input.len().max(8)).unwrap();
    let to = device.alloc(bytes).unwrap();
    device.write(from, input).unwrap();
    device.write(to, &vec![0; bytes]).unwrap();
    let parameters = [from.0.to_le_bytes(), to.0.to_le_bytes()].concat();
    let options = LaunchOptions {
        checks: Checks::Bounds,
        counters: false,
        ..LaunchOptions::default()
    };
    let report = device
        .launch(module, "k", config, &parameters, &options)
        .unwrap();
    assert!(report.completed, "{:?}", report.findings);
    let mut output = vec![0; bytes];
    device.read(to, &mut output).unwrap();
    output
}

/// The opcodes of a text.
pub fn opcodes_of(text: &str, into: &mut BTreeSet<String>) {
    let module = ptx::parse(text).unwrap();
    for function in &module.functions {
        for statement in function.body.iter().flatten() {
            if let ptx::Statement::Instruction(instruction) = statement {
                into.insert(instruction.opcode.clone());
            }
        }
    }
}
