//! PTX text to a syntax tree.
//!
//! The grammar of PTX is regular: an instruction is `[@[!]p] opcode operands;`, so one statement reader serves every
//! opcode. What an opcode means, and whether it is known, is settled when a module is lowered.

mod ast;
mod directive;
mod error;
mod lexer;
mod operand;
mod parser;

pub use ast::{
    Address, Function, Guard, Initialiser, Instruction, Location, Module, Operand, Parameter,
    Space, Statement, Variable,
};
pub use error::PtxError;
pub use parser::parse;
