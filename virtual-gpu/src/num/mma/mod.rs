//! Tensor-core products.
/// Architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Arch {
    Ampere,
    Ada,
    Hopper,
    Blackwell,
}
/// Mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MmaMode {
    Exact(Arch),
    Fast,
}
/// Product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mma {}
