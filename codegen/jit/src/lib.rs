//! NVRTC at run time: finds the library, compiles CUDA C++ to PTX and cubin, reports registers and spills, caches.
//!
//! Nothing here needs a GPU, a driver or a CUDA toolkit, at build time or at run time: NVRTC is one shared library with
//! its builtins beside it, and it is loaded when [`Nvrtc::find`] is called.

mod cache;
mod diagnostic;
mod error;
mod find;
mod library;
mod nvrtc;
mod request;
mod resources;

pub use cache::{Cache, CacheError, Origin};
pub use diagnostic::Excerpt;
pub use error::{CallError, CompileError, NvrtcError, Rejection};
pub use find::FindOptions;
pub use nvrtc::Nvrtc;
pub use request::{Compiled, Request, Target};
pub use resources::KernelResources;
