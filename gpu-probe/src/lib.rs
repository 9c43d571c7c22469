//! Measures on a GPU what Stheno's device program is designed around.
//!
//! The kernels lie in `kernels/`, one concept a file. [`measure::ALL`] runs them through a [`Gpu`]: the NVIDIA driver
//! ([`Driver`]) or, in tests, a virtual device with checks. Every kernel computes sums, and a measurement whose sums are
//! wrong is an error, so that no broken kernel is timed.

mod arguments;
mod bench;
mod driver;
mod expected;
mod gpu;
mod image;
mod kernels;
pub mod measure;
mod report;
mod sample;

pub use bench::{Bench, Effort};
pub use driver::Driver;
pub use gpu::{Facts, Gpu, HostWords, Launch, Meanwhile};
pub use image::{Images, cubin_name, find_nvrtc};
pub use kernels::{ARCHITECTURES, MODULES, Module, compile, module};
pub use report::{Report, Row, Verdict};
pub use sample::Sample;
