//! Moves, and registers made of parts.

use crate::harness::{Class, Form, HEAD, Kind, body, form, launch, run_all};
use virtual_gpu::Module;

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for (ty, class) in [
        ("b16", Class::I16),
        ("u16", Class::I16),
        ("s16", Class::I16),
        ("f16", Class::F16),
        ("b32", Class::I32),
        ("u32", Class::I32),
        ("s32", Class::I32),
        ("f32", Class::F32),
        ("b64", Class::I64),
        ("u64", Class::I64),
        ("s64", Class::I64),
        ("f64", Class::F64),
        ("pred", Class::Bool),
    ] {
        forms.push(form(format!("mov.{ty}"), class.kind(), &[class], |x| x[0]));
    }
    let (h, w) = (Class::I16, Class::I32);
    forms.push(body("mov.b32 D0, {S0, S1}", &[Kind::W], &[h; 2], |x| {
        vec![x[0] | x[1] << 16]
    }));
    forms.push(body("mov.b32 D0, {0, S0}", &[Kind::W], &[h], |x| {
        vec![x[0] << 16]
    }));
    forms.push(body("mov.b64 D0, {S0, S1}", &[Kind::D], &[w; 2], |x| {
        vec![x[0] | x[1] << 32]
    }));
    forms.push(body("mov.b64 D0, {S0, -1}", &[Kind::D], &[w], |x| {
        vec![x[0] | 0xffff_ffff << 32]
    }));
    forms.push(body(
        "mov.b64 D0, {S0, S1, S2, S3}",
        &[Kind::D],
        &[h; 4],
        |x| vec![x[0] | x[1] << 16 | x[2] << 32 | x[3] << 48],
    ));
    forms.push(body("mov.b32 {D0, D1}, S0", &[Kind::H; 2], &[w], |x| {
        vec![x[0] & 0xffff, x[0] >> 16]
    }));
    forms.push(body("mov.b32 {_, D0}, S0", &[Kind::H], &[w], |x| {
        vec![x[0] >> 16]
    }));
    forms.push(body(
        "mov.b64 {D0, D1}, S0",
        &[Kind::W; 2],
        &[Class::I64],
        |x| vec![x[0] & 0xffff_ffff, x[0] >> 32],
    ));
    forms.push(body(
        "mov.b64 {D0, _}, S0",
        &[Kind::W],
        &[Class::I64],
        |x| vec![x[0] & 0xffff_ffff],
    ));
    forms.push(body(
        "mov.b64 {D0, D1, D2, D3}, S0",
        &[Kind::H; 4],
        &[Class::I64],
        |x| [0, 16, 32, 48].map(|at| x[0] >> at & 0xffff).to_vec(),
    ));
    // The parts may be the register that is taken apart.
    forms.push(body(
        "mov.b32 t0, S0\nmov.b64 u0, {t0, t0}\nmov.b64 {t0, D0}, u0",
        &[Kind::W],
        &[w],
        |x| vec![x[0]],
    ));
    // A register that is longer than 32 KiB of others ago is still the one that was written.
    forms.push(body(
        "mov.u32 t0, S0\nmov.u32 t1, t0\nadd.u32 D0, t0, t1",
        &[Kind::W],
        &[w],
        |x| vec![2 * x[0]],
    ));
    forms
}

/// Addresses of variables, as values and in tables, and special registers.
pub fn texts() -> Vec<String> {
    vec![format!(
        "{HEAD}.global .align 8 .b32 values[4] = {{10, 20, 30, 40}};\n.global .align 8 .u64 pointers[2] = \
         {{generic(values)+4, values}};\n.const .align 4 .f32 numbers[2] = {{0f3F800000, 2.5}};\n\
         .visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 r<24>; .reg .b64 d<24>; .reg .pred p<4>;\n\
         .shared .align 8 .b8 room[64];\n.local .align 8 .b8 mine[32];\n\
         ld.param.u64 d0, [out];\nmov.u32 r0, %tid.x;\nmad.wide.u32 d1, r0, 128, d0;\n\
         mov.u64 d2, values;\nld.global.u32 r1, [d2+8];\nst.global.u32 [d1], r1;\n\
         mov.u64 d3, pointers;\nld.global.u64 d4, [d3];\nld.u32 r2, [d4];\nst.global.u32 [d1+8], r2;\n\
         ld.const.f32 r3, [numbers+4];\nst.global.b32 [d1+16], r3;\n\
         mov.u32 r4, room;\nadd.u32 r4, r4, 8;\ncvt.u64.u32 d5, r4;\ncvta.shared.u64 d5, d5;\nisspacep.shared p0, d5;\n\
         selp.u32 r5, 1, 0, p0;\nst.global.u32 [d1+24], r5;\ncvta.to.shared.u64 d6, d5;\nst.global.u64 [d1+32], d6;\n\
         mov.u64 d7, mine;\ncvta.local.u64 d8, d7;\nisspacep.local p1, d8;\nisspacep.global p2, d8;\n\
         selp.u32 r6, 1, 0, p1;\nselp.u32 r7, 1, 0, p2;\nst.global.u32 [d1+40], r6;\nst.global.u32 [d1+44], r7;\n\
         st.u32 [d8+4], r0;\nld.local.u32 r8, [mine+4];\nst.global.u32 [d1+48], r8;\ncvta.to.local.u64 d9, d8;\n\
         sub.s64 d9, d9, d7;\nst.global.u64 [d1+56], d9;\n\
         cvta.global.u64 d10, d2;\ncvta.to.global.u64 d11, d10;\nisspacep.global p3, d10;\nselp.u32 r9, 1, 0, p3;\n\
         st.global.u32 [d1+64], r9;\ncvta.const.u64 d12, d2;\ncvta.to.const.u64 d12, d12;\n\
         mov.u64 d13, in;\ncvta.param.u64 d14, d13;\nld.param.u64 d15, [d13+8];\nsetp.eq.u64 p3, d15, d0;\n\
         selp.u32 r10, 1, 0, p3;\nst.global.u32 [d1+72], r10;\nisspacep.param p3, d14;\nselp.u32 r11, 1, 0, p3;\n\
         st.global.u32 [d1+76], r11;\nmov.u64 d16, %gridid;\nst.global.u64 [d1+80], d16;\nmov.u32 r12, %envreg3;\n\
         st.global.u32 [d1+88], r12;\nmov.u32 r13, WARP_SZ;\nst.global.u32 [d1+96], r13;\nret;\n}}\n"
    )]
}

#[test]
fn moves() {
    run_all(&forms());
}

#[test]
fn addresses() {
    let module = Module::from_ptx(&texts()[0]).unwrap();
    let out = launch(&module, &[0; 8], 16 * 8 * 64, 64, 64);
    for (thread, row) in out.chunks_exact(16).enumerate() {
        let thread = thread as u64;
        let want = [
            30,
            20,
            u64::from(2.5f32.to_bits()),
            1,
            8,
            1,
            thread,
            0,
            1,
            1 << 32 | 1,
            0,
            0,
            32,
        ];
        assert_eq!(row[..13], want, "thread {thread}");
    }
}

#[test]
fn directives_need_no_space_before_their_types() {
    let text = format!(
        "{HEAD}.visible.entry k(.param.u64 p) {{ .reg.b32 %r<2>; .reg.pred %p;\n\
         mov.b32 %r0, 7; {{.reg.b16 low,high; mov.b32 {{low,high}}, %r0; mov.b32 %r1, {{high,low}};}} ret; }}"
    );
    Module::from_ptx(&text).unwrap();
}
