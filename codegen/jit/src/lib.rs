//! NVRTC at run time: finds the library, compiles CUDA C++ to PTX and cubin, reports registers and spills, caches.
//!
//! Nothing here needs a GPU, a driver or a CUDA toolkit, at build time or at run time: NVRTC is one shared library with
//! its builtins beside it, and it is loaded when [`Nvrtc::find`] is called.
//!
//! ```no_run
//! use stheno_jit::{Cache, FindOptions, Nvrtc, Request, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nvrtc = Nvrtc::find(&FindOptions { max_major: Some(12), ..FindOptions::default() })?;
//! let cache = Cache::open(Cache::default_directory().ok_or("no home directory")?)?;
//! let source = "template <int N> __global__ void fill(float* x) { x[threadIdx.x] = N; }";
//! let request = Request {
//!     name_expressions: vec!["fill<3>".to_owned()],
//!     ..Request::new("fill.cu", source, Target::Real("sm_90a".to_owned()))
//! };
//! let (compiled, _) = cache.compile(&nvrtc, &request)?;
//! let kernel = compiled.kernel(&compiled.lowered_names["fill<3>"]).ok_or("no report")?;
//! println!("{} registers, {} bytes spilled", kernel.registers, kernel.spill_stores);
//! # Ok(())
//! # }
//! ```

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
pub use error::{CallError, CompileError, HeadersError, NvrtcError, Rejection};
pub use find::FindOptions;
pub use nvrtc::Nvrtc;
pub use request::{Compiled, Request, Target};
pub use resources::KernelResources;
