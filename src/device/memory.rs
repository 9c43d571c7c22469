//! Memory of the device.

use super::calls::CallKind;
use super::{Context, DeviceError, MappedBuffer};
use cudarc::driver::{result, sys};
use std::fmt;
use std::ops::Range;

/// Bytes of all buffers that there are.
#[cfg(test)]
pub(super) static ALLOCATED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Bytes in device memory. Freed when dropped, once the work that the stream has by then is done.
pub struct DeviceBuffer {
    context: Context,
    address: u64,
    bytes: u64,
    what: String,
}

impl DeviceBuffer {
    /// Allocates, and queues that it be filled with zeros. `what` names it in errors. Starts at a multiple of 256.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] with what was asked for and what is free.
    pub fn zeroed(
        context: &Context,
        bytes: u64,
        what: impl Into<String>,
    ) -> Result<DeviceBuffer, DeviceError> {
        let what = what.into();
        // The driver allocates no 0 bytes.
        let size = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        let address = context.try_call(CallKind::Memory, || {
            // SAFETY: the context is current; the memory is not read before it is filled.
            unsafe { result::malloc_sync(size) }
        })?;
        let address = address
            .map_err(|error| allocation_error(context, error, "cuMemAlloc", &what, bytes))?;
        let buffer = DeviceBuffer {
            context: context.clone(),
            address,
            bytes,
            what,
        };
        #[cfg(test)]
        ALLOCATED.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        buffer.fill_async(0..bytes, 0)?;
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
        self.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies to `offset` and waits, for earlier work too.
    ///
    /// # Errors
    /// The bytes reach over the end, or a kernel failed before.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let address = self.part(offset, bytes.len() as u64)?;
        self.context
            .call(CallKind::Synchronous, "cuMemcpyHtoDAsync", || {
                // SAFETY: the target is within this allocation; the source is borrowed until the copy has been waited for.
                unsafe {
                    result::memcpy_htod_async(address, bytes, self.context.stream())?;
                    result::stream::synchronize(self.context.stream())
                }
            })
    }

    /// Copies from `offset` and waits, for earlier work too.
    ///
    /// # Errors
    /// As for [`DeviceBuffer::write`].
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let address = self.part(offset, bytes.len() as u64)?;
        self.context
            .call(CallKind::Synchronous, "cuMemcpyDtoHAsync", || {
                // SAFETY: the source is within this allocation; the target is borrowed until the copy has been waited for.
                unsafe {
                    result::memcpy_dtoh_async(bytes, address, self.context.stream())?;
                    result::stream::synchronize(self.context.stream())
                }
            })
    }

    /// Queues a copy of mapped memory, from the bytes `range` of it, to `offset`. The source is read when the stream gets
    /// there.
    ///
    /// # Errors
    /// As for [`DeviceBuffer::write`], and if the buffers are of different contexts.
    pub fn write_async(
        &self,
        offset: u64,
        from: &MappedBuffer,
        range: Range<u64>,
    ) -> Result<(), DeviceError> {
        let own = self.part(offset, length(&range))?;
        let host = from.host_part(&self.context, &range)?;
        self.context
            .call(CallKind::AsyncCopy, "cuMemcpyHtoDAsync", || {
                let (bytes, stream) = (length(&range) as usize, self.context.stream());
                // SAFETY: both ranges are within allocations of this context, which are freed after its stream has been
                // waited for; the host meets mapped memory as atomics only.
                unsafe { sys::cuMemcpyHtoDAsync_v2(own, host, bytes, stream) }.result()
            })
    }

    /// Queues a copy from `offset` to the bytes `range` of mapped memory.
    ///
    /// # Errors
    /// As for [`DeviceBuffer::write_async`].
    pub fn read_async(
        &self,
        offset: u64,
        to: &MappedBuffer,
        range: Range<u64>,
    ) -> Result<(), DeviceError> {
        let own = self.part(offset, length(&range))?;
        let host = to.host_part(&self.context, &range)?;
        self.context
            .call(CallKind::AsyncCopy, "cuMemcpyDtoHAsync", || {
                let (bytes, stream) = (length(&range) as usize, self.context.stream());
                // SAFETY: as for `write_async`.
                unsafe { sys::cuMemcpyDtoHAsync_v2(host, own, bytes, stream) }.result()
            })
    }

    /// Queues a copy of the bytes `range` of another buffer to `offset`. Within one buffer the two must not overlap, else
    /// what comes out is not determined.
    ///
    /// # Errors
    /// As for [`DeviceBuffer::write_async`].
    pub fn copy_async(
        &self,
        offset: u64,
        from: &DeviceBuffer,
        range: Range<u64>,
    ) -> Result<(), DeviceError> {
        let own = self.part(offset, length(&range))?;
        let source = from.part(range.start, length(&range))?;
        self.context.same(&from.context, &from.what)?;
        self.context
            .call(CallKind::AsyncCopy, "cuMemcpyDtoDAsync", || {
                let (bytes, stream) = (length(&range) as usize, self.context.stream());
                // SAFETY: as for `write_async`.
                unsafe { result::memcpy_dtod_async(own, source, bytes, stream) }
            })
    }

    /// Queues that all bytes of `range` become `value`.
    ///
    /// # Errors
    /// As for [`DeviceBuffer::write`].
    pub fn fill_async(&self, range: Range<u64>, value: u8) -> Result<(), DeviceError> {
        let bytes = length(&range);
        let address = self.part(range.start, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        self.context.call(CallKind::Fill, "cuMemsetD8Async", || {
            // SAFETY: the bytes are within this allocation, which is freed after the stream has been waited for.
            unsafe {
                result::memset_d8_async(address, value, bytes as usize, self.context.stream())
            }
        })
    }

    /// Address of `bytes` bytes from `offset` on, which must be within the buffer.
    pub(super) fn part(&self, offset: u64, bytes: u64) -> Result<u64, DeviceError> {
        part(&self.what, self.address, self.bytes, offset, bytes)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        #[cfg(test)]
        ALLOCATED.fetch_sub(self.bytes, std::sync::atomic::Ordering::Relaxed);
        // SAFETY: allocated by `zeroed`, freed once, after all work of the stream.
        self.context
            .free(|| unsafe { result::free_sync(self.address) });
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DeviceBuffer({}, {} bytes at {:#x})",
            self.what, self.bytes, self.address
        )
    }
}

/// Bytes of a range; 0 if it is backwards.
pub(super) fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// Address of a part of an allocation.
pub(super) fn part(
    what: &str,
    address: u64,
    length: u64,
    offset: u64,
    bytes: u64,
) -> Result<u64, DeviceError> {
    let end = offset.checked_add(bytes).filter(|end| *end <= length);
    end.map(|_| address + offset)
        .ok_or_else(|| DeviceError::Range {
            what: what.to_owned(),
            offset,
            bytes,
            length,
        })
}

/// Why an allocation failed; if for want of memory, with how much there is.
pub(super) fn allocation_error(
    context: &Context,
    error: result::DriverError,
    call: &'static str,
    what: &str,
    needed: u64,
) -> DeviceError {
    if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return DeviceError::call(call, error);
    }
    let (free, total) = context.memory().unwrap_or((0, 0));
    DeviceError::OutOfMemory {
        what: what.to_owned(),
        needed,
        free,
        total,
    }
}
