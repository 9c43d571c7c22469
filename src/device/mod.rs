//! The device below the decode program: the CUDA driver through cudarc, memory, kernels, events.
//!
//! ```no_run
//! use stheno::device::{Context, DeviceBuffer, Driver, DriverKind};
//!
//! # fn main() -> Result<(), stheno::device::DeviceError> {
//! let driver = Driver::load(DriverKind::Cuda)?;
//! let context = Context::new(&driver, 0)?;
//! let buffer = DeviceBuffer::zeroed(&context, 1 << 20, "a megabyte")?;
//! buffer.write(0, b"some bytes")?;
//! println!("{}: {:?}", context.facts().name, context.calls());
//! # Ok(())
//! # }
//! ```
//!
//! There is one path for all devices: `--device virtual` loads another driver library, over the virtual GPU, which runs
//! the same PTX on the CPU. Nothing is loaded before [`Driver::load`] is called.
//!
//! - A process has one driver, because cudarc keeps one library in a process; asking for the other kind afterwards is an
//!   error.
//! - All work of a [`Context`] is in one stream, in order. What is dropped waits for the work that the stream has by then:
//!   a kernel that waits for the host must be told to end first.
//! - Every call of the driver is counted: [`Context::calls`].
//! - Any thread may use any of it. Calls leave the thread's current context as they found it.

#[cfg(test)]
mod allocated;
mod calls;
mod commit;
mod compiler;
mod context;
mod control;
mod costs;
mod cublas;
mod demand;
mod driver;
mod error;
mod event;
mod executor;
mod facts;
mod forward;
mod function;
mod generation;
mod guesses;
mod kv;
mod library;
mod lowered;
mod mapped;
mod memory;
mod module;
mod profile;
mod recording;
mod rows;
mod state;
mod stepper;
#[cfg(test)]
mod stuck;
mod survey;
mod weights;

pub use calls::CallCounts;
pub use compiler::{find_nvrtc, program_request};
pub use context::Context;
pub use cublas::{Cublas, GemmShape};
pub use driver::{Driver, DriverKind};
pub use error::DeviceError;
pub use event::Event;
pub use executor::{BuildReport, DeviceExecutor, ExecutorOptions};
pub use facts::DeviceFacts;
pub use forward::{DeviceCall, DeviceForward};
pub use function::{Function, LaunchShape};
pub(crate) use generation::{
    DeviceDrafter, Generated, Generation, GenerationInput, Learnt, RoundTimes, VerifiedNode,
};
pub use guesses::Guesses;
pub use kv::DeviceKv;
pub use library::{VIRTUAL_DRIVER_VARIABLE, find_virtual_driver};
pub(crate) use lowered::Lowered;
pub use mapped::MappedBuffer;
pub use memory::DeviceBuffer;
pub use module::{Image, Module};
pub use profile::{Profile, ProfiledCall, ProfiledPhase, StageSums};
pub use stepper::Stepper;
pub use survey::{CudaSurvey, FoundDevice, Survey};
pub use weights::{ArenaUpload, DeviceWeights, ModelWeights, UploadError};
