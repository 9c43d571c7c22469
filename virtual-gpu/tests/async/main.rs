//! Tensor-core instructions, asynchronous copies and mbarriers, as kernels use them: hand-written PTX and CUDA C++.

mod bulk;
mod clusters;
mod copies;
mod machine;
mod matrices;
mod mbarriers;
mod products;
mod tensors;
mod turns;
