//! A GPU for machines that have none: loads the PTX that NVRTC produced and executes it on the CPU, exactly, with the
//! checks of a sanitizer and the counters of a profiler.

pub mod case;
pub mod check;
mod device;
mod exec;
pub mod launch;
mod lower;
mod memory;
mod module;
pub mod num;
pub mod profile;
pub mod ptx;
pub mod report;
pub mod tensor_map;

pub use device::{Device, LaunchError};
pub use launch::{Checks, LaunchConfig, LaunchOptions, LaunchReport};
pub use memory::{DevicePointer, MemoryError};
pub use module::{KernelInfo, Module};
pub use num::mma::{Arch, MmaMode};
pub use profile::Profile;
pub use tensor_map::TensorMap;
