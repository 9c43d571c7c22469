//! What instructions do, by family.

pub mod atomic;
pub mod barrier;
pub mod control;
pub mod load_store;
pub mod pack;
pub mod printf;
pub mod special;
pub mod warp;
