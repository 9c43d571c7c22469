//! `cvt`.

use super::Result;
use super::context::Lowering;
use super::modifiers::Modifiers;
use super::moves::is_wide;
use crate::exec::{Class, Extra, Handler, handler, ops, ternary, unary};
use crate::num::ScalarType::{self, *};
use crate::num::fp8::Tf32Rounding;
use crate::num::{Convert, Rounding, pack_saturated};
use crate::ptx::{Instruction, Operand};

/// Every form of `cvt`.
pub fn lower(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if modifiers.take("pack") {
        return pack_integers(lowering, instruction, modifiers);
    }
    let types = modifiers.types();
    let &[to, from] = &types[..] else {
        return Err(lowering.unsupported(modifiers, "it needs two types"));
    };
    let (rounding, integral) = rounding(modifiers);
    let away = modifiers.take("rna");
    let (ftz, saturate) = (modifiers.take("ftz"), modifiers.take("sat"));
    let (satfinite, relu) = (modifiers.take("satfinite"), modifiers.take("relu"));
    if to == TF32 {
        return tf32(
            lowering,
            instruction,
            modifiers,
            rounding,
            away,
            relu,
            satfinite,
        );
    }
    let convert = Convert {
        to,
        from,
        rounding,
        integral,
        ftz,
        saturate,
        relu,
        satfinite,
    };
    if let Err(message) = convert.check() {
        return Err(lowering.unsupported(modifiers, &message));
    }
    if away {
        return Err(lowering.unsupported(modifiers, ".rna is for tf32 only"));
    }
    if matches!(to, F16x2 | BF16x2 | E4M3x2 | E5M2x2) {
        return packed(lowering, instruction, convert);
    }
    lowering.expect_operands(instruction, 2)?;
    if let Some(run) = quick(&convert) {
        let wide_source = is_wide(lowering, &instruction.operands[1]);
        let wide_destination = is_wide(lowering, &instruction.operands[0]);
        if wide_source == (from.bytes() == 8) && wide_destination == (to.bytes() == 8) {
            let mut inst = lowering.inst(run);
            inst.d = lowering.destination(&instruction.operands[0], to)?;
            inst.a = lowering.source(&instruction.operands[1], from)?;
            lowering.emit(Class::Convert, inst);
            return Ok(());
        }
    }
    general(lowering, instruction, convert)
}

/// `.rn` and its like; the second is true for `.rni` and its like, which round to an integral value.
fn rounding(modifiers: &mut Modifiers<'_>) -> (Option<Rounding>, bool) {
    if let Some(rounding) = modifiers.rounding() {
        return (Some(rounding), false);
    }
    let integral = modifiers.pick(|part| {
        Some(match part {
            "rni" => Rounding::Nearest,
            "rzi" => Rounding::Zero,
            "rmi" => Rounding::Down,
            "rpi" => Rounding::Up,
            _ => return None,
        })
    });
    (integral, integral.is_some())
}

/// Conversions that are common and simple enough for code of their own.
fn quick(convert: &Convert) -> Option<Handler> {
    // A cast of Rust truncates, saturates and takes NaN to 0, as PTX does.
    match (convert.to, convert.from, convert.rounding, convert.ftz) {
        (S32, F32, Some(Rounding::Zero), false) => {
            return Some(unary::<u32, u32, _>(|a| f32::from_bits(a) as i32 as u32));
        }
        (U32, F32, Some(Rounding::Zero), false) => {
            return Some(unary::<u32, u32, _>(|a| f32::from_bits(a) as u32));
        }
        _ => {}
    }
    if convert.ftz || convert.saturate || convert.relu || convert.satfinite || convert.integral {
        return None;
    }
    let nearest = matches!(convert.rounding, None | Some(Rounding::Nearest));
    Some(match (convert.to, convert.from) {
        (U64, U32) | (S64, U32) => unary::<u64, u32, _>(u64::from),
        (U64, S32) | (S64, S32) => unary::<u64, u32, _>(|a| i64::from(a as i32) as u64),
        (U32 | S32, U64 | S64) => unary::<u32, u64, _>(|a| a as u32),
        (U32 | S32, U16) => unary::<u32, u32, _>(|a| a & 0xffff),
        (U32 | S32, S16) => unary::<u32, u32, _>(|a| i32::from(a as i16) as u32),
        (U32 | S32, U8) => unary::<u32, u32, _>(|a| a & 0xff),
        (U32 | S32, S8) => unary::<u32, u32, _>(|a| i32::from(a as i8) as u32),
        (U16, U32 | S32) => unary::<u32, u32, _>(|a| a & 0xffff),
        (F32, S32) if nearest => unary::<u32, u32, _>(|a| (a as i32 as f32).to_bits()),
        (F32, U32) if nearest => unary::<u32, u32, _>(|a| (a as f32).to_bits()),
        (F32, F16) => unary::<u32, u32, _>(|a| crate::num::half::f16_to_f32(a as u16).to_bits()),
        (F32, BF16) => unary::<u32, u32, _>(|a| crate::num::half::bf16_to_f32(a as u16).to_bits()),
        (F16, F32) if nearest => unary::<u32, u32, _>(|a| {
            u32::from(crate::num::half::f32_to_f16(
                f32::from_bits(a),
                Rounding::Nearest,
            ))
        }),
        (BF16, F32) if nearest => unary::<u32, u32, _>(|a| {
            u32::from(crate::num::half::f32_to_bf16(
                f32::from_bits(a),
                Rounding::Nearest,
            ))
        }),
        _ => return None,
    })
}

/// Any conversion of one value; registers may be wider than their types.
fn general(lowering: &mut Lowering<'_>, instruction: &Instruction, convert: Convert) -> Result<()> {
    let wide = |lowering: &mut Lowering<'_>, operand: &Operand, ty: ScalarType| {
        if matches!(operand, Operand::Name(_)) {
            is_wide(lowering, operand)
        } else {
            ty.bytes() == 8
        }
    };
    let wide_source = wide(lowering, &instruction.operands[1], convert.from);
    let wide_destination = wide(lowering, &instruction.operands[0], convert.to);
    let run = match (wide_destination, wide_source) {
        (false, false) => handler::<ops::convert::General<false, false>>(),
        (false, true) => handler::<ops::convert::General<false, true>>(),
        (true, false) => handler::<ops::convert::General<true, false>>(),
        (true, true) => handler::<ops::convert::General<true, true>>(),
    };
    let mut inst = lowering.inst(run);
    inst.d = if wide_destination {
        lowering.destination64(&instruction.operands[0])?
    } else {
        lowering.destination32(&instruction.operands[0])?
    };
    inst.a = if wide_source {
        lowering.source64(&instruction.operands[1])?
    } else {
        lowering.source32(&instruction.operands[1])?
    };
    inst.ext = lowering.extra(Extra::Convert(convert));
    lowering.emit(Class::Convert, inst);
    Ok(())
}

/// Conversions to two packed values: of two f32, or of one packed value.
fn packed(lowering: &mut Lowering<'_>, instruction: &Instruction, convert: Convert) -> Result<()> {
    let two = convert.from == F32;
    lowering.expect_operands(instruction, if two { 3 } else { 2 })?;
    let nearest = matches!(convert.rounding, None | Some(Rounding::Nearest))
        && !convert.relu
        && !convert.satfinite;
    let run = match (two, convert.to) {
        (true, BF16x2) if nearest => crate::exec::binary::<u32, u32, u32, _>(|a, b| {
            let half = |x: u32| {
                u32::from(crate::num::half::f32_to_bf16(
                    f32::from_bits(x),
                    Rounding::Nearest,
                ))
            };
            half(a) << 16 | half(b)
        }),
        (true, F16x2) if nearest => crate::exec::binary::<u32, u32, u32, _>(|a, b| {
            let half = |x: u32| {
                u32::from(crate::num::half::f32_to_f16(
                    f32::from_bits(x),
                    Rounding::Nearest,
                ))
            };
            half(a) << 16 | half(b)
        }),
        (true, _) => handler::<ops::convert::PackFloats>(),
        (false, _) => handler::<ops::convert::General<false, false>>(),
    };
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    if two {
        inst.b = lowering.source32(&instruction.operands[2])?;
    }
    inst.ext = lowering.extra(Extra::Convert(convert));
    lowering.emit(Class::Convert, inst);
    Ok(())
}

fn tf32(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &Modifiers<'_>,
    rounding: Option<Rounding>,
    away: bool,
    relu: bool,
    satfinite: bool,
) -> Result<()> {
    use crate::num::fp8::f32_to_tf32 as convert;
    macro_rules! mode {
        ($rounding:expr) => {
            match (relu, satfinite) {
                (false, false) => unary::<u32, u32, _>(|a| {
                    convert(f32::from_bits(a), $rounding, false, false).to_bits()
                }),
                (false, true) => unary::<u32, u32, _>(|a| {
                    convert(f32::from_bits(a), $rounding, false, true).to_bits()
                }),
                (true, false) => unary::<u32, u32, _>(|a| {
                    convert(f32::from_bits(a), $rounding, true, false).to_bits()
                }),
                (true, true) => unary::<u32, u32, _>(|a| {
                    convert(f32::from_bits(a), $rounding, true, true).to_bits()
                }),
            }
        };
    }
    let run = match (away, rounding) {
        (true, None) => mode!(Tf32Rounding::NearestAway),
        (false, Some(Rounding::Nearest)) => mode!(Tf32Rounding::Nearest),
        (false, Some(Rounding::Zero)) => mode!(Tf32Rounding::Zero),
        _ => return Err(lowering.unsupported(modifiers, "tf32 is rounded by .rna, .rn or .rz")),
    };
    lowering.expect_operands(instruction, 2)?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    lowering.emit(Class::Convert, inst);
    Ok(())
}

/// `cvt.pack.sat.to.s32[.b32] d, a, b[, c]`.
fn pack_integers(
    lowering: &mut Lowering<'_>,
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
) -> Result<()> {
    if !modifiers.take("sat") {
        return Err(lowering.unsupported(modifiers, "it needs .sat"));
    }
    let types = modifiers.types();
    let run = match types[..] {
        [U16, S32] => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| pack_saturated(U16, a as i32, b as i32, c))
        }
        [S16, S32] => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| pack_saturated(S16, a as i32, b as i32, c))
        }
        [U8, S32, B32] => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| pack_saturated(U8, a as i32, b as i32, c))
        }
        [S8, S32, B32] => {
            ternary::<u32, u32, u32, u32, _>(|a, b, c| pack_saturated(S8, a as i32, b as i32, c))
        }
        _ => return Err(lowering.unsupported(modifiers, "not between these types")),
    };
    let third = types.len() == 3;
    lowering.expect_operands(instruction, if third { 4 } else { 3 })?;
    let mut inst = lowering.inst(run);
    inst.d = lowering.destination32(&instruction.operands[0])?;
    inst.a = lowering.source32(&instruction.operands[1])?;
    inst.b = lowering.source32(&instruction.operands[2])?;
    inst.c = if third {
        lowering.source32(&instruction.operands[3])?
    } else {
        lowering.narrow(0)
    };
    lowering.emit(Class::Convert, inst);
    Ok(())
}
