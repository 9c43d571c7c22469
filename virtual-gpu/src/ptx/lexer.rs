//! PTX text to tokens.

/// A token and the line that it stands on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

/// A token of PTX.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name with all its dotted parts: `ld.global.f32`, `%tid.x`, `$L__BB0_1`; or a word that begins with a dot: `.reg`.
    Name(&'a str),
    /// An integer literal, its 64 bits.
    Integer(u64),
    /// `0f` and eight hex digits: the bits of an f32.
    Float(u32),
    /// `0d` and sixteen hex digits, or a decimal literal: the bits of an f64.
    Double(u64),
    /// The inside of a quoted string, as it stands.
    Text(&'a str),
    /// Any other character.
    Symbol(char),
}

/// Splits `source` into tokens; the error is the line and what is wrong there.
pub fn tokens(source: &str) -> Result<Vec<Spanned<'_>>, (u32, String)> {
    let mut lexer = Lexer {
        source,
        bytes: source.as_bytes(),
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::with_capacity(source.len() / 5);
    while let Some(token) = lexer.next_token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next_token(&mut self) -> Result<Option<Spanned<'a>>, (u32, String)> {
        self.skip_blank()?;
        let line = self.line;
        let Some(&byte) = self.bytes.get(self.at) else {
            return Ok(None);
        };
        let token = if starts_name(byte) || (byte == b'.' && continues_name(self.peek(1))) {
            self.name()
        } else if byte.is_ascii_digit() {
            self.number()?
        } else if byte == b'"' {
            self.text()?
        } else if byte.is_ascii() {
            self.at += 1;
            Token::Symbol(char::from(byte))
        } else {
            return Err((
                line,
                "a character that PTX does not have outside comments".into(),
            ));
        };
        Ok(Some(Spanned { token, line }))
    }

    fn skip_blank(&mut self) -> Result<(), (u32, String)> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => {
                    while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let start = self.line;
                    self.at += 2;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        if self.at >= self.bytes.len() {
                            return Err((start, "a comment that does not end".into()));
                        }
                        self.line += u32::from(self.bytes[self.at] == b'\n');
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn name(&mut self) -> Token<'a> {
        let start = self.at;
        // An opcode goes on over its dots; of `.reg.b16` each is a word of its own.
        let dotted = self.peek(0) != b'.';
        self.at += 1;
        loop {
            let byte = self.peek(0);
            let next = self.peek(1);
            if continues_name(byte) || (dotted && byte == b'.' && continues_name(next)) {
                self.at += 1;
            } else if byte == b':' && next == b':' && continues_name(self.peek(2)) {
                self.at += 2;
            } else {
                return Token::Name(&self.source[start..self.at]);
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>, (u32, String)> {
        let bad = |what: &str| (self.line, format!("{what} is not a number that PTX has"));
        let digits = |from: usize, radix: u32| {
            let count = self.bytes[from..]
                .iter()
                .take_while(|byte| char::from(**byte).is_digit(radix))
                .count();
            &self.source[from..from + count]
        };
        let (kind, body) = (self.peek(1), self.at + 2);
        let (token, end) = match (self.peek(0), kind) {
            (b'0', b'f' | b'F') => {
                let hex = digits(body, 16);
                let bits = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8);
                (Token::Float(bits.ok_or_else(|| bad("0f..."))?), body + 8)
            }
            (b'0', b'd' | b'D') => {
                let hex = digits(body, 16);
                let bits = u64::from_str_radix(hex, 16)
                    .ok()
                    .filter(|_| hex.len() == 16);
                (Token::Double(bits.ok_or_else(|| bad("0d..."))?), body + 16)
            }
            (b'0', b'x' | b'X') => self.radix(digits(body, 16), body, 16)?,
            (b'0', b'b' | b'B') => self.radix(digits(body, 2), body, 2)?,
            (b'0', b'0'..=b'7') => self.radix(digits(self.at + 1, 8), self.at + 1, 8)?,
            _ => {
                let whole = digits(self.at, 10);
                let end = self.at + whole.len();
                let fraction = self.bytes.get(end) == Some(&b'.')
                    && self.bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
                if fraction {
                    let end = end + 1 + digits(end + 1, 10).len();
                    let value: f64 = self.source[self.at..end]
                        .parse()
                        .map_err(|_| bad("a fraction"))?;
                    (Token::Double(value.to_bits()), end)
                } else {
                    self.radix(whole, self.at, 10)?
                }
            }
        };
        self.at = end;
        if self.peek(0) == b'U' {
            self.at += 1;
        }
        Ok(token)
    }

    fn radix(
        &self,
        digits: &str,
        from: usize,
        radix: u32,
    ) -> Result<(Token<'a>, usize), (u32, String)> {
        let value = u64::from_str_radix(digits, radix).map_err(|_| {
            (
                self.line,
                "an integer that is empty or does not fit 64 bits".to_string(),
            )
        })?;
        Ok((Token::Integer(value), from + digits.len()))
    }

    fn text(&mut self) -> Result<Token<'a>, (u32, String)> {
        let start = self.at + 1;
        let length = self.bytes[start..]
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\n'))
            .filter(|length| self.bytes[start + length] == b'"')
            .ok_or((
                self.line,
                "a string that does not end on its line".to_string(),
            ))?;
        self.at = start + length + 1;
        Ok(Token::Text(&self.source[start..start + length]))
    }
}
