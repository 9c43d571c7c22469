//! `wmma`: products of matrices whose fragments PTX leaves open.
//!
//! Each instruction is written out as others before anything is lowered. A fragment here is that of `mma.sync`, so that
//! a product of 16 by 16 is two of 16 by 8, and a load or a store moves each element on its own. Half-precision fragments
//! of A and B have twice the registers that they need: the upper ones are copies of the lower ones.

use std::borrow::Cow;
use std::fmt::Write;

use crate::num::ScalarType::{self, *};
use crate::ptx::{self, Instruction, Operand, Space, Statement};

use super::modifiers::Modifiers;

/// A line and what is wrong there.
type Refusal = (u32, String);

/// The statements of a body without `wmma`.
pub fn expand(body: &[Statement]) -> Result<Cow<'_, [Statement]>, Refusal> {
    let is_wmma = |statement: &Statement| matches!(statement, Statement::Instruction(instruction) if instruction.opcode.starts_with("wmma."));
    if !body.iter().any(is_wmma) {
        return Ok(Cow::Borrowed(body));
    }
    let mut expanded = Vec::with_capacity(2 * body.len());
    for statement in body {
        match statement {
            Statement::Instruction(instruction) if is_wmma(statement) => {
                let text = written_out(instruction, body).map_err(|what| {
                    let message = format!("{} is not supported ({what})", instruction.opcode);
                    (instruction.line, message)
                })?;
                expanded.extend(parsed(&text, instruction.line)?);
            }
            other => expanded.push(other.clone()),
        }
    }
    Ok(Cow::Owned(expanded))
}

/// The statements of a text, put down to one line.
fn parsed(text: &str, line: u32) -> Result<Vec<Statement>, Refusal> {
    let module = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry wmma() {{\n{{\n{text}}}\n}}\n"
    );
    let module = ptx::parse(&module).map_err(|error| (line, error.message))?;
    let body = module.functions.into_iter().find_map(|f| f.body);
    let mut statements = body.unwrap_or_default();
    for statement in &mut statements {
        match statement {
            Statement::Instruction(instruction) => instruction.line = line,
            Statement::Variable(variable) => variable.line = line,
            _ => {}
        }
    }
    Ok(statements)
}

/// Which matrix a fragment belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Matrix {
    A,
    B,
    /// C or D.
    Sums,
}

/// A lane's share of a matrix. With g = lane / 4 and t = lane % 4, its elements lie at `(g + row, scale t + column)` in A and in
/// sums and at `(scale t + row, g + column)` in B, for each register those of one word.
struct Fragment {
    scale: u32,
    registers: Vec<Vec<(u32, u32)>>,
    /// Registers that PTX counts, copies included.
    counted: usize,
}

impl Fragment {
    /// The fragment of a matrix whose product goes over `k`.
    fn new(matrix: Matrix, ty: ScalarType, k: u32) -> Result<Self, &'static str> {
        let known = match (matrix, ty) {
            (Matrix::Sums, F16 | F32 | S32) => true,
            (Matrix::A | Matrix::B, F16 | BF16 | S8 | U8) => k == 16,
            (Matrix::A | Matrix::B, TF32) => k == 8,
            _ => false,
        };
        if !known {
            return Err("not for this type and shape");
        }
        let each = 4 / ty.bytes();
        let elements = |row: u32, column: u32, along_rows: bool| -> Vec<(u32, u32)> {
            let element = |e| match along_rows {
                true => (row + e, column),
                false => (row, column + e),
            };
            (0..each).map(element).collect()
        };
        let registers: Vec<_> = match matrix {
            Matrix::A => (0..k / each / 2)
                .map(|r| elements(8 * (r % 2), 4 * each * (r / 2), false))
                .collect(),
            Matrix::B => {
                let half = k / each / 4;
                (0..2 * half)
                    .map(|r| elements(4 * each * (r % half), 8 * (r / half), true))
                    .collect()
            }
            // Two columns of a lane are one word of f16, or two of 32 bits.
            Matrix::Sums => (0..8 / each)
                .map(|r| {
                    let words = 2 / each;
                    let (half, row) = (r / (2 * words), r / words % 2);
                    elements(8 * row, 8 * half + r % words, false)
                })
                .collect(),
        };
        let copies = if matrix != Matrix::Sums && ty == F16 {
            2
        } else {
            1
        };
        Ok(Self {
            scale: if matrix == Matrix::Sums { 2 } else { each },
            counted: copies * registers.len(),
            registers,
        })
    }

    /// The registers of an operand, as many as the fragment has.
    fn names<'o>(&self, operand: &'o Operand) -> Result<Vec<&'o str>, String> {
        let items = match operand {
            Operand::Vector(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        let names: Option<Vec<&str>> = items.iter().map(name).collect();
        match names {
            Some(names) if names.len() == self.counted => Ok(names),
            _ => Err(format!("a fragment has {} registers", self.counted)),
        }
    }
}

fn name(operand: &Operand) -> Option<&str> {
    match operand {
        Operand::Name(name) => Some(name),
        _ => None,
    }
}

fn written_out(instruction: &Instruction, body: &[Statement]) -> Result<String, String> {
    if instruction.guard.is_some() {
        return Err("not with a guard".into());
    }
    let mut modifiers = Modifiers::new(&instruction.opcode);
    let kind = modifiers.first().unwrap_or_default();
    let text = match kind {
        "mma" => product(instruction, &mut modifiers)?,
        "load" | "store" => transfer(instruction, &mut modifiers, kind == "store", body)?,
        _ => return Err("unknown kind".into()),
    };
    match modifiers.rest() {
        [] => Ok(text),
        [first, ..] => Err(format!("modifier .{first}")),
    }
}

/// Takes out what every form has, and gives k of the shape.
fn collective(modifiers: &mut Modifiers<'_>) -> Result<u32, String> {
    if !modifiers.take("sync") || !modifiers.take("aligned") {
        return Err("only the .sync.aligned form is".into());
    }
    let shape = modifiers.pick(|part| match part {
        "m16n16k16" => Some(16),
        "m16n16k8" => Some(8),
        _ => None,
    });
    shape.ok_or_else(|| "only m16n16k16 and m16n16k8 are".into())
}

fn product(instruction: &Instruction, modifiers: &mut Modifiers<'_>) -> Result<String, String> {
    let k = collective(modifiers)?;
    // Fragments do not depend on how the matrices lay in memory.
    for _ in 0..2 {
        if !modifiers.take("row") && !modifiers.take("col") {
            return Err("it needs two layouts".into());
        }
    }
    let saturate = if modifiers.take("satfinite") {
        ".satfinite"
    } else {
        ""
    };
    let types = modifiers.types();
    let [d, a, b, c] = match types[..] {
        [d, c] => [d, F16, F16, c],
        [d, a, b, c] => [d, a, b, c],
        _ => return Err("it needs its types".into()),
    };
    let [to, from_a, from_b, from_c] = &instruction.operands[..] else {
        return Err("it takes 4 operands".into());
    };
    let (fragment_a, fragment_b) = (
        Fragment::new(Matrix::A, a, k)?,
        Fragment::new(Matrix::B, b, k)?,
    );
    let (a_names, b_names) = (fragment_a.names(from_a)?, fragment_b.names(from_b)?);
    let c_names = Fragment::new(Matrix::Sums, c, k)?.names(from_c)?;
    let d_names = Fragment::new(Matrix::Sums, d, k)?.names(to)?;
    let half_b = fragment_b.registers.len() / 2;
    let (half_c, half_d) = (c_names.len() / 2, d_names.len() / 2);
    let types = [d, a, b, c].map(suffix).join(".");
    // D may share registers with what the second product still reads.
    let mut text = String::from(".reg .b32 %wmma_d<8>;\n");
    for half in 0..2 {
        let results: Vec<String> = (0..half_d)
            .map(|i| format!("%wmma_d{}", half * half_d + i))
            .collect();
        let _ = writeln!(
            text,
            "mma.sync.aligned.m16n8k{k}.row.col{saturate}.{types} {{{}}}, {{{}}}, {{{}}}, {{{}}};",
            results.join(","),
            a_names[..fragment_a.registers.len()].join(","),
            b_names[half * half_b..][..half_b].join(","),
            c_names[half * half_c..][..half_c].join(","),
        );
    }
    for (i, name) in d_names.iter().enumerate() {
        let _ = writeln!(text, "mov.b32 {name}, %wmma_d{i};");
    }
    Ok(text)
}

/// The suffix of a type that fragments have.
fn suffix(ty: ScalarType) -> &'static str {
    match ty {
        F16 => "f16",
        BF16 => "bf16",
        TF32 => "tf32",
        F32 => "f32",
        S8 => "s8",
        U8 => "u8",
        // `Fragment` has no others.
        _ => "s32",
    }
}

/// Loads and stores.
fn transfer(
    instruction: &Instruction,
    modifiers: &mut Modifiers<'_>,
    stores: bool,
    body: &[Statement],
) -> Result<String, String> {
    let matrix = match modifiers.first().unwrap_or_default() {
        "a" if !stores => Matrix::A,
        "b" if !stores => Matrix::B,
        "c" if !stores => Matrix::Sums,
        "d" if stores => Matrix::Sums,
        _ => return Err("unknown matrix".into()),
    };
    let k = collective(modifiers)?;
    let by_rows = modifiers.take("row");
    if !by_rows && !modifiers.take("col") {
        return Err("it needs a layout".into());
    }
    let space = ["global", "shared", "shared::cta"];
    let space = space.into_iter().find(|space| modifiers.take(space));
    let ty = modifiers.last_type().ok_or("it has no type")?;
    let fragment = Fragment::new(matrix, ty, k)?;
    let (place, values) = if stores { (0, 1) } else { (1, 0) };
    let operands = &instruction.operands;
    let (Some(Operand::Address(address)), Some(values)) =
        (operands.get(place), operands.get(values))
    else {
        return Err("it takes registers and an address".into());
    };
    let names = fragment.names(values)?;
    let base = address
        .base
        .as_deref()
        .ok_or("not at an absolute address")?;
    let size = ty.bytes();
    let mut text = String::from(
        ".reg .b32 %wmma_g, %wmma_t, %wmma_v<4>;\n.reg .b16 %wmma_h<2>;\n.reg .b64 %wmma_at, %wmma_step, %wmma_x;\n\
         mov.u32 %wmma_t, %laneid;\nshr.u32 %wmma_g, %wmma_t, 2;\nand.b32 %wmma_t, %wmma_t, 3;\n",
    );
    let _ = writeln!(text, "mul.lo.u32 %wmma_t, %wmma_t, {};", fragment.scale);
    let _ = match width(base, body) {
        Some(4) => writeln!(text, "cvt.u64.u32 %wmma_at, {base};"),
        _ => writeln!(text, "mov.u64 %wmma_at, {base};"),
    };
    let _ = writeln!(text, "add.s64 %wmma_at, %wmma_at, {};", address.offset);
    let _ = match operands.get(2) {
        Some(Operand::Name(stride)) => writeln!(text, "mul.wide.u32 %wmma_step, {stride}, {size};"),
        Some(Operand::Integer(stride)) => {
            writeln!(
                text,
                "mov.u64 %wmma_step, {};",
                stride.wrapping_mul(u64::from(size))
            )
        }
        Some(_) => return Err("its stride is a register or a constant".into()),
        None => {
            let stride = match (matrix, by_rows) {
                (Matrix::A, true) | (Matrix::B, false) => k,
                _ => 16,
            };
            writeln!(text, "mov.u64 %wmma_step, {};", stride * size)
        }
    };
    // The lane's first element: lines of the matrix are `step` apart.
    let (row, column) = match matrix {
        Matrix::B => ("%wmma_t", "%wmma_g"),
        Matrix::A | Matrix::Sums => ("%wmma_g", "%wmma_t"),
    };
    let (line, within) = if by_rows {
        (row, column)
    } else {
        (column, row)
    };
    let _ = writeln!(
        text,
        "cvt.u64.u32 %wmma_x, {line};\nmad.lo.s64 %wmma_at, %wmma_x, %wmma_step, %wmma_at;\n\
         mul.wide.u32 %wmma_x, {within}, {size};\nadd.s64 %wmma_at, %wmma_at, %wmma_x;"
    );
    let space = space.map(|space| format!(".{space}")).unwrap_or_default();
    for (elements, name) in fragment.registers.iter().zip(&names) {
        let parts: Vec<String> = match size {
            4 => vec![(*name).to_string()],
            2 => (0..2).map(|e| format!("%wmma_h{e}")).collect(),
            _ => (0..4).map(|e| format!("%wmma_v{e}")).collect(),
        };
        if stores && size == 2 {
            let _ = writeln!(text, "mov.b32 {{{}}}, {name};", parts.join(","));
        }
        for ((row, column), part) in elements.iter().zip(&parts) {
            let (line, within) = if by_rows {
                (row, column)
            } else {
                (column, row)
            };
            let (bits, within) = (8 * size, within * size);
            let _ = writeln!(text, "mad.lo.s64 %wmma_x, %wmma_step, {line}, %wmma_at;");
            let _ = match stores {
                true => writeln!(text, "st{space}.b{bits} [%wmma_x+{within}], {part};"),
                false => writeln!(text, "ld{space}.b{bits} {part}, [%wmma_x+{within}];"),
            };
        }
        if !stores && size == 2 {
            let _ = writeln!(text, "mov.b32 {name}, {{{}}};", parts.join(","));
        } else if !stores && size == 1 {
            let _ = writeln!(text, "mov.b32 {name}, {};", parts[0]);
            for (e, part) in parts.iter().enumerate().skip(1) {
                let _ = writeln!(text, "bfi.b32 {name}, {part}, {name}, {}, 8;", 8 * e);
            }
        }
    }
    if !stores {
        let (lower, upper) = names.split_at(fragment.registers.len());
        for (copy, name) in upper.iter().zip(lower) {
            let _ = writeln!(text, "mov.b32 {copy}, {name};");
        }
    }
    Ok(text)
}

/// Bytes of a register that the body declares; `None` for what is no register.
fn width(name: &str, body: &[Statement]) -> Option<u32> {
    body.iter().find_map(|statement| {
        let Statement::Variable(variable) = statement else {
            return None;
        };
        if variable.space != Space::Reg {
            return None;
        }
        let number = name.strip_prefix(variable.name.as_str())?;
        let named = match variable.numbered {
            None => number.is_empty(),
            Some(count) => number.parse().is_ok_and(|number: u32| number < count),
        };
        named.then(|| variable.ty.bytes())
    })
}
