use super::calls::{CallKind, Calls};
use super::{CallCounts, DeviceError, DeviceFacts, Driver};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ffi::c_void;
use std::fmt;
use std::ptr::null_mut;
use std::sync::Arc;

/// A device's context and the stream that all work of it goes to, in order. Clones share them; the last one, and the last
/// buffer, module and event made with it, lets go of them.
///
/// Any thread may use it: every call makes the context current to its thread, and what was current before again after it.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// Whether both were made here.
    owned: bool,
    facts: DeviceFacts,
    calls: Calls,
}

// SAFETY: the handles are names that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Context {
    /// Takes the primary context of a device, which programs and libraries of a process share, and makes a stream of its
    /// own in it, which does not wait for the default stream.
    ///
    /// # Errors
    /// There is no such device, or it gives no context: another process has it for itself, or its memory is full.
    pub fn new(driver: &Driver, ordinal: u32) -> Result<Context, DeviceError> {
        let device = driver.device(ordinal)?;
        let facts = DeviceFacts::read(driver, device)?;
        // SAFETY: the device is one that the driver gave; `Inner` releases the context once.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|error| DeviceError::call("cuDevicePrimaryCtxRetain", error))?;
        let made = Entered::new(context).and_then(|_entered| {
            result::stream::create(result::stream::StreamKind::NonBlocking)
                .map_err(|error| DeviceError::call("cuStreamCreate", error))
        });
        let stream = made.inspect_err(|_| {
            // SAFETY: retained above and used by nobody. That it cannot be released is not worth another error.
            let _ = unsafe { result::primary_ctx::release(device) };
        })?;
        Ok(Self::of(device, context, stream, true, facts))
    }

    /// Takes a context and a stream of the caller's, a `CUcontext` and a `CUstream`; a null stream is the context's
    /// default stream. Neither is destroyed here.
    ///
    /// # Errors
    /// The driver does not take the context.
    ///
    /// # Safety
    /// Both are handles of the driver that this process has loaded, the stream is one of the context, and both live until
    /// the context made here and everything made with it is dropped.
    pub unsafe fn from_raw(
        driver: &Driver,
        context: *mut c_void,
        stream: *mut c_void,
    ) -> Result<Context, DeviceError> {
        let context: sys::CUcontext = context.cast();
        let entered = Entered::new(context)?;
        let mut device = 0;
        // SAFETY: the driver writes the device of the context that is current.
        unsafe { sys::cuCtxGetDevice(&raw mut device) }
            .result()
            .map_err(|error| DeviceError::call("cuCtxGetDevice", error))?;
        drop(entered);
        let facts = DeviceFacts::read(driver, device)?;
        Ok(Self::of(device, context, stream.cast(), false, facts))
    }

    fn of(
        device: sys::CUdevice,
        context: sys::CUcontext,
        stream: sys::CUstream,
        owned: bool,
        facts: DeviceFacts,
    ) -> Context {
        let inner = Inner {
            device,
            context,
            stream,
            owned,
            facts,
            calls: Calls::default(),
        };
        Context {
            inner: Arc::new(inner),
        }
    }

    /// What the device says of itself.
    pub fn facts(&self) -> &DeviceFacts {
        &self.inner.facts
    }

    /// The calls made so far with this context and what was made with it.
    pub fn calls(&self) -> CallCounts {
        self.inner.calls.counts()
    }

    /// Free and all bytes of device memory.
    ///
    /// # Errors
    /// The device failed before.
    pub fn memory(&self) -> Result<(u64, u64), DeviceError> {
        let (free, total) = self.call(CallKind::Query, "cuMemGetInfo", result::mem_get_info)?;
        Ok((free as u64, total as u64))
    }

    /// Waits until all work of the stream is done.
    ///
    /// # Errors
    /// A kernel failed; the error names how. The context is of no use from then on.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.call(CallKind::Synchronous, "cuStreamSynchronize", || {
            // SAFETY: the stream lives as long as the context.
            unsafe { result::stream::synchronize(self.stream()) }
        })
    }

    /// Whether all work of the stream is done; does not wait.
    ///
    /// # Errors
    /// As for [`Context::synchronize`].
    pub fn is_idle(&self) -> Result<bool, DeviceError> {
        self.ready("cuStreamQuery", || {
            // SAFETY: the stream lives as long as the context.
            unsafe { sys::cuStreamQuery(self.stream()) }.result()
        })
    }

    /// Asks whether something is done.
    pub(super) fn ready(
        &self,
        name: &'static str,
        query: impl FnOnce() -> Result<(), DriverError>,
    ) -> Result<bool, DeviceError> {
        self.call(CallKind::Query, name, || match query() {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(error),
        })
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.inner.stream
    }

    /// An error unless `what`, which is of `other`, is of this context and stream.
    pub(super) fn same(&self, other: &Context, what: &str) -> Result<(), DeviceError> {
        match Arc::ptr_eq(&self.inner, &other.inner) {
            true => Ok(()),
            false => Err(DeviceError::OtherContext {
                what: what.to_owned(),
            }),
        }
    }

    /// Every call of the driver within the context goes through here or [`Context::try_call`], which count it.
    pub(super) fn call<T>(
        &self,
        kind: CallKind,
        name: &'static str,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        self.try_call(kind, call)?
            .map_err(|error| DeviceError::call(name, error))
    }

    /// Like [`Context::call`], for callers that tell failures apart.
    pub(super) fn try_call<T>(
        &self,
        kind: CallKind,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<Result<T, DriverError>, DeviceError> {
        let _entered = Entered::new(self.inner.context)?;
        self.inner.calls.add(kind);
        Ok(call())
    }

    /// Waits for the stream and frees something. What fails when a value is dropped has failed before, and was told.
    pub(super) fn free(&self, free: impl FnOnce() -> Result<(), DriverError>) {
        let _ = self.try_call(CallKind::Memory, || {
            // SAFETY: the stream lives as long as the context.
            let _ = unsafe { result::stream::synchronize(self.stream()) };
            free()
        });
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("device", &self.inner.device)
            .field("owned", &self.inner.owned)
            .field("facts", &self.inner.facts)
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Ok(_entered) = Entered::new(self.context) {
            // SAFETY: made by `Context::new` in this context, destroyed once; work in it goes on to its end.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: retained by `Context::new`, released once; nothing that was made with the context is left.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A context that is current to this thread until this is dropped.
struct Entered {
    pushed: bool,
}

impl Entered {
    fn new(context: sys::CUcontext) -> Result<Entered, DeviceError> {
        let current = result::ctx::get_current()
            .map_err(|error| DeviceError::call("cuCtxGetCurrent", error))?;
        if current == Some(context) {
            return Ok(Entered { pushed: false });
        }
        // SAFETY: the context is retained by an `Inner`, or about to be owned by one, or its caller keeps it alive.
        unsafe { sys::cuCtxPushCurrent_v2(context) }
            .result()
            .map_err(|error| DeviceError::call("cuCtxPushCurrent", error))?;
        Ok(Entered { pushed: true })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.pushed {
            let mut popped = null_mut();
            // SAFETY: pops what `new` pushed on this thread: calls between nest.
            let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
        }
    }
}
