//! A `libcuda` over the virtual GPU: what loads the CUDA driver runs on the CPU, unchanged.
//!
//! The shared library that this crate builds, `libvirtual_cuda.so`, exports the driver API under its own names. A program
//! meets it when it lies as `libcuda.so.1` or `libcuda.so` in a directory of `LD_LIBRARY_PATH`, or is preloaded. On Linux one that loads
//! it by its path finds it again as `libcuda.so`, and it exports `VIRTUAL_GPU_DRIVER`, which NVIDIA's library has not.
//!
//! # How it behaves
//!
//! - One device, one worker thread: launches, copies and fills of all streams run on it one after the other, in the
//!   order in which they were submitted, so that results do not depend on luck. The calling thread goes on at once, as
//!   with a GPU. What follows: a kernel that waits for work submitted *after* it, on another stream, never sees it;
//!   one that waits for the host to write to pinned or managed memory does.
//! - Modules are PTX text, or fat binaries with PTX in them. Machine code (cubin) is refused.
//! - What a kernel does wrong is written to stderr. If it ended the kernel, the error code that a GPU gives is returned
//!   by the next call that waits for it, and from then on by every call, until the context is destroyed.
//! - Graphs, captured from streams or built by hand, run their nodes one after the other: with seed 0 in the order in which
//!   they were added, with any other seed in another order that the dependencies allow, so that one that is missing shows.
//!   Conditional nodes are refused.
//! - Memory from pools has an address that was never given before, so that a kernel that uses it after `cuMemFreeAsync` is
//!   found out; what a pool holds back shows in its attributes alone.
//! - Work that uses memory of `cuMemAllocAsync` in a stream that does not wait for the allocation, and a `cuMemFreeAsync` in one
//!   that does not wait for the use, are warned about: nothing goes wrong here, but may on a GPU.
//! - A launch with programmatic stream serialization begins when the kernel before it has ended, which is legal. If its
//!   kernel has no `griddepcontrol.wait`, though a GPU might have begun it earlier, stderr says so.
//! - Textures, peer access and sharing between processes are answered with
//!   `CUDA_ERROR_NOT_SUPPORTED` or are not exported.
//!
//! # Environment
//!
//! | variable | values | default |
//! |---|---|---|
//! | `VIRTUAL_GPU_PROFILE` | `a100`, `l4`, `rtx4090`, `h100`, `h200`, `rtx5090`, `b200` | `h100` |
//! | `VIRTUAL_GPU_SMS` | multiprocessors instead of the profile's | |
//! | `VIRTUAL_GPU_CHECKS` | `none`, `bounds`, `all` | `bounds` |
//! | `VIRTUAL_GPU_SEED` | order in which warps and blocks take turns | 0 |
//! | `VIRTUAL_GPU_PORTABLE` | with any value, code for any processor instead of vectors | |
//! | `VIRTUAL_GPU_MMA` | `exact`, `fast` | `exact` |
//! | `VIRTUAL_GPU_COUNTERS` | file to which each launch appends a line of JSON | |
//! | `VIRTUAL_GPU_COVERAGE` | file to which lines and branches that have run are written at the end (lcov); counts | |
//! | `VIRTUAL_GPU_STRICT` | `1`: findings that a GPU would not notice fail the launch too | |
//! | `VIRTUAL_GPU_HOST_WAIT` | seconds that a kernel may poll host memory that does not change | 30 |
//!
//! `include/virtual_gpu.h` has functions that change some of them, and read findings and counters.
//!
//! A value that is none of these makes `cuInit` fail with `CUDA_ERROR_INVALID_VALUE`, and stderr says why.

mod any_node;
mod boundary;
mod capture;
mod config;
mod context;
mod copy;
mod device;
mod directory;
mod driver;
mod error;
mod event;
mod executable;
mod fault;
mod fill;
mod function;
mod graph;
mod handle;
mod host;
mod image;
mod init;
mod launch;
mod library;
mod memory;
mod module;
mod node;
mod occupancy;
mod operation;
mod ordering;
mod pointer;
mod pool;
mod queue;
mod record;
mod refused;
mod stream;
mod tensor_map;
mod topology;
