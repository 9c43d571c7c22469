//! Declarations of variables, registers and parameters.

use super::ast::{Initialiser, Parameter, Space, Variable};
use super::lexer::Token;
use super::parser::{Parser, Result};
use crate::num::ScalarType;

/// Largest variable that a module may declare: more than any GPU holds would only be a slip or an attack.
const MAX_BYTES: u64 = 1 << 34;

/// Most registers that one declaration may make.
const MAX_REGISTERS: u32 = 1 << 20;

/// Space, alignment and element type of a declaration.
struct Kind {
    space: Space,
    align: Option<u32>,
    ty: ScalarType,
    lanes: u64,
}

impl<'a> Parser<'a> {
    /// `.space [.align n] [.v2] .type name[, name...];`
    pub(super) fn variables(&mut self, external: bool) -> Result<Vec<Variable>> {
        let kind = self.kind()?;
        let mut variables = Vec::new();
        loop {
            variables.push(self.variable(&kind, external)?);
            if self.accept(';') {
                return Ok(variables);
            }
            self.expect(',')?;
        }
    }

    /// `.param [.align n] .type [.ptr [.space] [.align n]] name[bytes]`
    pub(super) fn parameter(&mut self) -> Result<Parameter> {
        let kind = self.kind()?;
        let name = self.name()?.to_string();
        let element = u64::from(kind.ty.bytes().max(1));
        let bytes = self
            .dimensions(&name)?
            .map_or(Some(element), |count| count.checked_mul(element));
        match bytes.and_then(|bytes| u32::try_from(bytes).ok()) {
            Some(bytes) if bytes <= 1 << 16 => Ok(Parameter {
                name,
                bytes,
                align: kind.align.unwrap_or(kind.ty.bytes().max(1)),
            }),
            _ => Err(self.error(format!(
                "parameter {name} is larger than any kernel may have"
            ))),
        }
    }

    fn kind(&mut self) -> Result<Kind> {
        let word = self.name()?;
        let Some(space) = Self::space(word) else {
            return Err(self.error(format!("unknown directive `{word}`")));
        };
        let (mut align, mut lanes, mut ty) = (None, 1, None);
        loop {
            match self.peek() {
                Some(Token::Name(".align")) => {
                    self.next()?;
                    let value = self.small("alignment")?;
                    if !value.is_power_of_two() || value > 1 << 16 {
                        return Err(self.error(format!(
                            "alignment {value} is not a power of two that PTX allows"
                        )));
                    }
                    if ty.is_none() {
                        align = Some(value);
                    }
                }
                Some(Token::Name(".v2")) => lanes = self.lanes(2)?,
                Some(Token::Name(".v4")) => lanes = self.lanes(4)?,
                Some(Token::Name(".ptr" | ".global" | ".shared" | ".const" | ".local")) => {
                    self.next()?;
                }
                Some(Token::Name(name)) if name.starts_with('.') => {
                    self.next()?;
                    let known = ScalarType::from_suffix(&name[1..]);
                    ty = Some(known.ok_or_else(|| self.error(format!("unknown type `{name}`")))?);
                }
                _ => {
                    let ty = ty.ok_or_else(|| self.error("a declaration without a type"))?;
                    return Ok(Kind {
                        space,
                        align,
                        ty,
                        lanes,
                    });
                }
            }
        }
    }

    fn lanes(&mut self, lanes: u64) -> Result<u64> {
        self.next()?;
        Ok(lanes)
    }

    /// `[a][b]`: the product; `None` without brackets, 0 for `[]`.
    fn dimensions(&mut self, name: &str) -> Result<Option<u64>> {
        let mut count = None;
        while self.accept('[') {
            let size = if self.peek() == Some(Token::Symbol(']')) {
                0
            } else {
                self.integer()?
            };
            self.expect(']')?;
            let product = count
                .unwrap_or(1u64)
                .checked_mul(size)
                .filter(|product| *product <= MAX_BYTES);
            count =
                Some(product.ok_or_else(|| {
                    self.error(format!("{name} is larger than any GPU's memory"))
                })?);
        }
        Ok(count)
    }

    fn variable(&mut self, kind: &Kind, external: bool) -> Result<Variable> {
        let line = self.line();
        let name = self.name()?.to_string();
        let mut numbered = None;
        if self.accept('<') {
            let count = self.small("register count")?;
            if kind.space != Space::Reg || count > MAX_REGISTERS {
                return Err(self.error(format!(
                    "{name}<{count}> is no register declaration that can be loaded"
                )));
            }
            numbered = Some(count);
            self.expect('>')?;
        }
        let element = u64::from(kind.ty.bytes().max(1)) * kind.lanes;
        let count = self.dimensions(&name)?;
        let mut bytes = count.unwrap_or(1).saturating_mul(element);
        if bytes > MAX_BYTES {
            return Err(self.error(format!("{name} is larger than any GPU's memory")));
        }
        let mut initialiser = Vec::new();
        if self.accept('=') {
            if !matches!(kind.space, Space::Global | Space::Const) {
                return Err(self.error(format!(
                    "only global and constant variables have initial values, not {name}"
                )));
            }
            let mut at = 0;
            self.initialiser(kind.ty, &mut at, &mut initialiser, 0)?;
            if count == Some(0) {
                bytes = at;
            }
            if at > bytes {
                return Err(self.error(format!("{name} has more initial values than elements")));
            }
        }
        let align = kind
            .align
            .unwrap_or((kind.ty.bytes().max(1)) * kind.lanes as u32);
        Ok(Variable {
            name,
            space: kind.space,
            ty: kind.ty,
            bytes,
            align,
            numbered,
            initialiser,
            external,
            line,
        })
    }

    fn initialiser(
        &mut self,
        ty: ScalarType,
        at: &mut u64,
        out: &mut Vec<Initialiser>,
        depth: u32,
    ) -> Result<()> {
        if depth > 8 {
            return Err(self.error("initial values nested too deep"));
        }
        if self.accept('{') {
            while !self.accept('}') {
                self.initialiser(ty, at, out, depth + 1)?;
                if !self.accept(',') {
                    self.expect('}')?;
                    break;
                }
            }
            return Ok(());
        }
        let size = ty.bytes().max(1) as usize;
        let negative = self.accept('-');
        let bits = match self.next()? {
            Token::Integer(value) if negative => value.wrapping_neg(),
            Token::Integer(value) => value,
            Token::Float(bits) if ty == ScalarType::F64 => {
                f64::from(f32::from_bits(bits)).to_bits()
            }
            Token::Float(bits) => u64::from(bits),
            Token::Double(bits) if ty == ScalarType::F32 => {
                u64::from((f64::from_bits(bits) as f32).to_bits())
            }
            Token::Double(bits) => bits,
            Token::Name(word) => {
                let name = if word == "generic" {
                    self.expect('(')?;
                    let name = self.name()?;
                    self.expect(')')?;
                    name
                } else {
                    word
                };
                let addend = if self.accept('+') {
                    self.integer()? as i64
                } else {
                    0
                };
                if size != 8 {
                    return Err(
                        self.error(format!("the address of {name} needs an 8-byte element"))
                    );
                }
                out.push(Initialiser::Symbol {
                    at: *at,
                    name: name.to_string(),
                    addend,
                });
                *at += 8;
                return Ok(());
            }
            other => return Err(self.error(format!("no initial value starts with {other:?}"))),
        };
        let value = &bits.to_le_bytes()[..size];
        match out.last_mut() {
            Some(Initialiser::Bytes(start, bytes)) if *start + bytes.len() as u64 == *at => {
                bytes.extend_from_slice(value);
            }
            _ => out.push(Initialiser::Bytes(*at, value.to_vec())),
        }
        *at += size as u64;
        Ok(())
    }
}
