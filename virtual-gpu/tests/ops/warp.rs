//! Instructions that lanes execute together: shuffles, votes, matches, reductions, barriers.

use crate::harness::{HEAD, Rng, run};
use crate::soft::F32;
use virtual_gpu::{LaunchConfig, Module};

/// A lane's inputs.
#[derive(Clone, Copy)]
struct Lane {
    a: u32,
    b: u32,
    c: u32,
    mask: u32,
    p: bool,
}

/// What a lane gets: a value and a predicate; `None` where PTX defines nothing.
type Answer = Option<(u64, bool)>;
type Reference = Box<dyn Fn(&[Lane], usize) -> Answer>;

struct Case {
    line: String,
    /// Lanes of two sides of a branch execute it apart, each side with its own mask.
    diverges: bool,
    reference: Reference,
}

const WARPS: usize = 96;

fn text(case: &Case) -> String {
    let line = &case.line;
    let body = if case.diverges {
        format!("@p1 bra left;\n{line};\nbra join;\nleft:\n{line};\njoin:\n")
    } else {
        format!("{line};\n")
    };
    format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 i, n, z, a, b, c, m, d, s;\n\
         .reg .b64 from, to, wa, at;\n.reg .pred p0, p1, q;\nmov.u32 i, %ctaid.x;\nmov.u32 n, %ntid.x;\n\
         mov.u32 z, %tid.x;\nmad.lo.u32 i, i, n, z;\nld.param.u64 from, [in];\nld.param.u64 to, [out];\n\
         mul.wide.u32 at, i, 32;\nadd.s64 from, from, at;\nmul.wide.u32 at, i, 16;\nadd.s64 to, to, at;\n\
         ld.global.v4.b32 {{a, b, c, m}}, [from];\nld.global.v2.b32 {{s, z}}, [from+16];\nsetp.ne.u32 p0, z, 0;\n\
         setp.ne.u32 p1, s, 0;\nmov.b64 wa, {{a, b}};\nmov.u32 d, 77;\nsetp.ne.u32 q, i, i;\n{body}\
         selp.u32 z, 1, 0, q;\nst.global.u32 [to], d;\nst.global.u32 [to+8], z;\nret;\n}}\n"
    )
}

fn members(lanes: &[Lane], lane: usize) -> Vec<usize> {
    (0..32)
        .filter(|other| lanes[lane].mask >> other & 1 == 1)
        .collect()
}

fn shuffles(cases: &mut Vec<Case>) {
    for mode in ["idx", "up", "down", "bfly"] {
        for pair in [true, false] {
            let line = format!(
                "shfl.sync.{mode}.b32 d{}, a, b, c, m",
                if pair { "|q" } else { "" }
            );
            for diverges in [false, true] {
                cases.push(Case {
                    line: line.clone(),
                    diverges,
                    reference: Box::new(move |lanes, lane| {
                        let (b, c) = (lanes[lane].b as i32 & 31, lanes[lane].c as i32);
                        let (clamp, segment) = (c & 31, c >> 8 & 31);
                        let me = lane as i32;
                        let start = me & segment;
                        let limit = start | (clamp & !segment);
                        let from = match mode {
                            "up" => me - b,
                            "down" => me + b,
                            "bfly" => me ^ b,
                            _ => start | (b & !segment),
                        };
                        let inside = if mode == "up" {
                            from >= limit
                        } else {
                            from <= limit
                        };
                        let from = if inside { from } else { me };
                        // What a lane outside of the mask would give is not defined.
                        (lanes[lane].mask >> from & 1 == 1)
                            .then(|| (u64::from(lanes[from as usize].a), pair && inside))
                    }),
                });
            }
        }
    }
}

fn votes(cases: &mut Vec<Case>) {
    for (mode, negated) in [
        ("all", ""),
        ("any", ""),
        ("uni", ""),
        ("ballot", ""),
        ("all", "!"),
        ("ballot", "!"),
        ("any", "!"),
        ("uni", "!"),
    ] {
        let line = match mode {
            "ballot" => format!("vote.sync.ballot.b32 d, {negated}p0, m"),
            _ => format!("vote.sync.{mode}.pred q, {negated}p0, m"),
        };
        for diverges in [false, true] {
            cases.push(Case {
                line: line.clone(),
                diverges,
                reference: Box::new(move |lanes, lane| {
                    let members = members(lanes, lane);
                    let yes = |other: &usize| lanes[*other].p != (negated == "!");
                    let count = members.iter().filter(|other| yes(other)).count();
                    Some(match mode {
                        "all" => (77, count == members.len()),
                        "any" => (77, count > 0),
                        "uni" => (77, count == 0 || count == members.len()),
                        _ => (
                            members
                                .iter()
                                .filter(|other| yes(other))
                                .map(|other| 1 << other)
                                .sum(),
                            false,
                        ),
                    })
                }),
            });
        }
    }
}

fn matches(cases: &mut Vec<Case>) {
    for wide in [false, true] {
        let (ty, source) = if wide { ("b64", "wa") } else { ("b32", "a") };
        let value = move |lane: &Lane| (lane.a, if wide { lane.b } else { 0 });
        for (line, all, pair) in [
            (format!("match.any.sync.{ty} d, {source}, m"), false, false),
            (format!("match.all.sync.{ty} d|q, {source}, m"), true, true),
            (format!("match.all.sync.{ty} d, {source}, m"), true, false),
        ] {
            cases.push(Case {
                line,
                diverges: false,
                reference: Box::new(move |lanes, lane| {
                    let members = members(lanes, lane);
                    let same: Vec<usize> = members
                        .iter()
                        .copied()
                        .filter(|other| value(&lanes[*other]) == value(&lanes[lane]))
                        .collect();
                    let mask = |list: &[usize]| list.iter().map(|lane| 1u64 << lane).sum();
                    Some(if !all {
                        (mask(&same), false)
                    } else if same.len() == members.len() {
                        (mask(&members), pair)
                    } else {
                        (0, false)
                    })
                }),
            });
        }
    }
}

fn reductions(cases: &mut Vec<Case>) {
    for op in [
        "add.u32", "add.s32", "min.u32", "max.u32", "min.s32", "max.s32", "and.b32", "or.b32",
        "xor.b32",
    ] {
        for diverges in [false, true] {
            cases.push(Case {
                line: format!("redux.sync.{op} d, a, m"),
                diverges,
                reference: Box::new(move |lanes, lane| {
                    let values: Vec<u32> = members(lanes, lane)
                        .iter()
                        .map(|other| lanes[*other].a)
                        .collect();
                    let signed = values.iter().map(|x| i64::from(*x as i32));
                    let plain = values.iter().map(|x| u64::from(*x));
                    let value = match op {
                        "add.u32" | "add.s32" => plain.sum::<u64>(),
                        "min.u32" => plain.min().unwrap(),
                        "max.u32" => plain.max().unwrap(),
                        "min.s32" => signed.min().unwrap() as u64,
                        "max.s32" => signed.max().unwrap() as u64,
                        "and.b32" => (0..32)
                            .filter(|at| values.iter().all(|x| x >> at & 1 == 1))
                            .map(|at| 1 << at)
                            .sum(),
                        "or.b32" => (0..32)
                            .filter(|at| values.iter().any(|x| x >> at & 1 == 1))
                            .map(|at| 1 << at)
                            .sum(),
                        _ => (0..32)
                            .filter(|at| {
                                values.iter().filter(|x| *x >> at & 1 == 1).count() % 2 == 1
                            })
                            .map(|at| 1 << at)
                            .sum(),
                    };
                    Some((value & 0xffff_ffff, false))
                }),
            });
        }
    }
    for (op, largest, nan, magnitudes) in [
        ("min", false, false, false),
        ("max", true, false, false),
        ("min.NaN", false, true, false),
        ("max.abs", true, false, true),
        ("max.abs.NaN", true, true, true),
    ] {
        for diverges in [false, true] {
            cases.push(Case {
                line: format!("redux.sync.{op}.f32 d, a, m"),
                diverges,
                reference: Box::new(move |lanes, lane| {
                    let numbers = members(lanes, lane);
                    let numbers = numbers.iter().map(|other| {
                        let number = u64::from(lanes[*other].a);
                        if magnitudes {
                            number & !F32.sign()
                        } else {
                            number
                        }
                    });
                    let first = numbers.clone().next().unwrap();
                    let value = numbers.fold(first, |x, y| F32.extreme(x, y, largest, nan));
                    Some((value, false))
                }),
            });
        }
    }
    cases.push(Case {
        line: "elect.sync d|q, 0xffffffff".into(),
        diverges: false,
        reference: Box::new(|_, lane| Some((0, lane == 0))),
    });
    cases.push(Case {
        line: "elect.sync d|q, m".into(),
        diverges: true,
        reference: Box::new(|lanes, lane| {
            let first = members(lanes, lane)[0];
            Some((first as u64, first == lane))
        }),
    });
    cases.push(Case {
        line: "activemask.b32 d".into(),
        diverges: false,
        reference: Box::new(|_, _| Some((0xffff_ffff, false))),
    });
    cases.push(Case {
        line: "bar.warp.sync m".into(),
        diverges: true,
        reference: Box::new(|_, _| Some((77, false))),
    });
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    shuffles(&mut cases);
    votes(&mut cases);
    matches(&mut cases);
    reductions(&mut cases);
    cases
}

/// Block barriers: with counts, reductions, and one half that arrives while the other waits.
fn barriers() -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .b32 t, v, w, x, c; .reg .b64 to, at;\n\
         .reg .pred p, q, h;\n.shared .align 4 .b32 room[256];\nld.param.u64 to, [out];\nmov.u32 t, %tid.x;\n\
         mul.wide.u32 at, t, 64;\nadd.s64 to, to, at;\nrem.u32 v, t, 3;\nsetp.eq.u32 p, v, 0;\n\
         bar.red.popc.u32 c, 1, p;\nst.global.u32 [to], c;\nbar.red.popc.u32 c, 2, 128, !p;\nst.global.u32 [to+8], c;\n\
         bar.red.and.pred q, 0, p;\nselp.u32 x, 1, 0, q;\nst.global.u32 [to+16], x;\nbar.red.or.pred q, 3, p;\n\
         selp.u32 x, 1, 0, q;\nst.global.u32 [to+24], x;\nsetp.lt.u32 q, t, 1000;\n\
         barrier.cta.red.and.aligned.pred h, 4, q;\nselp.u32 x, 1, 0, h;\nst.global.u32 [to+32], x;\n\
         barrier.cta.red.popc.u32 c, 5, 128, q;\nst.global.u32 [to+40], c;\n\
         mul.lo.u32 w, t, 4;\nmov.u32 x, room;\nadd.u32 w, w, x;\nsetp.lt.u32 p, t, 64;\n@p bra producer;\n\
         bar.sync 6, 128;\nsub.u32 w, w, 256;\nld.shared.u32 x, [w];\nst.global.u32 [to+48], x;\nbra done;\n\
         producer:\nadd.u32 x, t, 500;\nst.shared.u32 [w], x;\nbar.arrive 6, 128;\ndone:\nbarrier.sync 7;\n\
         barrier.sync.aligned 8, 128;\nbarrier.cta.sync.aligned 9;\nbarrier.cta.sync 10, 128;\n\
         mov.u32 x, 11;\nbar.sync x;\nld.shared.u32 x, [room];\nst.global.u32 [to+56], x;\nret;\n}}\n"
    )
}

pub fn texts() -> Vec<String> {
    cases().iter().map(text).chain([barriers()]).collect()
}

#[test]
fn together() {
    let mut failures = Vec::new();
    for case in cases() {
        let module = Module::from_ptx(&text(&case)).unwrap_or_else(|error| panic!("{error}"));
        let mut rng = Rng(case.line.len() as u64);
        let mut lanes = Vec::new();
        let mut input = Vec::new();
        for warp in 0..WARPS {
            // Every third warp is whole, the others are two groups.
            let group = if warp % 3 == 0 && !case.diverges {
                u32::MAX
            } else {
                rng.next() as u32 | 1
            };
            for lane in 0..32 {
                let side = group >> lane & 1 == 1;
                let segment = [0, 16, 24, 28, 30, 31][warp % 6];
                let clamp = if case.line.contains(".up") { 0 } else { 31 };
                let few = warp % 2 == 0;
                let random = rng.next();
                let values = Lane {
                    a: if few {
                        random as u32 & 1
                    } else {
                        random as u32
                    },
                    b: if few {
                        (random >> 40) as u32 & 3
                    } else {
                        (random >> 40) as u32 & 31
                    },
                    c: segment << 8 | clamp,
                    mask: if side { group } else { !group },
                    p: match warp % 4 {
                        0 => true,
                        1 => false,
                        _ => random >> 33 & 1 == 1,
                    },
                };
                lanes.push(values);
                for word in [
                    values.a,
                    values.b,
                    values.c,
                    values.mask,
                    u32::from(side),
                    u32::from(values.p),
                    0,
                    0,
                ] {
                    input.extend(word.to_le_bytes());
                }
            }
        }
        let out = run(
            &module,
            &LaunchConfig::linear(WARPS as u32 / 2, 64),
            &input,
            16 * lanes.len(),
        );
        for (index, answer) in out.chunks_exact(16).enumerate() {
            let got = (
                u64::from_le_bytes(answer[..8].try_into().unwrap()),
                answer[8] != 0,
            );
            let warp = &lanes[index / 32 * 32..][..32];
            let Some(want) = (case.reference)(warp, index % 32) else {
                continue;
            };
            if got != want {
                failures.push(format!(
                    "{} lane {index}: {got:x?}, expected {want:x?}",
                    case.line
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn block_barriers() {
    let module = Module::from_ptx(&barriers()).unwrap();
    let out = run(&module, &LaunchConfig::linear(1, 128), &[0; 8], 64 * 128);
    for (thread, row) in out.chunks_exact(64).enumerate() {
        let column = |at: usize| u64::from_le_bytes(row[8 * at..][..8].try_into().unwrap());
        let got: Vec<u64> = (0..8).map(column).collect();
        let passed = if thread < 64 {
            0
        } else {
            500 + thread as u64 - 64
        };
        assert_eq!(got, [43, 85, 0, 1, 1, 128, passed, 500], "thread {thread}");
    }
}
