//! What must be refused when a module is loaded, and texts that must not bring the loader down.

use crate::harness::HEAD;
use proptest::prelude::*;
use virtual_gpu::Module;

const DECLARATIONS: &str = ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n.reg .b16 h<4>; .reg .b32 r<8>; .reg .b64 d<8>; \
                            .reg .pred p<4>;\n";

/// The line of an instruction in [`module`].
const LINE: u32 = 7;

fn module(line: &str) -> String {
    format!("{HEAD}{DECLARATIONS}{line}\nret;\n}}\n")
}

const REFUSED: [&str; 150] = [
    // No such instruction, or no such modifier.
    "frobnicate.u32 r0, r1;",
    "add.banana.u32 r0, r1, r2;",
    "add.wide.u32 r0, r1, r2;",
    "mov.u32.u32 r0, r1;",
    "ld.global.u32.sideways r0, [d0];",
    "exit.sideways;",
    "cvt.rn.rn.f32.s32 r0, r1;",
    "video.add r0, r1;",
    // Types and roundings of what sm_100 adds.
    "redux.sync.add.f32 r0, r1, r2;",
    "redux.sync.max.abs.s32 r0, r1, r2;",
    "mul.f32.f16 r0, h1, r2;",
    "fma.f32.f16 r0, h1, h2, r3;",
    "add.ftz.f32.f16 r0, h1, r2;",
    "fma.f32x2 d0, d1, d2, d3;",
    "add.sat.f32x2 d0, d1, d2;",
    "div.rn.f32x2 d0, d1, d2;",
    "max.xorsign.abs.f32 r0, r1, r2, r3;",
    "min.f64 d0, d1, d2, d3;",
    // Fragments that there are not.
    "wmma.load.a.sync.aligned.row.m32n8k16.f16 {r0, r1, r2, r3, r4, r5, r6, r7}, [d0], r0;",
    "wmma.load.a.sync.aligned.row.m16n16k16.f16 {r0, r1, r2, r3}, [d0], r0;",
    "wmma.load.a.sync.aligned.row.m16n16k8.f16 {r0, r1, r2, r3, r4, r5, r6, r7}, [d0], r0;",
    "wmma.load.d.sync.aligned.row.m16n16k16.f32 {r0, r1, r2, r3, r4, r5, r6, r7}, [d0], r0;",
    "wmma.load.a.sync.aligned.m16n16k16.s8 {r0, r1}, [d0], r0;",
    "wmma.load.a.sync.row.m16n16k16.s8 {r0, r1}, [d0], r0;",
    "wmma.load.a.sync.aligned.row.m16n16k16.s8.cg {r0, r1}, [d0], r0;",
    "@p0 wmma.load.a.sync.aligned.row.m16n16k16.s8 {r0, r1}, [d0], r0;",
    "wmma.mma.sync.aligned.row.m16n16k16.s32.s8.s8.s32 {r0, r1, r2, r3, r4, r5, r6, r7}, {r0, r1}, {r0, r1}, {r0, r1, r2, r3, r4, r5, r6, r7};",
    "wmma.mma.sync.aligned.row.col.m16n16k16.f32.s8.s8.s32 {r0, r1, r2, r3, r4, r5, r6, r7}, {r0, r1}, {r0, r1}, {r0, r1, r2, r3, r4, r5, r6, r7};",
    "wmma.frobnicate.sync.aligned.m16n16k16 r0;",
    // Types missing or wrong.
    "add r0, r1, r2;",
    "add.b32 r0, r1, r2;",
    "add.u8 h0, h1, h2;",
    "sub.pred p0, p1, p2;",
    "and.u32 r0, r1, r2;",
    "or.f32 r0, r1, r2;",
    "not.s32 r0, r1;",
    "shl.u32 r0, r1, r2;",
    "shr.f32 r0, r1, r2;",
    "min.b32 r0, r1, r2;",
    "mul.u32 r0, r1, r2;",
    "mul.wide.u64 d0, d1, d2;",
    "mul.lo.f32 r0, r1, r2;",
    "mad.u32 r0, r1, r2, r3;",
    "mul24.lo.u64 d0, d1, d2;",
    "abs.u32 r0, r1;",
    "neg.u32 r0, r1;",
    "popc.u32 r0, r1;",
    "clz.b16 r0, h1;",
    "brev.u32 r0, r1;",
    "bfe.b32 r0, r1, r2, r3;",
    "bfi.u32 r0, r1, r2, r3, r4;",
    "bfind.b32 r0, r1;",
    "dp4a.u32 r0, r1, r2, r3;",
    "dp2a.u32.u32 r0, r1, r2, r3;",
    "mov.b128 r0, r1;",
    "mov.u8 h0, h1;",
    "selp.u8 h0, h1, h2, p0;",
    "slct.u32.u32 r0, r1, r2, r3;",
    "slct.ftz.u32.s32 r0, r1, r2, r3;",
    "add.sat.u32 r0, r1, r2;",
    "add.cc.u16 h0, h1, h2;",
    "mul.lo.cc.u32 r0, r1, r2;",
    "mad.wide.cc.u32 d0, r1, r2, d3;",
    "mad.hi.sat.u32 r0, r1, r2, r3;",
    "lop3.b64 d0, d1, d2, d3, 1;",
    "lop3.b32 r0, r1, r2, r3, 256;",
    "lop3.b32 r0, r1, r2, r3, r4;",
    "lop3.xor.b32 r0|p0, r1, r2, r3, 1, p1;",
    "shf.l.b32 r0, r1, r2, r3;",
    "shf.wrap.b32 r0, r1, r2, r3;",
    "prmt.b32.sideways r0, r1, r2, r3;",
    "min.u16x2.relu r0, r1, r2;",
    "min.relu.u16x2 r0, r1, r2;",
    "sub.s16x2 r0, r1, r2;",
    // Floats.
    "add.sat.f64 d0, d1, d2;",
    "add.ftz.f64 d0, d1, d2;",
    "fma.f32 r0, r1, r2, r3;",
    "div.f32 r0, r1, r2;",
    "sqrt.f32 r0, r1;",
    "rcp.sat.rn.f32 r0, r1;",
    "abs.rn.f32 r0, r1;",
    "neg.sat.f32 r0, r1;",
    "min.rn.f32 r0, r1, r2;",
    "tanh.approx.ftz.f32 r0, r1;",
    "ex2.f32 r0, r1;",
    "sin.rn.f32 r0, r1;",
    "ex2.approx.f64 d0, d1;",
    "copysign.ftz.f32 r0, r1, r2;",
    "add.rz.f16 h0, h1, h2;",
    "add.sat.bf16 h0, h1, h2;",
    "add.ftz.bf16 h0, h1, h2;",
    "fma.f16 h0, h1, h2, h3;",
    "add.relu.f16 h0, h1, h2;",
    "fma.rn.sat.relu.f16 h0, h1, h2, h3;",
    "ex2.approx.bf16 h0, h1;",
    "div.rn.f16 h0, h1, h2;",
    "min.xorsign.f32 r0, r1, r2;",
    "setp.lo.s32 p0, r0, r1;",
    "setp.lt.b32 p0, r0, r1;",
    "setp.equ.u32 p0, r0, r1;",
    "setp.u32 p0, r0, r1;",
    "set.eq.f16x2.bf16x2 r0, r1, r2;",
    "testp.sideways.f32 p0, r0;",
    "cvt.u32 r0, r1;",
    "cvt.f32.s32 r0, r1;",
    "cvt.rn.u32.f32 r0, r1;",
    "cvt.rzi.f32.s32 r0, r1;",
    "cvt.rn.e4m3x2.f32 h0, r0, r1;",
    "cvt.pack.u16.s32 r0, r1, r2;",
    // Modifiers of another instruction.
    "add.NaN.f32 r0, r1, r2;",
    "add.approx.f32 r0, r1, r2;",
    "mul.full.f32 r0, r1, r2;",
    "fma.rn.xorsign.f32 r0, r1, r2, r3;",
    "div.approx.f64 d0, d1, d2;",
    "rcp.approx.f64 d0, d1;",
    "div.approx.full.f32 r0, r1, r2;",
    "max.approx.f16 h0, h1, h2;",
    "sub.NaN.bf16 h0, h1, h2;",
    "max.xorsign.bf16 h0, h1, h2;",
    "mov.tf32 r0, r1;",
    "mov.e4m3x2 h0, h1;",
    "ld.gpu.global.u32 r0, [d0];",
    "st.cta.shared.u32 [r0], r1;",
    "atom.global.ca.add.u32 r0, [d0], r1;",
    // Memory.
    "ld.global r0, [d0];",
    "ld.global.v4.u32 {r0, r1}, [d0];",
    "ld.global.v2.u32 r0, [d0];",
    "ld.global.u32 {r0, r1}, [d0];",
    "ld.global.b128 d0, [d0];",
    "ld.global.v3.u32 {r0, r1, r2}, [d0];",
    "ld.release.gpu.global.u32 r0, [d0];",
    "st.acquire.gpu.global.u32 [d0], r0;",
    "st.const.u32 [d0], r0;",
    "ld.global.u32 r0, d0;",
    "ld.global.u64 r0, [d0];",
    "ld.global.u32 r0, [p0];",
    "ld.global.u32 r0, [nothing];",
    "atom.global.add.b32 r0, [d0], r1;",
    "atom.global.add.f16 h0, [d0], h1;",
    "atom.global.min.f32 r0, [d0], r1;",
    "atom.local.add.u32 r0, [d0], r1;",
    "atom.global.v4.add.f64 {d0, d1, d2, d3}, [d0], {d1, d2, d3, d4};",
    "discard.global.L1 [d0], 128;",
    "prefetch.global.L3 [d0];",
    // Registers, operands, labels.
    "add.u32 r0, r1;",
    "add.u32 r0, r1, r2, r3;",
    "add.u32 d0, d1, d2;",
    "add.u32 r0, r1, p0;",
    "@r0 add.u32 r0, r1, r2;",
    "bra nowhere;",
];

const LATER: [&str; 15] = [
    ".reg .b128 q;",
    "wgmma.fence.aligned;",
    "tcgen05.wait::ld.sync.aligned;",
    "barrier.cluster.arrive.acquire;",
    "cp.async.bulk.tensor.2d.shared::cta.shared::cta.mbarrier::complete_tx::bytes [r0], [d0, {r1, r2}], [r3];",
    "shfl.idx.b32 r0, r1, r2, r3;",
    "vote.ballot.b32 r0, p0;",
    "shfl.sync.sideways.b32 r0, r1, r2, r3, r4;",
    "match.any.sync.b32 r0|p0, r1, r2;",
    "redux.sync.add.b32 r0, r1, r2;",
    "bar.red.xor.pred p0, 0, p1;",
    "fence.sideways.gpu;",
    "call nothing;",
    "brx.idx r0, nothing;",
    "mov.u64 d0, %ntid.x;",
];

#[test]
fn refused_with_its_line() {
    let mut accepted = Vec::new();
    for line in REFUSED.iter().chain(&LATER) {
        match Module::from_ptx(&module(line)) {
            Ok(_) => accepted.push(format!("accepted: {line}")),
            // A register declaration is looked at with its function.
            Err(error) if error.line != LINE && !line.starts_with(".reg") => {
                accepted.push(format!("line {}: {line}: {error}", error.line));
            }
            Err(_) => {}
        }
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
}

#[test]
fn recursion_is_named() {
    let text = format!(
        "{HEAD}.func ping();\n.func pong()\n{{\ncall ping;\nret;\n}}\n.func ping()\n{{\ncall pong;\nret;\n}}\n\
         .visible .entry k()\n{{\ncall pong;\nret;\n}}\n"
    );
    let error = Module::from_ptx(&text).unwrap_err();
    assert!(
        error.message.contains("recursive") && error.message.contains("p"),
        "{error}"
    );
}

/// Texts to spoil: every kernel written by hand in these tests that is not made of a table, and some of those.
fn corpus() -> Vec<String> {
    let mut corpus = crate::control::texts();
    corpus.extend(crate::memory::texts());
    corpus.extend(crate::atomic::texts());
    corpus.extend(crate::moves::texts());
    corpus.extend(crate::warp::texts().into_iter().step_by(5));
    corpus
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes changed, removed, put in; tokens of one place put at another.
    #[test]
    fn spoilt_texts_do_not_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..6, any::<u8>()), 1..6),
    ) {
        let corpus = corpus();
        let mut text = corpus[which.index(corpus.len())].clone().into_bytes();
        for (at, other, kind, byte) in edits {
            let position = at.index(text.len());
            let byte = if byte < 128 { byte } else { b"0123456789.{}[]();,@!%_<>-+|:"[byte as usize % 29] };
            match kind {
                0 => text[position] = byte,
                1 => text.insert(position, byte),
                2 if text.len() > 1 => {
                    text.remove(position);
                }
                // A token's place taken by another token.
                3 | 4 => {
                    let token = |text: &[u8], from: usize| {
                        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.%".contains(byte);
                        let start = text[..from].iter().rposition(|byte| !word(byte)).map_or(0, |at| at + 1);
                        let end = text[from..].iter().position(|byte| !word(byte)).map_or(text.len(), |at| from + at);
                        start..end.max(start)
                    };
                    let (to, from) = (token(&text, position), token(&text, other.index(text.len())));
                    let new = text[from].to_vec();
                    text.splice(to, new);
                    if text.is_empty() {
                        text.push(b' ');
                    }
                }
                _ => {
                    let line = text[position..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| position + at);
                    text.drain(position..line);
                    if text.is_empty() {
                        text.push(b' ');
                    }
                }
            }
        }
        let _ = Module::from_ptx(&String::from_utf8_lossy(&text));
    }
}

/// What the fuzzer of `fuzz/` begins with is accepted: from there it gets far.
#[test]
fn seeds_of_the_fuzzer_load() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/ptx");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = Module::from_ptx(&text);
        assert!(loaded.is_ok(), "{}: {loaded:?}", path.display());
        seeds += 1;
    }
    assert!(seeds > 0, "{folder} is empty");
}
