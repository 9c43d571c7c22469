//! cuBLAS beside our kernels, where its library is found: what a matrix product costs there.

use super::calls::CallKind;
use super::{Context, DeviceBuffer, DeviceError};
use libloading::Library;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// Names of the library, the newest first. Its functions used here have been the same since 11.0.
const NAMES: [&str; 4] = [
    "libcublas.so.13",
    "libcublas.so.12",
    "libcublas.so.11",
    "libcublas.so",
];

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(*mut Handle) -> c_int;
type Destroy = unsafe extern "C" fn(Handle) -> c_int;
type SetStream = unsafe extern "C" fn(Handle, *mut c_void) -> c_int;
type GemmEx = unsafe extern "C" fn(
    Handle,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    *const c_void,
    *const c_void,
    c_int,
    c_int,
    *const c_void,
    c_int,
    c_int,
    *const c_void,
    *mut c_void,
    c_int,
    c_int,
    c_int,
    c_int,
) -> c_int;

const TRANSPOSED: c_int = 1;
const AS_IT_IS: c_int = 0;
const BF16: c_int = 14;
const COMPUTE_F32: c_int = 68;
const DEFAULT_ALGORITHM: c_int = -1;

/// A handle of the library, which works in a context's stream.
#[derive(Debug)]
pub struct Cublas {
    context: Context,
    handle: Handle,
    destroy: Destroy,
    gemm: GemmEx,
    /// Unloaded last: the functions above are in it.
    _library: Library,
}

/// Sizes of a product y[rows, n] = x[rows, k] W[n, k]^T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GemmShape {
    /// Rows of x and y.
    pub rows: u32,
    /// Columns of y.
    pub n: u32,
    /// Columns of x.
    pub k: u32,
}

impl Cublas {
    /// Loads the library and makes a handle; `None` if there is no library, or it does not start here.
    pub fn find(context: &Context) -> Option<Cublas> {
        // What stands in for a GPU runs no machine code of NVIDIA's.
        if context.facts().is_virtual {
            return None;
        }
        let libraries = NAMES.iter();
        // SAFETY: loads NVIDIA's library by its name, whose initialisers any program with cuBLAS runs.
        let mut found = libraries.filter_map(|name| unsafe { Library::new(*name) }.ok());
        let library = found.next()?;
        // SAFETY: these are the functions of cublas_v2.h, with the types that it declares; the pointers are dropped with the
        // library.
        let (create, destroy, set_stream, gemm) = unsafe {
            (
                *library.get::<Create>(b"cublasCreate_v2\0").ok()?,
                *library.get::<Destroy>(b"cublasDestroy_v2\0").ok()?,
                *library.get::<SetStream>(b"cublasSetStream_v2\0").ok()?,
                *library.get::<GemmEx>(b"cublasGemmEx\0").ok()?,
            )
        };
        let mut handle = null_mut();
        let made = context.try_call(CallKind::Setup, || {
            // SAFETY: the context is current; the handle is written once, and destroyed by `drop`.
            Ok(unsafe { create(&raw mut handle) })
        });
        if made.ok()?.ok()? != 0 || handle.is_null() {
            return None;
        }
        let cublas = Cublas {
            context: context.clone(),
            handle,
            destroy,
            gemm,
            _library: library,
        };
        let stream = context.stream().cast();
        let set = context.try_call(CallKind::Setup, || {
            // SAFETY: the handle was made above; the stream lives as long as the context, which `cublas` holds.
            Ok(unsafe { set_stream(handle, stream) })
        });
        (set.ok()?.ok()? == 0).then_some(cublas)
    }

    /// Queues a product in bf16 with sums in f32. `weights` holds [n, k] from byte `offset` on, `x` and `y` hold their rows from
    /// the beginning. False if the library refuses.
    ///
    /// # Errors
    /// A buffer is too small for the shape, or the device failed before.
    pub fn gemm(
        &self,
        shape: GemmShape,
        weights: (&DeviceBuffer, u64),
        x: &DeviceBuffer,
        y: &DeviceBuffer,
    ) -> Result<bool, DeviceError> {
        let bytes = |rows: u32, columns: u32| 2 * u64::from(rows) * u64::from(columns);
        let (weights, offset) = weights;
        let weights = weights.part(offset, bytes(shape.n, shape.k))?;
        let x = x.part(0, bytes(shape.rows, shape.k))?;
        let y = y.part(0, bytes(shape.rows, shape.n))?;
        let size = |size: u32| c_int::try_from(size).unwrap_or(c_int::MAX);
        let (n, rows, k) = (size(shape.n), size(shape.rows), size(shape.k));
        let (one, zero) = (1.0_f32, 0.0_f32);
        let status = self.context.try_call(CallKind::Launch, || {
            // Column-major: y^T [n, rows] = W [n, k] x^T [k, rows], W lying there as its transpose.
            // SAFETY: the three buffers hold what the shape says, checked above, and wait for the stream before they are freed;
            // alpha and beta are read during the call.
            Ok(unsafe {
                (self.gemm)(
                    self.handle,
                    TRANSPOSED,
                    AS_IT_IS,
                    n,
                    rows,
                    k,
                    (&raw const one).cast(),
                    weights as *const c_void,
                    BF16,
                    k,
                    x as *const c_void,
                    BF16,
                    k,
                    (&raw const zero).cast(),
                    y as *mut c_void,
                    BF16,
                    n,
                    COMPUTE_F32,
                    DEFAULT_ALGORITHM,
                )
            })
        })?;
        Ok(matches!(status, Ok(0)))
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        self.context.free(|| {
            // SAFETY: made by `find`, destroyed once, after all work of the stream. What fails here has failed before.
            unsafe { (self.destroy)(self.handle) };
            Ok(())
        });
    }
}
