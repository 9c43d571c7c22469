//! Kernels made of one instruction, run over edge and random values, compared with a reference.

use std::collections::BTreeSet;

pub use crate::operand::{Class, Kind, Rng};
use virtual_gpu::{Checks, Device, LaunchConfig, LaunchOptions, Module, Profile, ptx};

/// Head of every module.
pub const HEAD: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

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
    /// Sources that are constants.
    constants: Vec<usize>,
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
            constants: Vec::new(),
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
            // Sources but the first: handlers are made for each set of constants among them.
            let sets: &[&[usize]] = match last {
                0 => &[],
                2 => &[&[2], &[1], &[1, 2]],
                _ => &[&[last]],
            };
            for set in sets {
                if set
                    .iter()
                    .all(|source| self.sources[*source].constant().is_some())
                {
                    variants.push(Variant {
                        constants: set.to_vec(),
                        ..plain("")
                    });
                }
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
                let constant = class
                    .constant()
                    .filter(|_| variant.constants.contains(&index));
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
                for source in &variant.constants {
                    if let Some((_, value)) = self.sources[*source].constant() {
                        sources[*source] = value;
                    }
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
