//! Atomics: every operation in every space, alone and with lanes that contend.

use crate::harness::{Class, Form, HEAD, Kind, body, launch, run_all};
use crate::soft::{BF16, F16, F32, F64, Format, Mode};
use virtual_gpu::Module;

type Apply = Box<dyn Fn(&[u64]) -> u64>;

/// Operation with type, class, and the new value from the old one and the operands.
/// An operation: its name, class, number of operands, and what it does.
type Operation = (String, Class, usize, fn(bool) -> Apply);

fn operations() -> Vec<Operation> {
    fn signed(x: u64, bits: u32) -> i64 {
        (x as i64) << (64 - bits) >> (64 - bits)
    }
    macro_rules! op {
        ($name:expr, $class:expr, $count:expr, |$x:ident| $f:expr) => {
            (
                $name.to_string(),
                $class,
                $count,
                (|_| -> Apply { Box::new(|$x: &[u64]| $f) }) as fn(bool) -> Apply,
            )
        };
    }
    let (w, d) = (Class::I32, Class::I64);
    fn halves(format: Format, x: &[u64], f: fn(Format, u64, u64) -> u64) -> u64 {
        [0, 16]
            .iter()
            .map(|at| f(format, x[0] >> at & 0xffff, x[1] >> at & 0xffff) << at)
            .sum()
    }
    fn add(format: Format, a: u64, b: u64) -> u64 {
        format.add(a, b, Mode::Nearest)
    }
    vec![
        op!("add.u32", w, 1, |x| x[0] + x[1]),
        op!("add.s32", w, 1, |x| x[0] + x[1]),
        op!("add.u64", d, 1, |x| x[0].wrapping_add(x[1])),
        op!("min.u32", w, 1, |x| x[0].min(x[1])),
        op!("max.u32", w, 1, |x| x[0].max(x[1])),
        op!("min.s32", w, 1, |x| signed(x[0], 32).min(signed(x[1], 32))
            as u64),
        op!("max.s32", w, 1, |x| signed(x[0], 32).max(signed(x[1], 32))
            as u64),
        op!("min.u64", d, 1, |x| x[0].min(x[1])),
        op!("max.u64", d, 1, |x| x[0].max(x[1])),
        op!("min.s64", d, 1, |x| signed(x[0], 64).min(signed(x[1], 64))
            as u64),
        op!("max.s64", d, 1, |x| signed(x[0], 64).max(signed(x[1], 64))
            as u64),
        op!("inc.u32", w, 1, |x| if x[0] >= x[1] { 0 } else { x[0] + 1 }),
        op!("dec.u32", w, 1, |x| if x[0] == 0 || x[0] > x[1] {
            x[1]
        } else {
            x[0] - 1
        }),
        op!("and.b32", w, 1, |x| x[0] & x[1]),
        op!("or.b32", w, 1, |x| x[0] | x[1]),
        op!("xor.b32", w, 1, |x| x[0] ^ x[1]),
        op!("and.b64", d, 1, |x| x[0] & x[1]),
        op!("or.b64", d, 1, |x| x[0] | x[1]),
        op!("xor.b64", d, 1, |x| x[0] ^ x[1]),
        op!("exch.b32", w, 1, |x| x[1]),
        op!("exch.b64", d, 1, |x| x[1]),
        op!("cas.b16", Class::I16, 2, |x| if x[0] == x[1] {
            x[2]
        } else {
            x[0]
        }),
        op!("cas.b32", w, 2, |x| if x[0] == x[1] { x[2] } else { x[0] }),
        op!("cas.b64", d, 2, |x| if x[0] == x[1] { x[2] } else { x[0] }),
        // In global memory subnormal numbers are flushed, in shared memory they are not.
        ("add.f32".into(), Class::F32, 1, |shared| -> Apply {
            Box::new(move |x| {
                let flush = |x| if shared { x } else { F32.flush(x) };
                flush(F32.add(flush(x[0]), flush(x[1]), Mode::Nearest))
            })
        }),
        op!("add.f64", Class::F64, 1, |x| add(F64, x[0], x[1])),
        op!("add.noftz.f16", Class::F16, 1, |x| add(F16, x[0], x[1])),
        op!("add.noftz.bf16", Class::Bf16, 1, |x| add(BF16, x[0], x[1])),
        op!("add.noftz.f16x2", Class::F16x2, 1, |x| halves(F16, x, add)),
        op!("add.noftz.bf16x2", Class::Bf16x2, 1, |x| halves(
            BF16, x, add
        )),
    ]
}

/// A lane's own place: fill it, change it, look at it.
fn alone(opcode: &str, space: &str, address: &str, op: (Class, usize, Apply)) -> Form {
    let (class, count, apply) = op;
    let kind = class.kind();
    let ty = match kind {
        Kind::H => "b16",
        Kind::W => "b32",
        _ => "b64",
    };
    let operands: Vec<String> = (1..=count).map(|index| format!("S{index}")).collect();
    let operands = operands.join(", ");
    let returns = opcode.starts_with("atom");
    let result = if returns { "D1, " } else { "" };
    let line = format!(
        "st{space}.{ty} [{address}], S0\n{opcode} {result}[{address}], {operands}\nld{space}.{ty} D0, [{address}]"
    );
    let results = [kind; 2];
    body(
        line,
        &results[..1 + usize::from(returns)],
        &vec![class; 1 + count],
        move |x| {
            let mut results = vec![apply(x)];
            if returns {
                results.push(x[0]);
            }
            results
        },
    )
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for (space, address, shared) in [
        (".global", "from", false),
        (".shared", "sa", true),
        ("", "from", false),
        ("", "sg", true),
    ] {
        for (name, class, count, apply) in operations() {
            forms.push(alone(
                &format!("atom{space}.{name}"),
                space,
                address,
                (class, count, apply(shared)),
            ));
            let casts = name.starts_with("cas") || name.starts_with("exch");
            if !casts {
                forms.push(alone(
                    &format!("red{space}.{name}"),
                    space,
                    address,
                    (class, count, apply(shared)),
                ));
            }
            // The order before the space, and after the operation.
            if name == "add.u32" || name == "cas.b32" {
                let (op, ty) = name.split_once('.').unwrap();
                for order in ["relaxed", "acquire", "release", "acq_rel"] {
                    for scope in ["cta", "gpu", "sys"] {
                        let opcode = format!("atom.{order}.{scope}{space}.{name}");
                        forms.push(alone(
                            &opcode,
                            space,
                            address,
                            (class, count, apply(shared)),
                        ));
                        let opcode = format!("atom{space}.{op}.{order}.{scope}.{ty}");
                        forms.push(alone(
                            &opcode,
                            space,
                            address,
                            (class, count, apply(shared)),
                        ));
                        if !casts {
                            let opcode = format!("red.{order}.{scope}{space}.{name}");
                            forms.push(alone(
                                &opcode,
                                space,
                                address,
                                (class, count, apply(shared)),
                            ));
                        }
                    }
                }
            }
        }
    }
    for (ty, class, format) in [
        ("f32", Class::F32, F32),
        ("noftz.f16x2", Class::F16x2, F16),
        ("noftz.bf16x2", Class::Bf16x2, BF16),
    ] {
        for op in ["add", "min", "max"] {
            if op != "add" && format == F32 {
                continue;
            }
            let one = move |a: u64, b: u64| match op {
                "add" if format == F32 => {
                    F32.flush(F32.add(F32.flush(a), F32.flush(b), Mode::Nearest))
                }
                _ => [0, 16]
                    .iter()
                    .map(|at| {
                        let (a, b) = (a >> at & 0xffff, b >> at & 0xffff);
                        let sum = match op {
                            "add" => format.add(a, b, Mode::Nearest),
                            _ => format.extreme(a, b, op == "max", false),
                        };
                        sum << at
                    })
                    .sum(),
            };
            for name in ["atom", "red"] {
                let returns = name == "atom";
                let result = if returns { "{D2, D3}, " } else { "" };
                let line = format!(
                    "st.global.v2.b32 [from], {{S0, S1}}\n{name}.global.v2.{op}.{ty} {result}[from], {{S2, S3}}\n\
                     ld.global.v2.b32 {{D0, D1}}, [from]"
                );
                let results = [Kind::W; 4];
                forms.push(body(
                    line,
                    &results[..if returns { 4 } else { 2 }],
                    &[class; 4],
                    move |x| {
                        let mut results = vec![one(x[0], x[2]), one(x[1], x[3])];
                        if returns {
                            results.extend(&x[..2]);
                        }
                        results
                    },
                ));
            }
        }
    }
    forms
}

/// All threads at one place: of global memory, and of each block's shared memory.
pub fn texts() -> Vec<String> {
    vec![format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 r<16>; .reg .b64 d<8>; .reg .pred p<4>;\n\
         .shared .align 4 .u32 count;\nld.param.u64 d0, [in];\nld.param.u64 d1, [out];\nmov.u32 r0, %tid.x;\n\
         mov.u32 r1, %ctaid.x;\nmov.u32 r2, %ntid.x;\nmad.lo.u32 r3, r1, r2, r0;\nmad.wide.u32 d1, r3, 32, d1;\n\
         setp.ne.u32 p0, r0, 0;\n@!p0 st.shared.u32 [count], 0;\nbar.sync 0;\n\
         atom.global.add.u32 r4, [d0], 1;\nst.global.u32 [d1], r4;\n\
         atom.shared.inc.u32 r5, [count], 100;\nst.global.u32 [d1+8], r5;\nadd.u32 r6, r3, 1;\n\
         atom.global.exch.b32 r7, [d0+4], r6;\nst.global.u32 [d1+16], r7;\n\
         again:\nld.volatile.global.u32 r8, [d0+8];\nadd.u32 r9, r8, 3;\natom.global.cas.b32 r10, [d0+8], r8, r9;\n\
         setp.ne.u32 p1, r10, r8;\n@p1 bra again;\nst.global.u32 [d1+24], r8;\nret;\n}}\n"
    )]
}

#[test]
fn alone_in_every_space() {
    run_all(&forms());
}

#[test]
fn contended() {
    let module = Module::from_ptx(&texts()[0]).unwrap();
    let out = launch(&module, &[0; 16], 32 * 240, 240, 80);
    let column = |at: usize| -> Vec<u64> { out.iter().skip(at).step_by(4).copied().collect() };
    let sorted = |mut values: Vec<u64>| {
        values.sort_unstable();
        values
    };
    assert_eq!(sorted(column(0)), (0..240).collect::<Vec<_>>());
    assert_eq!(
        sorted(column(3)),
        (0..240).map(|i| 3 * i).collect::<Vec<_>>()
    );
    for block in column(1).chunks(80) {
        assert_eq!(sorted(block.to_vec()), (0..80).collect::<Vec<_>>());
    }
    // Each exchange gives what another left: all values but the last, and the first zero.
    let mut seen = column(2);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 240);
    assert_eq!(seen[0], 0);
}
