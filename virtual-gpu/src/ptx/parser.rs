//! Modules, functions and statements.

use super::ast::{Function, Guard, Instruction, Location, Module, Parameter, Space, Statement};
use super::error::PtxError;
use super::lexer::{Spanned, Token, tokens};

/// What parsing gives.
pub type Result<T> = std::result::Result<T, PtxError>;

/// Parses the text of a PTX module. Opcodes are not looked at: lowering refuses those that it does not know.
pub fn parse(source: &str) -> Result<Module> {
    let tokens = tokens(source).map_err(|(line, message)| PtxError::new(source, line, message))?;
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
    };
    parser.module()
}

pub(super) struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn error(&self, message: impl Into<String>) -> PtxError {
        let before = self.tokens.get(self.at.saturating_sub(1));
        let line = before.map_or(1, |token| token.line);
        PtxError::new(self.source, line, message)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(1, |token| token.line)
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|spanned| spanned.token)
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>> {
        let token = self
            .peek()
            .ok_or_else(|| self.error("the text ends in the middle of a statement"))?;
        self.at += 1;
        Ok(token)
    }

    pub(super) fn accept(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    pub(super) fn accept_name(&mut self, name: &str) -> bool {
        let found = self.peek() == Some(Token::Name(name));
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, symbol: char) -> Result<()> {
        match self.next()? {
            Token::Symbol(found) if found == symbol => Ok(()),
            other => Err(self.error(format!("expected `{symbol}`, found {other:?}"))),
        }
    }

    pub(super) fn name(&mut self) -> Result<&'a str> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            other => Err(self.error(format!("expected a name, found {other:?}"))),
        }
    }

    pub(super) fn integer(&mut self) -> Result<u64> {
        match self.next()? {
            Token::Integer(value) => Ok(value),
            other => Err(self.error(format!("expected an integer, found {other:?}"))),
        }
    }

    pub(super) fn small(&mut self, what: &str) -> Result<u32> {
        let value = self.integer()?;
        u32::try_from(value).map_err(|_| self.error(format!("{what} {value} is too large")))
    }

    fn module(&mut self) -> Result<Module> {
        let mut module = Module {
            lines: self.source.lines().count() as u32,
            ..Module::default()
        };
        while let Some(token) = self.peek() {
            let Token::Name(name) = token else {
                self.at += 1;
                return Err(self.error(format!("expected a directive, found {token:?}")));
            };
            match name {
                ".version" => {
                    self.next()?;
                    module.version = self.version()?;
                }
                ".target" => {
                    self.next()?;
                    module.target = self.name()?.to_string();
                    while self.accept(',') {
                        self.name()?;
                    }
                }
                ".address_size" => {
                    self.next()?;
                    if self.integer()? != 64 {
                        return Err(self.error("only 64-bit addresses are supported"));
                    }
                }
                ".file" => self.file(&mut module)?,
                ".section" => self.section()?,
                ".pragma" => self.skip_statement()?,
                ".loc" => {
                    self.next()?;
                    self.location()?;
                }
                ".alias" => {
                    self.next()?;
                    return Err(self.error("function aliases are not supported"));
                }
                _ => self.declaration(&mut module)?,
            }
        }
        if module.version == (0, 0) {
            self.at = 0;
            return Err(self.error("this is not a PTX module: it has no .version"));
        }
        Ok(module)
    }

    fn version(&mut self) -> Result<(u32, u32)> {
        match self.next()? {
            Token::Double(bits) => {
                let value = f64::from_bits(bits);
                Ok((value as u32, (value * 10.0).round() as u32 % 10))
            }
            Token::Integer(value) => Ok((value.min(999) as u32, 0)),
            other => Err(self.error(format!("expected a version, found {other:?}"))),
        }
    }

    fn file(&mut self, module: &mut Module) -> Result<()> {
        self.next()?;
        let index = self.small("file index")?;
        match self.next()? {
            Token::Text(name) => module.files.push((index, name.to_string())),
            other => return Err(self.error(format!("expected a file name, found {other:?}"))),
        }
        while self.accept(',') {
            self.integer()?;
        }
        Ok(())
    }

    /// Debug sections carry nothing that is needed; they are skipped whole.
    fn section(&mut self) -> Result<()> {
        self.next()?;
        self.name()?;
        self.expect('{')?;
        while !self.accept('}') {
            self.next()?;
        }
        Ok(())
    }

    fn skip_statement(&mut self) -> Result<()> {
        while self.next()? != Token::Symbol(';') {}
        Ok(())
    }

    /// After `.pragma`: its strings. Anything else in it is skipped.
    fn pragma(&mut self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        loop {
            match self.next()? {
                Token::Symbol(';') => return Ok(texts),
                Token::Text(text) => texts.push(text.to_string()),
                _ => {}
            }
        }
    }

    /// A variable or a function, with its linkage.
    fn declaration(&mut self, module: &mut Module) -> Result<()> {
        let mut external = false;
        loop {
            match self.peek() {
                Some(Token::Name(".visible" | ".weak" | ".common")) => self.at += 1,
                Some(Token::Name(".extern")) => {
                    external = true;
                    self.at += 1;
                }
                Some(Token::Name(name @ (".entry" | ".func"))) => {
                    let function = self.function(name == ".entry")?;
                    module.functions.push(function);
                    return Ok(());
                }
                _ => {
                    let variables = self.variables(external)?;
                    module.variables.extend(variables);
                    return Ok(());
                }
            }
        }
    }

    fn function(&mut self, entry: bool) -> Result<Function> {
        let line = self.line();
        self.next()?;
        while self.accept_name(".noreturn") {}
        let returns = if self.peek() == Some(Token::Symbol('(')) {
            self.parameters()?
        } else {
            Vec::new()
        };
        let name = self.name()?.to_string();
        let parameters = if self.peek() == Some(Token::Symbol('(')) {
            self.parameters()?
        } else {
            Vec::new()
        };
        let mut limits = Vec::new();
        let body = loop {
            match self.peek() {
                Some(Token::Symbol(';')) => {
                    self.next()?;
                    break None;
                }
                Some(Token::Symbol('{')) => {
                    self.next()?;
                    break Some(self.body()?);
                }
                Some(Token::Name(".pragma")) => self.skip_statement()?,
                Some(Token::Name(directive)) if directive.starts_with('.') => {
                    self.next()?;
                    let mut values = Vec::new();
                    while let Some(Token::Integer(_)) = self.peek() {
                        values.push(self.small("limit")?);
                        self.accept(',');
                    }
                    limits.push((directive[1..].to_string(), values));
                }
                _ => {
                    self.next()?;
                    return Err(self.error("expected a function body"));
                }
            }
        };
        Ok(Function {
            name,
            entry,
            returns,
            parameters,
            limits,
            body,
            line,
        })
    }

    pub(super) fn parameters(&mut self) -> Result<Vec<Parameter>> {
        self.expect('(')?;
        let mut parameters = Vec::new();
        if self.accept(')') {
            return Ok(parameters);
        }
        loop {
            parameters.push(self.parameter()?);
            if self.accept(')') {
                return Ok(parameters);
            }
            self.expect(',')?;
        }
    }

    fn body(&mut self) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        let mut depth = 0u32;
        loop {
            match self.next()? {
                Token::Symbol('{') => {
                    depth += 1;
                    statements.push(Statement::Open);
                }
                Token::Symbol('}') if depth == 0 => return Ok(statements),
                Token::Symbol('}') => {
                    depth -= 1;
                    statements.push(Statement::Close);
                }
                Token::Symbol(';') => {}
                Token::Symbol('@') => {
                    let negated = self.accept('!');
                    let register = self.name()?.to_string();
                    let instruction = self.instruction(Some(Guard { register, negated }))?;
                    statements.push(Statement::Instruction(instruction));
                }
                Token::Name(".loc") => statements.push(Statement::Location(self.location()?)),
                Token::Name(".pragma") => statements.push(Statement::Pragma(self.pragma()?)),
                Token::Name(name) if name.starts_with('.') => {
                    self.at -= 1;
                    let variables = self.variables(false)?;
                    statements.extend(variables.into_iter().map(Statement::Variable));
                }
                Token::Name(name) if self.peek() == Some(Token::Symbol(':')) => {
                    self.next()?;
                    statements.push(self.labelled(name)?);
                }
                Token::Name(_) => {
                    self.at -= 1;
                    statements.push(Statement::Instruction(self.instruction(None)?));
                }
                other => return Err(self.error(format!("no statement starts with {other:?}"))),
            }
        }
    }

    fn labelled(&mut self, name: &str) -> Result<Statement> {
        if self.accept_name(".branchtargets") {
            let mut labels = vec![self.name()?.to_string()];
            while self.accept(',') {
                labels.push(self.name()?.to_string());
            }
            self.expect(';')?;
            return Ok(Statement::BranchTargets(name.to_string(), labels));
        }
        if self.accept_name(".callprototype") {
            let returns = if self.peek() == Some(Token::Symbol('(')) {
                self.parameters()?
            } else {
                Vec::new()
            };
            self.name()?;
            let parameters = if self.peek() == Some(Token::Symbol('(')) {
                self.parameters()?
            } else {
                Vec::new()
            };
            self.skip_statement()?;
            return Ok(Statement::CallPrototype(
                name.to_string(),
                returns,
                parameters,
            ));
        }
        Ok(Statement::Label(name.to_string()))
    }

    fn instruction(&mut self, guard: Option<Guard>) -> Result<Instruction> {
        let line = self.line();
        let opcode = self.name()?.to_string();
        let operands = self.operands()?;
        Ok(Instruction {
            guard,
            opcode,
            operands,
            line,
        })
    }

    /// After `.loc`: file, line, column, and where it was inlined.
    fn location(&mut self) -> Result<Location> {
        let mut location = Location {
            file: self.small("file index")?,
            line: self.small("line")?,
            inlined_at: None,
        };
        self.integer()?;
        while self.accept(',') {
            match self.name()? {
                "function_name" => {
                    self.name()?;
                    if self.accept('+') {
                        self.integer()?;
                    }
                }
                "inlined_at" => {
                    let at = (self.small("file index")?, self.small("line")?);
                    self.integer()?;
                    location.inlined_at = Some(at);
                }
                other => return Err(self.error(format!("unknown part `{other}` of .loc"))),
            }
        }
        Ok(location)
    }

    pub(super) fn space(name: &str) -> Option<Space> {
        Some(match name {
            ".reg" => Space::Reg,
            ".global" => Space::Global,
            ".shared" | ".shared::cta" => Space::Shared,
            ".local" => Space::Local,
            ".const" => Space::Const,
            ".param" => Space::Param,
            _ => return None,
        })
    }
}
