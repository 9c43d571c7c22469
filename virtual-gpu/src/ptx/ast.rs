//! The syntax tree of a PTX module.

use crate::num::ScalarType;

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PTX's own.
pub enum Space {
    Reg,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// A parsed module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// `.target`: `sm_80`, `sm_90a`, ...
    pub target: String,
    /// Variables of module scope.
    pub variables: Vec<Variable>,
    /// Kernels and device functions, declarations without a body included.
    pub functions: Vec<Function>,
    /// `.file` entries: index and name.
    pub files: Vec<(u32, String)>,
    /// Lines of the text.
    pub lines: u32,
}

/// A kernel or a device function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Whether it is a kernel (`.entry`).
    pub entry: bool,
    /// Return parameters.
    pub returns: Vec<Parameter>,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Performance directives by name: `maxntid`, `reqntid`, `minnctapersm`, `maxnreg`, ...
    pub limits: Vec<(String, Vec<u32>)>,
    /// Statements; `None` for a declaration.
    pub body: Option<Vec<Statement>>,
    /// Line of the declaration.
    pub line: u32,
}

/// A `.param` or a `.reg` parameter of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A variable of any space, registers included.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Type of an element.
    pub ty: ScalarType,
    /// Size in bytes of all elements; 0 for an array without a size (dynamic shared memory).
    pub bytes: u64,
    /// Alignment in bytes.
    pub align: u32,
    /// `%r<n>` declares n registers `%r0..%r(n-1)`.
    pub numbered: Option<u32>,
    /// Values of module variables.
    pub initialiser: Vec<Initialiser>,
    /// Whether it is `.extern`.
    pub external: bool,
    /// Line of the declaration.
    pub line: u32,
}

/// One initial value of a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Initialiser {
    /// Bytes at an offset.
    Bytes(u64, Vec<u8>),
    /// The 8-byte address of a symbol plus an addend, generic where the flag says so.
    Symbol {
        /// Offset in the variable.
        at: u64,
        /// The symbol.
        name: String,
        /// Added to its address.
        addend: i64,
    },
}

/// What stands in a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `name:`
    Label(String),
    /// An instruction.
    Instruction(Instruction),
    /// A variable or registers.
    Variable(Variable),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `.loc`
    Location(Location),
    /// `.pragma`: its strings.
    Pragma(Vec<String>),
    /// `name: .branchtargets a, b, c;`
    BranchTargets(String, Vec<String>),
    /// `name: .callprototype (returns) _ (parameters);`
    CallPrototype(String, Vec<Parameter>, Vec<Parameter>),
}

/// A `.loc`: where in the CUDA source the following instructions come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// Index of the `.file`.
    pub file: u32,
    /// Source line.
    pub line: u32,
    /// The call that the line was inlined at: file and line.
    pub inlined_at: Option<(u32, u32)>,
}

/// `@p` or `@!p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The predicate register.
    pub register: String,
    /// Whether the instruction runs where the predicate is false.
    pub negated: bool,
}

/// An instruction as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// The guard predicate.
    pub guard: Option<Guard>,
    /// The opcode with all its modifiers.
    pub opcode: String,
    /// Operands in order.
    pub operands: Vec<Operand>,
    /// Line of the PTX text.
    pub line: u32,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, a variable, a label, a function or a special register.
    Name(String),
    /// An integer, its 64 bits.
    Integer(u64),
    /// Bits of an f32.
    Float(u32),
    /// Bits of an f64.
    Double(u64),
    /// `[base + offset]`.
    Address(Address),
    /// `{a, b, ...}`.
    Vector(Vec<Operand>),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// `!p`.
    Not(Box<Operand>),
    /// `-x`.
    Negative(Box<Operand>),
    /// `name + offset`.
    Offset(String, i64),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// `_`.
    Sink,
}

/// `[base + offset]`, or `[tensor, {coordinates}]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Register or variable; `None` for an absolute address.
    pub base: Option<String>,
    /// Added to the base.
    pub offset: i64,
    /// Coordinates of a tensor access.
    pub coordinates: Vec<Operand>,
}
