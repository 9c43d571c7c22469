//! Memory of the host that kernels see.

use super::calls::CallKind;
use super::memory::{allocation_error, length, part};
use super::{Context, DeviceError};
use cudarc::driver::{result, sys};
use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Page-locked memory of the host, mapped into the device: what one writes with release the other sees with acquire, at
/// system scope on the device, while a kernel runs. The host meets it as atomics only. Freed when dropped, once the work
/// that the stream has by then is done.
pub struct MappedBuffer {
    context: Context,
    host: NonNull<c_void>,
    address: u64,
    /// A multiple of 8.
    bytes: usize,
    what: String,
}

// SAFETY: the memory belongs to the value and is met through atomics only.
unsafe impl Send for MappedBuffer {}
// SAFETY: as above.
unsafe impl Sync for MappedBuffer {}

impl MappedBuffer {
    /// Allocates `words` words of 64 bits, all 0. `what` names the memory in errors. Starts at a page.
    ///
    /// # Errors
    /// The system locks no such memory.
    pub fn zeroed(
        context: &Context,
        words: usize,
        what: impl Into<String>,
    ) -> Result<MappedBuffer, DeviceError> {
        let what = what.into();
        // The driver allocates no 0 bytes. More than there can be is refused by it.
        let bytes = words.max(1).checked_mul(8).unwrap_or(usize::MAX & !7);
        // Not write-combined, in which the host would read very slowly.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        let host = context.try_call(CallKind::Memory, || {
            // SAFETY: the context is current; the memory is filled before anybody reads it.
            unsafe { result::malloc_host(bytes, flags) }
        })?;
        let needed = bytes as u64;
        let host = host
            .map_err(|error| allocation_error(context, error, "cuMemHostAlloc", &what, needed))?;
        let Some(host) = NonNull::new(host) else {
            return Err(DeviceError::UnusableDriver {
                path: "cuMemHostAlloc".into(),
                reason: "it gave a null pointer".to_owned(),
            });
        };
        // SAFETY: the driver gave so many bytes, aligned to a page, that nobody refers to yet.
        unsafe { host.cast::<u8>().write_bytes(0, bytes) };
        let mut buffer = MappedBuffer {
            context: context.clone(),
            host,
            address: 0,
            bytes: words.saturating_mul(8),
            what,
        };
        buffer.address = context.call(CallKind::Memory, "cuMemHostGetDevicePointer", || {
            let mut address = MaybeUninit::uninit();
            // SAFETY: the memory was allocated as mapped; the driver writes its address for kernels.
            unsafe {
                sys::cuMemHostGetDevicePointer_v2(address.as_mut_ptr(), host.as_ptr(), 0)
                    .result()?;
                Ok(address.assume_init())
            }
        })?;
        Ok(buffer)
    }

    /// The context that it was allocated in.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Address for kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it as words of 32 bits, two for each of 64. A word should be met in one size only.
    pub fn words32(&self) -> &[AtomicU32] {
        // SAFETY: so many words are initialised, aligned, and live as long as `self`; host and kernels meet them as
        // atomics only.
        unsafe { slice::from_raw_parts(self.host.as_ptr().cast(), self.bytes / 4) }
    }

    /// All of it as words of 64 bits.
    pub fn words64(&self) -> &[AtomicU64] {
        // SAFETY: as for `words32`.
        unsafe { slice::from_raw_parts(self.host.as_ptr().cast(), self.bytes / 8) }
    }

    /// Where a range of bytes lies, for a copy in `context`.
    pub(super) fn host_part(
        &self,
        context: &Context,
        range: &Range<u64>,
    ) -> Result<*mut c_void, DeviceError> {
        self.context.same(context, &self.what)?;
        let start = self.host.as_ptr() as u64;
        let at = part(&self.what, start, self.len(), range.start, length(range))? - start;
        Ok(self.host.as_ptr().wrapping_byte_add(at as usize))
    }
}

impl Drop for MappedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed`, freed once, after all work of the stream.
        self.context
            .free(|| unsafe { result::free_host(self.host.as_ptr()) });
    }
}

impl fmt::Debug for MappedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MappedBuffer({}, {} bytes at {:#x})",
            self.what, self.bytes, self.address
        )
    }
}
