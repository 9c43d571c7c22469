//! Loads and stores in all spaces, widths and vectors.

use crate::harness::{Class, Form, HEAD, Kind, body, launch, run_all};
use virtual_gpu::Module;

/// Spaces with the address of a lane's 16 bytes.
const SPACES: [(&str, &str); 6] = [
    (".global", "from"),
    (".shared", "sa"),
    (".local", "mine"),
    ("", "from"),
    ("", "sg"),
    ("", "lg"),
];

const TYPES: [(&str, usize, bool); 14] = [
    ("b8", 1, false),
    ("u8", 1, false),
    ("s8", 1, true),
    ("b16", 2, false),
    ("u16", 2, false),
    ("s16", 2, true),
    ("b32", 4, false),
    ("u32", 4, false),
    ("s32", 4, true),
    ("f32", 4, false),
    ("b64", 8, false),
    ("u64", 8, false),
    ("s64", 8, true),
    ("f64", 8, false),
];

fn bytes(x: &[u64]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// `size` bytes at `at`, extended.
fn element(x: &[u64], at: usize, size: usize, signed: bool) -> u64 {
    let bytes = bytes(x);
    let fill = if signed && bytes[at + size - 1] > 127 {
        255
    } else {
        0
    };
    let byte = |index| {
        if index < size {
            bytes[at + index]
        } else {
            fill
        }
    };
    u64::from_le_bytes(std::array::from_fn(byte))
}

/// Fills a lane's memory with the first two sources.
fn fill(space: &str, address: &str) -> String {
    format!("st{space}.b64 [{address}], S0\nst{space}.b64 [{address}+8], S1\n")
}

fn names(letter: &str, count: usize) -> String {
    let list: Vec<String> = (0..count).map(|index| format!("{letter}{index}")).collect();
    if count == 1 {
        list[0].clone()
    } else {
        format!("{{{}}}", list.join(", "))
    }
}

fn load(
    modifiers: &str,
    space: &str,
    address: &str,
    ty: (&str, usize, bool),
    count: usize,
    kind: Kind,
) -> Form {
    let (name, size, signed) = ty;
    let vector = if count == 1 {
        String::new()
    } else {
        format!(".v{count}")
    };
    let at = 16 - size * count;
    let line = format!(
        "{}ld{modifiers}{space}{vector}.{name} {}, [{address}+{at}]",
        fill(space, address),
        names("D", count)
    );
    body(line, &vec![kind; count], &[Class::I64; 2], move |x| {
        (0..count)
            .map(|index| element(x, at + size * index, size, signed))
            .collect()
    })
}

fn store(
    modifiers: &str,
    space: &str,
    address: &str,
    ty: (&str, usize, bool),
    count: usize,
    class: Class,
) -> Form {
    let (name, size, _) = ty;
    let vector = if count == 1 {
        String::new()
    } else {
        format!(".v{count}")
    };
    let at = if size * count <= 8 { 8 } else { 0 };
    let sources: Vec<String> = (0..count).map(|index| format!("S{}", 2 + index)).collect();
    let list = if count == 1 {
        sources[0].clone()
    } else {
        format!("{{{}}}", sources.join(", "))
    };
    let line = format!(
        "{}st{modifiers}{space}{vector}.{name} [{address}+{at}], {list}\nld{space}.v2.b64 {{D0, D1}}, [{address}]",
        fill(space, address)
    );
    let mut sources = vec![Class::I64; 2];
    sources.extend(vec![class; count]);
    body(line, &[Kind::D; 2], &sources, move |x| {
        let mut memory = bytes(&x[..2]);
        for index in 0..count {
            memory[at + size * index..][..size]
                .copy_from_slice(&x[2 + index].to_le_bytes()[..size]);
        }
        memory
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect()
    })
}

pub fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for (space, address) in SPACES {
        for ty in TYPES {
            let kinds = [
                (1, Kind::H, Class::I16),
                (4, Kind::W, Class::I32),
                (8, Kind::D, Class::I64),
            ];
            for (most, kind, class) in kinds {
                // Registers as wide as the type or wider; bytes go to 16 bits at least.
                let fits = ty.1 <= if kind == Kind::H { 2 } else { most };
                for count in [1, 2, 4] {
                    if fits
                        && ty.1 * count <= 16
                        && (address == "from" || count == 1 || kind == Kind::W)
                    {
                        forms.push(load("", space, address, ty, count, kind));
                        // A row of 80 lanes has 32 bytes a lane at most.
                        if count <= 2 || ty.1 < 8 {
                            forms.push(store("", space, address, ty, count, class));
                        }
                    }
                }
            }
        }
    }
    let word = TYPES[7];
    for modifiers in [
        ".volatile",
        ".relaxed.cta",
        ".relaxed.gpu",
        ".relaxed.sys",
        ".acquire.cta",
        ".acquire.gpu",
        ".acquire.sys",
        ".weak",
    ] {
        for (space, address) in [SPACES[0], SPACES[1], SPACES[3]] {
            forms.push(load(modifiers, space, address, word, 1, Kind::W));
        }
    }
    for modifiers in [
        ".volatile",
        ".relaxed.cta",
        ".relaxed.gpu",
        ".relaxed.sys",
        ".release.cta",
        ".release.gpu",
        ".release.sys",
        ".weak",
    ] {
        for (space, address) in [SPACES[0], SPACES[1], SPACES[3]] {
            forms.push(store(modifiers, space, address, word, 1, Class::I32));
        }
    }
    for hint in [
        ".ca",
        ".cg",
        ".cs",
        ".lu",
        ".cv",
        ".nc",
        ".ca.nc",
        ".nc.L1::no_allocate",
        ".L1::evict_last",
        ".L1::evict_first",
        ".L2::128B",
        ".nc.L1::no_allocate.L2::256B",
        ".L1::evict_unchanged.L2::64B",
    ] {
        let line = format!("ld.global{hint}.u32 D0, [from+4]");
        forms.push(body(line, &[Kind::W], &[Class::I64], |x| vec![x[0] >> 32]));
    }
    for hint in [
        ".wb",
        ".cg",
        ".cs",
        ".wt",
        ".L1::no_allocate",
        ".L1::evict_last",
    ] {
        let line = format!("st.global{hint}.u32 [from], S1\nld.global.u64 D0, [from]");
        forms.push(body(line, &[Kind::D], &[Class::I64, Class::I32], |x| {
            vec![x[0] >> 32 << 32 | x[1]]
        }));
    }
    for line in [
        "prefetch.global.L1 [from]",
        "prefetch.global.L2 [from]",
        "prefetch.L1 [from]",
        "prefetch.local.L2 [mine]",
        "prefetch.global.L2::evict_last [from]",
        "prefetch.global.L2::evict_normal [from]",
        "prefetchu.L1 [from]",
        "applypriority.global.L2::evict_normal [from], 128",
        "applypriority.L2::evict_normal [from], 128",
        "discard.global.L2 [from], 128",
        "membar.cta",
        "membar.gl",
        "membar.sys",
        "fence.sc.cta",
        "fence.sc.gpu",
        "fence.sc.sys",
        "fence.acq_rel.cta",
        "fence.acq_rel.gpu",
        "fence.acq_rel.sys",
        "nanosleep.u32 20",
        "createpolicy.fractional.L2::evict_last.b64 u0, 0f3F800000",
    ] {
        forms.push(body(
            format!("{line}\nmov.u32 D0, S0"),
            &[Kind::W],
            &[Class::I32],
            |x| vec![x[0]],
        ));
    }
    forms
}

/// Kernel parameters of all widths, and constants.
pub fn texts() -> Vec<String> {
    vec![format!(
        "{HEAD}.const .align 16 .b8 table[16] = {{1, 2, 3, 4, 5, 6, 7, 8, 250, 251, 252, 253, 254, 255, 0, 128}};\n\
         .visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b16 h<8>; .reg .b32 r<16>; .reg .b64 d<16>;\n\
         ld.param.u64 d0, [out];\nmov.u32 r0, %tid.x;\nmad.wide.u32 d0, r0, 128, d0;\n\
         ld.const.s8 r1, [table+8];\nst.global.u32 [d0], r1;\nld.const.u8 d1, [table+9];\nst.global.u64 [d0+8], d1;\n\
         ld.const.v4.u8 {{r2, r3, r4, r5}}, [table+12];\nst.global.v4.u32 [d0+16], {{r2, r3, r4, r5}};\n\
         ld.const.v2.u32 {{r6, r7}}, [table];\nst.global.v2.u32 [d0+32], {{r6, r7}};\nmov.u64 d2, table;\n\
         ld.const.s16 d3, [d2+14];\nst.global.u64 [d0+40], d3;\n\
         ld.param.v2.u32 {{r8, r9}}, [out];\nld.param.u16 h0, [out+2];\nld.param.s32 d4, [out];\nld.param.u8 r10, [out+7];\n\
         mov.b64 d5, {{r8, r9}};\nld.param.u64 d6, [out];\nsub.s64 d5, d5, d6;\nst.global.u64 [d0+48], d5;\n\
         shr.u64 d7, d6, 16;\ncvt.u16.u64 h1, d7;\nsub.u16 h0, h0, h1;\nst.global.u16 [d0+56], h0;\n\
         cvt.u32.u64 r11, d6;\ncvt.s64.s32 d8, r11;\nsub.s64 d8, d8, d4;\nst.global.u64 [d0+64], d8;\n\
         st.global.u32 [d0+72], r10;\nld.const.v4.b32 {{r12, r13, r14, r15}}, [table];\nst.global.u32 [d0+80], r15;\n\
         .pragma \"used_bytes_mask 0xf0\";\nld.global.v2.u32 {{_, r12}}, [d0+32];\n.pragma \"used_bytes_mask junk\", \"other\";\n\
         st.global.u32 [d0+88], r12;\nret;\n}}\n"
    )]
}

#[test]
fn memory() {
    run_all(&forms());
}

#[test]
fn constants_and_parameters() {
    let module = Module::from_ptx(&texts()[0]).unwrap();
    let out = launch(&module, &[0; 8], 16 * 8 * 40, 40, 40);
    for row in out.chunks_exact(16) {
        let want = [
            0xffff_fffa,
            251,
            254 | 255 << 32,
            128 << 32,
            0x0807_0605_0403_0201,
            0x8000_u16 as i16 as u64,
            0,
            0,
            0,
            0,
            0x8000_fffe,
            0x0807_0605,
        ];
        assert_eq!(row[..12], want);
    }
}
