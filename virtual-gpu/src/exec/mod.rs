//! Executes lowered kernels: warps in lockstep, fragments of lanes, blocks, barriers, memory.
//!
//! A register is a row of 32 lanes; an instruction is a function that is run on all of them. Lanes of a warp that are
//! at different places are different fragments; the one that is furthest behind runs first.

// Lanes are indexed in lockstep over several arrays, which vectorises and reads better than nested zips.
#![allow(clippy::needless_range_loop)]

mod address;
mod agent;
mod block;
mod boxes;
mod cluster;
mod copies;
mod grid;
mod inst;
mod isa;
mod lanes;
mod machine;
mod masks;
pub mod mbarrier;
mod observe;
mod operand;
pub mod ops;
mod products;
mod program;
mod registers;
mod row;
mod run;
mod standstill;
mod sync;
mod warp;
mod watch;

pub use address::space;
pub use cluster::{Shape, map, map_generic};
pub use grid::{FUNCTION_BASE, Grid, Setup};
pub use inst::{Handler, Inst, Predicate};
pub use isa::handler;
pub use lanes::{binary, ternary, ternary_or, unary};
pub use program::{
    Access, AsyncCopy, AsyncStore, BulkCopy, CacheHint, Call, Class, Constant, CopySource, Extra,
    LaunchValue, Limits, MbarrierAccess, MbarrierOperation, Order, Origin, ParameterLayout,
    Pointer, Product, Program, Scope, SharedVariable, TensorCopy,
};
pub use row::Slot;
pub use watch::Watch;
