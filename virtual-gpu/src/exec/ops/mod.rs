//! What instructions do, by family.

pub mod atomic;
pub mod barrier;
pub mod bulk;
pub mod cluster;
pub mod control;
pub mod convert;
pub mod copy;
mod elements;
pub mod fence;
pub mod load_store;
pub mod logic;
pub mod matrix;
pub mod mbarrier;
pub mod mma;
pub mod pack;
pub mod param;
pub mod printf;
pub mod special;
pub mod store_async;
pub mod tensor_copy;
pub mod warp;
pub mod wgmma;
