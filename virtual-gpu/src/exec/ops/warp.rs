//! Instructions that lanes of a warp execute together: `shfl`, `vote`, `match`, `redux`, `elect`, `activemask`.

use crate::exec::inst::{Flow, Inst, Predicate};
use crate::exec::isa::Code;
use crate::exec::machine::{Lanes, Machine};
use crate::exec::masks::lanes_where;
use crate::exec::row::LANES;
use crate::num::float32;

/// Continues if the lanes of the instruction's member mask are here.
macro_rules! gathered {
    ($machine:expr, $slot:expr) => {
        if let Err(flow) = $machine.members($slot) {
            return flow;
        }
        $machine.note_warp_sync();
    };
}

/// `shfl.sync`: value in `a`, lane operand in `b`, clamp and segment mask in `c`, member mask in the row after `imm`.
pub struct Shuffle<const MODE: u8>;

/// Modes of a shuffle.
pub mod mode {
    pub const UP: u8 = 0;
    pub const DOWN: u8 = 1;
    pub const BUTTERFLY: u8 = 2;
    pub const INDEX: u8 = 3;
}

impl<const MODE: u8> Code for Shuffle<MODE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract; `imm` is the slot of the member mask.
        unsafe {
            gathered!(machine, inst.extra_slot());
            let (a, b, c) = (
                machine.row(inst.a),
                machine.row(inst.b),
                machine.row(inst.c),
            );
            // Vectors say from where, and words are fetched one by one.
            let (mut from, mut inside) = ([0u32; LANES], [0u32; LANES]);
            for lane in 0..LANES {
                let (bval, cval) = (b[lane] & 31, c[lane] & 31);
                let segment = c[lane] >> 8 & 31;
                let own = lane as u32;
                let max = (own & segment) | (cval & !segment);
                let min = own & segment;
                let (source, valid) = match MODE {
                    mode::UP => {
                        let source = own.wrapping_sub(bval);
                        (source, source as i32 >= max as i32)
                    }
                    mode::DOWN => (own + bval, own + bval <= max),
                    mode::BUTTERFLY => (own ^ bval, own ^ bval <= max),
                    _ => (min | (bval & !segment), min | (bval & !segment) <= max),
                };
                from[lane] = if valid { source & 31 } else { own };
                inside[lane] = if valid { u32::MAX } else { 0 };
            }
            let mut out = [0; LANES];
            for lane in 0..LANES {
                out[lane] = a[from[lane] as usize & 31];
            }
            machine.set_row(inst.d, &out);
            if inst.p != Predicate::SINK {
                machine.blend_predicate(inst.p, lanes_where(|lane| inside[lane] != 0));
            }
        }
        Flow::Next
    }
}

/// `vote.sync`: source predicate in `q` (negated by flag 1), member mask in `a`.
pub struct Vote<const MODE: u8>;

/// Modes of a vote.
pub mod vote {
    pub const ALL: u8 = 0;
    pub const ANY: u8 = 1;
    pub const UNIFORM: u8 = 2;
    pub const BALLOT: u8 = 3;
}

impl<const MODE: u8> Code for Vote<MODE> {
    #[inline(always)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            gathered!(machine, inst.a);
            let source = machine.predicate(inst.q) ^ if inst.flags & 1 != 0 { u32::MAX } else { 0 };
            let masks = machine.row(inst.a);
            let present = machine.mask;
            let result = |lane: usize| {
                let members = masks[lane] & present;
                let yes = source & members;
                match MODE {
                    vote::ALL => u32::from(yes == members),
                    vote::ANY => u32::from(yes != 0),
                    vote::UNIFORM => u32::from(yes == members || yes == 0),
                    _ => yes,
                }
            };
            let mut values = [0; LANES];
            for lane in Lanes(present) {
                values[lane] = result(lane);
            }
            if MODE == vote::BALLOT {
                machine.set_row(inst.d, &values);
            } else {
                let bits = Lanes(present).fold(0, |bits, lane| bits | values[lane] << lane);
                machine.blend_predicate(inst.p, bits);
            }
        }
        Flow::Next
    }
}

/// `match.sync`: value in `a` (64 bits wide with flag 1), member mask in `b`; `all` has a predicate in `p`.
pub struct Match<const ALL: bool>;

impl<const ALL: bool> Code for Match<ALL> {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            gathered!(machine, inst.b);
            let values = if inst.flags & 1 != 0 {
                machine.wide(inst.a)
            } else {
                machine.row(inst.a).map(u64::from)
            };
            let masks = machine.row(inst.b);
            let mut out = [0u32; LANES];
            let mut same = 0u32;
            for lane in Lanes(machine.mask) {
                let members = masks[lane] & machine.mask;
                let equal = Lanes(members)
                    .filter(|other| values[*other] == values[lane])
                    .fold(0, |mask, other| mask | 1 << other);
                if ALL {
                    out[lane] = if equal == members { members } else { 0 };
                    same |= u32::from(equal == members) << lane;
                } else {
                    out[lane] = equal;
                }
            }
            machine.set_row(inst.d, &out);
            if ALL && inst.p != Predicate::SINK {
                machine.blend_predicate(inst.p, same);
            }
        }
        Flow::Next
    }
}

/// `redux.sync`: value in `a`, member mask in `b`, operation in the flags.
pub struct Reduce;

/// Operations of `redux`, as flags.
pub mod reduce {
    pub const ADD: u8 = 0;
    pub const MIN_SIGNED: u8 = 1;
    pub const MAX_SIGNED: u8 = 2;
    pub const MIN: u8 = 3;
    pub const MAX: u8 = 4;
    pub const AND: u8 = 5;
    pub const OR: u8 = 6;
    pub const XOR: u8 = 7;
    /// Of f32, with any of the three that follow; the minimum without them.
    pub const FLOAT: u8 = 8;
    pub const FLOAT_MAX: u8 = 1;
    pub const FLOAT_NAN: u8 = 2;
    pub const FLOAT_ABS: u8 = 4;
}

/// The largest or smallest f32 of a warp's values, as `flags` say.
fn extreme(values: impl Iterator<Item = u32>, flags: u8) -> u32 {
    let magnitudes = flags & reduce::FLOAT_ABS != 0;
    let combine = match (
        flags & reduce::FLOAT_MAX != 0,
        flags & reduce::FLOAT_NAN != 0,
    ) {
        (false, false) => float32::min,
        (false, true) => float32::min_nan,
        (true, false) => float32::max,
        (true, true) => float32::max_nan,
    };
    let numbers = values.map(|bits| {
        let number = float32::canonical(f32::from_bits(bits));
        if magnitudes { number.abs() } else { number }
    });
    numbers.reduce(combine).map_or(0, f32::to_bits)
}

impl Code for Reduce {
    #[inline(never)]
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            gathered!(machine, inst.b);
            let (values, masks) = (machine.row(inst.a), machine.row(inst.b));
            let mut out = [0u32; LANES];
            for lane in Lanes(machine.mask) {
                let members = Lanes(masks[lane] & machine.mask).map(|other| values[other]);
                if inst.flags & reduce::FLOAT != 0 {
                    out[lane] = extreme(members, inst.flags);
                    continue;
                }
                let combine = |x: u32, y: u32| match inst.flags {
                    reduce::ADD => x.wrapping_add(y),
                    reduce::MIN_SIGNED => (x as i32).min(y as i32) as u32,
                    reduce::MAX_SIGNED => (x as i32).max(y as i32) as u32,
                    reduce::MIN => x.min(y),
                    reduce::MAX => x.max(y),
                    reduce::AND => x & y,
                    reduce::OR => x | y,
                    _ => x ^ y,
                };
                out[lane] = members.reduce(combine).unwrap_or(0);
            }
            machine.set_row(inst.d, &out);
        }
        Flow::Next
    }
}

/// `elect.sync`: member mask in `a`; the elected lane goes to `d`, who is elected to `p`.
pub struct Elect;

impl Code for Elect {
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        // SAFETY: the handler's contract.
        unsafe {
            gathered!(machine, inst.a);
            let leader = machine.mask.trailing_zeros();
            if inst.flags & 1 != 0 {
                machine.set_row(inst.d, &[leader; LANES]);
            }
            machine.blend_predicate(inst.p, 1 << leader);
        }
        Flow::Next
    }
}

/// `activemask`: the lanes that happen to be together.
pub struct ActiveMask;

impl Code for ActiveMask {
    unsafe fn run(machine: &mut Machine<'_>, inst: &Inst) -> Flow {
        let mask = machine.mask;
        let warning =
            "activemask: the result depends on which lanes happen to run together".to_string();
        if machine.warp.alive() != mask && !machine.grid.warnings.contains(&warning) {
            machine.grid.warnings.push(warning);
        }
        // SAFETY: the handler's contract.
        unsafe { machine.set_row(inst.d, &[mask; LANES]) };
        Flow::Next
    }
}
