//! Operands of an instruction.

use super::ast::{Address, Operand};
use super::lexer::Token;
use super::parser::{Parser, Result};

/// Nesting that no real operand reaches; a bound for hostile text.
const MAX_DEPTH: u32 = 8;

impl<'a> Parser<'a> {
    pub(super) fn operands(&mut self) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        if self.accept(';') {
            return Ok(operands);
        }
        loop {
            operands.push(self.operand(0)?);
            if self.accept(';') {
                return Ok(operands);
            }
            self.expect(',')?;
        }
    }

    fn operand(&mut self, depth: u32) -> Result<Operand> {
        if depth > MAX_DEPTH {
            return Err(self.error("operands nested too deep"));
        }
        let first = match self.next()? {
            Token::Symbol('{') => return Ok(Operand::Vector(self.list('}', depth)?)),
            Token::Symbol('(') => return Ok(Operand::List(self.list(')', depth)?)),
            Token::Symbol('[') => return self.address(depth),
            Token::Symbol('!') => return Ok(Operand::Not(Box::new(self.operand(depth + 1)?))),
            Token::Symbol('-') => match self.operand(depth + 1)? {
                Operand::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Operand::Float(bits) => Operand::Float(bits ^ 1 << 31),
                Operand::Double(bits) => Operand::Double(bits ^ 1 << 63),
                other => Operand::Negative(Box::new(other)),
            },
            Token::Integer(value) => Operand::Integer(value),
            Token::Float(bits) => Operand::Float(bits),
            Token::Double(bits) => Operand::Double(bits),
            Token::Name("_") => Operand::Sink,
            Token::Name(name) => match self.offset()? {
                Some(offset) => Operand::Offset(name.to_string(), offset),
                None => Operand::Name(name.to_string()),
            },
            other => return Err(self.error(format!("no operand starts with {other:?}"))),
        };
        if self.accept('|') {
            let second = self.operand(depth + 1)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, close: char, depth: u32) -> Result<Vec<Operand>> {
        let mut items = Vec::new();
        if self.accept(close) {
            return Ok(items);
        }
        loop {
            items.push(self.operand(depth + 1)?);
            if self.accept(close) {
                return Ok(items);
            }
            self.expect(',')?;
        }
    }

    /// `+ n` or `- n` after a name, if it is there.
    fn offset(&mut self) -> Result<Option<i64>> {
        let negative = match self.peek() {
            Some(Token::Symbol('+')) => false,
            Some(Token::Symbol('-')) => true,
            _ => return Ok(None),
        };
        self.next()?;
        let negative = negative ^ self.accept('-');
        let value = self.integer()? as i64;
        Ok(Some(if negative {
            value.wrapping_neg()
        } else {
            value
        }))
    }

    fn address(&mut self, depth: u32) -> Result<Operand> {
        let mut address = Address {
            base: None,
            offset: 0,
            coordinates: Vec::new(),
        };
        match self.next()? {
            Token::Name(name) => {
                address.base = Some(name.to_string());
                address.offset = self.offset()?.unwrap_or(0);
            }
            Token::Integer(value) => address.offset = value as i64,
            other => return Err(self.error(format!("no address starts with {other:?}"))),
        }
        if self.accept(',') {
            self.expect('{')?;
            address.coordinates = self.list('}', depth + 1)?;
        }
        self.expect(']')?;
        Ok(Operand::Address(address))
    }
}
