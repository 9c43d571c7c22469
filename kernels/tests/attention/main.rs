//! The attention phase on the virtual GPU.

#[path = "../support/mod.rs"]
mod support;

mod bits;
mod case;
mod numbers;
mod reference;
mod resources;
mod tree;
mod trees;
