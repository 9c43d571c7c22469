//! Syntax tree to programs: every opcode is decoded here, and what is not known is refused with its line.

mod bits;
mod bulk;
mod cluster;
mod compare;
mod context;
mod control;
mod convert;
mod copy;
mod float;
mod function;
mod half;
mod integer;
mod mbarrier;
mod memory;
mod mixed;
mod modifiers;
mod moves;
mod packed;
mod pair;
mod product;
mod registers;
mod shared;
mod store_async;
mod tensor;
mod tensor_copy;
mod warp;
mod wgmma;
mod wmma;

pub use function::kernel;

use crate::ptx::PtxError;

/// What lowering gives.
type Result<T> = std::result::Result<T, PtxError>;
